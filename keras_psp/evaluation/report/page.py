"""Writes the HTML report; report.html is its template, report.css and report.js are part of it."""

import dataclasses
import datetime
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_psp.evaluation.errors import ErrorGroups
from keras_psp.evaluation.figures import percent
from keras_psp.evaluation.measures import Measures
from keras_psp.evaluation.reliability import Reliability
from keras_psp.evaluation.report import sections
from keras_psp.evaluation.report.explaining import Explanations
from keras_psp.evaluation.report.explanation import explanation_section
from keras_psp.evaluation.report.images import Example, Panels
from keras_psp.files import local_path, written_aside
from keras_psp.metrics.confusion import confusion_matrix, mean_of_present, per_class_iou
from keras_psp.palette import checked_palette, default_palette
from keras_psp.version import __version__
from keras_psp.visual.bands import viewable

# The page may use only what the file contains: it sends no request, whatever a name contains.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def report_page(
    path: str | os.PathLike,
    *,
    title: str,
    measures: Measures,
    images: Sequence[Example] = (),
    groups: ErrorGroups | None = None,
    reliability: Reliability | None = None,
    explanations: Explanations | None = None,
    run: str | os.PathLike | None = None,
    settings: Mapping[str, Any] | None = None,
    palette: Sequence | np.ndarray | None = None,
    ignore_class: int | None = 255,
    worst: int = 6,
    best: int = 3,
) -> Path:
    """Writes an evaluation as one HTML file that needs neither a network nor other files.

    It shows the measures, each class, the confusion matrix, the worst and best images, the kinds of
    mistakes, and why pixels have their classes; for a training run, also its curves. An existing
    file is replaced atomically.

    Args:
        path: file to write, e.g. "report.html".
        title: heading of the page.
        measures: measures of the whole data set.
        images: candidates to show. Only those shown are embedded, reduced to at most 480 pixels on
            the longer side. If `groups` is given, the example of each group is one of them.
        groups: error groups of the same data.
        reliability: accuracy by probability, on the same data.
        explanations: what `explain_examples` returns for some of `images`.
        run: folder of `keras_psp.train`, for curves, recipe and versions. The page shows the
            content of recipe.json, including the paths of data and weights.
        settings: maps names to values, or to mappings that get their own headings, e.g. the
            protocol and the model.
        palette: (num_classes, 3), RGB 0 to 255; None for `default_palette`.
        ignore_class: label of the pixels that don't count, or None.
        worst, best: how many images of lowest and highest mean IoU to show.

    Returns:
        The path.

    Raises:
        ValueError: if the inputs don't match each other.
        FileNotFoundError: if `run` is not the folder of a training run.
    """
    names = measures.class_names
    palette = default_palette(len(names)) if palette is None else checked_palette(palette)
    if len(palette) != len(names):
        raise ValueError(
            f"palette has {len(palette)} colors but there are {len(names)} class names; give "
            "one color and one name per class."
        )
    if groups is not None and groups.num_classes != len(names):
        raise ValueError(
            f"groups have {groups.num_classes} classes but measures {len(names)}; give both for "
            "the same data."
        )
    if groups is not None and groups.ignore_class != ignore_class:
        raise ValueError(
            f"groups have ignore_class={groups.ignore_class} but the page {ignore_class}; give "
            "the same to both."
        )
    if min(worst, best) < 0:
        raise ValueError(f"worst={worst} and best={best} must be at least 0.")
    panels = Panels(names, palette, ignore_class, groups)
    examples = [_checked_example(image, len(names), ignore_class) for image in images]
    if explanations is not None:
        explanations = _of_checked(explanations, images, examples, len(names))
    charts = [] if run is None else sections.training_charts(Path(run))
    recorded = {} if run is None else sections.training_settings(Path(run))
    content = _template().render(
        title=title,
        policy=_POLICY,
        version=__version__,
        date=datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        measures=measures,
        charts=charts,
        occurring=np.count_nonzero(np.isfinite(measures.iou)),
        classes=sections.class_rows(measures, palette),
        confusion=sections.confusion_matrices(measures),
        images=panels.worst_and_best(examples, worst, best),
        # After the images, before the legend, which lists the classes of all panels.
        mistakes=None if groups is None else sections.mistakes(groups, names, examples, panels),
        explained=None
        if explanations is None
        else explanation_section(explanations, names, palette, panels),
        calibration=None if reliability is None else sections.calibration(reliability),
        legend=panels.legend(),
        backgrounds=panels.backgrounds,
        settings={**(settings or {}), **recorded},
    )
    path = local_path("path", path)
    with written_aside(path) as draft:
        # File names may contain characters that UTF-8 can't encode.
        draft.write_text(content, "utf-8", "backslashreplace")
    return path


def _template():
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # names of classes and files may contain markup
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    environment.filters["percent"] = lambda share, digits=1: percent(
        share, digits, undefined="\N{EN DASH}"
    )
    environment.filters["thousands"] = sections.thousands
    environment.filters["setting"] = _setting
    return environment.get_template("report.html")


def _setting(value):
    """A value of the settings as text."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_setting(part)}" for name, part in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(_setting(part) for part in value) or "none"
    return "none" if value is None else str(value)


def _of_checked(explanations, images, examples, num_classes):
    """The explanations of the checked examples, whose images are embedded once."""
    count = len(explanations.correct)
    if explanations.examples and count != num_classes:
        raise ValueError(
            f"explanations have {count} classes but measures {num_classes}; give both for the same "
            "data."
        )
    checked = {id(image): example for image, example in zip(images, examples, strict=True)}
    unknown = [e.example.name for e in explanations.examples if id(e.example) not in checked]
    if unknown:
        raise ValueError(
            f"explanations have {unknown[0]}, which isn't one of images; give both the same."
        )
    return dataclasses.replace(
        explanations,
        examples=tuple(
            dataclasses.replace(one, example=checked[id(one.example)])
            for one in explanations.examples
        ),
    )


def _checked_example(example, num_classes, ignore_class):
    """The example as arrays, with its mean IoU."""
    truth, prediction = np.asarray(example.truth), np.asarray(example.prediction)
    image = viewable(example.image)
    for name, mask in (("truth", truth), ("prediction", prediction)):
        if mask.shape != image.shape[:2] or not np.issubdtype(mask.dtype, np.integer):
            raise ValueError(
                f"{example.name}: {name} has shape {mask.shape} and dtype {mask.dtype} but the "
                f"image is {image.shape[:2]}; masks must be integers of the image's size."
            )
    counted = np.ones(truth.shape, bool) if ignore_class is None else truth != ignore_class
    invalid = truth[counted & ((truth < 0) | (truth >= num_classes))]
    if invalid.size:
        raise ValueError(
            f"{example.name}: truth has the value {invalid[0]}, but there are {num_classes} "
            f"classes and ignore_class is {ignore_class}; set ignore_class."
        )
    score = example.mean_iou
    if score is None:
        counts = confusion_matrix(truth, prediction, num_classes, ignore_class=ignore_class)
        score = mean_of_present(per_class_iou(counts))
    return Example(str(example.name), image, truth, prediction, float(score))
