"""Runs the network again to explain pixels of the report's examples by parts of logits."""

import dataclasses
import operator
from collections.abc import Sequence

import numpy as np

from keras_psp.evaluation.report.images import Example
from keras_psp.explanation.result import Explanation
from keras_psp.explanation.several import explained_together
from keras_psp.prediction.outcomes import is_out_of_memory
from keras_psp.prediction.segmenter import Segmenter
from keras_psp.progress import with_bar

_WORST, _BEST = 3, 3  # examples that are explained
_FINEST = 48  # pixels along the longer side, unless the logits have more positions
_MOST_BYTES = 72_000  # for the numbers of one example; 96 KB in base64


@dataclasses.dataclass(frozen=True, eq=False)
class ExplainedExample:
    """An evenly spaced grid of an example's pixels, with the parts of their logits.

    Attributes:
        example: the example that is explained.
        classes, classes_without: (height, width), the class of every pixel with and without the
            pyramid.
        x, y: (columns,) and (rows,), the pixel coordinates of the grid.
        predicted, runner_up: (rows, columns), the predicted class and the one with the next
            largest logit.
        truth: (rows, columns), the label, or -1 if there is none.
        without: (rows, columns), the class without the pyramid.
        level: (rows, columns), the number, from 1, of the level that decides most where `without`
            differs from `predicted`, else 0.
        parts: (rows, columns, parts), parts of the predicted class' logit minus the runner-up's.
        truth_parts: (n, parts), the same minus the label's, for the n pixels of `apart`, row by
            row.
    """

    example: Example
    classes: np.ndarray
    classes_without: np.ndarray
    x: np.ndarray
    y: np.ndarray
    predicted: np.ndarray
    runner_up: np.ndarray
    truth: np.ndarray
    without: np.ndarray
    level: np.ndarray
    parts: np.ndarray
    truth_parts: np.ndarray

    @property
    def decided(self) -> np.ndarray:
        """(height, width) bool, whether a pixel gets another class without the pyramid."""
        return self.classes != self.classes_without

    @property
    def apart(self) -> np.ndarray:
        """(rows, columns) bool, whether the label is neither `predicted` nor `runner_up`."""
        return _apart(self.predicted, self.runner_up, self.truth)


@dataclasses.dataclass(frozen=True, eq=False)
class Explanations:
    """What `explain_examples` returns, for `report_page`.

    Attributes:
        examples: the explained examples, lowest mean IoU first.
        part_names: names of the parts, see `keras_psp.explanation.Explanation`.
        reference: what replaces the levels of the pyramid, in words.
        correct: (num_classes,), number of correct pixels in these examples.
        dependent: (num_classes,), how many of them get another class without the pyramid.
        absent: a sentence that says why nothing is explained, or "".
    """

    examples: tuple[ExplainedExample, ...] = ()
    part_names: tuple[str, ...] = ()
    reference: str = ""
    correct: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    dependent: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    absent: str = ""


def explain_examples(
    segmenter: Segmenter,
    examples: Sequence[Example],
    *,
    ignore_class: int | None = 255,
    progress: bool = True,
) -> Explanations:
    """Explains the three examples of lowest and the three of highest mean IoU, see `explain`.

    The network runs once more for each, or twice if they are large. The levels of the pyramid are
    replaced by their mean over these examples.

    Args:
        segmenter: the one that predicted the examples.
        examples: only those with a `mean_iou` are used.
        ignore_class: label of the pixels that don't count, or None.
        progress: show a progress bar on stderr.

    Returns:
        The explanations; only the reason, in `absent`, if the protocol has several views, the
        network has no pyramid, or there isn't enough memory.
    """
    if absent := _absent(segmenter):
        return Explanations(absent=absent)
    scored = [e for e in examples if e.mean_iou is not None and np.isfinite(e.mean_iou)]
    order = sorted(scored, key=operator.attrgetter("mean_iou"))
    chosen = [*order[:_WORST], *order[_WORST:][-_BEST:]]
    if not chosen:
        return Explanations()
    count = segmenter.model.num_classes
    found: list[ExplainedExample] = []
    names, reference = (), ""
    correct, dependent = np.zeros((2, count), np.int64)
    try:
        images = [np.asarray(example.image) for example in chosen]
        stream = with_bar(
            explained_together(segmenter, images), "explaining", len(images), shown=progress
        )
        for example, explanation in zip(chosen, stream, strict=True):
            truth = np.asarray(example.truth)
            if ignore_class is not None:
                truth = np.where(truth == ignore_class, -1, truth.astype(np.int64))
            one = _explained(example, truth, explanation)
            right = one.classes == truth
            correct += np.bincount(truth[right], minlength=count)
            dependent += np.bincount(truth[right & one.decided], minlength=count)
            found.append(one)
            names = explanation.part_names
            reference = explanation.reference
            if len(images) > 1:
                reference = f"their mean over these {len(images)} images"
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return Explanations(absent="There was not enough memory to explain these images.")
    return Explanations(tuple(found), names, reference, correct, dependent)


def _absent(segmenter):
    """Why nothing can be explained, or an empty text."""
    protocol = segmenter.protocol
    if protocol.scales != (1.0,) or protocol.flip or protocol.crop:
        return (
            "This evaluation sees each image at other scales, mirrored or in windows, and averages "
            "probabilities, which aren't a sum of parts; evaluate without --scales, --multi-scale, "
            "--flip and --crop, into another folder, to see here what decides a pixel."
        )
    if not segmenter.model.bin_sizes:
        return "The network has no pyramid (bin_sizes=()): the local features decide every pixel."
    return ""


def _explained(example: Example, truth: np.ndarray, explanation: Explanation) -> ExplainedExample:
    context = explanation.context()
    positions = explanation.low_resolution_logits.shape[:2]
    finer = max(1.0, _FINEST / max(positions))
    size = [side * finer for side in positions]
    per_part = 2 * len(explanation.part_names)
    while True:
        rows, columns = (
            np.rint(np.linspace(0, side - 1, min(side, max(1, int(count))))).astype(int)
            for side, count in zip(truth.shape, size, strict=True)
        )
        place = np.ix_(rows, columns)
        y, x = (axis.ravel() for axis in np.meshgrid(rows, columns, indexing="ij"))
        runner_up = explanation.next_classes(x, y).reshape(len(rows), len(columns))
        predicted = explanation.classes[place].astype(np.int64)
        apart = _apart(predicted, runner_up, truth[place])
        # One or two bytes for each of five classes and levels, see `packed`.
        entry = 5 if len(explanation.class_names) < 256 else 10
        total = apart.size * (entry + per_part) + np.count_nonzero(apart) * per_part
        if total <= _MOST_BYTES:
            break
        size = [0.99 * count * (_MOST_BYTES / total) ** 0.5 for count in size]
    level = np.zeros(apart.shape, np.int64)
    for number, bins in enumerate(explanation.bin_sizes, 1):
        level[context.level[place] == bins] = number
    chosen = apart.ravel()
    parts = explanation.parts_at(
        np.concatenate([x, x[chosen]]),
        np.concatenate([y, y[chosen]]),
        np.concatenate([predicted.ravel(), predicted[apart]]),
        np.concatenate([runner_up.ravel(), truth[place][apart]]),
    ).T.astype(np.float32)
    return ExplainedExample(
        example,
        explanation.classes,
        context.classes,
        columns,
        rows,
        predicted,
        runner_up,
        truth[place],
        context.classes[place],
        level,
        parts[: x.size].reshape(*apart.shape, -1),
        parts[x.size :],
    )


def _apart(predicted, runner_up, truth):
    return (truth >= 0) & (truth != predicted) & (truth != runner_up)
