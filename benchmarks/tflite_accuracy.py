"""What a TFLite file of each precision loses, on labelled images.

    python benchmarks/tflite_accuracy.py runs/camvid/best.keras --data CAMVID --images 233

Exports the network in every precision, with ranges measured on training images, and runs the
network and the files on the same resized test images. "equal" is the share of pixels that have
the network's own class.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from measure import environment, progress

import keras_psp
from keras_psp import data, export
from keras_psp.evaluation.windows import resized

PRECISIONS = ("float32", "float16", "dynamic_int8", "int8")


def examples(split, count, size):
    """Images (height, width, 3) and masks of one size, evenly spread over the split."""
    for index in np.linspace(0, len(split) - 1, min(count, len(split))).round().astype(int):
        image, mask = split[int(index)]
        mask = np.asarray(mask)
        take = [
            ((np.arange(target) + 0.5) * length / target).astype(int)
            for target, length in zip(size, mask.shape, strict=True)
        ]
        image = np.rint(resized(np.asarray(image, "float32"), size)).astype("uint8")
        yield image, mask[np.ix_(*take)]


def mean_iou(confusion):
    union = confusion.sum(0) + confusion.sum(1) - np.diag(confusion)
    return np.mean(np.diag(confusion)[union > 0] / union[union > 0])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("network")
    parser.add_argument("--set", default="camvid", help="name of the data set")
    parser.add_argument("--data", required=True, help="its folder")
    parser.add_argument("--image-size", type=int, nargs=2, default=(240, 320))
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--representative", type=int, default=100)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    size = tuple(args.image_size)
    model = keras_psp.PSPNet(weights=args.network)
    source = data.load(args.set, root=args.data)
    test = list(examples(data.Split(source, "test"), args.images, size))
    train = examples(data.Split(source, "train"), args.representative, size)
    train = [image for image, _ in train]

    def confusion(found):
        counts = np.zeros((model.num_classes,) * 2, int)
        for classes, (_, mask) in zip(found, test, strict=True):
            seen = mask < model.num_classes
            pairs = model.num_classes * mask[seen].astype(int) + classes[seen]
            counts += np.bincount(pairs, minlength=counts.size).reshape(counts.shape)
        return counts

    images = [image for image, _ in test]
    progress("the network itself")
    expected = [
        model.predict(image[None].astype("float32"), verbose=0)[0].argmax(-1) for image in images
    ]
    reference = mean_iou(confusion(expected))
    lines = [f"| Keras | | {100 * reference:.2f} % | | |"]
    with tempfile.TemporaryDirectory() as folder:
        for precision in PRECISIONS:
            progress(precision)
            path = Path(folder) / f"{precision}.tflite"
            given = train if precision == "int8" else None
            export.tflite(model, path, image_size=size, precision=precision, representative=given)
            predict = export.open_tflite(path, num_threads=args.threads)
            found = [predict(image[None])[0] for image in images]
            score = mean_iou(confusion(found))
            equal = np.mean([np.mean(a == b) for a, b in zip(found, expected, strict=True)])
            lines.append(
                f"| {precision} | {path.stat().st_size / 1e6:.1f} | {100 * score:.2f} % | "
                f"{100 * (score - reference):+.2f} | {100 * equal:.2f} % |"
            )
            print(lines[-1], file=sys.stderr, flush=True)
    print(f"{environment(['tensorflow', 'ai-edge-litert'])}; {len(test)} images {size}\n")
    print("| | MB | mean IoU | points | equal pixels |\n|---|---|---|---|---|")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
