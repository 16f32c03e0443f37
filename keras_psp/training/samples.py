"""A look at what training sees."""

import os

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keras_psp.palette import VOID_COLOR
from keras_psp.visual.legend import BACKGROUND, Legend, legend_entries
from keras_psp.visual.overlays import overlay, save_image

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
    names, palette, void = source.class_names, source.palette, source.ignore_class
    picture = _grid(cells, columns, legend_entries(occurring, names, palette, void))
    if path is not None:
        save_image(picture, path)
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
    tinted[hatched] = VOID_COLOR
    return Image.fromarray(tinted)


def _grid(cells, columns, entries):
    """The cells in rows, with the legend below."""
    legend = Legend(entries, ImageFont.load_default(_FONT_SIZE), _GAP)
    wide, high = cells[0].size
    width = max(_GAP + columns * (wide + _GAP), legend.step + _GAP)
    per_line = legend.per_line(width)
    lines = -(-len(entries) // per_line)
    top = _GAP + -(-len(cells) // columns) * (high + _GAP)
    picture = Image.new("RGB", (width, top + lines * legend.line + _GAP), BACKGROUND)
    for index, cell in enumerate(cells):
        row, column = divmod(index, columns)
        picture.paste(cell, (_GAP + column * (wide + _GAP), _GAP + row * (high + _GAP)))
    legend.draw(ImageDraw.Draw(picture), top, per_line)
    return picture
