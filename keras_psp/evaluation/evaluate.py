"""Judging a network on a labelled data set."""

import collections
import datetime
import itertools
import json
import os
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image

from keras_psp.data.arguments import checked_integer
from keras_psp.data.progress import ahead
from keras_psp.evaluation.figures import write_csv, write_json
from keras_psp.evaluation.measures import Measures
from keras_psp.evaluation.segmenter import Segmenter
from keras_psp.files import writing, written_aside
from keras_psp.metrics.confusion import confusion_matrix

_SAVE_EVERY = 20.0  # seconds
_READERS = 2  # threads that decode; resizing has one of its own


@dataclass
class Evaluation:
    """What `evaluate` found.

    Attributes:
        measures: the usual measures, from `measures.confusion`.
        names: of the images, in order.
        pixel_accuracy, mean_iou_of_image: (images,) float64; NaN where an image has no
            counted pixel. An image's mean IoU is over the classes in its labels or predictions.
        settings: protocol, network and data.
        seconds: that it took, stops left out.
    """

    measures: Measures
    names: list[str]
    pixel_accuracy_of_image: np.ndarray
    mean_iou_of_image: np.ndarray
    settings: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def mean_iou(self) -> float:
        """Mean over the classes that occur, 0 to 1."""
        return self.measures.mean_iou

    @property
    def pixel_accuracy(self) -> float:
        """Share of the counted pixels that are right."""
        return self.measures.pixel_accuracy

    def __str__(self):
        return (
            f"{len(self.names)} images: mean IoU {100 * self.mean_iou:.2f} %, pixel accuracy "
            f"{100 * self.pixel_accuracy:.2f} %"
        )

    def print(self) -> None:
        """The table of classes and the means, on stdout."""
        self.measures.print()

    def save(self, folder: str | os.PathLike) -> None:
        """Write evaluation.json, classes.csv, images.csv and confusion.csv into a folder."""
        folder = Path(folder)
        names = self.measures.class_names
        per_image = (self.names, self.pixel_accuracy_of_image, self.mean_iou_of_image)
        confusion = zip(names, self.measures.confusion.tolist(), strict=True)
        with writing(folder):
            self.measures.to_csv(folder / "classes.csv")
            self.measures.to_json(folder / "measures.json")
            write_csv(
                folder / "images.csv",
                ("name", "pixel_accuracy", "mean_iou"),
                zip(*per_image, strict=True),
            )
            write_csv(
                folder / "confusion.csv",
                ("label \\ prediction", *names, "none of these"),
                ((name, *row) for name, row in confusion),
            )
            write_json(
                folder / "evaluation.json",
                {
                    "images": len(self.names),
                    "mean_iou": self.mean_iou,
                    "pixel_accuracy": self.pixel_accuracy,
                    "class_accuracy": self.measures.class_accuracy,
                    "frequency_weighted_iou": self.measures.frequency_weighted_iou,
                    "seconds": round(self.seconds, 1),
                    **self.settings,
                },
            )


def evaluate(
    model,
    dataset,
    *,
    split: str = "val",
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    crop: int | None = None,
    overlap: float = 1 / 3,
    base_size: int | None = None,
    batch_size: int = 4,
    output: str | os.PathLike | None = None,
    save_predictions: bool = False,
    limit: int | None = None,
    progress: bool = True,
) -> Evaluation:
    """Judge a network as the paper does: sliding windows, several scales and flip.

        found = evaluate(model, source, crop=473, flip=True,
                         scales=(0.5, 0.75, 1, 1.25, 1.5, 1.75), base_size=512)
        found.print()

    Every picture is judged at its labels' size, on one confusion matrix of the whole set.

    Args:
        model: a `keras_psp.PSPNet`.
        dataset: a source (`keras_psp.data.load(...)`, `ImageFolder`, `GeneratedScenes`), a
            `Split`, or pairs of an image (height, width, 3), RGB 0 to 255, and its mask
            (height, width), class indices.
        split: of a source.
        scales, flip, crop, overlap, base_size, batch_size: see `Segmenter`. The default is
            one view of the whole picture.
        output: folder for the tables and, every 20 seconds, what there is so far; the same call
            again goes on from there. Without it nothing is written.
        save_predictions: also write a PNG of class indices for each picture, into
            output/predictions.
        limit: judge only so many, the first.
        progress: a bar on stderr, with the mean IoU so far and the time left.

    Raises:
        ValueError: the arguments make no evaluation, a mask has another size than its picture
            or a class that the network hasn't, or `output` holds another evaluation.
    """
    segmenter = Segmenter(
        model,
        scales=scales,
        flip=flip,
        crop=crop,
        overlap=overlap,
        base_size=base_size,
        batch_size=batch_size,
    )
    if save_predictions and output is None:
        raise ValueError("save_predictions=True needs an output folder.")
    if limit is not None:
        limit = checked_integer("limit", limit, least=1)
    examples = _Examples(dataset, split, model, limit)
    protocol = {
        "scales": list(segmenter.scales),
        "flip": segmenter.flip,
        "crop": crop,
        "overlap": overlap,
        "base_size": base_size,
    }
    settings = {**protocol, "data": examples.description, "weights": _fingerprint(model)}
    tally = _Tally(examples, settings, None if output is None else Path(output))
    tally.resume()
    masks: collections.deque = collections.deque()

    def images():
        for name, (image, mask) in examples.read(tally.done):
            mask = _checked_mask(mask, image, name, examples)
            masks.append((name, mask))
            yield image

    with _Bar(progress, tally, examples.count) as bar, tally.kept():
        for classes in segmenter.stream(images()):
            name, mask = masks.popleft()
            if save_predictions and output is not None:
                _save_prediction(Path(output) / "predictions", name, classes)
            tally.add(name, mask, classes)
            bar.advance()
    return tally.finished()


class _Examples:
    """Names, pictures and masks in order, from any of the kinds that `evaluate` takes."""

    def __init__(self, dataset, split, model, limit):
        if hasattr(dataset, "splits"):
            source, self.name = dataset, split
        else:
            source, self.name = getattr(dataset, "source", None), getattr(dataset, "name", None)
        self._source, self._pairs = source, dataset
        self.ignore_class = 255 if source is None else source.ignore_class
        self.num_classes = model.num_classes
        self.count = source.count(self.name) if source is not None else _length(dataset)
        if limit is not None:
            self.count = limit if self.count is None else min(limit, self.count)
        self.limit = limit
        names = model.class_names
        if source is not None:
            if source.num_classes != model.num_classes:
                raise ValueError(
                    f"the network has {model.num_classes} classes and the data "
                    f"{source.num_classes}; judge it on data of its own classes."
                )
            if hasattr(source, "labelled") and not source.labelled(self.name):
                raise ValueError(
                    f"split {self.name!r} has no labels to judge by; use keras_psp.predict for "
                    "pictures alone, or choose another split."
                )
            names = source.class_names
        self.class_names = list(names or (f"class {i}" for i in range(model.num_classes)))
        self.description = {
            "kind": type(source if source is not None else dataset).__name__,
            "split": self.name,
            "images": self.count,
        }

    def read(self, first: int) -> Iterator:
        """(name, (image, mask)) from number `first` on, decoded ahead in threads."""
        source = self._source
        if source is not None and hasattr(source, "example"):
            paths = source.paths(self.name) if hasattr(source, "paths") else None

            def example(index):
                name = f"{index:06d}" if paths is None else Path(paths[index][0]).stem
                return name, source.example(self.name, index)

            yield from ahead(example, range(first, self.count), threads=_READERS)
            return
        pairs = self._pairs if source is None else source.examples(self.name)
        if hasattr(pairs, "as_numpy_iterator"):
            pairs = pairs.as_numpy_iterator()
        pairs = itertools.islice(pairs, first, self.limit)
        yield from ((f"{index:06d}", pair) for index, pair in enumerate(pairs, first))


class _Tally:
    """What was counted so far, in memory and in the output folder."""

    def __init__(self, examples, settings, folder):
        self._examples, self._settings, self._folder = examples, settings, folder
        classes = examples.num_classes
        self.confusion = np.zeros((classes, classes + 1), np.int64)
        self.names: list[str] = []
        self._accuracies: list[float] = []
        self._ious: list[float] = []
        self._seconds = 0.0
        self._begun = self._saved = time.monotonic()

    @property
    def done(self) -> int:
        return len(self.names)

    @property
    def mean_iou(self) -> float:
        return Measures(self.confusion, self._examples.class_names).mean_iou

    def add(self, name, mask, classes):
        counts = confusion_matrix(
            mask,
            classes,
            self._examples.num_classes,
            ignore_class=self._examples.ignore_class,
        )
        measures = Measures(counts, self._examples.class_names)
        self.confusion += counts
        self.names.append(name)
        self._accuracies.append(measures.pixel_accuracy)
        self._ious.append(measures.mean_iou)
        if self._folder is not None and time.monotonic() - self._saved > _SAVE_EVERY:
            self.save()

    def kept(self):
        """A context after which what was counted lies in the folder, whatever ended it."""
        return _Kept(self)

    def resume(self):
        """Go on from what the folder holds."""
        path = None if self._folder is None else self._folder / "state.npz"
        if path is None or not path.exists():
            return
        with np.load(path, allow_pickle=False) as state:
            there = json.loads(str(state["settings"]))
            here = json.loads(json.dumps(self._settings))
            for key in here:
                if there.get(key) != here[key]:
                    raise ValueError(
                        f"{self._folder} holds an evaluation with {key}={there.get(key)!r}, not "
                        f"{here[key]!r}; choose another output."
                    )
            self.confusion = state["confusion"]
            self.names = state["names"].tolist()
            self._accuracies = state["accuracies"].tolist()
            self._ious = state["ious"].tolist()
            self._seconds = float(state["seconds"])

    def save(self):
        """Write the state."""
        if self._folder is None:
            return
        path = self._folder / "state.npz"
        with writing(path), written_aside(path) as draft:
            np.savez(
                draft,
                confusion=self.confusion,
                names=np.array(self.names, dtype=np.str_),
                accuracies=np.array(self._accuracies),
                ious=np.array(self._ious),
                seconds=self._time(),
                settings=json.dumps(self._settings),
            )
        self._saved = time.monotonic()

    def _time(self):
        return self._seconds + time.monotonic() - self._begun

    def finished(self) -> Evaluation:
        """The result, written into the folder as well."""
        if not self.names:
            raise ValueError("the dataset is empty; there is nothing to judge.")
        found = Evaluation(
            Measures(self.confusion, self._examples.class_names),
            self.names,
            np.array(self._accuracies),
            np.array(self._ious),
            {**self._settings, "date": datetime.date.today().isoformat()},
            self._time(),
        )
        if self._folder is not None:
            found.save(self._folder)
        return found


class _Kept:
    def __init__(self, tally):
        self._tally = tally

    def __enter__(self):
        return self._tally

    def __exit__(self, *error):
        self._tally.save()


class _Bar:
    """Progress on stderr with the mean IoU so far."""

    def __init__(self, shown, tally, count):
        self._tally = tally
        self._bar = None
        if shown:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[found]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task(
                "evaluating", total=count, completed=tally.done, found=""
            )

    def __enter__(self):
        if self._bar is not None:
            self._bar.start()
        return self

    def advance(self):
        if self._bar is not None:
            found = f"mean IoU {100 * self._tally.mean_iou:.2f} %"
            self._bar.update(self._task, completed=self._tally.done, found=found)

    def __exit__(self, *error):
        if self._bar is not None:
            self._bar.stop()


def _checked_mask(mask, image, name, examples):
    mask = np.asarray(mask)
    if mask.ndim == 3 and mask.shape[-1] == 1:
        mask = mask[..., 0]
    if mask.shape != np.shape(image)[:2]:
        raise ValueError(
            f"{name}: the mask is {mask.shape} but the image {np.shape(image)[:2]} (height, "
            "width); they must be alike."
        )
    wrong = (mask >= examples.num_classes) | (mask < 0)
    wrong &= mask != examples.ignore_class
    if wrong.any():
        raise ValueError(
            f"{name}: the mask has the value {mask[wrong][0]}, but there are "
            f"{examples.num_classes} classes and the ignored one is {examples.ignore_class}."
        )
    return mask


def _save_prediction(folder, name, classes):
    path = folder / f"{name}.png"
    with writing(path), written_aside(path) as draft:
        Image.fromarray(classes).save(draft)


def _fingerprint(model):
    """A number that tells weights apart."""
    code = 0
    for variable in model.weights:
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(variable))
        code = zlib.crc32(value.view(np.uint8).reshape(-1), code)
    return f"{code:08x}"


def _length(pairs: Any) -> int | None:
    if hasattr(pairs, "cardinality"):
        count = int(pairs.cardinality())
        return count if count >= 0 else None
    return len(pairs) if hasattr(pairs, "__len__") else None
