"""Style and script of `report_page`, and the charts that it is made of."""

import base64
import html
import io
import json
import math
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image


def text(value: object) -> str:
    """Anything as text in HTML or an attribute, whatever characters it has."""
    return html.escape(str(value), quote=True)


def percent(share: float, digits: int = 1) -> str:
    """A share as a percentage, a dash for NaN."""
    return "\N{EN DASH}" if math.isnan(share) else f"{100 * share:.{digits}f} %"


def whole(count: int) -> str:
    """A count with its thousands apart."""
    return f"{count:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def colour(rgb: Iterable[int]) -> str:
    """An RGB colour in CSS."""
    red, green, blue = (int(value) for value in rgb)
    return f"#{red:02x}{green:02x}{blue:02x}"


def data_uri(picture: Image.Image, form: str, **options) -> str:
    """A picture as an address that holds it; options are those of `Image.save`."""
    file = io.BytesIO()
    picture.save(file, form, **options)
    return f"data:image/{form};base64,{base64.b64encode(file.getvalue()).decode()}"


def mask_png(mask: np.ndarray, palette: np.ndarray, transparent: int | None = None) -> str:
    """A mask in exact colours.

    Args:
        mask: (height, width) integers, indices into the palette.
        palette: (n, 3) uint8.
        transparent: the value that lets the picture below through.
    """
    values, index = np.unique(mask, return_inverse=True)
    if len(values) > 256:  # more than an indexed PNG can have
        return data_uri(Image.fromarray(palette[mask]), "png", optimize=True)
    picture = Image.fromarray(index.reshape(mask.shape).astype(np.uint8), "P")
    picture.putpalette(palette[values].tobytes())
    options = {"optimize": True, "bits": max(1, (len(values) - 1).bit_length())}
    if transparent is not None and transparent in values:
        options["transparency"] = int(np.searchsorted(values, transparent))
    return data_uri(picture, "png", **options)


def script_json(value: object) -> str:
    """JSON that may stand within <script>, whatever strings it has."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """Rows of HTML under headings; the first `words` columns are words, the others numbers."""

    def line(tag, cells):
        kinds = ["" if index < words else ' class="n"' for index in range(len(headings))]
        return "".join(f"<{tag}{k}>{c}</{tag}>" for k, c in zip(kinds, cells, strict=True))

    body = "".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    head = line("th", [text(heading) for heading in headings])
    rows_below = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return f'<div class="wide"><table>{rows_below}</table></div>'


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from low to high, at most so many."""
    step = 10 ** math.floor(math.log10((high - low) / most))
    step *= next(factor for factor in (1, 2, 5, 10, 20) if (high - low) / (factor * step) <= most)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def line_chart(
    title: str,
    series: Sequence[tuple[str, Sequence[float], Sequence[float], str]],
    *,
    most: float = math.inf,
) -> str:
    """Curves over steps as SVG; an empty string where no value is finite.

    Args:
        title: above the chart.
        series: name, x, y and kind of each: "first", "second" or "faint"; with " dots" behind
            it each point is marked.
        most: greater values are cut off.
    """
    curves = []
    for name, xs, ys, kind in series:
        points = [(x, y) for x, y in zip(xs, ys, strict=True) if math.isfinite(y)]
        if points:
            curves.append((name, _thinned(points), kind))
    if not curves:
        return ""
    values = [min(y, most) for _, points, _ in curves for _, y in points]
    right = max(x for _, points, _ in curves for x, _ in points) or 1
    top = max(values) or 1.0
    low = min(0.0, *values)
    left_edge, upper, wide, high = 44, 8, 300, 160

    def place(x, y):
        share = (min(y, most) - low) / (top - low)
        return f"{left_edge + wide * x / right:.1f},{upper + high * (1 - share):.1f}"

    parts = []
    for value in ticks(low, top):
        y = upper + high * (1 - (value - low) / (top - low))
        parts.append(f'<path class="grid" d="M{left_edge} {y:.1f}h{wide}"/>')
        parts.append(
            f'<text x="{left_edge - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>'
        )
    for value in ticks(0, right):
        x = left_edge + wide * value / right
        anchor = "end" if x > left_edge + wide - 12 else "middle"
        parts.append(
            f'<text x="{x:.1f}" y="{upper + high + 16}" text-anchor="{anchor}">{value:.10g}</text>'
        )
    for _, points, kind in curves:
        style, _, dots = kind.partition(" ")
        drawn = " ".join(place(x, y) for x, y in points)
        parts.append(f'<polyline class="{style}" points="{drawn}"/>')
        for x, y in points if dots else ():
            across, down = place(x, y).split(",")
            parts.append(f'<circle class="{style}" cx="{across}" cy="{down}" r="2.4"/>')
    keys = "".join(
        f'<span><i style="background:var(--{"second" if kind[0] == "s" else "first"});'
        f'opacity:{0.4 if kind == "faint" else 1}"></i>{text(name)}</span>'
        for name, _, kind in curves
    )
    return (
        f'<figure><figcaption><b>{text(title)}</b> <span class="soft">by step</span></figcaption>'
        f'<svg viewBox="0 0 352 190" role="img" aria-label="{text(title)} by step">'
        f'{"".join(parts)}</svg><div class="key">{keys}</div></figure>'
    )


def _thinned(points, most=500):
    """At most so many points, the lowest and the highest of each stretch."""
    if len(points) <= most:
        return points
    kept = []
    for part in np.array_split(np.arange(len(points)), most // 2):
        stretch = [points[index] for index in part]
        kept += sorted({min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])})
    return kept


def matrix_sheet(
    shares: np.ndarray, names: Sequence[str], columns: Sequence[str], order: Sequence[int]
) -> str:
    """A row-normalised confusion matrix as a heat map with names beside it.

    Args:
        shares: (n, columns) of each row's pixels, NaN in rows without any.
        names: n of the rows.
        columns: of the columns: the same, perhaps followed by one more.
        order: in which classes stand.
    """
    count, across = shares.shape
    places = [*order, *range(count, across)]
    shown = np.nan_to_num(shares[np.ix_(order, places)])
    cell = next(
        size for most, size in ((12, 38), (24, 30), (60, 17), (math.inf, 12)) if count <= most
    )
    font = min(12, cell - 2)
    longest = max(len(name) for name in (*names, *columns))
    strip = min(150, max(64, int(0.6 * font * min(longest, 22)) + 14))
    pixels = np.zeros((count, across, 4), np.uint8)
    pixels[..., :3] = (238, 96, 40)
    pixels[np.arange(count), np.arange(count), :3] = (43, 138, 114)
    # A root, so that a share of 1 % can be seen.
    pixels[..., 3] = np.rint(217 * np.sqrt(shown))
    picture = data_uri(Image.fromarray(pixels, "RGBA"), "png", optimize=True)
    wide, high = cell * across, cell * count
    fits = max(3, int((strip - 10) / (0.6 * font)))

    def label(name, index, turned):
        short = name if len(name) <= fits else name[: fits - 1] + "\N{HORIZONTAL ELLIPSIS}"
        middle = (index + 0.5) * cell + 0.35 * font
        where = (
            f'transform="translate({middle:.1f} {strip - 6}) rotate(-90)"'
            if turned
            else f'x="{strip - 6}" y="{middle:.1f}" text-anchor="end"'
        )
        return (
            f'<text {where} style="font-size:{font}px">{text(short)}'
            f"<title>{text(name)}</title></text>"
        )

    top = "".join(label(columns[place], index, True) for index, place in enumerate(places))
    left = "".join(label(names[place], index, False) for index, place in enumerate(order))
    values = ""
    if count <= 24:
        values = "".join(
            f'<text x="{(x + 0.5) * cell}" y="{(y + 0.5) * cell + 4}" text-anchor="middle" '
            f'style="font-size:11px">{100 * shown[y, x]:.0f}</text>'
            for y, x in np.argwhere(shown >= 0.005).tolist()
        )
        values = f'<svg width="{wide}" height="{high}">{values}</svg>'
    fit = min(1, 680 / (strip + wide))
    return (
        f'<div class="sheet" style="grid-template-columns:{strip}px {wide}px;--fit:{fit:.3f}">'
        f'<div class="corner"><svg width="{strip}" height="{strip}">'
        f'<text x="{strip - 6}" y="14" text-anchor="end">predicted</text>'
        f'<text x="6" y="{strip - 6}">truth</text></svg></div>'
        f'<div class="top"><svg width="{wide}" height="{strip}">{top}</svg></div>'
        f'<div class="left"><svg width="{strip}" height="{high}">{left}</svg></div>'
        f'<div class="cells" style="height:{high}px" data-order="{text(script_json(list(order)))}">'
        f'<img src="{picture}" alt="share of each truth class given to each class">{values}</div>'
        "</div>"
    )
