"""Images that show masks: colored, over the input image, and next to other masks."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keras_psp.files import written_aside
from keras_psp.palette import VOID_COLOR, checked_palette
from keras_psp.visual.bands import viewable
from keras_psp.visual.legend import BACKGROUND, TEXT, Entry, Legend, legend_entries, share_entries

_COLUMN = 240  # pixels; narrower images are enlarged
_GAP = 10
_FONT_SIZE = 16
_BAND = 256  # rows at a time, so that large images need no copies in float


def colorize(
    mask: np.ndarray, palette: Sequence | np.ndarray, *, ignore_class: int = 255
) -> np.ndarray:
    """Paints a mask in the colors of its classes, and the ignored class dark gray.

    Args:
        mask: (height, width) integers, class indices or `ignore_class`.
        palette: (num_classes, 3), RGB 0 to 255.
        ignore_class: value of unlabeled pixels.

    Returns:
        (height, width, 3) uint8.
    """
    palette = checked_palette(palette)
    mask = _checked_mask(mask, len(palette), ignore_class)
    void = mask == ignore_class
    colors = palette[np.where(void, 0, mask)]
    colors[void] = VOID_COLOR
    return colors


def overlay(
    image: np.ndarray,
    mask: np.ndarray,
    palette: Sequence | np.ndarray,
    *,
    alpha: float = 0.5,
    outline: int = 0,
    ignore_class: int = 255,
) -> np.ndarray:
    """Tints an image with the colors of its mask; ignored pixels are unchanged.

    Args:
        image: (height, width, channels), e.g. RGB 0 to 255; see `keras_psp.visual.bands.viewable`.
        mask, palette, ignore_class: see `colorize`.
        alpha: opacity of the colors, 0 to 1.
        outline: pixels on each side of a border between classes that are fully opaque, with a
            white line in the middle; 0 for none.

    Returns:
        (height, width, 3) uint8.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha!r}; it must be from 0 to 1.")
    image = viewable(image)
    colors = colorize(mask, palette, ignore_class=ignore_class)
    if image.shape != colors.shape:
        raise ValueError(
            f"mask is {colors.shape[1]}x{colors.shape[0]} but the image is "
            f"{image.shape[1]}x{image.shape[0]}; resize one to the other."
        )
    mask = np.asarray(mask)
    tinted = np.empty_like(colors)
    for top in range(0, len(mask), _BAND):
        rows = slice(top, top + _BAND)
        share = np.where(mask[rows] == ignore_class, 0.0, alpha)[..., None]
        tinted[rows] = np.rint(image[rows] * (1 - share) + colors[rows] * share)
    if outline:
        border = np.zeros(mask.shape, bool)  # whether the right or lower neighbor differs
        border[:, :-1] |= mask[:, :-1] != mask[:, 1:]
        border[:-1] |= mask[:-1] != mask[1:]
        near = _dilated(border, outline)
        tinted[near] = colors[near]
        tinted[_dilated(border, (outline - 1) // 2)] = BACKGROUND
    return tinted


def _dilated(mask, pixels):
    """A bool mask grown by a number of pixels along rows and columns."""
    for axis in (0, 1):
        grown = mask.copy()
        target, source = np.moveaxis(grown, axis, 0), np.moveaxis(mask, axis, 0)
        for shift in range(1, pixels + 1):
            target[shift:] |= source[:-shift]
            target[:-shift] |= source[shift:]
        mask = grown
    return mask


def comparison(
    images: Sequence[np.ndarray],
    truths: Sequence[np.ndarray],
    predictions: Sequence,
    class_names: Sequence[str],
    palette: Sequence | np.ndarray,
    *,
    path: str | os.PathLike | None = None,
    titles: Sequence[str] = ("image", "truth", "prediction"),
    ignore_class: int = 255,
) -> Image.Image:
    """Draws images, labels and predictions side by side, with a legend of the classes.

    There is one row per example. Columns are at least 240 pixels wide: smaller images are
    enlarged, masks without inventing colors.

    Args:
        images: for each example, (height, width, channels), e.g. RGB 0 to 255; see
            `keras_psp.visual.bands.viewable`.
        truths: for each example, (height, width) integers. They may differ in size from the image
            if they have its proportions.
        predictions: for each example, (height, width) integers; or, for several models, a list of
            such sequences, one per title after the second.
        class_names: names in index order.
        palette, ignore_class: see `colorize`.
        path: also save the result here, in the format of the suffix. An existing file is replaced
            atomically.
        titles: one per column.

    Returns:
        The comparison, RGB.
    """
    palette = checked_palette(palette)
    _check_names(palette, class_names)
    if not len(images):
        raise ValueError("images is empty; a comparison needs at least one example.")
    one_model = len(predictions) and getattr(predictions[0], "ndim", None) == 2
    models = [predictions] if one_model else list(predictions)
    if len(titles) != 2 + len(models):
        raise ValueError(
            f"{len(titles)} titles for image, truth and {len(models)} model(s); "
            "there must be one title per column."
        )
    columns = [truths, *models]
    for title, masks in zip(titles[1:], columns, strict=True):
        if len(masks) != len(images):
            raise ValueError(
                f"{len(masks)} masks for {title!r} but {len(images)} images; "
                "there must be one mask per image."
            )

    rows: list[list[Image.Image]] = []
    occurring: set[int] = set()
    for pixels, *masks in zip(images, *columns, strict=True):
        image = Image.fromarray(viewable(pixels))
        factor = _enlargement(image.width)
        size = (factor * image.width, factor * image.height)
        row = [image.resize(size, Image.Resampling.BICUBIC)]
        for mask in masks:
            colors = Image.fromarray(colorize(mask, palette, ignore_class=ignore_class))
            row.append(colors.resize(size, Image.Resampling.NEAREST))
            occurring.update(np.unique(mask).tolist())
        rows.append(row)

    entries = legend_entries(occurring, class_names, palette, ignore_class)
    return _saved(image_table(rows, titles, entries), path)


def overlay_with_legend(
    image: np.ndarray,
    mask: np.ndarray,
    class_names: Sequence[str],
    palette: Sequence | np.ndarray,
    *,
    alpha: float = 0.5,
    path: str | os.PathLike | None = None,
    ignore_class: int = 255,
) -> Image.Image:
    """Draws an outlined overlay above a legend of the classes and their shares of the image.

    The largest class comes first. Images less than 240 pixels wide are enlarged by an integer
    factor; others keep their size.

    Args:
        image, alpha: see `overlay`.
        mask, palette, ignore_class: see `colorize`.
        class_names, path: see `comparison`.

    Returns:
        The overlay with its legend, RGB.
    """
    _check_names(palette, class_names)
    height, width = np.shape(mask)[:2]
    factor = _enlargement(width)
    if factor > 1:
        image, mask = (np.repeat(np.repeat(x, factor, 0), factor, 1) for x in (image, mask))
    outline = outline_width(height * factor, width * factor)
    tinted = overlay(image, mask, palette, alpha=alpha, outline=outline, ignore_class=ignore_class)
    values, counts = np.unique(mask, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    shares = {int(values[i]): counts[i] / np.size(mask) for i in order}
    entries = share_entries(shares, class_names, palette, ignore_class)
    return _saved(_above_legend(Image.fromarray(tinted), entries), path)


def outline_width(height: int, width: int) -> int:
    """Returns the width, in pixels, of outlines that are visible when the whole image is shown."""
    return max(1, round(min(height, width) / 300))


def _enlargement(width):
    """An integer factor for narrow images, so that every label pixel gets the same area."""
    return math.ceil(_COLUMN / width)


def _check_names(palette, class_names):
    if len(palette) != len(class_names):
        raise ValueError(
            f"palette has {len(palette)} colors but there are {len(class_names)} "
            "class names; give one of each per class."
        )


def _above_legend(image, entries):
    """The image on a page that is wide enough for the legend below it."""
    size = max(_FONT_SIZE, image.width // 45)
    gap = max(_GAP, size // 2)
    legend = Legend(entries, ImageFont.load_default(size), gap)
    # A small image with many classes gets a wider page, not a very tall one.
    columns = math.ceil(len(entries) * legend.line / (2 * max(_COLUMN, image.height)))
    width = max(image.width, columns * legend.step + gap)
    per_line = legend.per_line(width)
    lines = math.ceil(len(entries) / per_line)
    page = Image.new("RGB", (width, image.height + 2 * gap + lines * legend.line), BACKGROUND)
    page.paste(image, ((width - image.width) // 2, 0))
    legend.draw(ImageDraw.Draw(page), image.height + gap, per_line)
    return page


def image_table(
    rows: Sequence[Sequence[Image.Image]], titles: Sequence[str], entries: Sequence[Entry]
) -> Image.Image:
    """Draws rows of images below the titles of their columns, above a legend."""
    column = max(row[0].width for row in rows)
    # Wide images are viewed at a reduced size, so their text grows with them.
    font = ImageFont.load_default(max(_FONT_SIZE, column // 24))
    legend = Legend(entries, font, _GAP)
    # A long title widens all columns; it is never cut and never overlaps the next one.
    column = max(column, *(int(font.getlength(title)) + 2 for title in titles))
    width = _GAP + len(titles) * (column + _GAP)
    width = max(width, legend.step + _GAP)
    legend_lines = math.ceil(len(entries) / legend.per_line(width))
    per_line = math.ceil(len(entries) / max(1, legend_lines))  # lines of similar length

    top = _GAP + (legend.line if any(titles) else 0)
    height = top + sum(row[0].height + _GAP for row in rows) + legend_lines * legend.line + _GAP
    page = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(page)
    for index, title in enumerate(titles):
        draw.text((_GAP + index * (column + _GAP), _GAP), title, TEXT, font)
    for row in rows:
        for index, image in enumerate(row):
            indent = (column - image.width) // 2
            page.paste(image, (_GAP + index * (column + _GAP) + indent, top))
        top += row[0].height + _GAP
    legend.draw(draw, top, per_line)
    return page


def save_image(image: Image.Image, path: str | os.PathLike) -> None:
    """Saves an image, replacing the file atomically; without a suffix the format is PNG."""
    path = Path(path)
    with written_aside(path) as draft:
        image.save(draft, None if path.suffix else "png")


def _saved(image, path):
    if path is not None:
        save_image(image, path)
    return image


def _checked_mask(mask, num_classes, ignore_class):
    mask = np.asarray(mask)
    if mask.ndim != 2 or not np.issubdtype(mask.dtype, np.integer):
        raise ValueError(
            f"mask has shape {mask.shape} and dtype {mask.dtype}; it must be "
            "(height, width) integers (take the argmax of scores first)."
        )
    wrong = mask[((mask < 0) | (mask >= num_classes)) & (mask != ignore_class)]
    if wrong.size:
        raise ValueError(
            f"mask has the value {wrong[0]}, but the palette has {num_classes} colors and "
            f"ignore_class is {ignore_class}; extend the palette or set ignore_class."
        )
    return mask
