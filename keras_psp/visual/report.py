"""A page that shows how good a network is and what it gets wrong."""

import datetime
import itertools
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from keras_psp.files import written_aside
from keras_psp.metrics.confusion import per_class_iou
from keras_psp.visual import page
from keras_psp.visual.curve import smoothed
from keras_psp.visual.palette import VOID_COLOUR, checked_palette, default_palette
from keras_psp.visual.picture import checked_image

if TYPE_CHECKING:
    from keras_psp.evaluation.errors import ErrorGroups, Errors
    from keras_psp.evaluation.measures import Measures

_LONGEST = 480  # pixels of an embedded picture's longer side
_NONE = 255  # where a mask of mistakes has none
_WRONG = (224, 49, 49)  # colour of wrong pixels that are in no group

# Name, colour and plain words of each group of `ErrorGroups`.
_GROUPS = {
    "mismatched": (
        "Mismatched relationship",
        (224, 49, 49),
        "A class was predicted that this picture doesn't have and that hardly ever occurs "
        "together with what the picture does have: a car on a river. A network that sees the "
        "whole scene should not do this. Nothing is counted here unless the labelled pictures "
        "show that two classes keep apart, which takes many pictures of different scenes.",
    ),
    "confused": (
        "Confusion categories",
        (240, 140, 0),
        "Two classes that are taken for one another all over the data set, in both directions, "
        "away from their borders: part of a building called skyscraper.",
    ),
    "missed": (
        "Inconspicuous: small things missed",
        (156, 54, 181),
        "A small thing of which less than half was found, such as a street light.",
    ),
    "broken": (
        "Inconspicuous: large things broken up",
        (25, 113, 194),
        "A gap in a large thing that was found for the most part; things larger than what the "
        "network sees at once come out in pieces.",
    ),
    "border": (
        "Borders",
        (12, 166, 120),
        "The predicted class is right next to the pixel in the labels, so an edge runs a few "
        "pixels off. Not one of the paper's groups.",
    ),
    "other": (
        "Other",
        (164, 113, 72),
        "Everything else: one-sided confusions and things lost as a whole, for instance.",
    ),
}


@dataclass(frozen=True)
class Example:
    """A picture that a report may show.

    Attributes:
        name: of the picture.
        image: (height, width, 3), RGB 0 to 255.
        truth: (height, width) integers, class ids or the ignored class.
        prediction: (height, width) integers, class ids.
        mean_iou: of this picture alone; None to have it computed.
    """

    name: str
    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    mean_iou: float | None = None


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


class _Pictures:
    """The pictures of a page; each photograph is embedded once."""

    def __init__(self, names, palette, ignore_class, groups):
        self.names, self.palette, self.ignore_class = names, palette, ignore_class
        self.groups = groups
        self.embedded: dict[int, str] = {}
        self.rules: list[str] = []
        self.occurring: set[int] = set()
        self.colours = np.concatenate([palette, [VOID_COLOUR]]).astype(np.uint8)

    def style(self):
        """Rules that put the photographs behind the panels."""
        return "\n".join(self.rules)

    def worst_and_best(self, examples, worst, best):
        """The section of pictures; those without labels have no place in the order."""
        judged = [example for example in examples if math.isfinite(example.mean_iou)]
        order = sorted(judged, key=lambda example: example.mean_iou)
        lowest = order[:worst]
        highest = order[worst:][::-1][:best]
        if not lowest and not highest:
            return ""
        body = []
        for heading, chosen in (("Worst", lowest), ("Best", highest)):
            if chosen:
                body.append(f"<h3>{heading} mean IoU</h3>")
                body += [self.example(example) for example in chosen]
        control = (
            '<p class="control"><label>Strength of the colours <input type="range" min="0" '
            'max="1" step=".05" value=".6"></label></p>'
        )
        return control + self._legend() + "".join(body)

    def example(self, example, group=None):
        """A picture with labels, prediction and mistakes, of one group or all."""
        kinds = ("image", "truth", "prediction", "mistakes")
        panels = "".join(self._panel(example, kind, group) for kind in kinds)
        return (
            f'<figure class="example"><figcaption><b>{page.percent(example.mean_iou)}</b> '
            f'{page.text(example.name)}</figcaption><div class="panels">{panels}</div></figure>'
        )

    def _panel(self, example, kind, group):
        """One picture in its frame; the mistakes of one group or of all."""
        height, width = example.image.shape[:2]
        words = f"{kind} of {example.name}"
        inner, style = "", ""
        if kind in ("truth", "prediction"):
            mask = self._classes(getattr(example, kind))
            inner = page.mask_png(_reduced(mask), self.colours)
        elif kind == "mistakes":
            style = " wrong"
            mask, colours = self._mistakes(example, group)
            inner = page.mask_png(_reduced(mask), colours, transparent=_NONE)
        inner = f'<img alt="" src="{inner}">' if inner else ""
        return (
            f'<div><div class="panel {self._photograph(example)}{style}" role="img" '
            f'aria-label="{page.text(words)}" style="aspect-ratio:{width}/{height}">{inner}</div>'
            f"<small>{kind}</small></div>"
        )

    def _photograph(self, example):
        """The CSS class with the picture as background."""
        key = id(example)
        if key not in self.embedded:
            self.embedded[key] = f"p{len(self.embedded)}"
            picture = Image.fromarray(example.image)
            picture.thumbnail((_LONGEST, _LONGEST), Image.Resampling.LANCZOS)
            uri = page.data_uri(picture, "jpeg", quality=82)
            self.rules.append(f".{self.embedded[key]}{{background-image:url({uri})}}")
        return self.embedded[key]

    def _classes(self, mask):
        void = (mask < 0) | (mask >= len(self.palette))
        if self.ignore_class is not None:
            void |= mask == self.ignore_class
        self.occurring.update(np.unique(mask[~void]).tolist(), {-1} if void.any() else ())
        return np.where(void, len(self.palette), mask).astype(np.int32)

    def _mistakes(self, example, group):
        """Wrong pixels by group, `_NONE` elsewhere, and the colours."""
        colours = np.zeros((256, 3), np.uint8)
        if self.groups is None:
            wrong = example.truth != example.prediction
            if self.ignore_class is not None:
                wrong &= example.truth != self.ignore_class
            colours[0] = _WRONG
            return np.where(wrong, 0, _NONE).astype(np.uint8), colours
        from keras_psp.evaluation.errors import GROUPS

        found = self.groups.map(example.truth, example.prediction)
        colours[: len(GROUPS)] = [_GROUPS[name][1] for name in GROUPS]
        if group is not None:
            found = np.where(found == GROUPS.index(group), found, _NONE).astype(np.uint8)
        return found, colours

    def _legend(self):
        """Classes that occur in the pictures drawn so far, and the kinds of mistakes."""
        entries = [
            (self.names[index], self.palette[index]) for index in sorted(self.occurring - {-1})
        ]
        if -1 in self.occurring:
            entries.append(("not labelled", VOID_COLOUR))
        kinds = [("wrong pixels", _WRONG)]
        if self.groups is not None:
            kinds = [(heading, rgb) for heading, rgb, _ in _GROUPS.values()]
        return _legend("Classes:", entries) + _legend("Mistakes:", kinds)


def _legend(lead, entries):
    items = "".join(
        f'<li><i style="background:{page.colour(rgb)}"></i>{page.text(name)}</li>'
        for name, rgb in entries
    )
    return f'<ul class="legend"><li class="soft">{lead}</li>{items}</ul>'


def _reduced(mask):
    """At most _LONGEST pixels, without new values."""
    picture = Image.fromarray(mask)
    factor = _LONGEST / max(picture.size)
    if factor >= 1:
        return mask
    size = [max(1, round(side * factor)) for side in picture.size]
    return np.asarray(picture.resize(size, Image.Resampling.NEAREST))


def _tiles(measures):
    shown = (
        ("mean IoU", measures.mean_iou),
        ("pixel accuracy", measures.pixel_accuracy),
        ("class accuracy", measures.class_accuracy),
        ("frequency-weighted IoU", measures.frequency_weighted_iou),
    )
    tiles = "".join(f"<div><b>{page.percent(v, 2)}</b>{name}</div>" for name, v in shown)
    present = np.count_nonzero(np.isfinite(measures.iou))
    absent = " Absent ones count as 0 in the means." if measures.absent_as_zero else ""
    return (
        f'<div class="tiles">{tiles}</div><p class="soft">'
        f"{page.whole(int(measures.confusion.sum()))} labelled pixels; {present} of "
        f"{len(measures.class_names)} classes occur in labels or predictions.{absent}</p>"
    )


def _classes(measures, palette):
    """IoU bars, best first, and a table with the other measures."""
    order = np.argsort(-np.nan_to_num(measures.iou, nan=-1), kind="stable").tolist()
    bars, rows = [], []
    for index in order:
        name, rgb = page.text(measures.class_names[index]), page.colour(palette[index])
        iou = float(measures.iou[index])
        width = 0 if math.isnan(iou) else 100 * iou
        bars.append(
            f'<li><span>{name}</span><span class="track"><i style="width:{width:.1f}%;'
            f'background:{rgb}"></i></span><b>{page.percent(iou)}</b></li>'
        )
        columns = (measures.iou, measures.accuracy, measures.precision, measures.share)
        rows.append(
            [
                f'<div class="named"><i class="swatch" style="background:{rgb}"></i>{name}</div>',
                *(page.percent(float(column[index]), 2) for column in columns),
            ]
        )
    many = " many" if len(order) > 20 else ""
    headings = ("class", "IoU", "accuracy", "precision", "share of pixels")
    return (
        f'<p class="soft">IoU of each class, best first.</p><ol class="bars{many}">'
        f"{''.join(bars)}</ol><details><summary>All measures of every class</summary>"
        f"{page.table(headings, rows)}</details>"
    )


def _confusion(measures):
    confusion, names = measures.confusion, list(measures.class_names)
    labelled = confusion.sum(axis=1)
    columns = [*names, "no class"]
    if confusion.shape[1] == len(names) or not confusion[:, -1].any():
        confusion, columns = confusion[:, : len(names)], names
    with np.errstate(invalid="ignore"):
        shares = confusion / labelled[:, None].astype(np.float64)
    in_order = list(range(len(names)))
    by_worst = np.argsort(np.nan_to_num(measures.iou, nan=2), kind="stable").tolist()
    wrong = confusion.copy()
    wrong[in_order, in_order] = 0
    rows = [
        [
            page.text(names[row]),
            page.text(columns[column]),
            page.percent(float(shares[row, column])),
            page.whole(int(wrong[row, column])),
        ]
        for row, column in sorted(
            np.argwhere(wrong).tolist(), key=lambda cell: -wrong[tuple(cell)]
        )[:12]
    ]
    data = {"names": names, "columns": columns, "counts": confusion.tolist()}
    headings = ("truth", "taken for", "of the truth", "pixels")
    most = f"<h3>Most wrong pixels</h3>{page.table(headings, rows, 2)}" if rows else ""
    return (
        '<p class="soft">Each row is a class of the labels; its colours show what its pixels '
        "were taken for, green where right. Shades go by the square root, so that rare "
        "confusions show; point at a cell for its share.</p>"
        '<div class="beside"><div>'
        '<input type="radio" name="order" id="in-order" class="control" checked>'
        '<label for="in-order" class="control">classes in order</label>'
        '<input type="radio" name="order" id="by-worst" class="control">'
        '<label for="by-worst" class="control">worst IoU first</label>'
        '<div class="matrix in-order" tabindex="0">'
        f"{page.matrix_sheet(shares, names, columns, in_order)}</div>"
        '<div class="matrix worst-first" tabindex="0">'
        f"{page.matrix_sheet(shares, names, columns, by_worst)}</div></div>"
        f"<div>{most}</div></div>"
        f'<script type="application/json" id="confusion">{page.script_json(data)}</script>'
    )


def _mistakes(groups, measures, examples, pictures):
    if groups is None:
        return ""
    result = groups.result()
    names = measures.class_names
    stack = "".join(
        f'<i style="width:{100 * share:.2f}%;background:{page.colour(_GROUPS[name][1])}" '
        f'title="{_GROUPS[name][0]}: {page.percent(share)}"></i>'
        for name, share in _in_order(result.shares)
        if share > 0
    )
    inconspicuous = result.inconspicuous / result.wrong if result.wrong else math.nan
    intro = (
        f"<p>{page.whole(result.wrong)} of {page.whole(result.labelled)} labelled pixels are "
        f"wrong ({page.percent(result.wrong / max(result.labelled, 1))}), in "
        f"{page.whole(result.pictures)} pictures. The first three groups are those of the PSPNet "
        "paper (section 3.1), told apart here by rules on labels and predictions; every wrong "
        "pixel is in exactly one. Inconspicuous classes have two parts, together "
        f'{page.percent(inconspicuous)}.</p><div class="stack">{stack}</div>'
    )
    body = [intro]
    chosen = _group_examples(groups, examples)
    for name, share in _in_order(result.shares):
        heading, rgb, words = _GROUPS[name]
        body.append(
            f'<div class="group"><h3><i class="swatch" style="background:{page.colour(rgb)}"></i>'
            f"{heading}: {page.percent(share)}</h3>"
            f'<p>{words} <span class="soft">{page.whole(result.pixels[name])} pixels.</span></p>'
            f"{_concerned(result, name, names)}"
        )
        if name in chosen:
            body.append(pictures.example(chosen[name], name))
        body.append("</div>")
    return "".join(body) + _sizes(result)


def _in_order(shares):
    """The groups as the page tells them."""
    return [(name, shares[name]) for name in _GROUPS]


def _group_examples(groups, examples):
    """For each group the picture with most of its pixels."""
    from keras_psp.evaluation.errors import GROUPS

    chosen: dict[str, tuple[int, Example]] = {}
    for example in examples:
        found = groups.map(example.truth, example.prediction)
        counts = np.bincount(found.ravel(), minlength=256)
        for index, name in enumerate(GROUPS):
            if name != "other" and counts[index] > chosen.get(name, (0, None))[0]:
                chosen[name] = (int(counts[index]), example)
    return {name: example for name, (_, example) in chosen.items()}


def _concerned(result: "Errors", name, names):
    """What is behind a group: the pairs, or the classes that lose most."""
    from keras_psp.evaluation.errors import GROUPS

    if name == "mismatched":
        entries = [
            f"{names[first]} \N{RIGHTWARDS ARROW} {names[second]} ({page.whole(pixels)})"
            for first, second, pixels in result.mismatches[:8]
        ]
        lead = "truth \N{RIGHTWARDS ARROW} prediction, pixels"
    elif name == "confused":
        entries = [
            f"{names[p.first]} \N{LEFT RIGHT ARROW} {names[p.second]} "
            f"({page.whole(p.first_as_second)} one way, {page.whole(p.second_as_first)} back)"
            for p in result.pairs
            if p.confused
        ][:8]
        lead = "pairs with all their wrong pixels, those of other groups too"
    else:
        lost = result.by_class[GROUPS.index(name)]
        order = [index for index in np.argsort(-lost, kind="stable").tolist() if lost[index]]
        entries = [f"{names[index]} ({page.whole(int(lost[index]))})" for index in order[:8]]
        lead = "classes that lose most pixels"
    if not entries:
        return ""
    return f'<p class="soft">{page.text(lead)}: {page.text(", ".join(entries))}.</p>'


def _sizes(result):
    """Recall by the size of things."""
    from keras_psp.evaluation.errors import SIZE_EDGES

    edges = [f"{100 * edge:g}" for edge in SIZE_EDGES]
    labels = [f"under {edges[0]} %"]
    labels += [f"{low} to {high} %" for low, high in itertools.pairwise(edges)]
    labels.append(f"over {edges[-1]} %")
    found, right = result.recall_by_size()
    things = result.sizes[0].sum(axis=0)
    rows = []
    for index, label in enumerate(labels):
        share = float(found[index])
        width = 0 if math.isnan(share) else 100 * share
        bar = (
            '<span class="track" style="width:min(14vw,18em)"><i style="background:var(--first);'
            f'width:{width:.1f}%"></i></span>'
        )
        rows.append(
            [
                label,
                bar,
                page.percent(share),
                page.percent(float(right[index])),
                page.whole(int(things[index])),
            ]
        )
    headings = ("size", "things found", "", "right pixels", "things")
    return (
        "<h3>Recall by size</h3><p>Sizes are shares of the picture's area. A thing is a "
        "connected part of one class in the labels; it is found where at least half of its "
        "pixels are right. Scraps, such as sky between leaves, are things as well.</p>"
        f"{page.table(headings, rows, 2)}"
    )


def _run(folder):
    """Curves of a training and what is recorded of it."""
    from keras_psp.training.callbacks import EPOCH_COLUMNS, STEP_COLUMNS
    from keras_psp.training.folder import Table

    if not (folder / "log.csv").exists():
        raise FileNotFoundError(
            f"{folder} has no log.csv; give the output folder of a training, or no run."
        )
    epochs = Table(folder / "log.csv", EPOCH_COLUMNS, writes=False)
    steps = Table(folder / "steps.csv", STEP_COLUMNS, writes=False)
    x, at = steps.column("step"), epochs.column("step")
    losses = steps.column("loss")
    finite = sorted(value for value in losses if math.isfinite(value))
    # As in curve.png: a first loss many times the rest would flatten the curve.
    most = max(1.1 * finite[int(0.995 * (len(finite) - 1))], 1e-6) if finite else math.inf
    charts = [
        page.line_chart(
            "Loss",
            [
                ("training, each step", x, losses, "faint"),
                ("training, smoothed", x, smoothed(losses), "first"),
                ("validation", at, epochs.column("val_loss"), "second dots"),
            ],
            most=most,
        ),
        page.line_chart(
            "Mean IoU",
            [
                ("training, over the epoch", at, epochs.column("mean_iou"), "first dots"),
                ("validation", at, epochs.column("val_mean_iou"), "second dots"),
            ],
        ),
        page.line_chart(
            "Learning rate", [("of the backbone", x, steps.column("learning_rate"), "first")]
        ),
    ]
    recorded: dict[str, Any] = {}
    if (folder / "recipe.json").exists():
        recorded["Recipe"] = json.loads((folder / "recipe.json").read_text("utf-8"))
    if (folder / "starts.json").exists():
        starts = json.loads((folder / "starts.json").read_text("utf-8"))
        if starts:
            last = {key: value for key, value in starts[-1].items() if key != "command"}
            recorded["Training"] = {**last.pop("versions", {}), **last}
    drawn = "".join(charts)
    return (f'<div class="charts">{drawn}</div>' if drawn else ""), recorded


def _settings(settings):
    """Names and values; mappings under headings of their own, after the single ones."""
    single = {k: v for k, v in settings.items() if not isinstance(v, Mapping)}
    body = [_definitions(single)] if single else []
    for heading, values in settings.items():
        if isinstance(values, Mapping):
            body.append(f"<h3>{page.text(heading)}</h3>{_definitions(values)}")
    return "".join(body)


def _definitions(values):
    items = "".join(
        f"<div><dt>{page.text(name)}</dt><dd>{page.text(_value(value))}</dd></div>"
        for name, value in values.items()
    )
    return f"<dl>{items}</dl>"


def _value(value):
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_value(part)}" for name, part in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(str(_value(part)) for part in value) or "none"
    return "none" if value is None else value


def _page(title, sections, style):
    from keras_psp import __version__

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
