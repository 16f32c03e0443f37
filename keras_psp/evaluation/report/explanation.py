"""Data for the report's section that explains pixels: explanation.html and explanation.js."""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from keras_psp.evaluation.figures import percent
from keras_psp.evaluation.report.explaining import ExplainedExample, Explanations
from keras_psp.evaluation.report.images import Panels, css_color, mask_png
from keras_psp.evaluation.report.sections import thousands
from keras_psp.metrics.confusion import ratio
from keras_psp.visual.explanation import part_title

_LISTED = 12  # classes in the table
_OUTLINED = 480  # pixels of an outline's longer side


def explanation_section(
    explanations: Explanations, names: Sequence[str], palette: np.ndarray, panels: Panels
) -> dict[str, Any]:
    """Examples, each with the reading of one pixel, the data of the script, and the table."""
    titles = [part_title(name) for name in explanations.part_names]
    data = [packed(one, len(names)) for one in explanations.examples]
    shown = [
        {
            **panels.tinted(one.example, _maps(one)),
            "outline": outline_png(one.decided),
            "decided": float(one.decided.mean()),
            "reading": _reading(one, numbers["start"]),
        }
        for one, numbers in zip(explanations.examples, data, strict=True)
    ]
    return {
        "absent": explanations.absent,
        "reference": explanations.reference,
        "examples": shown,
        "parts": titles,
        "data": {
            "names": list(names),
            "colors": [css_color(color) for color in palette],
            "levels": [title.removeprefix("pyramid: ") for title in titles[1:-1]],
            "examples": data,
        },
        "correct": int(explanations.correct.sum()),
        "dependent": int(explanations.dependent.sum()),
        "table": _table(explanations, names),
    }


def _maps(one):
    return {"with": one.classes, "without": one.classes_without, "labels": one.example.truth}


def packed(one: ExplainedExample, num_classes: int) -> dict[str, Any]:
    """An example's numbers for the page, as little-endian integers in base64.

    `classes` has planes of one byte per pixel, or two for 256 and more classes: predicted,
    runner-up, label (`num_classes` for none), without the pyramid, and the number of the level,
    from 1, or 0. `parts` and `truth` are 16-bit multiples of `step`.
    """
    truth = np.where(one.truth < 0, num_classes, one.truth)
    planes = np.stack([one.predicted, one.runner_up, truth, one.without, one.level])
    largest = max(np.abs(one.parts).max(), np.abs(one.truth_parts).max(initial=0), 1e-6)
    step = float(largest) / 32767
    return {
        "width": one.classes.shape[1],
        "height": one.classes.shape[0],
        "x": one.x.tolist(),
        "y": one.y.tolist(),
        "start": telling_cell(one),
        "classes": _base64(planes, "u1" if num_classes < 256 else "<u2"),
        "parts": _base64(np.rint(one.parts / step), "<i2"),
        "truth": _base64(np.rint(one.truth_parts / step), "<i2"),
        "step": step,
    }


def telling_cell(one: ExplainedExample) -> int:
    """The index, row by row, of the grid's pixel that best shows what the pyramid does.

    Among the labeled pixels that are decided by context (else all that are, else all pixels), it
    is the one where the levels add most to the predicted class compared with the runner-up.
    """
    added = one.parts[..., 1:-1].sum(axis=-1)
    decided = one.predicted != one.without
    among = next(
        (mask for mask in (decided & (one.truth >= 0), decided) if mask.any()),
        np.ones_like(decided),
    )
    return int(np.where(among, added, -np.inf).argmax())


def outline_png(mask: np.ndarray) -> str:
    """A data URI of a mask's outline, white inside and black outside, otherwise transparent."""
    height, width = mask.shape
    factor = _OUTLINED / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    image = Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)
    inside = np.asarray(image)
    padded = np.pad(inside, 1, mode="edge")
    shifted = padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]
    lines = np.zeros(inside.shape, np.uint8)
    lines[~inside & np.any(shifted, axis=0)] = 2
    lines[inside & ~np.all(shifted, axis=0)] = 1
    colors = np.array([[128, 128, 128], [255, 255, 255], [0, 0, 0]], np.uint8)
    return mask_png(lines, colors, transparent=0)


def _reading(one, cell):
    """What the page says about one pixel of the grid; classes are indices."""
    row, column = divmod(cell, len(one.x))
    predicted, runner_up, truth, without, level = (
        int(grid[row, column])
        for grid in (one.predicted, one.runner_up, one.truth, one.without, one.level)
    )
    compared = [(runner_up, one.parts[row, column])]
    if one.apart[row, column]:
        number = np.count_nonzero(one.apart.ravel()[:cell])
        compared.append((truth, one.truth_parts[number]))
    sums = [(other, [*parts.tolist(), float(parts.sum())]) for other, parts in compared]
    largest = max(1e-6, *(abs(value) for _, values in sums for value in values))
    return {
        "x": int(one.x[column]),
        "y": int(one.y[row]),
        "predicted": predicted,
        "truth": truth,
        "without": without,
        "level": level,
        "comparisons": [
            {"other": other, "bars": [_bar(value, largest) for value in values]}
            for other, values in sums
        ],
    }


def _bar(value, largest):
    """A value as text, and where its bar starts and how long it is, in percent of the track."""
    length = 50 * abs(value) / largest
    text = f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")
    return text, 50 - length if value < 0 else 50, length, "for" if value > 0 else "against"


def _table(explanations, names):
    """Rows of the classes whose correct pixels depend most on the pyramid."""
    share = ratio(explanations.dependent, explanations.correct)
    order = np.argsort(-np.nan_to_num(share), kind="stable").tolist()
    return [
        (
            names[index],
            thousands(int(explanations.correct[index])),
            thousands(int(explanations.dependent[index])),
            percent(float(share[index])),
        )
        for index in order[:_LISTED]
        if explanations.dependent[index]
    ]


def _base64(numbers, dtype):
    return base64.b64encode(np.ascontiguousarray(numbers, dtype).tobytes()).decode()
