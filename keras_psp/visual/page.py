"""Style and script of `report_page`, and the charts that it is made of."""

import base64
import html
import io
import json
import math
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --card: #f6f7f9; --ink: #1b1f24;
  --soft: #59626d; --edge: #d5dae0; --first: #1c6fb8; --second: #c2410c; --tint: .6; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171b; --card: #1e2329;
  --ink: #e8eaed; --soft: #a3adb8; --edge: #39414a; --first: #6cb2f0; --second: #f59563; } }
* { box-sizing: border-box; }
body { margin: 0; overflow-wrap: break-word; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main, header, footer { max-width: 1120px; margin: auto; padding: 0 16px; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 1.2em 0 .3em; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.2em 0 .5em; padding-top: .5em;
  border-top: 1px solid var(--edge); }
h3 { font-size: 1rem; margin: 1.4em 0 .4em; overflow-wrap: anywhere; }
p { max-width: 46em; margin: .5em 0; }
a { color: var(--first); }
nav { display: flex; flex-wrap: wrap; gap: .2em 1em; }
small, .soft { color: var(--soft); font-size: .85rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; }
.tiles div { background: var(--card); border-radius: 8px; padding: 12px 14px; }
.tiles b { display: block; font-size: 1.7rem; line-height: 1.2; font-weight: 600; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(300px, 100%), 1fr));
  gap: 16px; }
svg { display: block; max-width: 100%; }
svg text { fill: var(--soft); font: 11px system-ui, "DejaVu Sans", sans-serif; }
svg .grid { stroke: var(--edge); stroke-width: 1; }
svg polyline { fill: none; stroke-width: 1.6; stroke-linejoin: round; }
svg .first { stroke: var(--first); } svg circle.first { fill: var(--first); }
svg .second { stroke: var(--second); } svg circle.second { fill: var(--second); }
svg .faint { stroke: var(--first); stroke-opacity: .28; stroke-width: .8; }
svg .halo { stroke-width: 3; }
figure { margin: 0; }
figcaption { font-size: .9rem; overflow-wrap: anywhere; }
.key { display: flex; flex-wrap: wrap; gap: 0 1em; font-size: .8rem; color: var(--soft); }
.key i, .legend i, .swatch { display: inline-block; width: .95em; height: .95em;
  border-radius: 2px; border: 1px solid var(--edge); vertical-align: -.12em;
  margin-right: .4em; flex: none; }
.key i { height: 3px; width: 1.2em; border: 0; vertical-align: .25em; }
.legend { display: flex; flex-wrap: wrap; gap: .15em 1.1em; padding: 0; margin: .6em 0;
  list-style: none; font-size: .85rem; }
.legend li { overflow-wrap: anywhere; } .legend .soft { font-size: inherit; }
.bars { list-style: none; margin: 0; padding: 0; }
.bars.many { columns: 320px; column-gap: 28px; }
.bars li { display: grid; grid-template-columns: minmax(6em, 11em) 1fr 3.9em; gap: .6em;
  align-items: center; break-inside: avoid; padding: 1px 0; font-size: .9rem; }
.many li { font-size: .8rem; grid-template-columns: 8.5em 1fr 3.9em; }
.bars span { overflow-wrap: anywhere; line-height: 1.25; }
.bars b { font-weight: 400; text-align: right; font-variant-numeric: tabular-nums; }
.track { background: var(--card); border-radius: 3px; height: 1em; display: block; }
.track i { display: block; height: 100%; border-radius: 3px; min-width: 1px;
  border: 1px solid var(--edge); }
table { border-collapse: collapse; font-size: .85rem; }
th, td { text-align: left; padding: .2em .7em .2em 0; vertical-align: top;
  border-bottom: 1px solid var(--edge); overflow-wrap: break-word; max-width: 22em; }
th { font-weight: 600; } td.n, th.n { text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.named { display: flex; align-items: baseline; }
.wide { overflow-x: auto; }
details { margin: .8em 0; } summary { cursor: pointer; color: var(--first); }
.matrix { position: relative; overflow: auto; max-height: 88vh; max-width: 100%;
  border: 1px solid var(--edge); border-radius: 6px; width: fit-content; }
.matrix svg { max-width: none; background: var(--paper); }
.matrix .sheet { display: grid; width: max-content; }
.beside { display: flex; flex-wrap: wrap; gap: 0 36px; align-items: flex-start; }
.beside > div { max-width: 100%; min-width: 0; } .beside h3 { margin-top: .3em; }
.corner { position: sticky; left: 0; top: 0; z-index: 3; background: var(--paper); }
.corner svg text { font-size: 10px; }
.top { position: sticky; top: 0; z-index: 2; } .left { position: sticky; left: 0; z-index: 1; }
.matrix svg text { fill: var(--ink); }
.cells { position: relative; background: var(--paper); }
.cells img { width: 100%; height: 100%; display: block; image-rendering: pixelated; }
.cells svg { position: absolute; inset: 0; background: none; pointer-events: none; }
.worst-first { display: none; }
#by-worst:checked ~ .worst-first { display: block; }
#by-worst:checked ~ .in-order { display: none; }
input[type=radio] { margin: 0 .3em 0 0; } label { margin-right: 1.2em; font-size: .9rem; }
#tip { position: fixed; z-index: 9; pointer-events: none; background: var(--ink);
  color: var(--paper); padding: .25em .6em; border-radius: 4px; font-size: .8rem;
  max-width: min(20em, 90vw); }
.example { break-inside: avoid; margin: 0 0 1.4em; }
.panels { display: grid; grid-template-columns: repeat(4, 1fr); gap: 6px; margin-top: .3em; }
.panel { position: relative; background-size: 100% 100%; border-radius: 4px; overflow: hidden;
  print-color-adjust: exact; }
.panel img { position: absolute; inset: 0; width: 100%; height: 100%; opacity: var(--tint);
  image-rendering: pixelated; }
.panel.wrong img { opacity: 1; }
.panel.wrong::before { content: ""; position: absolute; inset: 0; background: inherit;
  filter: grayscale(1) contrast(.5) brightness(1.15); }
.panels small { display: block; line-height: 1.3; }
.stack { display: flex; height: 26px; border-radius: 5px; overflow: hidden; margin: .8em 0; }
.stack i { display: block; min-width: 0; }
.group { break-inside: avoid; margin: 1.6em 0; }
.group h3 { margin-bottom: .1em; } .group p { margin: .2em 0 .5em; }
.swatch, .legend i, .stack i, .track i, .key i { print-color-adjust: exact; }
input[type=range] { vertical-align: middle; width: 10em; }
dl { columns: 380px; column-gap: 28px; font-size: .85rem; margin: .4em 0; }
dl div { display: grid; grid-template-columns: 13em 1fr; gap: 1em; break-inside: avoid; }
dt { color: var(--soft); overflow-wrap: anywhere; } dd { margin: 0; overflow-wrap: anywhere; }
footer { margin-top: 3em; padding-bottom: 2em; }
@media (max-width: 640px) {
  .panels { grid-template-columns: repeat(2, 1fr); }
  .bars li { grid-template-columns: 7em 1fr 3.9em; }
  dl div { grid-template-columns: 10em 1fr; } }
@media print {
  :root { color-scheme: light; --paper: #fff; --card: #f0f1f3; --ink: #000; --soft: #444;
    --edge: #bbb; --first: #1c6fb8; --second: #c2410c; }
  body { font-size: 11pt; } main { max-width: none; } nav, .control { display: none; }
  .matrix { max-height: none; overflow: visible; border: 0; }
  .matrix .sheet { zoom: var(--fit); }
  .corner, .top, .left { position: static; }
  h2, h3 { break-after: avoid; } .matrix, tr, .charts figure { break-inside: avoid; } }
"""

SCRIPT = """
const tip = document.getElementById("tip");
const count = value => value.toLocaleString("en").replaceAll(",", "\\u202f");
for (const slider of document.querySelectorAll("input[type=range]"))
  slider.oninput = () => document.documentElement.style.setProperty("--tint", slider.value);
const data = document.getElementById("confusion");
if (data) {
  const { names, columns, counts } = JSON.parse(data.textContent);
  const totals = counts.map(row => row.reduce((sum, value) => sum + value, 0));
  for (const cells of document.querySelectorAll(".cells")) {
    const order = JSON.parse(cells.dataset.order);
    cells.onpointermove = event => {
      const box = cells.getBoundingClientRect();
      const place = (offset, length, parts) =>
        Math.min(parts - 1, Math.max(0, Math.floor(offset / length * parts)));
      const row = order[place(event.clientY - box.top, box.height, names.length)];
      const x = place(event.clientX - box.left, box.width, columns.length);
      const column = x < names.length ? order[x] : x;
      const share = totals[row] ? (100 * counts[row][column] / totals[row]).toFixed(1) : "0.0";
      tip.textContent = row === column
        ? `${names[row]}: ${share} % right (${count(counts[row][column])} pixels)`
        : `${names[row]} taken for ${columns[column]}: ${share} % of ${names[row]} ` +
          `(${count(counts[row][column])} pixels)`;
      tip.hidden = false;
      tip.style.left = Math.max(4, Math.min(event.clientX + 14,
        innerWidth - tip.offsetWidth - 4)) + "px";
      const above = event.clientY - tip.offsetHeight - 10;
      tip.style.top = (above > 4 ? above : event.clientY + 16) + "px";
    };
    cells.onpointerdown = cells.onpointermove;
    cells.onpointerleave = () => { tip.hidden = true; };
  }
}
"""

# Nothing but what the file holds: no request leaves the page, whatever a name contains.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


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
