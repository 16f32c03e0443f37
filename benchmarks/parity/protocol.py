"""Compares the authors' test procedure with ours: class maps and probabilities.

    python benchmarks/parity/protocol.py --semseg semseg

Runs `test` of semseg's tool/test.py on the CPU, with a PSPNet-50 with random weights, on
generated scenes of five sizes, two of them smaller than the window; then ours with the converted
weights: with scale 1, and with six scales, both with flip. Needs torch, pyyaml and OpenCV 4
(`opencv-python-headless<5`).
"""

import argparse
import importlib.util
import logging
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from keras_psp.data.scenes.generated import scene
from keras_psp.imagenet import IMAGENET_MEAN, IMAGENET_STD
from keras_psp.prediction import Segmenter
from keras_psp.weights import convert

SIZES = ((375, 500), (512, 384), (341, 512), (200, 300), (97, 64))
SIX = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
CLASSES, BASE_SIZE = 150, 512
LEAST_EQUAL, BOUND = 0.999, 1e-4


class Authors:
    """Their procedure, with a network with random weights.

    Args:
        repository: a checkout of hszhao/semseg.
        folder: for the PNGs that the procedure writes.
        classes: number of classes.
    """

    def __init__(self, repository, folder, classes=CLASSES):
        import torch

        self._torch, self._folder, self._classes = torch, Path(folder), classes
        sys.path.insert(0, str(repository))
        from model.pspnet import PSPNet

        spec = importlib.util.spec_from_file_location("tool_test", repository / "tool/test.py")
        self._tool = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self._tool)
        self._tool.logger = logging.getLogger("semseg")
        if not torch.cuda.is_available():
            torch.Tensor.cuda = lambda tensor: tensor
        torch.manual_seed(0)
        self._network = PSPNet(layers=50, classes=classes, zoom_factor=8, pretrained=False)
        # A new classifier's scores are almost equal. These differ by a few, like a trained one's,
        # but not by more, or a window and its mirror image tie at one half each.
        torch.nn.init.normal_(self._network.cls[4].weight, std=0.1)
        self.weights = self._folder / "weights.pth"
        torch.save(self._network.state_dict(), self.weights)
        # The result of each of their calls for one scale.
        self._results = []
        whole = self._tool.scale_process

        def recorded(*arguments, **options):
            self._results.append(whole(*arguments, **options))
            return self._results[-1]

        self._tool.scale_process = recorded

    def network(self, views):
        """Applies their network alone to views (batch, height, width, 3)."""
        with self._torch.no_grad():
            return self._network.eval()(self._torch.from_numpy(views.transpose(0, 3, 1, 2).copy()))

    def __call__(self, image, scales, crop):
        """Returns the class map and the probabilities of an image (height, width, 3)."""
        self._results.clear()
        pixels = self._torch.from_numpy(image.transpose(2, 0, 1)[None].astype("float32"))
        self._tool.test(
            [(pixels, None)],
            [("image.png", "")],
            self._network.eval(),
            self._classes,
            list(IMAGENET_MEAN),
            list(IMAGENET_STD),
            BASE_SIZE,
            crop,
            crop,
            scales,
            str(self._folder / "gray"),
            str(self._folder / "color"),
            [0] * 768,
        )
        classes = np.asarray(Image.open(self._folder / "gray" / "image.png"))
        return classes, sum(self._results) / len(scales)


def scenes():
    """The images, (height, width, 3) uint8."""
    return [scene(seed, image_size=size)[0] for seed, size in enumerate(SIZES)]


def main():
    """Prints the table; fails if a bound is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--semseg", required=True, type=Path)
    parser.add_argument("--crop", type=int, default=473)
    options = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        authors = Authors(options.semseg, folder)
        model = convert(authors.weights, verbose=False)
        print("| image | scales | pixels of one class | largest difference of a probability |")
        print("|---|---|---|---|")
        for scales in ((1.0,), SIX):
            ours = Segmenter(
                model, scales=scales, flip=True, crop=options.crop, base_size=BASE_SIZE
            )
            for image in scenes():
                classes, probabilities = authors(image, scales, options.crop)
                scores = ours.probabilities(image)
                worst = float(np.abs(scores - probabilities).max())
                # `classes` computes the same; checked with one scale only, since it takes as long.
                best = scores.argmax(-1) if len(scales) > 1 else ours.classes([image])[0]
                equal = float(np.mean(best == classes))
                failed |= not (equal >= LEAST_EQUAL and worst <= BOUND)
                size = f"{image.shape[1]}x{image.shape[0]}"
                print(f"| {size} | {len(scales)} | {100 * equal:.3f} % | {worst:.1e} |", flush=True)
    print(f"\nwindow {options.crop}, flip; bounds {100 * LEAST_EQUAL:.1f} % and {BOUND:.0e}")
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
