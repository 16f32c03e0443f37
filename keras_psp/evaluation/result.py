"""The result of an evaluation, as tables, files and an HTML report."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from keras_psp.evaluation.boundary import BoundaryIoU
from keras_psp.evaluation.cityscapes import CityscapesMeasures
from keras_psp.evaluation.errors import SIZE_EDGES, ErrorGroups
from keras_psp.evaluation.figures import percent, write_csv, write_json
from keras_psp.evaluation.measures import Measures
from keras_psp.evaluation.reliability import Reliability
from keras_psp.evaluation.report.explaining import Explanations
from keras_psp.evaluation.report.images import Example
from keras_psp.evaluation.report.page import report_page
from keras_psp.files import claim, local_path, writing


@dataclass
class Evaluation:
    """The result of `evaluate`.

    Attributes:
        measures: IoU, accuracy and precision, from `measures.confusion`.
        names: names of the images, in order.
        pixel_accuracies, mean_ious: (images,) float64; NaN for images without labeled pixels.
            An image's mean IoU is over the classes in its labels or predictions.
        error_groups: the paper's three kinds of mistakes, if requested.
        boundary: boundary IoU, if requested.
        reliability: accuracy by probability, if requested as `calibration`.
        cityscapes: the benchmark's measures, for Cityscapes.
        settings: protocol, model and data.
        seconds: duration in seconds, without interruptions.
    """

    measures: Measures
    names: list[str]
    pixel_accuracies: np.ndarray
    mean_ious: np.ndarray
    error_groups: ErrorGroups | None = None
    boundary: BoundaryIoU | None = None
    cityscapes: CityscapesMeasures | None = None
    reliability: Reliability | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def mean_iou(self) -> float:
        """Mean IoU over the classes that occur, from 0 to 1."""
        return self.measures.mean_iou

    @property
    def pixel_accuracy(self) -> float:
        """Fraction of the labeled pixels that are correct."""
        return self.measures.pixel_accuracy

    def __str__(self):
        return (
            f"{len(self.names)} images: mean IoU {100 * self.mean_iou:.2f} %, pixel accuracy "
            f"{100 * self.pixel_accuracy:.2f} %"
        )

    def print(self) -> None:
        """Prints the tables and means to stdout."""
        self.measures.print()
        if self.cityscapes is not None:
            self.cityscapes.print()
        if self.boundary is not None:
            print(f"boundary IoU {percent(self.boundary.result(), 2)}")
        if self.reliability is not None:
            means = {
                "expected calibration error": self.reliability.error,
                "mean confidence": self.reliability.mean_confidence,
            }
            print("   ".join(f"{name} {percent(value, 2)}" for name, value in means.items()))

    def save(self, folder: str | os.PathLike) -> None:
        """Writes the results into a folder.

            evaluation.json             means and settings
            measures.json, classes.csv  measures of each class
            images.csv                  measures of each image
            confusion.csv               pixels of each label and prediction
            errors.json                 error groups, if requested
            reliability.csv             accuracy by probability, if requested
            cityscapes.json, .csv       the benchmark's measures, for Cityscapes

        Raises:
            ValueError: if the folder contains anything but an earlier evaluation.
            OSError: if a file can't be written.
        """
        folder = local_path("folder", folder)
        claim(folder, ("evaluation.json", "settings.json"), contents="evaluation")
        names = self.measures.class_names
        confusion = zip(names, self.measures.confusion.tolist(), strict=True)
        with writing(folder):
            self.measures.to_csv(folder / "classes.csv")
            self.measures.to_json(folder / "measures.json")
            write_csv(
                folder / "images.csv",
                ("name", "pixel_accuracy", "mean_iou"),
                zip(self.names, self.pixel_accuracies, self.mean_ious, strict=True),
            )
            write_csv(
                folder / "confusion.csv",
                ("label \\ prediction", *names, "none of these"),
                ((name, *row) for name, row in confusion),
            )
            write_json(folder / "evaluation.json", self._summary())
            if self.error_groups is not None:
                write_json(folder / "errors.json", _errors(self.error_groups, names))
            if self.reliability is not None:
                columns = ("from", "to", "confidence", "accuracy", "share")
                write_csv(folder / "reliability.csv", columns, self.reliability.rows())
            if self.cityscapes is not None:
                self.cityscapes.to_json(folder / "cityscapes.json")
                self.cityscapes.to_csv(folder / "cityscapes.csv")

    def _summary(self):
        return {
            "images": len(self.names),
            "mean_iou": self.mean_iou,
            "pixel_accuracy": self.pixel_accuracy,
            "class_accuracy": self.measures.class_accuracy,
            "frequency_weighted_iou": self.measures.frequency_weighted_iou,
            "boundary_iou": None if self.boundary is None else self.boundary.result(),
            "expected_calibration_error": None
            if self.reliability is None
            else self.reliability.error,
            "seconds": round(self.seconds, 1),
            **self.settings,
        }

    def write_report(
        self,
        path: str | os.PathLike,
        examples: Sequence[Example] = (),
        *,
        explanations: Explanations | None = None,
        run: str | os.PathLike | None = None,
        palette: Any = None,
        ignore_class: int = 255,
    ) -> Path:
        """Writes all results to one HTML page; see `keras_psp.evaluation.report.report_page`."""
        settings = {**self.settings, "images": len(self.names), "seconds": round(self.seconds, 1)}
        if self.cityscapes is not None:
            means = self.cityscapes.means().items()
            settings |= {name: percent(value, 2) for name, value in means}
        if self.boundary is not None:
            settings["boundary IoU"] = percent(self.boundary.result(), 2)
        with writing(path):
            return report_page(
                path,
                title=_title(**self.settings["data"]),
                measures=self.measures,
                images=examples,
                groups=self.error_groups,
                reliability=self.reliability,
                explanations=explanations,
                run=run,
                settings=settings,
                palette=palette,
                ignore_class=ignore_class,
            )


def _title(*, name, split, root="", **_):
    """The heading of the report, with the name of the data set's folder but not its path."""
    if root and name.endswith(root):
        name = name.removesuffix(root) + (Path(root).resolve().name or root)
    return f"{name} {split}" if split else name


def _errors(groups, names):
    """The content of errors.json."""
    errors = groups.result()
    things, pixels = errors.recall_by_size()
    return {
        "labeled": errors.labeled,
        "wrong": errors.wrong,
        "pixels": errors.pixels,
        "by_class": dict(zip(errors.pixels, errors.by_class.tolist(), strict=True)),
        "mismatched": [
            [names[truth], names[prediction], count]
            for truth, prediction, count in errors.mismatches
        ],
        "recall_by_size": {"things": list(things), "pixels": list(pixels)},
        "size_edges": SIZE_EDGES,
        "confused": [
            [names[first], names[second], first_as_second, second_as_first]
            for first, second, first_as_second, second_as_first, confused in errors.pairs
            if confused
        ],
        "settings": groups.settings,
    }
