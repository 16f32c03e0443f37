"""What each section of the report shows, as variables of its template."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_psp.evaluation.errors import GROUPS, SIZE_EDGES, ErrorGroups, largest
from keras_psp.evaluation.measures import Measures
from keras_psp.evaluation.reliability import Reliability
from keras_psp.evaluation.report.charts import Curve, LineChart, heat_map
from keras_psp.evaluation.report.images import GROUP_STYLES, Example, Panels, css_color
from keras_psp.metrics.confusion import ratio
from keras_psp.resume import read_json, read_record
from keras_psp.visual.curve import highest_loss, smoothed

_REMEDY = "restore it"
_LISTED = 8  # classes or pairs named per error group


def class_rows(measures: Measures, palette: np.ndarray) -> list[dict[str, Any]]:
    """Name, color and measures of each class, best IoU first."""
    order = np.argsort(-np.nan_to_num(measures.iou, nan=-1), kind="stable").tolist()
    columns = (measures.iou, measures.accuracy, measures.precision, measures.share)
    return [
        {
            "name": measures.class_names[index],
            "color": css_color(palette[index]),
            "width": 100 * float(np.nan_to_num(measures.iou[index])),
            "measures": [float(column[index]) for column in columns],
        }
        for index in order
    ]


def confusion_matrices(measures: Measures) -> dict[str, Any]:
    """The matrix in two orders, its largest errors, and its counts for the page's script."""
    confusion, names = measures.confusion, list(measures.class_names)
    columns = [*names, "no class"]
    if not confusion[:, -1].any():
        confusion, columns = confusion[:, :-1], names
    shares = ratio(confusion, measures.confusion.sum(axis=1, keepdims=True))
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    cells = largest(wrong)[:12]
    in_order = list(range(len(names)))
    worst_first = np.argsort(np.nan_to_num(measures.iou, nan=2), kind="stable").tolist()
    return {
        "in_order": heat_map(shares, names, columns, in_order),
        "worst_first": heat_map(shares, names, columns, worst_first),
        "most_wrong": [
            (names[y], columns[x], float(shares[y, x]), int(wrong[y, x])) for y, x in cells
        ],
        "data": {"names": names, "columns": columns, "counts": confusion.tolist()},
    }


def mistakes(
    groups: ErrorGroups, names: Sequence[str], examples: Sequence[Example], panels: Panels
) -> dict[str, Any]:
    """Each error group with its figures and the image that has most of it, and recall by size."""
    errors = groups.result()
    chosen = _group_examples(groups, examples)
    return {
        "errors": errors,
        "inconspicuous": errors.inconspicuous / errors.wrong if errors.wrong else math.nan,
        "groups": [
            {
                "name": name,
                "heading": heading,
                "color": css_color(rgb),
                "share": errors.shares[name],
                "pixels": errors.pixels[name],
                "details": _details(errors, name, names),
                "example": panels.example(chosen[name], name) if name in chosen else None,
            }
            for name, (heading, rgb) in GROUP_STYLES.items()
        ],
        "sizes": _sizes(errors),
    }


def _group_examples(groups, examples):
    """For each group the example with most of its pixels."""
    most = {}
    for example in examples:
        group_map = groups.map(example.truth, example.prediction)
        counts = np.bincount(group_map.ravel(), minlength=256)
        for index, name in enumerate(GROUPS):
            if name != "other" and counts[index] > most.get(name, (0, None))[0]:
                most[name] = (int(counts[index]), example)
    return {name: example for name, (_, example) in most.items()}


def _details(errors, group, names):
    """The pairs of classes in a group, or the classes that lose most pixels: title, entries."""
    if group == "mismatched":
        return "truth \N{RIGHTWARDS ARROW} prediction, pixels", [
            f"{names[first]} \N{RIGHTWARDS ARROW} {names[second]} ({thousands(pixels)})"
            for first, second, pixels in errors.mismatches[:_LISTED]
        ]
    if group == "confused":
        return "pairs with all their wrong pixels, including those of other groups", [
            f"{names[pair.first]} \N{LEFT RIGHT ARROW} {names[pair.second]} "
            f"({thousands(pair.first_as_second)} one way, {thousands(pair.second_as_first)} back)"
            for pair in errors.pairs
            if pair.confused
        ][:_LISTED]
    lost = errors.by_class[GROUPS.index(group)]
    order = [index for index in np.argsort(-lost, kind="stable").tolist() if lost[index]]
    return "classes that lose most pixels", [
        f"{names[index]} ({thousands(int(lost[index]))})" for index in order[:_LISTED]
    ]


def _sizes(errors):
    """Recall by the size of things: label, share of them found, share of pixels, count."""
    edges = [f"{100 * edge:g}" for edge in SIZE_EDGES]
    labels = [f"under {edges[0]} %"]
    labels += [f"{low} to {high} %" for low, high in itertools.pairwise(edges)]
    labels.append(f"over {edges[-1]} %")
    columns = (*errors.recall_by_size(), errors.sizes[0].sum(axis=0))
    return list(zip(labels, *(column.tolist() for column in columns), strict=True))


def calibration(reliability: Reliability) -> dict[str, Any]:
    """The error, the diagram, and the confidence, accuracy and share of each nonempty bin."""
    known = reliability.counts > 0
    dots = reliability.confidence[known].tolist(), reliability.accuracy[known].tolist()
    return {
        "reliability": reliability,
        "chart": LineChart(
            "Accuracy by probability",
            [
                Curve("calibrated", [0.0, 1.0], [0.0, 1.0], "second", faint=True),
                Curve("accuracy", *dots, dots=True),
            ],
        ),
        "rows": [row for row in reliability.rows() if row[4] > 0],
    }


def training_charts(folder: Path) -> list[LineChart]:
    """Loss, mean IoU and learning rate from the logs of a training."""
    from keras_psp.training.log import EPOCH_COLUMNS, STEP_COLUMNS, Table

    if not (folder / "log.csv").exists():
        raise FileNotFoundError(
            f"{folder} has no log.csv; give the output folder of a training run, or no run."
        )
    epochs = Table(folder / "log.csv", EPOCH_COLUMNS, writes=False)
    steps = Table(folder / "steps.csv", STEP_COLUMNS, writes=False)
    x, ends = steps.column("step"), epochs.column("step")
    losses = steps.column("loss")

    def validation(column):
        return Curve("validation", ends, epochs.column(column), "second", dots=True)

    charts = [
        LineChart(
            "Loss",
            [
                Curve("training, each step", x, losses, faint=True),
                Curve("training, smoothed", x, smoothed(losses)),
                validation("val_loss"),
            ],
            highest_loss(losses),
        ),
        LineChart(
            "Mean IoU",
            [
                Curve("training, over the epoch", ends, epochs.column("mean_iou"), dots=True),
                validation("val_mean_iou"),
            ],
        ),
        LineChart("Learning rate", [Curve("of the backbone", x, steps.column("learning_rate"))]),
    ]
    return [chart for chart in charts if chart.drawn]


def training_settings(folder: Path) -> dict[str, Any]:
    """Recipe, date and versions of a training."""
    settings: dict[str, Any] = {}
    if (folder / "recipe.json").exists():
        settings["Recipe"] = read_record(folder / "recipe.json", _REMEDY)
    if (folder / "starts.json").exists():
        starts = read_json(folder / "starts.json", _REMEDY, list)
        if starts:
            # The command may contain what a page should not show.
            last = {key: value for key, value in starts[-1].items() if key != "command"}
            settings["Training"] = {**last.pop("versions", {}), **last}
    return settings


def thousands(count: int) -> str:
    """A count with its thousands separated by narrow spaces."""
    return f"{count:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
