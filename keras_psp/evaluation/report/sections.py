"""A page that shows how good a network is and what it gets wrong."""

import itertools
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_psp.evaluation.report import charts as page
from keras_psp.visual.curve import smoothed

if TYPE_CHECKING:
    from keras_psp.evaluation.errors import Errors
from keras_psp.evaluation.report.example import _GROUPS, Example


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
    from keras_psp.training.log import EPOCH_COLUMNS, STEP_COLUMNS, Table

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
