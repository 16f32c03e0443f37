"""The picture of moved_hull.py: one scene beside water and beside a road, and the parts."""

import textwrap

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

import keras_psp
from keras_psp.data.scenes import CLASS_NAMES, PALETTE, scene
from keras_psp.explanation import level_means
from keras_psp.files import written_aside
from keras_psp.visual import overlay

SEED, SIZE = 26, (360, 480)
COLORS = {"water": "#1f78b4", "road": "#5b5b5b"}
CAPTION = """
Only the pixels of the surface differ between the two images. The logit of boat minus that of car
is the sum of the bars: what the network sees around the hull's pixels (local features), what it
has pooled over the whole image and over regions of it (pyramid), and a constant. Bars to the right
favor boat, to the left car. Without the pyramid: its levels are replaced by {reference}.
"""
SHOWN = ("water", "road", "ground", "grass", "boat", "car")


def draw(model, images, path):
    """Draws the picture; the images are those whose mean replaces the levels."""
    means = level_means(images, model)
    figure = Figure(figsize=(10, 10.4), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(5.7, 4.7))
    panels = upper.subplots(2, 3)
    bars = {}
    for row, surface in zip(panels, COLORS, strict=True):
        image, mask = scene(SEED, image_size=SIZE, surface=surface, skyline="village")
        hull = mask == CLASS_NAMES.index("boat" if surface == "water" else "car")
        explanation = keras_psp.explain(image, model, reference=means)
        context = explanation.context()
        bars[surface] = explanation.parts("boat", "car")[:, hull].mean(axis=1)
        row[0].imshow(image)
        row[0].set_ylabel(f"beside {surface}", fontsize=14)
        for axes, classes in zip(row[1:], (explanation.classes, context.classes), strict=True):
            axes.imshow(overlay(image, classes, PALETTE, alpha=0.6))
            label(axes, classes, hull)
    for axes, title in zip(panels[0], ("image", "classes", "without the pyramid"), strict=True):
        axes.set_title(title, fontsize=14)
    for axes in panels.flat:
        axes.set(xticks=[], yticks=[])
    shown = [CLASS_NAMES.index(name) for name in SHOWN]
    patches = [Patch(color=PALETTE[index] / 255, label=CLASS_NAMES[index]) for index in shown]
    upper.legend(handles=patches, loc="outside lower center", ncols=6, frameon=False, fontsize=12)
    draw_bars(lower.subplots(), explanation.part_names, bars)
    caption = textwrap.fill(CAPTION.strip().format(reference=means), 118)
    lower.supxlabel(caption, fontsize=11, x=0.02, ha="left", linespacing=1.3)
    with written_aside(path) as draft:
        figure.savefig(draft, dpi=100, pil_kwargs={"quality": 88})


def label(axes, classes, hull):
    """Writes in the corner which share of the hull's pixels has which class."""
    counts = np.bincount(classes[hull], minlength=len(CLASS_NAMES))
    largest = int(counts.argmax())
    axes.text(
        0.03,
        0.05,
        f"{CLASS_NAMES[largest]}: {counts[largest] / hull.sum():.0%} of the hull",
        transform=axes.transAxes,
        fontsize=12,
        fontweight="bold",
        color="white",
        bbox={"boxstyle": "round", "facecolor": "black", "linewidth": 0},
    )


def draw_bars(axes, part_names, bars):
    """Draws the parts beside each other, and their sums."""
    names = [
        {"features": "local features", "1x1": "pyramid: whole image"}.get(
            name, f"pyramid: {name} regions" if "x" in name else name
        )
        for name in part_names
    ]
    places = np.array([*range(len(names)), len(names) + 0.4])
    largest = max(np.abs(parts).max() for parts in bars.values())
    for shift, (surface, parts) in zip((-0.2, 0.2), bars.items(), strict=True):
        values = [*parts, parts.sum()]
        axes.barh(places + shift, values, 0.38, color=COLORS[surface], label=f"beside {surface}")
        for place, value in zip(places + shift, values, strict=True):
            side = "left" if value >= 0 else "right"
            gap = np.copysign(0.01 * largest, value)
            axes.text(value + gap, place, f"{value:+.2f}", ha=side, va="center", fontsize=11)
    axes.set_yticks(places, [*names, "sum"], fontsize=12)
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title("boat minus car, mean over the hull's pixels", fontsize=13)
    axes.legend(fontsize=12, frameon=False)
