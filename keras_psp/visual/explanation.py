"""Draws an explanation: classes with and without the pyramid, and the parts of a logit."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from keras_psp.visual.bands import viewable
from keras_psp.visual.overlays import colorize

_WIDTH = 15.0  # inches
_DPI = 110
_SHOWN = 800  # pixels of an image's longer side that the page can show
_OUTLINED = 120  # the same for the outlines of classes
_LEGEND = 14  # classes at most
_LEVELS = ("tab:orange", "tab:green", "tab:purple", "tab:brown", "tab:pink", "tab:olive")
_FOR, _AGAINST = "#b2182b", "#2166ac"  # the ends of matplotlib's RdBu


def draw_explanation(
    image: np.ndarray,
    classes: np.ndarray,
    without: np.ndarray,
    level: np.ndarray,
    maps: np.ndarray,
    part_names: Sequence[str],
    *,
    class_names: Sequence[str],
    palette: np.ndarray,
    bin_sizes: Sequence[int],
    pixel: tuple[int, int],
    values: Sequence[float],
    target: str,
    other: str | None,
    reference: str,
) -> Image.Image:
    """Draws an explanation on one page, with a caption that says how to read it.

    Args:
        image: (height, width, channels), see `viewable`.
        classes, without: (height, width), the classes with and without the pyramid.
        level: (height, width), the bin size of the level that decides a pixel, else 0.
        maps: (parts, height, width), the parts: features, levels, constant.
        part_names: their names.
        class_names, palette: one name and one color, (num_classes, 3) uint8, per class.
        bin_sizes: bin sizes of the levels.
        pixel: (x, y), the pixel of `values`.
        values: the parts at that pixel.
        target, other: the classes whose difference of logits is split; if `other` is None, the
            logit of `target`.
        reference: what replaced the levels, in words.

    Returns:
        The page, RGB.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    image = viewable(image)
    height, width = classes.shape
    titles = [part_title(name) for name in part_names]
    aspect = float(np.clip(height / width, 0.4, 1.6))
    rows = _WIDTH / 4 * aspect + 1.1, _WIDTH / max(4, len(titles)) * aspect + 0.8, 2.9
    figure = Figure(figsize=(_WIDTH, sum(rows)), dpi=_DPI, layout="constrained")
    subfigures: Any = figure.subfigures(3, 1, height_ratios=rows)
    upper, middle, lower = subfigures
    marked = (*pixel, width, height)

    panels = [image, *(colorize(m, palette, ignore_class=-1) for m in (classes, without))]
    panels.append(_tinted(image, level, bin_sizes))
    panel_titles = (
        "image",
        "classes",
        "classes without the pyramid",
        f"decided by context: {np.mean(level > 0):.1%} of the pixels",
    )
    for axes, panel, title in zip(upper.subplots(1, 4), panels, panel_titles, strict=True):
        _show(axes, panel, title, marked)
    _add_legends(upper, (classes, without), level, class_names, palette, bin_sizes)

    what = f"the logit of {target}" if other is None else f"{target} minus {other}"
    middle.suptitle(f"What each part adds to {what}", fontweight="bold")
    _draw_maps(middle, [*maps[:-1], maps.sum(axis=0)], [*titles[:-1], "sum"], classes, marked)

    bars, text = lower.subplots(1, 2, width_ratios=(3, 2))
    _draw_bars(bars, titles, values, f"{what}, at the pixel ({pixel[0]}, {pixel[1]})")
    text.axis("off")
    caption = _caption(target, other, reference)
    text.text(0, 1.05, caption, va="top", linespacing=1.35, transform=text.transAxes)

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def part_title(name: str) -> str:
    """A readable title for a part, given its name in `keras_psp.explanation.Explanation`."""
    if "x" not in name:
        return {"features": "local features"}.get(name, name)
    return "pyramid: whole image" if name == "1x1" else f"pyramid: {name} regions"


def _tinted(image, level, bin_sizes):
    """The image in light gray, with the pixels that levels decide in the levels' colors."""
    gray = np.asarray(Image.fromarray(image).convert("L"))
    panel = np.repeat((gray // 2 + 110)[..., None], 3, axis=2)
    for bins, color in zip(bin_sizes, _level_colors(len(bin_sizes)), strict=True):
        panel[level == bins] = np.rint(255 * color)
    return panel


def _level_colors(count):
    from matplotlib.colors import to_rgb

    return [np.array(to_rgb(_LEVELS[number % len(_LEVELS)])) for number in range(count)]


def _add_legends(figure, masks, level, class_names, palette, bin_sizes):
    from matplotlib.patches import Patch

    occurring, counts = np.unique(np.stack(masks), return_counts=True)
    largest = occurring[np.argsort(-counts, kind="stable")][:_LEGEND]
    patches = [Patch(color=palette[i] / 255, label=class_names[i]) for i in largest]
    if len(occurring) > _LEGEND:
        patches.append(Patch(color="white", label=f"and {len(occurring) - _LEGEND} more"))
    figure.legend(handles=patches, loc="outside lower left", ncols=8, frameon=False)
    patches = [
        Patch(color=color, label=f"most by {bins}x{bins}")
        for bins, color in zip(bin_sizes, _level_colors(len(bin_sizes)), strict=True)
        if (level == bins).any()
    ]
    if patches:
        figure.legend(handles=patches, loc="outside lower right", ncols=3, frameon=False)


def _draw_maps(figure, maps, titles, classes, marked):
    largest = max(float(np.abs(np.stack(maps)).max()), 1e-6)
    # Outlines of the classes, at about the resolution of the page.
    step = max(1, classes.shape[1] // _OUTLINED)
    small = classes[::step, ::step]
    border = np.zeros((*small.shape, 4))
    border[:, :-1, 3] = small[:, :-1] != small[:, 1:]
    border[:-1, :, 3] = np.maximum(border[:-1, :, 3], small[:-1] != small[1:])
    axes = np.atleast_1d(figure.subplots(1, len(maps)))
    for one, part, title in zip(axes, maps, titles, strict=True):
        _show(one, part, title, marked, cmap="RdBu_r", vmin=-largest, vmax=largest)
        _show(one, border, title, marked, interpolation="nearest", alpha=0.5 * border[..., 3])
    figure.colorbar(axes[0].images[0], ax=list(axes), shrink=0.8, pad=0.01, label="logit")


def _show(axes, panel, title, marked, **options):
    """Shows a panel in the coordinates of the image's pixels, whatever its own resolution."""
    x, y, width, height = marked
    step = max(1, max(panel.shape[:2]) // _SHOWN)  # what the page can't show needn't be drawn
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axes.imshow(panel[::step, ::step], extent=extent, **options)
    for size, color in ((11, "white"), (8, "black")):
        axes.plot(x, y, marker="o", mfc="none", mec=color, mew=1.6, ms=size)
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=10.5)


def _draw_bars(axes, names, values, title):
    total = float(np.sum(values))
    labels = [*names, "sum"]
    numbers = [*values, total]
    places = [*range(len(values)), len(values) + 0.5]
    colors = [_FOR if number > 0 else _AGAINST for number in numbers]
    axes.barh(places, numbers, color=colors, height=0.7)
    axes.set_yticks(places, labels)
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.8)
    span = max(max(map(abs, numbers)), 1e-6)
    axes.set_xlim(min(0, *numbers) - 0.15 * span, max(0, *numbers) + 0.15 * span)
    for place, number in zip(places, numbers, strict=True):
        side = "left" if number >= 0 else "right"
        shift = 0.01 * span if number >= 0 else -0.01 * span
        axes.text(number + shift, place, f"{number:+.2f}", va="center", ha=side)
    axes.set_title(title, fontweight="bold", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)


def _caption(target, other, reference):
    if other is None:
        reading = f"Red favors {target}, blue is against it."
    else:
        reading = f"Red favors {target}, blue favors {other}."
    paragraphs = (
        "The network adds up what it sees around a pixel (local features) and features pooled "
        f"over the whole image and over regions of it (pyramid). {reading} All maps have the same "
        "scale. The bars are the parts at the circled pixel; the constant is what BatchNorm and "
        "the classifier's bias add.",
        "Decided by context: pixels that get another class with the pyramid's levels replaced by "
        f"{reference}. Their color is that of the level that matters most on its own.",
    )
    return "\n\n".join(textwrap.fill(paragraph, 68) for paragraph in paragraphs)
