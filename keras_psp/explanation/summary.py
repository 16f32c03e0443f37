"""Measures what the pyramid of a network decides, and how well, on a data set."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, Unpack

import numpy as np
import rich.console
import rich.table
import rich.text

from keras_psp.arguments import checked_integer
from keras_psp.explanation.reference import Reference, RunningMean, check_reference
from keras_psp.explanation.run import explained
from keras_psp.metrics.confusion import confusion_matrix, mean_of_present, per_class_iou
from keras_psp.prediction.examples import Examples
from keras_psp.prediction.opening import open_segmenter
from keras_psp.prediction.protocol import Protocol, ProtocolFields
from keras_psp.progress import with_bar


@dataclasses.dataclass(frozen=True, eq=False)
class ContextSummary:
    """Which pixels of each class the pyramid makes right, and which wrong.

    Attributes:
        class_names: names in index order.
        levels: bin sizes of the levels that were replaced.
        reference: what replaced them, in words.
        images: number of images.
        confusion: (num_classes, num_classes) int64 pixel counts; rows are labels and columns
            predictions.
        confusion_without: the same without these levels.
        dependent: (num_classes,) int64, how many of the correct pixels of each class get another
            class without these levels.
        by_level: (num_classes, levels) int64, `dependent` by the level that decides most, see
            `Context.level`.
    """

    class_names: tuple[str, ...]
    levels: tuple[int, ...]
    reference: str
    images: int
    confusion: np.ndarray
    confusion_without: np.ndarray
    dependent: np.ndarray
    by_level: np.ndarray

    @property
    def labeled(self) -> np.ndarray:
        """(num_classes,) int64, number of labeled pixels of each class."""
        return self.confusion.sum(axis=1)

    @property
    def correct(self) -> np.ndarray:
        """(num_classes,) int64, how many of them are predicted correctly."""
        return np.diag(self.confusion)

    @property
    def misled(self) -> np.ndarray:
        """(num_classes,) int64, how many of the wrong ones are right without these levels."""
        return np.diag(self.confusion_without) - (self.correct - self.dependent)

    @property
    def mean_iou(self) -> float:
        """Mean IoU with the pyramid, over the classes that occur."""
        return mean_of_present(per_class_iou(self.confusion))

    @property
    def mean_iou_without(self) -> float:
        """Mean IoU without these levels. They help if it is lower than `mean_iou`."""
        return mean_of_present(per_class_iou(self.confusion_without))

    @property
    def share(self) -> np.ndarray:
        """(num_classes,) float64, `dependent` divided by `correct`; NaN for a class without any."""
        correct = np.where(self.correct > 0, self.correct, 1)
        return np.where(self.correct > 0, self.dependent / correct, np.nan)

    @property
    def order(self) -> list[int]:
        """Indices of the classes, the one that depends most on the pyramid first."""
        return np.argsort(-self.share, kind="stable").tolist()  # NaN comes last

    def print(self, *, console: rich.console.Console | None = None) -> None:
        """Prints one row per class, in this order, to stdout unless a console is given."""
        levels = [f"{bins}x{bins}" for bins in self.levels]
        table = rich.table.Table(
            rich.table.Column("class", overflow="fold"),
            *("labeled", "correct", "dependent", "share", *levels, "misled"),
        )
        for index in self.order:
            counts = (self.labeled[index], self.correct[index], self.dependent[index])
            correct = self.correct[index]
            share = "-" if not correct else f"{self.share[index]:.1%}"
            by_level = ["-" if not correct else f"{n / correct:.1%}" for n in self.by_level[index]]
            table.add_row(
                rich.text.Text(self.class_names[index]),
                *(f"{count:,}" for count in counts),
                share,
                *by_level,
                f"{self.misled[index]:,}",
            )
        console = console or rich.console.Console(highlight=False)
        console.print(table)
        console.print(
            f"{self.images} images; the levels are replaced by {self.reference}. Dependent pixels "
            "are the correct ones that then get another class, with their share by the level that "
            "decides most; misled pixels are wrong, and right without the levels. Mean IoU "
            f"{self.mean_iou:.2%}, without the levels {self.mean_iou_without:.2%}.",
            soft_wrap=True,
        )


def context_summary(
    data: Any,
    model: Any = None,
    *,
    split: str = "val",
    reference: Reference | Literal["data"] = "data",
    levels: Sequence[int] | None = None,
    limit: int | None = None,
    progress: bool = True,
    **protocol: Unpack[ProtocolFields],
) -> ContextSummary:
    """Counts, for each class, the pixels of a data set that the pyramid makes right or wrong.

    Args:
        data, model, split, limit: see `keras_psp.evaluate`.
        reference: what replaces the levels: "image" for their mean over each image, "data" for
            their mean over all these images, which are then read twice, or the result of
            `keras_psp.explanation.level_means` for other images.
        levels: bin sizes of the levels to replace; None for all.
        progress: show a progress bar on stderr.
        protocol: `base_size`, see `explain`.

    Raises:
        ValueError: if an argument is invalid, the data can't be read or doesn't fit the model.

    Example:
        source = keras_psp.data.GeneratedScenes(counts={"val": 8})
        keras_psp.explanation.context_summary(source).print()
    """
    chosen = Protocol(**protocol)
    chosen.check_single_view()
    if limit is not None:
        limit = checked_integer("limit", limit, least=1)
    segmenter = open_segmenter(model, chosen)
    if not isinstance(reference, str) or reference != "data":
        check_reference(reference, segmenter.model)
    examples = Examples(data, split, segmenter.model, limit)
    if isinstance(reference, str) and reference == "data":
        mean = RunningMean(segmenter)
        for _, _, image, _ in _read(examples, "Averaging the levels", progress):
            mean.add(np.asarray(image))
        replacement: Reference = mean.result()
    else:
        replacement = reference

    count = segmenter.model.num_classes
    confusion, confusion_without = np.zeros((2, count, count), np.int64)
    dependent = np.zeros(count, np.int64)
    context, images = None, 0
    by_level = np.zeros((len(segmenter.model.bin_sizes), count), np.int64)
    for _, _, image, mask in _read(examples, "Explaining", progress):
        explanation = explained(segmenter, np.asarray(image), replacement)
        context = explanation.context(levels)
        for matrix, classes in (
            (confusion, explanation.classes),
            (confusion_without, context.classes),
        ):
            found = confusion_matrix(mask, classes, count, ignore_class=examples.ignore_class)
            matrix += found[:, :count]
        hit = (explanation.classes == mask) & (mask != examples.ignore_class)
        dependent += _counts(mask[hit & context.decided], count)
        for number, bins in enumerate(context.levels):
            by_level[number] += _counts(mask[hit & (context.level == bins)], count)
        images += 1
    if context is None:
        raise ValueError("data has no images; give at least one.")
    return ContextSummary(
        tuple(examples.class_names),
        context.levels,
        context.reference,
        images,
        confusion,
        confusion_without,
        dependent,
        by_level[: len(context.levels)].T,
    )


def _read(examples, title, progress):
    indices = range(examples.end)
    return with_bar(examples.read(indices), title, examples.count, shown=progress)


def _counts(values, count):
    return np.bincount(values.ravel(), minlength=count)
