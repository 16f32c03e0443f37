"""What an evaluation found, as tables, files and a page."""

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
from keras_psp.evaluation.report.example import Example
from keras_psp.evaluation.report.page import report_page
from keras_psp.files import writing


@dataclass
class Evaluation:
    """What `evaluate` found.

    Attributes:
        measures: the usual measures, from `measures.confusion`.
        names: of the images, in order.
        pixel_accuracies, mean_ious: (images,) float64; NaN where an image has no counted pixel.
            An image's mean IoU is over the classes in its labels or predictions.
        errors: the paper's three groups of mistakes.
        cityscapes: its own measures, where the data is Cityscapes.
        boundary: boundary IoU, where it was asked for.
        settings: protocol, network and data.
        seconds: that it took, stops left out.
    """

    measures: Measures
    names: list[str]
    pixel_accuracies: np.ndarray
    mean_ious: np.ndarray
    errors: ErrorGroups
    cityscapes: CityscapesMeasures | None = None
    boundary: BoundaryIoU | None = None
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
        """The tables and means, on stdout."""
        self.measures.print()
        if self.cityscapes is not None:
            self.cityscapes.print()
        if self.boundary is not None:
            print(f"boundary IoU {percent(self.boundary.result(), 2)}")

    def save(self, folder: str | os.PathLike) -> None:
        """Write the results into a folder.

        evaluation.json: means and settings; measures.json and classes.csv: every class;
        images.csv: every image; confusion.csv: pixels of each label and prediction;
        errors.json: the groups of mistakes; cityscapes.json and cityscapes.csv.
        """
        folder = Path(folder)
        names = self.measures.class_names
        per_image = (self.names, self.pixel_accuracies, self.mean_ious)
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
                    "boundary_iou": None if self.boundary is None else self.boundary.result(),
                    "seconds": round(self.seconds, 1),
                    **self.settings,
                },
            )
            errors = self.errors.result()
            write_json(
                folder / "errors.json",
                {
                    "labeled": errors.labeled,
                    "wrong": errors.wrong,
                    "pixels": errors.pixels,
                    "by_class": dict(zip(errors.pixels, errors.by_class.tolist(), strict=True)),
                    "mismatched": [
                        [names[found.truth], names[found.prediction], found.pixels]
                        for found in errors.mismatches
                    ],
                    "recall_by_size": dict(
                        zip(("things", "pixels"), map(list, errors.recall_by_size()), strict=True)
                    ),
                    "size_edges": SIZE_EDGES,
                    "confused": [
                        [
                            names[pair.first],
                            names[pair.second],
                            pair.first_as_second,
                            pair.second_as_first,
                        ]
                        for pair in errors.pairs
                        if pair.confused
                    ],
                    "settings": self.errors.settings,
                },
            )
            if self.cityscapes is not None:
                self.cityscapes.to_json(folder / "cityscapes.json")
                self.cityscapes.to_csv(folder / "cityscapes.csv")

    def write_report(
        self,
        path: str | os.PathLike,
        examples: Sequence[Example] = (),
        *,
        run: str | os.PathLike | None = None,
        palette: Any = None,
        ignore_class: int = 255,
    ) -> Path:
        """Write everything on one HTML page; see `keras_psp.evaluation.report.page.report_page`."""
        means: dict[str, Any] = {"images": len(self.names), "seconds": round(self.seconds, 1)}
        if self.cityscapes is not None:
            means |= {
                "IoU, classes": percent(self.cityscapes.mean_class_iou, 2),
                "iIoU, classes": percent(self.cityscapes.mean_class_iiou, 2),
                "IoU, categories": percent(self.cityscapes.mean_category_iou, 2),
                "iIoU, categories": percent(self.cityscapes.mean_category_iiou, 2),
            }
        if self.boundary is not None:
            means["boundary IoU"] = percent(self.boundary.result(), 2)
        data = self.settings["data"]
        title = " ".join(str(part) for part in (data["name"], data["split"]) if part)
        with writing(path):
            return report_page(
                path,
                title=title,
                measures=self.measures,
                images=examples,
                groups=self.errors,
                run=run,
                settings={**self.settings, **means},
                palette=palette,
                ignore_class=ignore_class,
            )
