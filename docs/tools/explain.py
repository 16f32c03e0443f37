"""Draws docs/explain.jpg: why the bundled network sees a boat in a generated scene and not a car.

    python docs/tools/explain.py

Prints the parts at the pixel of the figure, and the table of docs/explain.md.
"""

from pathlib import Path

import keras_psp
from keras_psp.data.scenes import scene
from keras_psp.explanation import context_summary, level_means

SEED, SIZE = 26, (360, 480)
FIGURE = Path(__file__).parents[1] / "explain.jpg"


def main():
    scenes = keras_psp.data.GeneratedScenes(counts={"val": 40})
    means = level_means(scenes.arrays("val")[0])
    image, _ = scene(SEED, image_size=SIZE, surface="water", skyline="village")
    explanation = keras_psp.explain(image, reference=means)
    parts = explanation.telling_pixel("boat", "car")
    explanation.save(FIGURE, "boat", "car", pixel=(parts.x, parts.y), force=True)
    print(parts)
    print(explanation.context())
    context_summary(scenes, reference=means).print()
    print(FIGURE)


if __name__ == "__main__":
    main()
