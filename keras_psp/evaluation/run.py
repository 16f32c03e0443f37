"""Judging a network on a labelled data set."""

import collections
import contextlib
import datetime
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from keras_psp.console import Lines, bar_console, draws_bars
from keras_psp.data.arguments import checked_integer
from keras_psp.data.cityscapes_labels import label_ids
from keras_psp.evaluation.boundary import BoundaryIoU
from keras_psp.evaluation.cityscapes import CityscapesMeasures
from keras_psp.evaluation.errors import ErrorGroups
from keras_psp.evaluation.examples import Examples
from keras_psp.evaluation.measures import Measures
from keras_psp.evaluation.prediction import chosen_model, digest, open_model
from keras_psp.evaluation.protocol import chosen_base_size, run_folder
from keras_psp.evaluation.result import Evaluation
from keras_psp.evaluation.segmenter import Segmenter
from keras_psp.files import writing, written_aside
from keras_psp.metrics.confusion import confusion_matrix
from keras_psp.visual.report import Example

_SAVE_EVERY = 20.0  # seconds
_WORST, _BEST = 6, 3  # pictures of the report


def evaluate(
    model,
    dataset,
    *,
    split: str = "val",
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    crop: int | None = None,
    overlap: float = 1 / 3,
    base_size: int | Literal["auto"] | None = "auto",
    batch_size: int = 4,
    output: str | os.PathLike | None = None,
    save_predictions: bool = False,
    boundary: bool = False,
    report: bool = True,
    limit: int | None = None,
    progress: bool = True,
) -> Evaluation:
    """Judge a network as the paper does: sliding windows, several scales and flip.

        found = evaluate(model, source, crop=473, flip=True,
                         scales=(0.5, 0.75, 1, 1.25, 1.5, 1.75), base_size=512)
        found.print()

    Every picture is judged at its labels' size, on one confusion matrix of the whole set.

    Args:
        model: a `keras_psp.PSPNet`, or what `keras_psp.predict` takes: a preset's name, a file,
            the folder of a training.
        dataset: a source (`keras_psp.data.load(...)`, `ImageFolder`, `GeneratedScenes`), a
            `Split`, or pairs of an image (height, width, 3), RGB 0 to 255, and its mask
            (height, width), class indices.
        split: of a source.
        scales, flip, crop, overlap, batch_size: see `Segmenter`. The default is one view of the
            whole picture.
        base_size: length that an image's longer side has at scale 1, None for its own; "auto" is
            that of the training whose folder `model` is, or of the preset, else its own.
        output: folder for the results and, every 20 seconds, what there is so far; the same call
            again goes on from there. Without it nothing is written.
        save_predictions: also write a PNG of class indices for each picture, into
            output/predictions.
        boundary: also boundary IoU, see `BoundaryIoU`.
        report: with `output`, write output/report.html as well, everything on one page.
        limit: judge only so many, the first.
        progress: a bar on stderr, with the mean IoU so far and the time left.

    Raises:
        ValueError: the arguments make no evaluation, a mask has another size than its picture
            or a class that the network hasn't, or `output` holds another evaluation.
    """
    model = chosen_model(model)
    base_size = chosen_base_size(model, base_size)
    folder = run_folder(model)
    model = open_model(model)
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
    examples = Examples(dataset, split, model, limit)
    protocol = {
        "scales": list(segmenter.scales),
        "flip": segmenter.flip,
        "crop": crop,
        "overlap": overlap,
        "base_size": base_size,
    }
    settings = {"model": model.name, "weights": digest(model), **protocol, "boundary": boundary}
    settings["data"] = examples.description
    tally = _Tally(examples, settings, None if output is None else Path(output))
    tally.resume()
    waiting: collections.deque = collections.deque()

    def images():
        for index, name, image, mask in examples.read(range(tally.done, examples.end)):
            waiting.append((index, name, image, mask))
            yield image

    with _Bar(progress, tally, examples.count) as bar, tally.kept():
        for classes in segmenter.stream(images()):
            index, name, image, mask = waiting.popleft()
            if save_predictions and output is not None:
                _save_prediction(Path(output) / "predictions", name, classes)
            tally.add(name, mask, classes, examples.instances(index))
            tally.keep_picture(image, mask, classes)
            bar.advance()
    found = tally.finished()
    if output is not None:
        found.save(output)
        if report:
            found.write_report(
                Path(output) / "report.html",
                tally.pictures(segmenter),
                run=folder if folder is not None and (folder / "log.csv").exists() else None,
                palette=examples.palette,
                ignore_class=examples.ignore_class,
            )
    return found


class _Tally:
    """What was counted so far, in memory and in the output folder."""

    def __init__(self, examples, settings, folder):
        self._examples, self._settings, self._folder = examples, settings, folder
        classes, ignored = examples.num_classes, examples.ignore_class
        self._confusion = np.zeros((classes, classes + 1), np.int64)
        self.names: list[str] = []
        self._accuracies: list[float] = []
        self._ious: list[float] = []
        self._seconds = 0.0
        self._begun = self._saved = time.monotonic()
        # What counts besides, by name; each has `arrays` and `from_arrays`.
        self._others: dict[str, Any] = {"errors": ErrorGroups(classes, ignored)}
        if settings["boundary"]:
            self._others["boundary"] = BoundaryIoU(classes, ignore_class=ignored)
        if examples.has_instances:
            self._others["cityscapes"] = CityscapesMeasures()
        self._pictures: dict[int, Example] = {}
        # Whether every figure has seen the same images. An image whose count was cut short would
        # count twice after a resume.
        self._whole = True

    @property
    def done(self) -> int:
        """Images counted."""
        return len(self.names)

    @property
    def mean_iou(self) -> float:
        """So far."""
        return Measures(self._confusion, self._examples.class_names).mean_iou

    def add(self, name, mask, classes, instances):
        """Count an image."""
        self._whole = False
        examples = self._examples
        counts = confusion_matrix(
            mask, classes, examples.num_classes, ignore_class=examples.ignore_class
        )
        measures = Measures(counts, examples.class_names)
        self._others["errors"].update(mask, classes)
        if "boundary" in self._others:
            self._others["boundary"].update(mask, classes)
        if "cityscapes" in self._others:
            self._others["cityscapes"].update(label_ids(mask), label_ids(classes), instances)
        self._confusion += counts
        self.names.append(name)
        self._accuracies.append(measures.pixel_accuracy)
        self._ious.append(measures.mean_iou)
        self._whole = True
        if time.monotonic() - self._saved > _SAVE_EVERY:
            self.save()

    def keep_picture(self, image, mask, classes):
        """Keep the last image if it is one of the worst or best so far."""
        self._pictures[self.done - 1] = Example(
            self.names[-1], image, mask, classes, self._ious[-1]
        )
        for index in set(self._pictures) - set(self._shown()):
            del self._pictures[index]

    def _shown(self):
        """Numbers of the worst and best images."""
        order = sorted(
            (i for i, iou in enumerate(self._ious) if np.isfinite(iou)), key=self._ious.__getitem__
        )
        return [*order[:_WORST], *order[_WORST:][-_BEST:]]

    def pictures(self, segmenter) -> list[Example]:
        """The worst and best images; those from before a stop are predicted again."""
        missing = sorted(set(self._shown()) - set(self._pictures))
        if missing and self._examples.in_any_order:
            for index, name, image, mask in self._examples.read(missing):
                (classes,) = segmenter.classes([image])
                self._pictures[index] = Example(name, image, mask, classes, self._ious[index])
        return list(self._pictures.values())

    @contextlib.contextmanager
    def kept(self):
        """A context after which what was counted lies in the folder, whatever ended it."""
        try:
            yield
        finally:
            self.save()

    def resume(self):
        """Go on from what the folder holds."""
        path = None if self._folder is None else self._folder / "state.npz"
        if path is None or not path.exists():
            return
        with np.load(path, allow_pickle=False) as file:
            state = dict(file)
        there, here = json.loads(str(state["settings"])), json.loads(json.dumps(self._settings))
        for key in here:
            if there.get(key) != here[key]:
                raise ValueError(
                    f"{self._folder} holds an evaluation with {key}={there.get(key)!r}, not "
                    f"{here[key]!r}; choose another output."
                )
        self._confusion = state["confusion"]
        self.names = state["names"].tolist()
        self._accuracies = state["accuracies"].tolist()
        self._ious = state["ious"].tolist()
        self._seconds = float(state["seconds"])
        for name, other in self._others.items():
            prefix = f"{name}/"
            arrays = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            self._others[name] = type(other).from_arrays(arrays)

    def save(self):
        """Write the state."""
        self._saved = time.monotonic()
        if self._folder is None or not self._whole:
            return
        others = {
            f"{name}/{key}": array
            for name, other in self._others.items()
            for key, array in other.arrays().items()
        }
        path = self._folder / "state.npz"
        with writing(path), written_aside(path) as draft:
            np.savez(
                draft,
                confusion=self._confusion,
                names=np.array(self.names, dtype=np.str_),
                accuracies=np.array(self._accuracies),
                ious=np.array(self._ious),
                seconds=self._time(),
                settings=json.dumps(self._settings),
                **others,
            )

    def _time(self):
        return self._seconds + time.monotonic() - self._begun

    def finished(self) -> Evaluation:
        """The result."""
        if not self.names:
            raise ValueError("the dataset is empty; there is nothing to judge.")
        return Evaluation(
            Measures(self._confusion, self._examples.class_names),
            self.names,
            np.array(self._accuracies),
            np.array(self._ious),
            **self._others,
            settings={**self._settings, "date": datetime.date.today().isoformat()},
            seconds=self._time(),
        )


class _Bar:
    """Progress on stderr with the mean IoU so far."""

    def __init__(self, shown, tally, count):
        self._tally = tally
        self._count = count
        self._bar = None
        if shown:
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )

            console = bar_console()
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[found]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=console,
            )
            self._lines = None if draws_bars(console) else Lines(console)
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
            if self._lines is not None:
                self._lines.say(f"evaluating: {self._tally.done} of {self._count}, {found}")

    def __exit__(self, *error):
        if self._bar is not None:
            self._bar.stop()


def _save_prediction(folder, name, classes):
    path = folder / f"{name}.png"
    with writing(path), written_aside(path) as draft:
        Image.fromarray(classes).save(draft)
