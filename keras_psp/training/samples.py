"""Draws labeled images, and the crops that a training sees."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from keras_psp.arguments import checked_integer
from keras_psp.data import DataReport, training_batches
from keras_psp.data.python_calls import original_errors
from keras_psp.palette import VOID_COLOR
from keras_psp.visual.bands import viewable
from keras_psp.visual.legend import BACKGROUND, TEXT, legend_entries
from keras_psp.visual.overlays import image_table, overlay, save_image

_SIDE = 280  # pixels of a crop's longer side
_NAME = 44  # characters that fit below it


def augmented_samples(
    source: Any,
    *,
    path: str | os.PathLike | None = None,
    split: str = "train",
    seed: int = 0,
    rows: int = 4,
    columns: int = 4,
    alpha: float = 0.45,
    **arguments: Any,
) -> Image.Image:
    """Draws crops from `training_batches`, tinted with their labels, and a legend.

    Look at it before a long run, since it shows wrong labels, classes and crops. It draws the
    first examples of the first epoch, and of the next one if the split has fewer. Only these
    and a few more are read.

    Example:
        source = keras_psp.data.GeneratedScenes()
        keras_psp.training.augmented_samples(source, crop_size=96, path="samples.png")

    Args:
        source: See `keras_psp.data.training_batches`.
        path: File to save the image to, replaced atomically; its suffix is the format.
        split: One of `source.splits`.
        seed: See `training_batches`.
        rows: Number of rows of crops.
        columns: Number of columns of crops.
        alpha: Opacity of the labels' colors, 0 to 1.
        arguments: Other arguments of `training_batches`: `crop_size`, `rotate` etc. A
            `batch_size` has no effect.

    Returns:
        The image, RGB. Ignored pixels are hatched in dark gray.

    Raises:
        ValueError: If an argument is invalid.
    """
    rows, columns = _checked_grid(rows, columns)
    arguments = {"epochs": 2**31, "cache": False, **arguments, "batch_size": 1}
    if not hasattr(source, "example"):
        arguments["cache"] = True
    batches = training_batches(source, split=split, seed=seed, **arguments)
    cells: list[Image.Image] = []
    occurring: set[int] = set()
    for images, masks in batches.take(rows * columns).as_numpy_iterator():
        occurring.update(np.unique(masks).tolist())
        cells.append(_cell(images[0], masks[0], source, alpha))
    return _page(cells, columns, occurring, source, path)


@original_errors()
def contact_sheet(
    report: DataReport,
    *,
    path: str | os.PathLike | None = None,
    rows: int = 4,
    columns: int = 4,
    alpha: float = 0.45,
) -> Image.Image:
    """Draws images of a data set tinted with their labels, so that every class is seen.

    For each class, the rarest first, it shows the image with the largest share of it; the other
    images are spread evenly over the data set.

    Example:
        report = keras_psp.data.examine(keras_psp.data.ImageFolder("aerial"))
        keras_psp.training.contact_sheet(report, path="sheet.png")

    Args:
        report: What `keras_psp.data.examine` returned.
        path: File to save the image to, replaced atomically; its suffix is the format.
        rows: Number of rows of images.
        columns: Number of columns of images.
        alpha: Opacity of the labels' colors, 0 to 1.

    Returns:
        The image, RGB. Ignored pixels are hatched in dark gray.

    Raises:
        ValueError: If there is no labeled image without a fault, or no row or column.
    """
    rows, columns = _checked_grid(rows, columns)
    source = report.source
    tinted: list[tuple[Image.Image, str]] = []
    occurring: set[int] = set()
    for name, image, mask in _read(source, report.representative(rows * columns)):
        occurring.update(np.unique(mask).tolist())
        tinted.append((_cell(image, mask, source, alpha), name))
    if not tinted:
        raise ValueError(f"{report.title}: there is no labeled image to draw.")
    height = max(image.height for image, _ in tinted)
    cells = [_titled(image, name, height) for image, name in tinted]
    cells += [Image.new("RGB", cells[0].size, BACKGROUND)] * (-len(cells) % columns)
    return _page(cells, columns, occurring, source, path)


def _checked_grid(rows, columns):
    return checked_integer("rows", rows, least=1), checked_integer("columns", columns, least=1)


def _page(cells, columns, occurring, source, path):
    """Arranges images of a source in rows above a legend of the classes, and saves the result."""
    table = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    legend = legend_entries(occurring, source.class_names, source.palette, source.ignore_class)
    page = image_table(table, [""] * columns, legend)
    if path is not None:
        save_image(page, path)
    return page


def _read(source: Any, chosen: dict[str, list[int]]) -> Iterator[tuple[str, Any, Any]]:
    """Yields (name, image, mask) of the examples with these numbers in each split."""
    for split, indices in chosen.items():
        if hasattr(source, "example"):
            for index in indices:
                name = f"{split} {index}"
                if hasattr(source, "paths"):
                    name = f"{split}: {Path(source.paths(split)[index][0]).name}"
                yield name, *source.example(split, index)
        else:
            for index, (image, mask) in zip(range(max(indices) + 1), source.examples(split)):  # noqa: B905
                if index in indices:
                    yield f"{split} {index}", np.asarray(image), np.asarray(mask)


def _titled(image, name, height):
    """Returns the image above its name, in a cell for images of up to this height."""
    cell = Image.new("RGB", (_SIDE, height + 16), BACKGROUND)
    cell.paste(image, ((_SIDE - image.width) // 2, (height - image.height) // 2))
    shown = name if len(name) <= _NAME else f"{name[: _NAME - 14]}...{name[-11:]}"
    ImageDraw.Draw(cell).text((2, height + 2), shown, TEXT)
    return cell


def _cell(image, mask, source, alpha):
    """Returns a crop tinted with its labels, its longer side _SIDE pixels."""
    height, width = mask.shape
    factor = _SIDE / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    image = Image.fromarray(viewable(image))
    image = image.resize(size, Image.Resampling.BICUBIC if factor > 1 else Image.Resampling.BOX)
    mask = Image.fromarray(mask.astype(np.int32)).resize(size, Image.Resampling.NEAREST)
    image, mask = np.asarray(image), np.asarray(mask)
    tinted = overlay(image, mask, source.palette, alpha=alpha, ignore_class=source.ignore_class)
    y, x = np.indices(mask.shape)
    tinted[(mask == source.ignore_class) & ((x + y) % 8 < 2)] = VOID_COLOR
    return Image.fromarray(tinted)
