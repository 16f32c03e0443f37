"""Exports beside the network that they are of, on labelled images."""

import dataclasses
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rich.console
import rich.table

from keras_psp.export.to_onnx import open_onnx
from keras_psp.export.to_openvino import open_openvino
from keras_psp.export.to_saved_model import open_saved_model
from keras_psp.export.to_tflite import open_tflite
from keras_psp.metrics.confusion import confusion_matrix, mean_of_present, per_class_iou
from keras_psp.models.pspnet import PSPNet
from keras_psp.prediction.examples import Examples
from keras_psp.prediction.windows import resized
from keras_psp.progress import with_bar


@dataclasses.dataclass(frozen=True)
class Checked:
    """What an export, or the network itself, found.

    Attributes:
        name: "network", or the path of the export.
        mean_iou: over the classes that occur, 0 to 1.
        equal: share of the pixels that have the network's own class, 0 to 1.
        size: bytes of the file or folder; None of the network.
        milliseconds: median of an image; the first, which prepares, isn't counted.
    """

    name: str
    mean_iou: float
    equal: float
    size: int | None
    milliseconds: float


class CheckedExports(list[Checked]):
    """The network first; prints as a table.

    Attributes:
        images: so many were seen.
    """

    images: int = 0

    def print(self, *, console: rich.console.Console | None = None) -> None:
        """Print the table, to stdout unless a console is given."""
        table = rich.table.Table(title=f"{self.images} images", title_justify="left")
        for heading in ("", "mean IoU", "points", "equal pixels", "MB", "ms an image"):
            table.add_column(heading, justify="right" if heading else "left", overflow="fold")
        for row in self:
            lost = row.mean_iou - self[0].mean_iou
            table.add_row(
                Path(row.name).name,
                f"{100 * row.mean_iou:.2f} %",
                "" if row is self[0] else f"{100 * lost:+.2f}",
                "" if row is self[0] else f"{100 * row.equal:.3f} %",
                "" if row.size is None else f"{row.size / 1e6:.1f}",
                f"{row.milliseconds:.0f}",
            )
        (console or rich.console.Console()).print(table)


def open_export(
    path: str | os.PathLike, *, num_threads: int | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """A function from images (batch, height, width, 3) to the output, of any kind of export.

    Args:
        path: a .tflite or .onnx file, a SavedModel's or an OpenVINO model's folder.
        num_threads: default all cores; TensorFlow's SavedModels take those of the process.
    """
    path = Path(path)
    if (path / "saved_model.pb").is_file():
        return open_saved_model(path)
    if (path / "model.xml").is_file():
        return open_openvino(path, num_threads=num_threads)
    openers = {".tflite": open_tflite, ".onnx": open_onnx}
    if path.suffix not in openers:
        raise ValueError(
            f"{path} is no export: give a .tflite or .onnx file, or the folder of a SavedModel or "
            "of an OpenVINO model."
        )
    return openers[path.suffix](path, num_threads=num_threads or os.cpu_count())


def check_exports(
    model: PSPNet,
    exports: Sequence[str | os.PathLike],
    dataset: Any,
    *,
    split: str = "val",
    image_size: tuple[int, int] | None = None,
    limit: int | None = None,
    progress: bool = True,
) -> CheckedExports:
    """Mean IoU of a network and of exports of it on the same images, and how far they agree.

    Args:
        model: the network.
        exports: paths, of any of the kinds of `open_export`.
        dataset: as in `evaluate`: a data source, a split of one or pairs of image and mask.
        split: of the source.
        image_size: (height, width) that images are resized to, bilinearly, and masks, by
            their nearest pixels; None for exports of any size.
        limit: only the first so many images.
        progress: show a bar on stderr.

    Returns:
        `CheckedExports`.
    """
    examples = Examples(dataset, split, model, limit)
    # None is the network: an export may have any name.
    runners: dict[str | None, Callable] = {None: _network(model)}
    for path in exports:
        runners[str(path)] = open_export(path)
    confusion: dict[str | None, Any] = dict.fromkeys(runners, 0)
    equal: dict[str | None, Any] = dict.fromkeys(runners, 0)
    times: dict[str | None, list[float]] = {name: [] for name in runners}
    pixels = 0
    read = examples.read(range(examples.end) if examples.count is None else range(examples.count))
    count = 0
    for _, _, image, mask in with_bar(read, "Checking", examples.count) if progress else read:
        image, mask = _at_size(np.asarray(image), np.asarray(mask), image_size)
        for name, run in runners.items():
            start = time.perf_counter()
            found = run(image[None])[0]
            times[name].append(1e3 * (time.perf_counter() - start))
            classes = found.argmax(-1) if found.ndim == 3 else found
            if name is None:
                expected = classes
            equal[name] += np.count_nonzero(classes == expected)
            confusion[name] += confusion_matrix(
                mask, classes, model.num_classes, ignore_class=examples.ignore_class
            )
        pixels += mask.size
        count += 1
    if not count:
        raise ValueError(f"split {split!r} holds no images; check exports on one that does.")
    found = CheckedExports(
        Checked(
            name or "network",
            mean_of_present(per_class_iou(confusion[name])),
            equal[name] / pixels,
            None if name is None else _size(Path(name)),
            statistics.median(times[name][1:] or times[name]),
        )
        for name in runners
    )
    found.images = count
    return found


def _network(model):
    return lambda images: model.predict_classes(images.astype("float32"), verbose=0)


def _at_size(image, mask, size):
    """uint8 image and mask of one size."""
    if size is None or image.shape[:2] == tuple(size):
        return np.clip(np.rint(image), 0, 255).astype("uint8"), mask
    rows, columns = (
        ((np.arange(target) + 0.5) * length / target).astype(int)
        for target, length in zip(size, mask.shape, strict=True)
    )
    image = np.rint(resized(image.astype("float32"), size))
    return np.clip(image, 0, 255).astype("uint8"), mask[np.ix_(rows, columns)]


def _size(path):
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(file.stat().st_size for file in files)
