"""A look at what training sees."""

import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keras_psp.files import written_aside
from keras_psp.visual.palette import VOID_COLOUR
from keras_psp.visual.picture import overlay

_PAPER, _INK, _EDGE = (255, 255, 255), (30, 30, 30), (150, 150, 150)
_SIDE, _GAP, _FONT_SIZE = 280, 8, 16  # pixels of a sample's longer side, between two, of text


def augmented_samples(
    source,
    *,
    path: str | os.PathLike | None = None,
    split: str = "train",
    seed: int = 0,
    rows: int = 4,
    columns: int = 4,
    alpha: float = 0.45,
    **arguments,
) -> Image.Image:
    """Crops as `training_batches` makes them, tinted with their labels, above the legend.

    Look at this before a long run: wrong labels, classes or crops show at once. The
    first examples of the first epoch are drawn; a split of fewer goes on with the next epoch.
    No more than these and a few ahead are read.

    Args:
        source: see `keras_psp.data.training_batches`.
        path: where to save the picture as well; the suffix is the format. The file is replaced
            in one go.
        split: one of `source.splits`.
        seed: of `training_batches`.
        rows: of crops.
        columns: of crops.
        alpha: share of the labels' colours, 0 to 1.
        arguments: the others of `training_batches`: `crop_size`, `rotate` and so on.

    Returns:
        The picture, RGB. Where nothing counts, it's hatched in dark grey.
    """
    from keras_psp.data.pipeline import training_batches

    arguments = {"epochs": 2**31, "cache": False, **arguments, "batch_size": 1}
    if not hasattr(source, "example"):
        arguments["cache"] = True
    batches = training_batches(source, split=split, seed=seed, **arguments)
    cells: list[Image.Image] = []
    occurring: set[int] = set()
    for images, masks in batches.take(rows * columns).as_numpy_iterator():
        occurring.update(np.unique(masks).tolist())
        cells.append(_cell(images[0], masks[0], source, alpha))
    entries = [
        (source.class_names[index], tuple(np.asarray(source.palette[index]).tolist()))
        for index in sorted(occurring - {source.ignore_class})
    ]
    if source.ignore_class in occurring:
        entries.append(("not labelled", VOID_COLOUR))
    picture = _grid(cells, columns, entries)
    if path is not None:
        path = Path(path)
        with written_aside(path) as draft:
            picture.save(draft, None if path.suffix else "png")
    return picture


def _cell(image, mask, source, alpha):
    """One crop with its labels, its longer side _SIDE pixels."""
    height, width = mask.shape
    factor = _SIDE / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    image = np.asarray(
        Image.fromarray(np.rint(np.clip(image, 0, 255)).astype(np.uint8)).resize(
            size, Image.Resampling.BICUBIC if factor > 1 else Image.Resampling.BOX
        )
    )
    mask = Image.fromarray(mask.astype(np.int32)).resize(size, Image.Resampling.NEAREST)
    mask = np.asarray(mask)
    tinted = overlay(image, mask, source.palette, alpha=alpha, ignore_class=source.ignore_class)
    y, x = np.mgrid[: size[1], : size[0]]
    hatched = (mask == source.ignore_class) & ((x + y) % 8 < 2)
    tinted[hatched] = VOID_COLOUR
    return Image.fromarray(tinted)


def _grid(cells, columns, entries):
    """The cells in rows, with the legend below."""
    font = ImageFont.load_default(_FONT_SIZE)
    ascent, descent = font.getmetrics()
    line, swatch = ascent + descent + 6, ascent + 2
    wide, high = cells[0].size
    width = _GAP + columns * (wide + _GAP)
    longest = max((font.getlength(name) for name, _ in entries), default=0)
    step = int(1.5 * swatch + 6 + longest + 2 * _GAP)
    width = max(width, step + _GAP)
    per_line = max(1, (width - _GAP) // step)
    lines = -(-len(entries) // per_line)
    top = _GAP + -(-len(cells) // columns) * (high + _GAP)
    picture = Image.new("RGB", (width, top + lines * line + _GAP), _PAPER)
    draw = ImageDraw.Draw(picture)
    for index, cell in enumerate(cells):
        row, column = divmod(index, columns)
        picture.paste(cell, (_GAP + column * (wide + _GAP), _GAP + row * (high + _GAP)))
    for index, (name, colour) in enumerate(entries):
        row, column = divmod(index, per_line)
        left, upper = _GAP + column * step, top + row * line
        box = left, upper, left + int(1.5 * swatch), upper + swatch
        draw.rectangle(box, colour, _EDGE)
        draw.text((box[2] + 6, upper), name, _INK, font)
    return picture
