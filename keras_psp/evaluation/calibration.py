"""Temperature scaling: one number that makes a network's confidence match its accuracy."""

import dataclasses
import itertools
import os
import sys
from collections.abc import Iterable
from typing import Any, Unpack

import numpy as np
import rich.console
import rich.table

from keras_psp.arguments import checked_integer
from keras_psp.data.division import split_parts
from keras_psp.data.python_calls import original_errors
from keras_psp.evaluation.figures import percent, write_json
from keras_psp.evaluation.reliability import Reliability, reliability_diagram
from keras_psp.files import claim, local_path, writing
from keras_psp.prediction.examples import Examples
from keras_psp.prediction.opening import open_segmenter, run_folder
from keras_psp.prediction.protocol import Protocol, ProtocolFields
from keras_psp.prediction.segmenter import Segmenter
from keras_psp.progress import with_bar
from keras_psp.resume import read_json
from keras_psp.weights.opening import digest

RESULTS, DIAGRAM = "calibration.json", "reliability.png"
_LEAST, _MOST = 0.05, 20.0  # range of the temperature
_ROWS = 2**15  # pixels computed at a time


@dataclasses.dataclass(frozen=True)
class CalibrationErrors:
    """How well a network's probabilities fit a split at one temperature.

    Attributes:
        split: name of the split.
        temperature: what the logits are divided by.
        negative_log_likelihood: mean of -log(probability of the labeled class), in nats.
        brier_score: mean squared distance between the probabilities and the one-hot label, 0 to 2.
        reliability: accuracy by probability; its `error` is the expected calibration error.
    """

    split: str
    temperature: float
    negative_log_likelihood: float
    brier_score: float
    reliability: Reliability

    @property
    def expected_calibration_error(self) -> float:
        """Expected calibration error of the predicted class, in 15 bins; 0 to 1."""
        return self.reliability.error

    def summary(self) -> dict[str, Any]:
        """All figures, as plain data for JSON."""
        columns = ("from", "to", "confidence", "accuracy", "share")
        return {
            "split": self.split,
            "temperature": self.temperature,
            "expected_calibration_error": self.expected_calibration_error,
            "negative_log_likelihood": self.negative_log_likelihood,
            "brier_score": self.brier_score,
            "mean_confidence": self.reliability.mean_confidence,
            "accuracy": self.reliability.mean_accuracy,
            "pixels": int(self.reliability.counts.sum()),
            "bins": [dict(zip(columns, row, strict=True)) for row in self.reliability.rows()],
        }


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The result of `calibrate`.

    Attributes:
        temperature: the one that minimizes the negative log-likelihood of the split.
        before, after: errors on that split, with the network's own temperature and the new one.
        tested: the same pair for the test split, if there is one.
        settings: network, protocol, data and sample.

    Example:
        model.temperature = calibration.temperature
        model.save("calibrated.keras")
    """

    temperature: float
    before: CalibrationErrors
    after: CalibrationErrors
    tested: tuple[CalibrationErrors, CalibrationErrors] | None
    settings: dict[str, Any]

    @property
    def errors(self) -> list[CalibrationErrors]:
        """`before` and `after`, followed by those of the test split, if any."""
        return [self.before, self.after, *(self.tested or ())]

    def print(self, *, console: rich.console.Console | None = None) -> None:
        """Prints the errors, to stdout unless a console is given."""
        table = rich.table.Table(title="calibration", title_justify="left")
        columns = ("split", "temperature", "ECE", "NLL", "Brier", "confidence", "accuracy")
        for column in columns:
            table.add_column(column, justify="left" if column == "split" else "right")
        for part in self.errors:
            means = part.reliability.mean_confidence, part.reliability.mean_accuracy
            table.add_row(
                part.split,
                f"{part.temperature:.4f}",
                percent(part.expected_calibration_error, 2),
                f"{part.negative_log_likelihood:.4f}",
                f"{part.brier_score:.4f}",
                *(percent(mean, 2) for mean in means),
            )
        console = console or rich.console.Console(highlight=False)
        console.print(table)

    def save(self, folder: str | os.PathLike) -> None:
        """Writes calibration.json and the diagram reliability.png into a folder.

        Raises:
            ValueError: if the folder contains anything but an earlier calibration.
            OSError: if a file can't be written.
        """
        folder = local_path("folder", folder)
        claim(folder, RESULTS, contents="calibration")
        with writing(folder):
            summary = [part.summary() for part in self.errors]
            content = {"temperature": self.temperature, **self.settings, "errors": summary}
            write_json(folder / RESULTS, content)
            titles = [f"{part.split}, temperature {part.temperature:.3g}" for part in self.errors]
            diagrams = [part.reliability for part in self.errors]
            reliability_diagram(list(zip(titles, diagrams, strict=True)), path=folder / DIAGRAM)


@original_errors()
def calibrate(
    data: Any,
    model: Any = None,
    *,
    split: str = "val",
    test_split: str | None = None,
    pixels: int = 500_000,
    seed: int = 0,
    limit: int | None = None,
    progress: bool = True,
    **protocol: Unpack[ProtocolFields],
) -> Calibration:
    """Finds the temperature with which a network's probabilities fit a labeled split.

    Temperature scaling (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017,
    arXiv:1706.04599, section 4.2): the logits are divided by one number, found by minimizing the
    negative log-likelihood of labels that the network wasn't trained on. Class maps stay the
    same. With several views, the logarithms of the averaged probabilities are divided instead.

    The temperature is fitted, and all errors are measured, on a random sample of labeled pixels:
    the same number from every image (all of them if an image has fewer), about `pixels` in total.
    One pass over the split collects their probabilities; the temperature is then found by Newton's
    method on its inverse, in which the negative log-likelihood is convex.

    The model isn't changed: set `model.temperature`, or use `keras-psp calibrate`.

    Args:
        data: see `keras_psp.evaluate`; `test_split` needs a source with splits.
        model: see `keras_psp.evaluate`.
        split: the split to fit the temperature on. If it may be the training split, where a
            network is right more often than on new images, a warning is printed on stderr.
        test_split: also measure the errors before and after on this split.
        pixels: number of pixels to sample per split; each takes 4 bytes per class.
        seed: seed of the sample.
        limit: use only this many images, the first ones; None for all.
        progress: show progress bars on stderr.
        protocol: fields of `Protocol`: scales, flip, crop, overlap, base_size, antialias,
            batch_size. The temperature is for predictions with the same protocol.

    Raises:
        ValueError: if an argument is invalid, a file can't be read, no pixel is labeled, or no
            temperature from 0.05 to 20 is optimal.

    Example:
        source = keras_psp.data.load("camvid", root="CamVid")
        calibration = keras_psp.evaluation.calibrate(source, "runs/mine", test_split="test")
        calibration.print()
    """
    pixels = checked_integer("pixels", pixels, least=1)
    seed = checked_integer("seed", seed, least=0)
    if limit is not None:
        limit = checked_integer("limit", limit, least=1)
    if test_split is not None and test_split == split:
        raise ValueError(
            f"test_split={test_split!r} is the split of the calibration; choose another one."
        )
    if test_split is not None and not hasattr(data, "splits"):
        raise ValueError("test_split needs a data source with splits; leave it out.")
    segmenter = open_segmenter(model, Protocol(**protocol))
    splits = [split] if test_split is None else [split, test_split]
    parts = [Examples(data, name, segmenter.model, limit) for name in splits]
    names = [str(part.split or split) for part in parts]
    _report_training_split(names[0], model)
    own = segmenter.model.temperature
    if own != 1:
        print(f"the network was calibrated before: its temperature is {own:g}", file=sys.stderr)
    samples = []
    for name, examples in zip(names, parts, strict=True):
        examples.identity(progress=progress)  # reads all files: reports a bad one now
        samples.append(_sample(segmenter, examples, pixels, seed, f"Sampling {name}", progress))
    temperature = fitted_temperature(*samples[0])
    errors = [
        calibration_errors(*sample, temperature=number, split=name)
        for name, sample in zip(names, samples, strict=True)
        for number in (own, temperature)
    ]
    settings = {
        "model": segmenter.model.name,
        "weights": digest(segmenter.model),
        **segmenter.protocol.settings,
        "data": parts[0].description,
        "pixels": pixels,
        "seed": seed,
    }
    tested = (errors[2], errors[3]) if len(errors) > 2 else None
    return Calibration(temperature, errors[0], errors[1], tested, settings)


def _report_training_split(split, model):
    """Prints a warning if the network was, or may have been, trained on the split."""
    folder = run_folder(model)
    trained = "train"
    if folder is not None and (folder / "recipe.json").is_file():
        trained = str(read_json(folder / "recipe.json", "restore it").get("train_split", trained))
    known = {"train", "all", *split_parts(trained)}
    if known & set(split_parts(split)):
        relation = "is" if split in known else "contains"
        print(
            f"warning: split {split!r} {relation} the training split, on which a network is right "
            "more often than on new images; the temperature will be too low, so choose another "
            "split",
            file=sys.stderr,
        )


def _sample(
    segmenter: Segmenter, examples: Examples, pixels: int, seed: int, title: str, progress: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Log probabilities, (n, classes) float32, and labels, (n,), of sampled pixels of a split."""
    if examples.count is None:
        raise ValueError("the number of images is unknown; give limit=, a number of images.")
    most = max(1, pixels // max(1, examples.count))
    chosen = (
        (image, mask, _labeled(mask, examples.ignore_class, most, (seed, index)))
        for index, _, image, mask in examples.read(range(examples.end))
    )
    kept, images, indices = itertools.tee(chosen, 3)
    logs = segmenter.log_probabilities_at(
        (image for image, _, _ in images), (index for _, _, index in indices)
    )
    pairs: Iterable[Any] = zip(kept, logs, strict=True)
    pairs = with_bar(pairs, title, examples.count, shown=progress)
    parts = [(values, np.ravel(mask)[index]) for (_, mask, index), values in pairs]
    if not sum(len(labels) for _, labels in parts):
        raise ValueError(f"split {examples.split!r} has no labeled pixels; choose another split.")
    values, labels = zip(*parts, strict=True)
    return np.concatenate(values), np.concatenate(labels).astype(np.int64)


def _labeled(mask, ignore_class, most, seed):
    """Indices, in increasing order, of at most `most` labeled pixels."""
    (labeled,) = np.nonzero(np.ravel(mask) != ignore_class)
    if len(labeled) <= most:
        return labeled
    return np.sort(np.random.default_rng(seed).choice(labeled, most, replace=False))


def fitted_temperature(log_probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature that minimizes the negative log-likelihood.

    Newton's method on the inverse temperature b, with bisection where a step would leave the
    interval: for scores x and probabilities softmax(b x), the first derivative of the negative
    log-likelihood is the mean over pixels of E[x] - x[label], and the second that of Var[x].

    Args:
        log_probabilities: (n, classes) log probabilities or logits.
        labels: (n,) integers.

    Raises:
        ValueError: if the best temperature isn't from 0.05 to 20.
    """

    def derivatives(inverse):
        slope = curvature = 0.0
        for scores, label in _parts(log_probabilities, labels):
            p = _softmax(inverse * scores)
            mean = (p * scores).sum(axis=1)
            slope += float((mean - scores[np.arange(len(label)), label]).sum())
            curvature += float(((p * scores**2).sum(axis=1) - mean**2).sum())
        return slope, curvature

    low, high = 1 / _MOST, 1 / _LEAST
    if derivatives(low)[0] >= 0 or derivatives(high)[0] <= 0:
        raise ValueError(
            f"no temperature from {_LEAST:g} to {_MOST:g} is optimal for these {len(labels)} "
            "pixels: their predictions are all correct, or unrelated to the labels; use more "
            "images, or check the model and the labels."
        )
    inverse = 1.0
    for _ in range(100):
        slope, curvature = derivatives(inverse)
        low, high = (inverse, high) if slope < 0 else (low, inverse)
        step = slope / curvature if curvature > 0 else np.inf
        proposed = inverse - step
        if not low < proposed < high:
            proposed = (low + high) / 2
        if abs(proposed - inverse) < 1e-7 * inverse:
            break
        inverse = proposed
    return float(1 / inverse)


def calibration_errors(
    log_probabilities: np.ndarray, labels: np.ndarray, *, temperature: float, split: str = ""
) -> CalibrationErrors:
    """Calibration error, negative log-likelihood and Brier score at a temperature.

    Args:
        log_probabilities: (n, classes) log probabilities or logits.
        labels: (n,) integers.
        temperature: what they are divided by.
        split: name to store in the result.
    """
    reliability, likelihood, brier = Reliability(), 0.0, 0.0
    for scores, label in _parts(log_probabilities, labels):
        p = _softmax(scores / temperature)
        own = p[np.arange(len(label)), label]
        likelihood -= float(np.log(np.maximum(own, 1e-300)).sum())
        brier += float(((p**2).sum(axis=1) - 2 * own + 1).sum())
        best = p.argmax(axis=1)
        reliability.update(np.minimum(p.max(axis=1), 1), best == label)
    count = len(labels)
    return CalibrationErrors(split, temperature, likelihood / count, brier / count, reliability)


def _parts(scores, labels):
    for first in range(0, len(labels), _ROWS):
        rows = slice(first, first + _ROWS)
        yield scores[rows].astype(np.float64), labels[rows]


def _softmax(scores):
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
