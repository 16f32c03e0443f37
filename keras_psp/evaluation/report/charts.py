"""Line charts and confusion matrices of the report."""

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from keras_psp.evaluation.report.images import data_uri

# Placeholder colors in matplotlib's output and the page's CSS variables, which differ between
# the light and the dark color scheme.
_COLORS = {"first": "#010101", "second": "#020202", "soft": "#030303", "edge": "#040404"}
_WIDTH, _HEIGHT = 352, 190  # of a chart, in points
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 22, 8, 24  # margins


@dataclass(frozen=True)
class Curve:
    """A curve through the points with a finite y, in the page's "first" or "second" color."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    color: str = "first"
    faint: bool = False
    dots: bool = False


@dataclass(frozen=True)
class LineChart:
    """A chart of curves, e.g. over training steps; values above `most` are drawn at `most`."""

    title: str
    curves: Sequence[Curve]
    most: float = math.inf

    @property
    def drawn(self) -> list[Curve]:
        """The curves with at least one finite value."""
        return [curve for curve in self.curves if np.isfinite(curve.y).any()]

    def svg(self) -> str:
        """The chart as an SVG element in the page's colors."""
        from matplotlib import style
        from matplotlib.figure import Figure

        settings: dict[str, Any] = {
            "font.sans-serif": ["DejaVu Sans"],
            "font.size": 11,
            "grid.color": _COLORS["edge"],
            "path.simplify_threshold": 0.5,  # keeps the extremes of long curves
            "svg.fonttype": "none",
            "svg.hashsalt": self.title,  # reproducible ids, different for each chart
            "xtick.color": _COLORS["soft"],
            "ytick.color": _COLORS["soft"],
        }
        svg = io.StringIO()
        with style.context(["default", settings], after_reset=True):
            figure = Figure(figsize=(_WIDTH / 72, _HEIGHT / 72))
            width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
            place = (_LEFT / _WIDTH, _BOTTOM / _HEIGHT, width / _WIDTH, height / _HEIGHT)
            self._draw(figure.add_axes(place))
            nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
            figure.savefig(svg, format="svg", transparent=True, metadata=nothing)
        return _for_page(svg.getvalue())

    def _draw(self, axes):
        low, top, right = 0.0, -math.inf, 0.0
        for curve in self.drawn:
            finite = np.isfinite(curve.y)
            x, y = np.asarray(curve.x)[finite], np.minimum(curve.y, self.most)[finite]
            low, top, right = min(low, y.min()), max(top, y.max()), max(right, x.max())
            axes.plot(
                x,
                y,
                color=_COLORS[curve.color],
                linewidth=0.8 if curve.faint else 1.6,
                alpha=0.2 if curve.faint else None,
                marker="o" if curve.dots else None,
                markersize=4.8,
                clip_on=False,
            )
        axes.set_xlim(0, right or 1)
        axes.set_ylim(low, top or 1.0)
        axes.locator_params(nbins=5)
        axes.xaxis.set_major_formatter("{x:.10g}")
        axes.yaxis.set_major_formatter("{x:.4g}")
        axes.tick_params(length=0, pad=6)
        axes.grid(axis="y", clip_on=False)
        axes.set_axisbelow(True)
        axes.spines[:].set_visible(False)


def _for_page(svg):
    """Matplotlib's file as an element of a page: no prologue, no style, no generated names."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<defs>\s*<style.*?</defs>", "", svg, count=1, flags=re.DOTALL)
    # Names such as "axes_1" occur in every chart; ids that are referenced have no underscore.
    svg = re.sub(r' id="\w*[._]\w*"', "", svg)
    for name, color in _COLORS.items():
        svg = svg.replace(color, f"var(--{name})")
    return svg


def heat_map(
    shares: np.ndarray, names: Sequence[str], columns: Sequence[str], order: Sequence[int]
) -> dict[str, Any]:
    """The variables of the template's `heat_map`; its image has one pixel per cell.

    `shares`, (n, columns), are fractions of each row's pixels, NaN in empty rows. `columns` are
    the names of the rows, possibly followed by one more.
    """
    count, across = shares.shape
    places = [*order, *range(count, across)]
    shown = np.nan_to_num(shares[np.ix_(order, places)])
    pixels = np.zeros((count, across, 4), np.uint8)
    pixels[..., :3] = (238, 96, 40)
    pixels[np.arange(count), np.arange(count), :3] = (43, 138, 114)
    # The square root makes a share of 1 % visible.
    pixels[..., 3] = np.rint(217 * np.sqrt(shown))
    sizes = ((12, 38), (24, 30), (60, 17), (math.inf, 12))
    cell = next(size for most, size in sizes if count <= most)
    font = min(12, cell - 2)
    longest = max(len(name) for name in (*names, *columns))
    margin = min(150, max(64, int(0.6 * font * min(longest, 22)) + 14))
    cells = np.argwhere(shown >= 0.005).tolist() if count <= 24 else []
    return {
        "order": list(order),
        "rows": [names[index] for index in order],
        "columns": [columns[index] for index in places],
        "image": data_uri(Image.fromarray(pixels, "RGBA"), "png", optimize=True),
        "values": [(x, y, f"{100 * shown[y, x]:.0f}") for y, x in cells],
        "cell": cell,
        "font": font,
        "margin": margin,
        "letters": max(3, int((margin - 10) / (0.6 * font))),
        "width": cell * across,
        "height": cell * count,
        "print_zoom": min(1, 680 / (margin + cell * across)),
    }
