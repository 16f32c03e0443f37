"""Moves hulls from water to road, and explains what changes.

    python benchmarks/moved_hull.py --picture docs/moved_hull.jpg
    python benchmarks/moved_hull.py --model runs/ablations/scenes/NETWORK/seed0 --size 96

Each generated scene is generated twice, with the same hull beside water, where it is a boat, and
beside a road, where it is a car; likewise towers before a village (building) and before a city
(skyscraper). Only the pixels of the surface, or of the skyline, change. At the pixels of the hull
the script prints the parts of "boat minus car" in both scenes, how often the class follows the
scene, and how often without levels of the pyramid: replaced by their mean over all these scenes.
"Exchanged" are all levels replaced by their means in the other scene of the pair. Then the shares
of the correct pixels that depend on the pyramid, on the first test images of generated scenes.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from measure import environment, progress
from moved_hull_picture import draw

import keras_psp
from keras_psp.data import GeneratedScenes
from keras_psp.data.scenes import CLASS_NAMES, CONTEXT_CLASSES, scene
from keras_psp.explanation import context_summary, level_means

PAIRS = {
    "hull": ("surface", {"boat": "water", "car": "road"}),
    "tower": ("skyline", {"building": "village", "skyscraper": "city"}),
}
LEAST_PIXELS = 20


@dataclass
class Moved:
    """What a network says of the hulls, or towers, of many scenes.

    Attributes:
        names: of the parts.
        parts: (scenes, 2, parts), means over the pixels of a scene, in both contexts.
        classes: by what was replaced, (2, pixels): 0 for the first class of the pair, 1 for the
            second one, 2 for any other.
    """

    names: tuple[str, ...]
    parts: np.ndarray
    classes: dict[str, np.ndarray]

    def told_apart(self, replaced):
        """Fraction with the right class among those assigned to either class of the pair."""
        named = self.classes[replaced] < 2
        right = self.classes[replaced] == [[0], [1]]
        return right.sum() / max(1, named.sum())

    def follows(self, replaced):
        """Whether the class of each pixel is the right one in both scenes, (pixels,) bool."""
        return (self.classes[replaced] == [[0], [1]]).all(axis=0)


def pairs_of_scenes(object_name, count, size):
    """The first scenes that have such an object: [(images, masks of the object)]."""
    argument, kinds = PAIRS[object_name]
    chosen, seed = [], 0
    while len(chosen) < count:
        both = [scene(seed, image_size=(size, size), **{argument: kind}) for kind in kinds.values()]
        where = both[0][1] == CLASS_NAMES.index(next(iter(kinds)))
        if where.sum() >= LEAST_PIXELS:
            chosen.append(([image for image, _ in both], where))
        seed += 1
    return chosen


def moved(model, object_name, scenes):
    """Explains both scenes of each pair."""
    first, second = PAIRS[object_name][1]
    means = level_means([image for images, _ in scenes for image in images], model)
    parts, classes = [], {}

    def add(replaced, maps, where):
        named = np.full((2, where.sum()), 2)
        for row, one in zip(named, maps, strict=True):
            row[one[where] == CLASS_NAMES.index(first)] = 0
            row[one[where] == CLASS_NAMES.index(second)] = 1
        classes.setdefault(replaced, []).append(named)

    for number, (images, where) in enumerate(scenes):
        if number % 50 == 0:
            progress(f"{object_name} {number} of {len(scenes)}")
        both = [keras_psp.explain(image, model, reference=means) for image in images]
        parts.append([one.parts(first, second)[:, where].mean(axis=1) for one in both])
        add("nothing", [one.classes for one in both], where)
        for bins in both[0].bin_sizes:
            add(f"{bins}x{bins}", [one.context([bins]).classes for one in both], where)
        add("all levels", [one.context().classes for one in both], where)
        others = [level_means([image], model) for image in reversed(images)]
        both = [
            keras_psp.explain(image, model, reference=other)
            for image, other in zip(images, others, strict=True)
        ]
        add("exchanged", [one.context().classes for one in both], where)
    joined = {replaced: np.concatenate(found, axis=1) for replaced, found in classes.items()}
    return Moved(both[0].part_names, np.array(parts), joined)


def percent(value):
    return f"{100 * value:.1f} %"


def print_moved(object_name, found):
    argument, kinds = PAIRS[object_name]
    (first, one), (second, other) = kinds.items()
    scenes, pixels = len(found.parts), found.classes["nothing"].shape[1]
    print(f"### {scenes} {object_name}s with the {argument} changed, {pixels:,} pixels each\n")
    print(f'Parts of "{first} minus {second}", mean over the scenes (and standard deviation):\n')
    print(f"| part | {one} | {other} | {one} minus {other} | share of that |")
    print("|---|---|---|---|---|")
    values = np.concatenate([found.parts, found.parts.sum(axis=2, keepdims=True)], axis=2)
    change = values[:, 0] - values[:, 1]
    for index, name in enumerate([*found.names, "sum"]):
        cells = [
            f"{column.mean():+.2f} ({column.std():.2f})"
            for column in (values[:, 0, index], values[:, 1, index], change[:, index])
        ]
        share = change[:, index].mean() / change[:, -1].mean()
        print(f"| {name} | {' | '.join(cells)} | {percent(share)} |")
    print(f"\nClasses of the {object_name}s' pixels:\n")
    columns = [f"{name} by {kind}" for kind in (one, other) for name in (first, second)]
    print(f"| replaced | {' | '.join(columns)} | follows the {argument} | told apart |")
    print("|---|" + "---|" * (len(columns) + 2))
    for replaced, classes in found.classes.items():
        shares = [percent(np.mean(row == index)) for row in classes for index in (0, 1)]
        shares += [percent(found.follows(replaced).mean()), percent(found.told_apart(replaced))]
        print(f"| {replaced} | {' | '.join(shares)} |")
    follows = found.follows("nothing")
    without = found.classes["all levels"][:, follows]
    lost = without != [[0], [1]]
    shares = [percent(row.mean()) for row in (*lost, lost.any(axis=0))]
    print(
        f"\n{percent(follows.mean())} of the pixels get the right class in both scenes.\n"
        f"Without the pyramid, {shares[0]} of these lose the class {first} ({one}), {shares[1]} "
        f"the class {second} ({other}),\nand {shares[2]} at least one of the two.\n"
    )


def print_summary(model, size, count, seed):
    scenes = GeneratedScenes(seed=seed, image_size=(size, size), counts={"test": count})
    summary = context_summary(scenes, model, split="test", progress=False)
    levels = [f"{bins}x{bins}" for bins in summary.levels]
    print(f"### {summary.images} test images, the levels replaced by {summary.reference}\n")
    print(f"| class | labeled | correct | depend on the pyramid | {' | '.join(levels)} |")
    print("|---|---|---|---|" + "---|" * len(levels))
    for name in CONTEXT_CLASSES:
        index = CLASS_NAMES.index(name)
        labeled, correct = summary.labeled[index], summary.correct[index]
        shares = [correct / labeled, summary.share[index], *(summary.by_level[index] / correct)]
        print(f"| {name} | {labeled:,} | {' | '.join(percent(share) for share in shares)} |")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="see keras_psp.predict; the bundled network by default")
    parser.add_argument("--size", type=int, default=128, help="side of the scenes in pixels")
    parser.add_argument("--scenes", type=int, default=200, help="moved hulls, and towers")
    parser.add_argument("--seed", type=int, default=0, help="seed of the test images' source")
    parser.add_argument("--images", type=int, default=300, help="test images")
    parser.add_argument("--picture", type=Path, help="also draw one moved hull")
    args = parser.parse_args()
    print(f"{environment(('tensorflow',))}.\n")
    for object_name in PAIRS:
        scenes = pairs_of_scenes(object_name, args.scenes, args.size)
        print_moved(object_name, moved(args.model, object_name, scenes))
        if args.picture and object_name == "hull":
            draw(args.model, [image for images, _ in scenes for image in images], args.picture)
    print_summary(args.model, args.size, args.images, args.seed)


if __name__ == "__main__":
    main()
