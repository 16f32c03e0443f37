"""Draws shapes as the labeling tools do.

Each function returns the pixels of a shape as (height, width) bool, cut off at the image's edges.
"""

import base64
import binascii
import io
import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from keras_psp.data.images import MAX_PIXELS

Size = tuple[int, int]
"""(height, width) in pixels."""

# Beyond this, coordinates are damaged; the rasterizers would need too much memory.
_FARTHEST = 1_000_000


def checked_points(values: Any, least: int) -> np.ndarray:
    """Returns points as (count, 2) float64, x and y; raises ValueError unless they are valid."""
    try:
        points = np.array(values, np.float64)
        if points.ndim != 2:  # COCO's are x0, y0, x1, y1 ...
            points = points.reshape(-1, 2)
        if points.shape[1] != 2:
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError("has points that aren't pairs of numbers") from None
    if not np.isfinite(points).all() or (abs(points) > _FARTHEST).any():
        raise ValueError("has points that are infinite or far outside of the image")
    if len(points) < least:
        raise ValueError(f"has {len(points)} point(s), but needs at least {least}")
    return points


def pillow_shape(kind: str, points: np.ndarray, size: Size, *, width: int = 0) -> np.ndarray:
    """Draws a "polygon", "rectangle", "ellipse" or "line" with Pillow, outline included.

    Rectangles and ellipses are given by two corners; `width` is that of a line.
    """
    canvas = Image.new("L", size[::-1])
    draw = ImageDraw.Draw(canvas)
    xy = [(float(x), float(y)) for x, y in points]
    if kind == "line":
        draw.line(xy, fill=1, width=width)
    else:
        getattr(draw, kind)(xy, outline=1, fill=1)
    return np.asarray(canvas).astype(bool)


def coco_masks() -> Any:
    """Returns `pycocotools.mask`, which draws polygons and runs as COCO and CVAT do."""
    try:
        from pycocotools import mask
    except ImportError:
        raise ImportError(
            'labels of COCO and CVAT are drawn by pycocotools; pip install "keras-psp[labels]".'
        ) from None
    return mask


def coco_polygons(polygons: Sequence[Any], size: Size) -> np.ndarray:
    """Draws the parts of one object, each a list x0, y0, x1, y1 ..., as pycocotools does."""
    masks = coco_masks()
    flat = [checked_points(polygon, 3).ravel().tolist() for polygon in polygons]
    return masks.decode(masks.merge(masks.frPyObjects(flat, *size))).astype(bool)


def coco_runs(counts: Any, size: Size) -> np.ndarray:
    """Decodes COCO's run lengths, a list or compressed text: column by column, zeros first.

    Unlike pycocotools, it refuses lengths that end too early.
    """
    if isinstance(counts, str):
        counts = _decompressed(counts)
    return runs(counts, size[::-1]).T


def _decompressed(text):
    """Decodes the text form of run lengths, see rleToString in cocoapi's maskApi.c.

    A character holds five bits, lowest first, and a flag for more of them; the highest bit of a
    number is its sign. From the fourth on, each is the difference from the one two before.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError("has run lengths that are damaged")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16) << (shift - 4)
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return counts


def runs(counts: Any, size: Size) -> np.ndarray:
    """Decodes run lengths, row by row, of zeros, ones, zeros and so on."""
    try:
        lengths = np.array(counts, np.int64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("has run lengths that aren't numbers") from None
    if lengths.ndim != 1 or (lengths < 0).any() or lengths.sum() != size[0] * size[1]:
        raise ValueError(
            f"has run lengths that don't fill its {size[1]}x{size[0]} pixels; they belong to an "
            "image of another size or are damaged"
        )
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(size)


def ellipse(center: Sequence[float], radii: Sequence[float], angle: float, size: Size) -> Any:
    """Draws a rotated ellipse, with the pixels that are at most half a pixel outside it.

    `center` and `radii` are (x, y); `angle` is clockwise, in degrees.
    """
    rows, columns = np.ogrid[: size[0], : size[1]]
    x, y = columns - center[0], rows - center[1]
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    along, across = x * cosine + y * sine, y * cosine - x * sine
    return (along / (radii[0] + 0.5)) ** 2 + (across / (radii[1] + 0.5)) ** 2 <= 1


def filled_polygon(points: np.ndarray, size: Size) -> np.ndarray:
    """Draws a polygon with integer corners as OpenCV's fillPoly does: even-odd, with outline."""
    height, width = size
    crossings = np.zeros((height, width + 1), np.int32)
    outline = np.zeros(size, bool)
    corners = points.astype(int).tolist()
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        columns, rows = _line(x0, y0, x1, y1)
        inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
        outline[rows[inside], columns[inside]] = True
        if y0 > y1:
            x0, y0, x1, y1 = x1, y1, x0, y0
        rows = np.arange(max(y0, 0), min(y1, height))
        if rows.size:  # the first column right of the edge, or on it
            columns = -((x0 * (y0 - y1) - (rows - y0) * (x1 - x0)) // (y1 - y0))
            np.add.at(crossings, (rows, np.clip(columns, 0, width)), 1)
    return outline | (np.cumsum(crossings, axis=1)[:, :width] % 2 == 1)


def _line(x0, y0, x1, y1):
    """The columns and rows of a line by Bresenham's algorithm, drawn from left to right."""
    if x0 > x1:
        x0, y0, x1, y1 = x1, y1, x0, y0
    wide, high = x1 - x0, abs(y1 - y0)
    step = np.arange(max(wide, high) + 1)
    if not step[-1]:
        return np.array([x0]), np.array([y0])
    down = 1 if y1 > y0 else -1
    # Steps along the other axis; halves are rounded down.
    moves = -((max(wide, high) - 2 * min(wide, high) * step) // (2 * max(wide, high)))
    return (x0 + step, y0 + down * moves) if wide >= high else (x0 + moves, y0 + down * step)


def placed(part: np.ndarray, left: int, top: int, size: Size) -> np.ndarray:
    """Places the mask of a part of the image in one of the whole image."""
    mask = np.zeros(size, bool)
    cut = part[max(0, -top) : max(0, size[0] - top), max(0, -left) : max(0, size[1] - left)]
    mask[max(0, top) :, max(0, left) :][: cut.shape[0], : cut.shape[1]] = cut
    return mask


def mask_from_base64(text: Any) -> np.ndarray:
    """Decodes a small mask: a PNG in base64, which may be compressed by zlib.

    The mask is the alpha channel if there is one, else every value except 0.
    """
    try:
        content = base64.b64decode(text, validate=False)
        if not content.startswith(b"\x89PNG"):
            reader = zlib.decompressobj()
            content = reader.decompress(content, 4 * MAX_PIXELS)
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if image.mode == "P" and "transparency" not in image.info:
                values = np.asarray(image)
            elif image.mode in ("P", "RGB", "RGBA", "LA"):
                values = np.asarray(image.convert("RGBA"))[..., 3 if image.mode != "RGB" else 0]
            else:
                values = np.asarray(image)
    except (binascii.Error, TypeError, ValueError, OSError, zlib.error, SyntaxError) as error:
        raise ValueError(f"has a bitmap that can't be read ({error})") from None
    return values.astype(bool)
