"""Pictures of masks, for people."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keras_psp.files import written_aside
from keras_psp.palette import VOID_COLOR, checked_palette

PAPER, INK, _EDGE = (255, 255, 255), (30, 30, 30), (150, 150, 150)
_COLUMN = 240  # pixels; narrower pictures are enlarged
_GAP = 10
_FONT_SIZE = 16
_BAND = 256  # rows at a time, so that large pictures need no copies in float


def colorize(
    mask: np.ndarray, palette: Sequence | np.ndarray, *, ignore_class: int = 255
) -> np.ndarray:
    """A mask in the colours of its classes, the ignored class in dark grey.

    Args:
        mask: (height, width) integers, class indices or `ignore_class`.
        palette: (num_classes, 3), RGB 0 to 255.
        ignore_class: label value of pixels that don't count.

    Returns:
        (height, width, 3) uint8.
    """
    palette = checked_palette(palette)
    mask = _checked_mask(mask, len(palette), ignore_class)
    void = mask == ignore_class
    colours = palette[np.where(void, 0, mask)]
    colours[void] = VOID_COLOR
    return colours


def overlay(
    image: np.ndarray,
    mask: np.ndarray,
    palette: Sequence | np.ndarray,
    *,
    alpha: float = 0.5,
    outline: int = 0,
    ignore_class: int = 255,
) -> np.ndarray:
    """An image tinted with the colours of its mask; ignored pixels stay as they are.

    Args:
        image: (height, width, 3), 0 to 255.
        mask: (height, width) integers, class indices or `ignore_class`.
        palette: (num_classes, 3), RGB 0 to 255.
        alpha: share of the colours, 0 to 1.
        outline: pixels on each side of a border between classes that take its colour whole,
            around a white line; 0 for none.
        ignore_class: label value of pixels that don't count.

    Returns:
        (height, width, 3) uint8.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha!r}; it must be from 0 to 1.")
    image = checked_image(image)
    colours = colorize(mask, palette, ignore_class=ignore_class)
    if image.shape != colours.shape:
        raise ValueError(
            f"mask is {colours.shape[1]}x{colours.shape[0]} but the image is "
            f"{image.shape[1]}x{image.shape[0]}; resize one to the other."
        )
    mask = np.asarray(mask)
    tinted = np.empty_like(colours)
    for top in range(0, len(mask), _BAND):
        rows = slice(top, top + _BAND)
        share = np.where(mask[rows] == ignore_class, 0.0, alpha)[..., None]
        tinted[rows] = np.rint(image[rows] * (1 - share) + colours[rows] * share)
    if outline:
        border = _borders(mask)
        near = _grown(border, outline)
        tinted[near] = colours[near]
        tinted[_grown(border, (outline - 1) // 2)] = PAPER
    return tinted


def _borders(mask):
    """Pixels whose right or lower neighbour is of another class."""
    border = np.zeros(mask.shape, bool)
    border[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    border[:-1] |= mask[:-1] != mask[1:]
    return border


def _grown(where, pixels):
    """The same and what lies within so many pixels of it, in rows and columns."""
    for axis in (0, 1):
        found = where.copy()
        for shift in range(1, pixels + 1):
            towards = np.moveaxis(found, axis, 0), np.moveaxis(where, axis, 0)
            towards[0][shift:] |= towards[1][:-shift]
            towards[0][:-shift] |= towards[1][shift:]
        where = found
    return where


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
    """Images, labels and predictions side by side, with the classes that occur.

    One row per example. The columns are at least 240 pixels wide: small pictures are
    enlarged, masks without inventing colours.

    Args:
        images: per example (height, width, 3), 0 to 255.
        truths: per example (height, width) integers; may differ in size from its
            image, as long as the proportions are alike.
        predictions: per example an array, (height, width) integers; or, for several
            models, a list of such sequences, one per title after the second.
        class_names: names in index order.
        palette: (num_classes, 3), RGB 0 to 255.
        path: where to save it as well; the suffix is the format. The file is replaced
            in one go, so nobody reads half a picture.
        titles: one per column.
        ignore_class: label value of pixels that don't count.

    Returns:
        The picture, RGB.
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
                "there must be one each."
            )

    rows: list[list[Image.Image]] = []
    occurring: set[int] = set()
    for index in range(len(images)):
        image = checked_image(images[index])
        masks = [_checked_mask(m[index], len(palette), ignore_class) for m in columns]
        occurring.update(*(np.unique(mask).tolist() for mask in masks))
        height, width = image.shape[:2]
        factor = _enlargement(width)
        size = (width * factor, height * factor)
        row = [Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)]
        for mask in masks:
            colours = Image.fromarray(colorize(mask, palette, ignore_class=ignore_class))
            row.append(colours.resize(size, Image.Resampling.NEAREST))
        rows.append(row)

    entries = legend_entries(occurring, class_names, palette, ignore_class)
    picture = _laid_out(rows, titles, entries)
    if path is not None:
        save_picture(picture, path)
    return picture


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
    """An overlay with outlines, above the classes that occur and their shares of the picture.

    The largest class comes first. Pictures less than 240 pixels wide are enlarged by a whole
    factor, others keep their size.

    Args:
        image: (height, width, 3), 0 to 255.
        mask: (height, width) integers, class indices or `ignore_class`.
        class_names: names in index order.
        palette: (num_classes, 3), RGB 0 to 255.
        alpha: share of the colours, 0 to 1.
        path: where to save it as well; the suffix is the format. The file is replaced in one
            go.
        ignore_class: label value of pixels that don't count.

    Returns:
        The picture, RGB.
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
    picture = _above_legend(Image.fromarray(tinted), entries)
    if path is not None:
        save_picture(picture, path)
    return picture


def outline_width(height, width):
    """Pixels that are seen as a line where the whole picture is looked at."""
    return max(1, round(min(height, width) / 300))


def share_entries(shares, class_names, palette, ignore_class):
    """Legend entries of classes and their shares of the picture, 0 to 1, in the order given."""
    entries = []
    for index, share in shares.items():
        ((name, colour),) = legend_entries([index], class_names, palette, ignore_class)
        entries.append((f"{name}  {share_text(share)}", colour))
    return entries


def share_text(share):
    """A share in percent, for people: never 0 % of what is there."""
    return "<0.1 %" if share < 0.0005 else f"{share:.1%}".replace("%", " %")


def _enlargement(width):
    """Small pictures by a whole factor: every label pixel gets the same share."""
    return -(-_COLUMN // width) if width < _COLUMN else 1


def _check_names(palette, class_names):
    if len(palette) != len(class_names):
        raise ValueError(
            f"palette has {len(palette)} colours but there are {len(class_names)} "
            "class names; each class needs one of both."
        )


def _above_legend(picture, entries):
    """The picture, on paper as wide as the legend below it needs."""
    size = max(_FONT_SIZE, picture.width // 45)
    gap = max(_GAP, size // 2)
    legend = Legend(entries, ImageFont.load_default(size), gap)
    # Many classes below a small picture make more columns, not a tower.
    columns = -(-len(entries) * legend.line // (2 * max(_COLUMN, picture.height)))
    width = max(picture.width, columns * legend.step + gap)
    per_line = legend.per_line(width)
    lines = -(-len(entries) // per_line)
    paper = Image.new("RGB", (width, picture.height + 2 * gap + lines * legend.line), PAPER)
    paper.paste(picture, ((width - picture.width) // 2, 0))
    legend.draw(ImageDraw.Draw(paper), picture.height + gap, per_line)
    return paper


def legend_entries(occurring, class_names, palette, ignore_class):
    """Name and colour of the classes that occur, in index order; the ignored one last."""
    classes = sorted(set(occurring) - {ignore_class})
    entries = [(class_names[i], tuple(np.asarray(palette[i]).tolist())) for i in classes]
    if ignore_class in occurring:
        entries.append(("not labelled", VOID_COLOR))
    return entries


class Legend:
    """Names beside their colours, in lines.

    Args:
        entries: see `legend_entries`.
        font: of the names.
        gap: pixels left and right of all, and twice between two.

    Attributes:
        step: pixels from one entry to the next, the least width for one and its gap.
        line: pixels from one line to the next.
    """

    def __init__(self, entries, font, gap):
        self._entries, self._font, self._gap = entries, font, gap
        ascent, descent = font.getmetrics()
        self.line = ascent + descent + 6
        self._swatch, self._space = ascent + 2, max(6, ascent // 3)
        longest = max((font.getlength(name) for name, _ in entries), default=0)
        self.step = int(self._swatch * 1.5 + self._space + longest + 2 * gap)

    def per_line(self, width):
        """How many entries fit beside one another."""
        return max(1, (width - self._gap) // self.step)

    def draw(self, draw, top, per_line):
        """Onto an `ImageDraw`, from the height `top` down."""
        for index, (name, colour) in enumerate(self._entries):
            row, column = divmod(index, per_line)
            left, upper = self._gap + column * self.step, top + row * self.line
            box = (left, upper, left + int(self._swatch * 1.5), upper + self._swatch)
            draw.rectangle(box, colour, _EDGE)
            draw.text((box[2] + self._space, upper), name, INK, self._font)


def save_picture(picture, path):
    """Replace the file in one go; without a suffix it's PNG."""
    path = Path(path)
    with written_aside(path) as draft:
        picture.save(draft, None if path.suffix else "png")


def _laid_out(rows, titles, entries):
    """The rows of pictures under their titles, with the legend below."""
    column = max(row[0].width for row in rows)
    # Wide pictures are looked at reduced; their text grows with them.
    font = ImageFont.load_default(max(_FONT_SIZE, column // 24))
    legend = Legend(entries, font, _GAP)
    # A long title widens the columns; it's never cut or written over its neighbour.
    column = max(column, *(int(font.getlength(title)) + 2 for title in titles))
    width = _GAP + len(titles) * (column + _GAP)
    width = max(width, legend.step + _GAP)
    legend_lines = -(-len(entries) // legend.per_line(width))
    per_line = -(-len(entries) // max(1, legend_lines))  # lines of like length

    top = _GAP + legend.line
    height = top + sum(row[0].height + _GAP for row in rows) + legend_lines * legend.line + _GAP
    picture = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(picture)
    for index, title in enumerate(titles):
        draw.text((_GAP + index * (column + _GAP), _GAP), title, INK, font)
    y = top
    for row in rows:
        for index, cell_picture in enumerate(row):
            indent = (column - cell_picture.width) // 2
            picture.paste(cell_picture, (_GAP + index * (column + _GAP) + indent, y))
        y += row[0].height + _GAP
    legend.draw(draw, y, per_line)
    return picture


def checked_image(image):
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"image has shape {image.shape}; it must be (height, width, 3), RGB.")
    if image.dtype == np.uint8:
        return image
    return np.rint(np.clip(image.astype(np.float64), 0, 255)).astype(np.uint8)


def _checked_mask(mask, num_classes, ignore_class):
    mask = np.asarray(mask)
    if mask.ndim != 2 or not np.issubdtype(mask.dtype, np.integer):
        raise ValueError(
            f"mask has shape {mask.shape} and dtype {mask.dtype}; it must be "
            "(height, width) integers (of scores, take the argmax first)."
        )
    wrong = mask[((mask < 0) | (mask >= num_classes)) & (mask != ignore_class)]
    if wrong.size:
        raise ValueError(
            f"mask has the value {wrong[0]}, but the palette has {num_classes} colours "
            f"and ignore_class is {ignore_class}; extend the palette or set "
            "ignore_class."
        )
    return mask
