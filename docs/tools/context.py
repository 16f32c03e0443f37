"""Draws docs/context.jpg: one scene beside water and beside a road, as the bundled network sees it.

    python docs/tools/context.py

Only the pixels of the water and the road differ between the two images. Prints the share of the
hull's pixels that the network calls boat and car.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from keras_psp import prediction, visual
from keras_psp.data.scenes import scene

SEED, SIZE = 26, (360, 480)
PICTURE = Path(__file__).parents[1] / "context.jpg"


def main():
    figure, axes = plt.subplots(2, 2, figsize=(9.6, 7.6), dpi=125, layout="constrained")
    for row, surface in zip(axes, ("water", "road"), strict=True):
        image, mask = scene(SEED, image_size=SIZE, surface=surface, skyline="village")
        seen = prediction.predict(image, base_size=224, flip=True)
        names = list(seen.class_names)
        hull = np.isin(mask, [names.index("boat"), names.index("car")])
        shares = {
            name: np.mean(seen.classes[hull] == names.index(name)) for name in ("boat", "car")
        }
        print(surface, {name: f"{100 * share:.0f} %" for name, share in shares.items()})
        row[0].imshow(image)
        row[1].imshow(visual.overlay(image, seen.classes, seen.palette))
        rows, columns = np.nonzero(hull)
        row[1].annotate(
            max(shares, key=shares.get),
            (columns.min(), rows.max() + 28),
            fontsize=17,
            fontweight="bold",
            color="white",
            bbox={"boxstyle": "round", "facecolor": "black", "linewidth": 0},
        )
        row[0].set_ylabel(f"beside {surface}", fontsize=15)
    for axis, title in zip(axes[0], ("image", "prediction"), strict=True):
        axis.set_title(title, fontsize=15)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    figure.savefig(PICTURE, pil_kwargs={"quality": 90})
    print(PICTURE)


if __name__ == "__main__":
    main()
