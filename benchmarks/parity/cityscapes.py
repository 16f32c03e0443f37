"""Compares Cityscapes' evaluation scripts and semseg's measures with ours, on the same files.

    python -m pip install --target peer cityscapesscripts
    python benchmarks/parity/cityscapes.py --cityscapesscripts peer [--semseg semseg]

Peer is the folder with cityscapesscripts and its dependencies, semseg a checkout of
hszhao/semseg, whose util/util.py needs torch. The ground truth is generated in Cityscapes'
layout: all 34 labels, instances of many sizes, groups without instances. Predictions are the
ground truth shifted and painted over with wrong labels. CityscapesSubmission writes half of
them, and the peer's search finds all. Each figure is compared over all images and per image.
"""

import argparse
import collections
import math
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from keras_psp import MeanIoU, data
from keras_psp.data.sets.cityscapes_labels import CLASSES, LABELS, label_ids
from keras_psp.evaluation.cityscapes import CityscapesMeasures
from keras_psp.evaluation.measures import Measures
from keras_psp.prediction.submissions import CityscapesSubmission, image_sizes

BOUND = 1e-12
# Two more classes than in the scenes: semseg counts their IoU as 0.
NUM_CLASSES = len(CLASSES) + 2
NO_CLASS = 250
FIGURES = {  # theirs, ours
    "classScores": "class_iou",
    "classInstScores": "class_iiou",
    "categoryScores": "category_iou",
    "categoryInstScores": "category_iiou",
    "averageScoreClasses": "mean_class_iou",
    "averageScoreInstClasses": "mean_class_iiou",
    "averageScoreCategories": "mean_category_iou",
    "averageScoreInstCategories": "mean_category_iiou",
}


def scene(random, height, width):
    """Label ids, uint8, and instance ids, int32, (height, width); some labels are missing."""
    names = np.zeros((height, width), np.uint8)
    instances = np.zeros((height, width), np.int32)
    stuff = [label.id for label in LABELS if not label.has_instances]
    things = [label.id for label in LABELS if label.has_instances]
    for label in np.repeat(random.permutation(stuff)[:16], 2):
        names[patch(random, height, width, 0.1, 0.6)] = label
    instances[:] = names
    for number, label in enumerate(random.permutation(random.permutation(things)[:6].repeat(5))):
        where = patch(random, height, width, 0.004, 0.25)
        names[where] = label
        instances[where] = label if random.random() < 0.2 else 1000 * label + number
    return names, instances


def patch(random, height, width, smallest, largest):
    """The slices of a rectangle; sides are shares of the image's."""
    rows, columns = np.exp(random.uniform(math.log(smallest), math.log(largest), 2))
    rows, columns = max(1, int(rows * height)), max(1, int(columns * width))
    y, x = random.integers(0, height - rows), random.integers(0, width - columns)
    return slice(y, y + rows), slice(x, x + columns)


def predicted(random, names, ids):
    """The scene's labels shifted, with patches of other ids."""
    ids_map = np.roll(names, random.integers(-9, 10, 2), axis=(0, 1))
    for label in random.permutation(ids)[: len(ids) // 2]:
        ids_map[patch(random, *names.shape, 0.01, 0.15)] = label
    return ids_map


def write(root, count, height, width):
    """Writes a small Cityscapes under `root`; returns its source and the predictions by image."""
    random = np.random.default_rng(0)
    names = [f"lindau_{i:06}_000019" for i in range(count)]
    for kind in ("leftImg8bit", "gtFine"):
        (root / kind / "val" / "lindau").mkdir(parents=True)
    predictions = []
    for name in names:
        labels, instances = scene(random, height, width)
        home = root / "gtFine" / "val" / "lindau"
        Image.fromarray(labels).save(home / f"{name}_gtFine_labelIds.png")
        Image.fromarray(instances.astype(np.uint16)).save(home / f"{name}_gtFine_instanceIds.png")
        path = root / "leftImg8bit" / "val" / "lindau" / f"{name}_leftImg8bit.png"
        Image.new("RGB", (width, height)).save(path)
        predictions.append(predicted(random, labels, np.arange(len(LABELS))))
    source = data.load("cityscapes", root=root, complete=False)
    sizes = image_sizes(source, "val")
    submission = CityscapesSubmission(root / "results", sizes, size=(height, width))
    for index, name in enumerate(sizes):
        if index % 2:
            submission.path(name).parent.mkdir(exist_ok=True)
            Image.fromarray(predictions[index]).save(submission.path(name))
        else:  # only the classes that a network can predict
            classes = classes_of(predictions[index])
            classes[classes == NO_CLASS] = 0
            predictions[index] = label_ids(classes)
            submission.write(name, classes)
    return source, predictions


def classes_of(ids):
    """Class indices of label ids, NO_CLASS for those without."""
    table = np.full(len(LABELS), NO_CLASS, np.uint8)
    table[[label.id for label in CLASSES]] = range(len(CLASSES))
    return table[ids]


def counted(source, index, prediction):
    """Our measures of one image."""
    measures = CityscapesMeasures()
    with Image.open(source.paths("val")[index][1]) as mask:
        measures.update(np.asarray(mask), prediction, source.instances("val", index))
    return measures


def compare(rows, scores, measures, column):
    """Adds the differences of each kind of figure to its row."""
    for theirs, ours in FIGURES.items():
        rows[theirs][column] += differences(scores[theirs], getattr(measures, ours))
    counts = np.array(scores["confMatrix"], np.int64)
    rows["confMatrix"][column] += np.abs(counts - measures.confusion).ravel().tolist()


def differences(theirs, ours):
    """Differences of numbers or dicts where defined; infinite if only one side is."""
    if not isinstance(theirs, dict):
        theirs, ours = {"": theirs}, {"": ours}
    pairs = [(theirs.get(n, math.nan), ours.get(n, math.nan)) for n in {**theirs, **ours}]
    defined = [pair for pair in pairs if not all(map(math.isnan, pair))]
    return [math.inf if any(map(math.isnan, pair)) else abs(pair[0] - pair[1]) for pair in defined]


def semseg_rows(folder, source, predictions, rows):
    """Adds the figures of semseg's tool/test.py, from its util.intersectionAndUnion."""
    sys.path.insert(0, folder)
    from util.util import intersectionAndUnion

    metric, sums = MeanIoU(NUM_CLASSES), np.zeros((3, NUM_CLASSES))
    for index, prediction in enumerate(predictions):
        truth, classes = source.example("val", index)[1], classes_of(prediction)
        sums += intersectionAndUnion(classes, truth, NUM_CLASSES)
        metric.update_state(truth[None], classes[None])
    names = [str(index) for index in range(NUM_CLASSES)]
    ours = Measures(metric.confusion_matrix(others=True), names, absent_as_zero=True)
    right, union, target = sums
    theirs = {
        "mIoU": (np.mean(right / (union + 1e-10)), ours.mean_iou),
        "mAcc": (np.mean(right / (target + 1e-10)), ours.class_accuracy),
        "allAcc": (sum(right) / (sum(target) + 1e-10), ours.pixel_accuracy),
        "iou_class": (right / (union + 1e-10), np.nan_to_num(ours.iou)),
        "accuracy_class": (right / (target + 1e-10), np.nan_to_num(ours.accuracy)),
    }
    for name, pair in theirs.items():
        rows[f"semseg: {name}"]["all"] += np.abs(np.subtract(*pair)).ravel().tolist()


def main():
    """Prints the table; fails if the bound is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cityscapesscripts", required=True)
    parser.add_argument("--semseg")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--size", default="1024x2048", help="HEIGHTxWIDTH")
    options = parser.parse_args()
    height, width = (int(side) for side in options.size.split("x"))
    # Last, since the folder may contain other versions of installed packages.
    sys.path.append(options.cityscapesscripts)
    if not hasattr(np, "in1d"):
        # Removed in NumPy 2.4; the peer reshapes the result itself.
        np.in1d = np.isin  # noqa: NPY201
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as peer

    rows = collections.defaultdict(lambda: {"all": [], "single": []})
    with tempfile.TemporaryDirectory() as folder:
        source, predictions = write(Path(folder), options.count, height, width)
        os.environ["CITYSCAPES_RESULTS"] = str(Path(folder) / "results")
        peer.args.quiet, peer.args.JSONOutput = True, False
        truths = [str(label) for _, label in source.paths("val")]
        files = [peer.getPrediction(peer.args, truth) for truth in truths]
        whole = CityscapesMeasures()
        for index, prediction in enumerate(predictions):
            print(f"{index + 1}/{len(predictions)}", file=sys.stderr)
            measures = counted(source, index, prediction)
            scores = peer.evaluateImgLists([files[index]], [truths[index]], peer.args)
            compare(rows, scores, measures, "single")
            whole += measures
        scores = peer.evaluateImgLists(files, truths, peer.args)
        compare(rows, scores, whole, "all")
        if options.semseg:
            semseg_rows(options.semseg, source, predictions, rows)
    print(f"| figure | {options.count} images: values | worst | single images: values | worst |")
    print("|---|---|---|---|---|")
    for name, part in rows.items():
        cells = [f"{len(v)} | {max(v):.1e}" if v else " | " for v in part.values()]
        print(f"| {name} | {' | '.join(cells)} |")
    worst = max(value for part in rows.values() for values in part.values() for value in values)
    means = [f"{name} {getattr(whole, ours):.4f}" for name, ours in list(FIGURES.items())[4:]]
    print(f"\n{', '.join(means)}")
    print(f"Worst difference {worst:.1e}; bound {BOUND:.0e}.")
    return bool(not worst <= BOUND)


if __name__ == "__main__":
    raise SystemExit(main())
