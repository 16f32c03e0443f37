"""Compares exports with their network: accuracy, agreement, size and speed."""

import dataclasses
import os
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rich.console
import rich.table

from keras_psp.export.graph import Signature, takes_photos
from keras_psp.export.inputs import thread_count
from keras_psp.export.to_onnx import open_onnx
from keras_psp.export.to_openvino import open_openvino
from keras_psp.export.to_saved_model import open_saved_model
from keras_psp.export.to_tflite import open_tflite
from keras_psp.files import local_path
from keras_psp.metrics.confusion import confusion_matrix, mean_of_present, per_class_iou
from keras_psp.models.pspnet import PSPNet
from keras_psp.prediction.examples import Examples
from keras_psp.prediction.windows import resized
from keras_psp.progress import with_bar


@dataclasses.dataclass(frozen=True)
class ExportResult:
    """Results of an export, or of the network itself."""

    name: str  # "network", or the path of the export
    mean_iou: float  # over the classes that occur, 0 to 1
    agreement: float  # fraction of pixels that have the network's own class, 0 to 1
    size: int | None  # bytes of the file or folder; None for the network
    milliseconds: float  # median per image, without the first, which includes preparations


class ExportResults(list[ExportResult]):
    """Results of `check_exports`, the network's first, for `images` images; prints as a table.

    Example:
        >>> results = check_exports(model, ["pspnet.onnx"], pairs)
        >>> results[1].agreement
        0.99998
        >>> results.print()
    """

    images: int = 0

    def print(self, *, console: rich.console.Console | None = None) -> None:
        """Prints the table, to stdout unless a console is given."""
        table = rich.table.Table(title=f"{self.images} images", title_justify="left")
        for heading in ("", "mean IoU", "points", "equal pixels", "MB", "ms per image"):
            table.add_column(heading, justify="right" if heading else "left", overflow="fold")
        for row in self:
            difference = row.mean_iou - self[0].mean_iou
            table.add_row(
                _short_name(Path(row.name)),
                f"{100 * row.mean_iou:.2f} %",
                "" if row is self[0] else f"{100 * difference:+.2f}",
                "" if row is self[0] else f"{100 * row.agreement:.3f} %",
                "" if row.size is None else f"{row.size / 1e6:.1f}",
                f"{row.milliseconds:.0f}",
            )
        (console or rich.console.Console()).print(table)


def _short_name(path):
    """The last part of a path, or the last two for a version for TF Serving."""
    return "/".join(path.parts[-2:]) if path.name.isdigit() else path.name


def open_export(
    path: str | os.PathLike, *, num_threads: int | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """Opens any export as a function from images (batch, height, width, channels) to its output.

    Args:
        path: a .tflite or .onnx file, or the folder of a SavedModel or an OpenVINO model.
        num_threads: number of threads, by default one per core; SavedModels use TensorFlow's own.

    Example:
        >>> predict = open_export("pspnet.onnx")
        >>> classes = predict(images)  # (batch, height, width)
    """
    thread_count(num_threads)  # also where it isn't used
    path = local_path("path", path)
    if (path / "saved_model.pb").is_file():
        return _reporting(open_saved_model(path))
    if (path / "model.xml").is_file():
        return _reporting(open_openvino(path, num_threads=num_threads))
    openers = {".tflite": open_tflite, ".onnx": open_onnx}
    if path.suffix not in openers:
        raise ValueError(
            f"{path} isn't an export: give a .tflite or .onnx file, or the folder of a SavedModel "
            "or an OpenVINO model."
        )
    return _reporting(openers[path.suffix](path, num_threads=num_threads))


def _reporting(predict):
    """Warns of images of 0..1, as `PSPNet.predict` does; the files don't record their scale."""

    def checked(images):
        images = np.asarray(images)
        rgb = images.shape[-1:] == (3,)
        scaled = rgb and images.dtype.kind == "f" and images.size and images.max() <= 1
        if scaled and len(np.unique(images[:4])) > 8:  # others may just be dark
            warnings.warn(
                f"images are between {images.min():.3g} and {images.max():.3g}; exports take RGB "
                "0..255, unless their network's mean and std are those of images of 0..1.",
                stacklevel=2,
            )
        return predict(images)

    return checked


def check_exports(
    model: PSPNet,
    exports: Sequence[str | os.PathLike],
    dataset: Any,
    *,
    split: str = "val",
    image_size: tuple[int, int] | None = None,
    limit: int | None = None,
    progress: bool = True,
) -> ExportResults:
    """Compares exports with their network on labeled images.

    Args:
        model: the network.
        exports: paths, of any kind that `open_export` opens.
        dataset: a data source, a split of one or pairs of image and mask, as in `evaluate`.
        split: split of the source.
        image_size: (height, width) to which images are resized bilinearly, and masks by nearest
            neighbor; None for exports of any size.
        limit: use only this many images, from the first.
        progress: show a bar on stderr.

    Returns:
        `ExportResults`: mean IoU, agreement with the network, size and time.
    """
    if isinstance(exports, str | os.PathLike):
        raise ValueError(f"exports is one path, '{exports}'; give a list of paths.")
    if image_size is not None:
        image_size = Signature(image_size).image_size
    examples = Examples(dataset, split, model, limit)
    paths = [local_path("exports", path) for path in exports]
    runners = [
        lambda images: model.predict_classes(images.astype("float32"), verbose=0),
        *(open_export(path) for path in paths),
    ]
    confusion: list[Any] = [0] * len(runners)
    equal, pixels = np.zeros(len(runners)), 0
    times: list[list[float]] = [[] for _ in runners]
    photos = takes_photos(model)
    read = examples.read(range(examples.end))
    for _, _, image, mask in with_bar(read, "Checking", examples.count, shown=progress):
        image, mask = _at_size(np.asarray(image), np.asarray(mask), image_size)
        if photos:
            image = np.clip(np.rint(image), 0, 255).astype("uint8")
        for index, run in enumerate(runners):
            start = time.perf_counter()
            output = run(image[None])[0]
            times[index].append(1e3 * (time.perf_counter() - start))
            classes = output.argmax(-1) if output.ndim == 3 else output
            if index == 0:
                expected = classes
            equal[index] += np.count_nonzero(classes == expected)
            confusion[index] += confusion_matrix(
                mask, classes, model.num_classes, ignore_class=examples.ignore_class
            )
        pixels += mask.size
    if not pixels:
        raise ValueError(f"split {split!r} has no images; choose another split.")
    results = ExportResults(
        ExportResult(
            str(path or "network"),
            mean_of_present(per_class_iou(confusion[index])),
            equal[index] / pixels,
            None if path is None else _size(path),
            statistics.median(times[index][1:] or times[index]),
        )
        for index, path in enumerate([None, *paths])
    )
    results.images = len(times[0])
    return results


def _at_size(image, mask, size):
    """Resizes an image and its mask."""
    if size is not None and image.shape[:2] != tuple(size):
        rows, columns = (
            ((np.arange(target) + 0.5) * length / target).astype(int)
            for target, length in zip(size, mask.shape, strict=True)
        )
        image = resized(image.astype("float32"), size, antialias=True)
        mask = mask[np.ix_(rows, columns)]
    return image, mask


def _size(path):
    return sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file())
