"""Judging a network on a labelled data set."""

import collections
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from PIL import Image

from keras_psp.arguments import checked_integer
from keras_psp.evaluation.result import Evaluation
from keras_psp.evaluation.tally import _Tally
from keras_psp.files import writing, written_aside
from keras_psp.prediction.examples import Examples
from keras_psp.prediction.opening import open_segmenter, run_folder
from keras_psp.prediction.protocol import Protocol
from keras_psp.progress import Lines, bar_console, draws_bars
from keras_psp.weights.opening import digest


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
    folder = run_folder(model)
    segmenter = open_segmenter(model, Protocol(scales, flip, crop, overlap, base_size, batch_size))
    model = segmenter.model
    if save_predictions and output is None:
        raise ValueError("save_predictions=True needs an output folder.")
    if limit is not None:
        limit = checked_integer("limit", limit, least=1)
    examples = Examples(dataset, split, model, limit)
    settings = {
        "model": model.name,
        "weights": digest(model),
        **segmenter.protocol.settings,
        "boundary": boundary,
    }
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
