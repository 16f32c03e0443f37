"""TODO."""

import datetime
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_psp.evaluation.report import charts as page
from keras_psp.files import written_aside
from keras_psp.metrics.confusion import per_class_iou
from keras_psp.palette import checked_palette, default_palette
from keras_psp.visual.picture import checked_image

if TYPE_CHECKING:
    from keras_psp.evaluation.errors import ErrorGroups
    from keras_psp.evaluation.measures import Measures
from keras_psp.evaluation.report.example import Example
from keras_psp.evaluation.report.pictures import _Pictures
from keras_psp.evaluation.report.sections import (
    _classes,
    _confusion,
    _mistakes,
    _run,
    _settings,
    _tiles,
)


def report_page(
    path: str | os.PathLike,
    *,
    title: str,
    measures: "Measures",
    images: Sequence[Example] = (),
    groups: "ErrorGroups | None" = None,
    run: str | os.PathLike | None = None,
    settings: Mapping[str, Any] | None = None,
    palette: Sequence | np.ndarray | None = None,
    ignore_class: int | None = 255,
    worst: int = 6,
    best: int = 3,
) -> Path:
    """Write one HTML file with everything about an evaluation, for people.

    The measures, every class, the confusion matrix, the worst and best pictures and the kinds
    of mistakes; with a run's folder also its curves. The file needs nothing else: no network,
    no folder beside it. It's replaced in one go.

    Args:
        path: of the file, as "report.html".
        title: its heading.
        measures: of the whole data set.
        images: as many as there are; only those shown get into the file, reduced to 480
            pixels. Where `groups` is given, the example of each group is sought in them.
        groups: of the same data, the three groups of the paper's section 3.1.
        run: folder of `keras_psp.train`, for curves, recipe and versions. The page shows
            what recipe.json holds, the paths of data and weights among them.
        settings: name to value, or to a mapping of its own under the name as heading; the
            protocol and the network, for instance.
        palette: (num_classes, 3), RGB 0 to 255; None is `default_palette`.
        ignore_class: label value of pixels that don't count, or None.
        worst, best: how many pictures of least and greatest mean IoU are shown.

    Returns:
        The path.

    Raises:
        ValueError: for inputs that don't fit each other.
        FileNotFoundError: where the run's folder holds no training.
    """
    names = measures.class_names
    palette = default_palette(len(names)) if palette is None else checked_palette(palette)
    if len(palette) != len(names):
        raise ValueError(
            f"palette has {len(palette)} colours but there are {len(names)} class names; each "
            "class needs one of both."
        )
    if groups is not None and groups.num_classes != len(names):
        raise ValueError(
            f"groups are of {groups.num_classes} classes and measures of {len(names)}; give "
            "both of the same data."
        )
    if groups is not None and groups.ignore_class != ignore_class:
        raise ValueError(
            f"groups have ignore_class={groups.ignore_class} and the page {ignore_class}; give "
            "the page the same."
        )
    if min(worst, best) < 0:
        raise ValueError(f"worst={worst} and best={best} must be at least 0.")
    pictures = _Pictures(names, palette, ignore_class, groups)
    examples = [_checked_example(image, len(names), ignore_class) for image in images]
    curves, recorded = ("", {}) if run is None else _run(Path(run))
    # Before the other pictures, whose legend names the classes of all.
    mistakes = _mistakes(groups, measures, examples, pictures)
    sections = [
        ("Measures", _tiles(measures)),
        ("Training", curves),
        ("Classes", _classes(measures, palette)),
        ("Confusion matrix", _confusion(measures)),
        ("Pictures", pictures.worst_and_best(examples, worst, best)),
        ("Kinds of mistakes", mistakes),
        ("Settings", _settings({**(settings or {}), **recorded})),
    ]
    sections = [(heading, body) for heading, body in sections if body]
    content = _page(title, sections, pictures.style())
    path = Path(path)
    with written_aside(path) as draft:
        # Names of files may hold what UTF-8 can't.
        draft.write_text(content, "utf-8", "backslashreplace")
    return path


def _mean(values):
    return float(np.nanmean(values)) if np.isfinite(values).any() else math.nan


def _checked_example(example, num_classes, ignore_class):
    """The example with its mean IoU."""
    truth, prediction = np.asarray(example.truth), np.asarray(example.prediction)
    image = checked_image(example.image)
    for name, mask in (("truth", truth), ("prediction", prediction)):
        if mask.shape != image.shape[:2] or not np.issubdtype(mask.dtype, np.integer):
            raise ValueError(
                f"{example.name}: {name} has shape {mask.shape} and dtype {mask.dtype} but the "
                f"image is {image.shape[:2]}; masks must be integers of the image's size."
            )
    counted = np.ones(truth.shape, bool) if ignore_class is None else truth != ignore_class
    strange = truth[counted & ((truth < 0) | (truth >= num_classes))]
    if strange.size:
        raise ValueError(
            f"{example.name}: truth has the value {strange[0]}, but there are {num_classes} "
            f"classes and ignore_class is {ignore_class}; set ignore_class."
        )
    score = example.mean_iou
    if score is None:
        known = (prediction >= 0) & (prediction < num_classes)
        cells = truth.astype(np.int64) * (num_classes + 1) + np.where(
            known, prediction, num_classes
        )
        matrix = np.bincount(cells[counted], minlength=num_classes * (num_classes + 1))
        score = _mean(per_class_iou(matrix.reshape(num_classes, num_classes + 1)))
    return Example(str(example.name), image, truth, prediction, float(score))


def _page(title, sections, style):
    from keras_psp.version import __version__

    today = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    links = "".join(f'<a href="#s{i}">{heading}</a>' for i, (heading, _) in enumerate(sections))
    bodies = "".join(
        f'<section id="s{i}"><h2>{heading}</h2>{body}</section>'
        for i, (heading, body) in enumerate(sections)
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{page.POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{page.text(title)}</title>
<style>{page.STYLE}
{style}</style>
</head>
<body>
<header><h1>{page.text(title)}</h1><nav>{links}</nav></header>
<main>{bodies}</main>
<footer><small>keras_psp {page.text(__version__)}, {today}</small></footer>
<div id="tip" hidden></div>
<script>{page.SCRIPT}</script>
</body>
</html>
"""
