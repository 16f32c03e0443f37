r"""Measures what the pyramid of trained networks gains, by replacing it with constants.

    python benchmarks/without_pyramid.py camvid --root CamVid --split test \
        --models runs/ablations/camvid_lite0/*/seed*

Each level is replaced by its mean over the training images, so that the rest of the network sees an
average scene. "gain" is the difference that the image's own levels make to the mean IoU. Of the
correct pixels, "dependent" would be wrong without them; of the wrong ones, "misled" would be right.
Both are shares of all labeled pixels. Networks without a pyramid are skipped.
"""

import argparse
import itertools
from pathlib import Path

from measure import environment, progress

from keras_psp import data
from keras_psp.explanation import context_summary, level_means
from keras_psp.prediction.opening import open_segmenter
from keras_psp.prediction.protocol import Protocol


def row(name, source, args):
    """The cells of a network, or None if it has no pyramid."""
    segmenter = open_segmenter(name, Protocol())
    model, base_size = segmenter.model, segmenter.protocol.base_size
    if not model.bin_sizes:
        return None
    examples = itertools.islice(source.examples("train"), 0, None, args.every)
    means = level_means((image for image, _ in examples), model, base_size=base_size)
    summary = context_summary(
        source, model, split=args.split, reference=means, limit=args.limit, base_size=base_size
    )
    gain = summary.mean_iou - summary.mean_iou_without
    shares = [part.sum() / summary.labeled.sum() for part in (summary.dependent, summary.misled)]
    reduced = model.get_layer("pyramid_pooling").reduction is not None
    bins = "".join(map(str, model.bin_sizes))
    kind = f"B{bins}+{'MAX' if model.pooling == 'max' else 'AVE'}{'+DR' if reduced else ''}"
    values = [summary.mean_iou, summary.mean_iou_without, gain, *shares]
    return [kind, name.name, *(f"{100 * value:.2f}" for value in values)]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", help="see keras_psp.data.load")
    parser.add_argument("--root", type=Path, help="folder of the data set's files")
    parser.add_argument("--split", default="val")
    parser.add_argument("--models", type=Path, nargs="+", required=True, help="folders of runs")
    parser.add_argument("--limit", type=int, help="evaluate the first images only")
    parser.add_argument("--every", type=int, default=1, help="average every n-th training image")
    args = parser.parse_args()
    source = data.load(args.dataset, root=args.root)
    print(f"{environment(('tensorflow',))}.\n")
    columns = ("network", "run", "mean IoU", "without", "gain", "dependent", "misled")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    for name in args.models:
        progress(name)
        cells = row(name, source, args)
        if cells:
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
