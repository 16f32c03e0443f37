"""Images with bands other than RGB: gray, RGB with near infrared, depth, multispectral.

Values are those of the file, in its own type: uint8, uint16, int16 or float32. Nothing is scaled
or clipped; the network normalizes each band by the mean and standard deviation of its training
images, see `keras_psp.data.statistics`.
"""

import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from keras_psp.data import images as readers

DTYPES = ("uint8", "uint16", "int16", "float32")
"""Supported types of values."""

TIFF_SUFFIXES = (".tif", ".tiff")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two are BigTIFF
# Pillow's modes that are bands as they are, and the number of bands.
_MODES = {"L": 1, "I;16": 1, "I;16B": 1, "I;16L": 1, "F": 1, "RGB": 3, "RGBA": 4, "RGBX": 4}


def channels_of(source: Any) -> int:
    """Returns the number of bands in a source's images; 3, RGB, unless it says otherwise."""
    return getattr(source, "channels", 3)


def image_dtype_of(source: Any) -> str:
    """Returns the NumPy name of a source's image dtype; "uint8" unless it says otherwise."""
    return getattr(source, "image_dtype", "uint8")


def read_bands(
    source: Any,
    channels: int,
    *,
    max_pixels: int = readers.MAX_PIXELS,
    name: str | None = None,
) -> np.ndarray:
    """Reads an image of any number of bands, with the values in the file.

    TIFFs are read by rasterio; all others are read by Pillow and turned upright. If `channels` is
    1, RGB with three equal bands is accepted as well, as in gray images saved as JPEG.

    Args:
        source: as for `keras_psp.data.images.read_image`.
        channels: number of bands that the image must have.
        max_pixels, name: as for `read_image`.

    Returns:
        (height, width, channels), of one of `DTYPES`.

    Raises:
        ImportError: if a TIFF is to be read and rasterio isn't installed.
        ValueError: if the image has another number of bands, another type of values, or values
            that are NaN or infinite, or can't be read.
    """
    name = name or ("the array" if isinstance(source, np.ndarray) else readers.source_name(source))
    if isinstance(source, np.ndarray):
        values = source[..., None] if source.ndim == 2 else source
        if values.ndim != 3:
            raise ValueError(
                f"{name} has shape {source.shape}; it must be (height, width, {channels})."
            )
    elif isinstance(source, Image.Image):
        values = _pillow_values(source, name, max_pixels)
    else:
        content = readers.content_of(source, name)
        if content.startswith(_TIFF):
            values = _raster_values(content, name, channels, max_pixels)
        else:
            with readers._opened(io.BytesIO(content), name) as image:
                values = _pillow_values(image, name, max_pixels)
    if channels == 1 and values.shape[2] == 3 and (values == values[..., :1]).all():
        values = values[..., :1]
    check_bands(values.shape[2], values.dtype, channels, name)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError(
            f"{name}: has values that are NaN or infinite; write a number there, or leave it out."
        )
    return values


def check_bands(count: int, dtype: Any, channels: int, name: str) -> None:
    """Raises ValueError if an image has another number of bands, or an unsupported type."""
    if count != channels:
        bands = "band" if count == 1 else "bands"
        gray = ", or convert it to gray" if (count, channels) == (3, 1) else ""
        raise ValueError(
            f"{name}: has {count} {bands} but {channels} {'is' if channels == 1 else 'are'} "
            f"expected; give channels={count} for all images, or save a file with the intended "
            f"bands{gray}."
        )
    if np.dtype(dtype).name not in DTYPES:
        raise ValueError(
            f"{name}: has values of type {np.dtype(dtype).name}; convert them to one of "
            f"{', '.join(DTYPES)}."
        )


def _pillow_values(image, name, max_pixels):
    readers._check_size(name, image.width, image.height, max_pixels)
    mode = "I;16" if image.mode == "I" and image.format == "PNG" else image.mode
    stored = readers.raw_mode(image)
    if mode not in _MODES or (stored.endswith(("16B", "16L", "16N")) and mode == "RGB"):
        what = f"{stored} in Pillow's mode {mode}" if stored else f"Pillow's mode {mode}"
        raise ValueError(
            f"{name}: can't be read as bands ({what}); save it as a TIFF, or as a PNG of mode L, "
            "RGB, RGBA or 16-bit gray."
        )
    try:
        _, turn = readers.loaded(image)
        values = np.asarray(image if turn is None else image.transpose(turn))
    except Exception as error:  # Pillow raises a dozen types on broken files
        reason = readers.error_reason(name, error)
        raise ValueError(f"{name}: is broken ({reason}); copy or download it again.") from error
    if mode.startswith("I;16"):
        values = values.astype(np.uint16)
    return values[..., None] if values.ndim == 2 else values


def _raster_values(content, name, channels, max_pixels):
    rasterio = required_rasterio(name)
    with rasterio.MemoryFile(content) as file, opened_raster(file.name, name) as raster:
        readers._check_size(name, raster.width, raster.height, max_pixels)
        check_bands(raster.count, raster.dtypes[0], channels, name)
        try:
            values = np.moveaxis(raster.read(), 0, -1)
        except rasterio.errors.RasterioError as error:
            raise _broken(name, error) from error
        if pixels_without_data(values, raster.nodata) is not None:
            raise ValueError(
                f"{name}: has pixels without data, whose value is {raster.nodata:g}; write an "
                "ordinary value there, e.g. the band's mean, and ignore them in the label."
            )
        return values


def pixels_without_data(values: np.ndarray, nodata: float | None) -> np.ndarray | None:
    """Returns a bool array that is True at the file's nodata value; None if there are none.

    It is also None for unsigned types, where the nodata value is often an ordinary one, e.g. black.
    """
    if nodata is None or values.dtype.kind == "u":
        return None
    absent = np.isnan(values) if np.isnan(nodata) else values == nodata
    return absent if absent.any() else None


def required_rasterio(name: str) -> Any:
    """Returns the module rasterio; the ImportError names the extra."""
    try:
        import rasterio
    except ImportError as error:
        raise ImportError(
            f"{name}: TIFFs with bands other than RGB are read by rasterio, which isn't installed: "
            'pip install "keras-psp[raster]".'
        ) from error
    return rasterio


@contextlib.contextmanager
def opened_raster(path: Any, name: str | None = None) -> Iterator[Any]:
    """Opens a TIFF with rasterio, as a dataset whose bands have one type of values.

    Raises:
        ImportError: if rasterio isn't installed.
        FileNotFoundError: if there is no such file.
        ValueError: if it isn't a TIFF, is broken, has a palette or bands of several types.
    """
    name = name or os.fspath(path)
    rasterio = required_rasterio(name)
    if not str(path).startswith("/vsimem/") and not os.path.exists(path):
        raise FileNotFoundError(f"{name}: there is no such file.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        try:
            # This driver only: others open addresses and further files that the file names.
            raster = rasterio.open(path, driver="GTiff")
        except rasterio.errors.RasterioError as error:
            raise _broken(name, error) from error
    with raster:
        if rasterio.enums.ColorInterp.palette in raster.colorinterp:
            raise ValueError(f"{name}: has a palette; save its colors as bands.")
        if len(set(raster.dtypes)) > 1:
            raise ValueError(
                f"{name}: has bands of types {', '.join(raster.dtypes)}; save all bands with one."
            )
        yield raster


def read_any(source: Any, channels: int, **options: Any) -> np.ndarray:
    """Reads an image with the given number of bands: RGB by `read_image`, others as bands."""
    if channels == 3:
        return readers.read_image(source, **options)
    return read_bands(source, channels, **options)


def _broken(name, error):
    reason = " ".join(str(error).split()).rstrip(".")
    return ValueError(f"{name}: can't be read ({reason}); copy or download it again.")


def bands_size(path: str | os.PathLike) -> tuple[int, int]:
    """Returns (height, width) of a file as `read_bands` reads it, without reading its pixels."""
    if os.fspath(path).lower().endswith(TIFF_SUFFIXES):
        with opened_raster(path) as raster:
            return raster.height, raster.width
    return readers.image_size(path)
