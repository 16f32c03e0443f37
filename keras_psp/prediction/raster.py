"""Large rasters, such as orthophotos: predicted from disk to disk in bounded memory."""

import contextlib
import dataclasses
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from keras_psp.data.bands import (
    TIFF_SUFFIXES,
    check_bands,
    opened_raster,
    pixels_without_data,
    required_rasterio,
)
from keras_psp.files import local_path, locked, read_npz, writing, written_aside
from keras_psp.models.arrays import check_values, warn_of_values
from keras_psp.models.classes import class_names_of, palette_of
from keras_psp.prediction.georeference import Reference, describe_classes, opened_output
from keras_psp.prediction.opening import open_segmenter
from keras_psp.prediction.protocol import Protocol, ProtocolFields
from keras_psp.prediction.segmenter import Segmenter
from keras_psp.prediction.strips import Strips
from keras_psp.progress import Bar
from keras_psp.resume import changed_settings, check_settings, read_record, write_record
from keras_psp.weights.opening import digest

_SETTINGS, _PART = "settings.json", "rows_{:09}.npz"
_TILE = 512  # pixels of the output's tiles
_CACHE = 128  # megabytes of GDAL's cache of tiles
_SAMPLE = 512  # pixels of the reduced image by which the scale of values is checked


@dataclasses.dataclass(frozen=True, eq=False)
class RasterSummary:
    """What `predict_raster` wrote.

    Attributes:
        path: the GeoTIFF.
        height, width: its size in pixels.
        class_shares: (num_classes,) float64, each class' share of the pixels that have data.
    """

    path: Path
    height: int
    width: int
    class_shares: np.ndarray


def is_large_raster(path: Path | None, max_pixels: int) -> bool:
    """Whether a file is a TIFF with more pixels than are read at once."""
    if path is None or path.suffix.lower() not in TIFF_SUFFIXES:
        return False
    with contextlib.suppress(ImportError, ValueError, OSError), opened_raster(path) as raster:
        return raster.width * raster.height > max_pixels
    return False  # reported when it is read as an image


def at_own_size(segmenter: Segmenter, given: Any, name: str) -> Segmenter:
    """Drops the model's own base size if `given` is "auto", and reports this on stderr."""
    base_size = segmenter.protocol.base_size
    if given != "auto" or base_size is None:
        return segmenter
    print(
        f"{name}: is predicted at its own size instead of the model's base_size={base_size}",
        file=sys.stderr,
    )
    return Segmenter(segmenter.model, dataclasses.replace(segmenter.protocol, base_size=None))


def predict_raster(
    source: str | os.PathLike,
    output: str | os.PathLike,
    model: Any = None,
    *,
    force: bool = False,
    progress: bool = True,
    **protocol: Unpack[ProtocolFields],
) -> RasterSummary:
    """Predicts the classes of a TIFF of any size, and writes them as a GeoTIFF.

    The raster is read, predicted and written by rows of windows, so that memory grows with its
    width but not with its height. The classes are those of the whole image, without seams. The
    output is tiled and compressed, and has the input's coordinate reference system and transform,
    the class colors, and the class names as the tag "class_names".

    Pixels without data, by the file's nodata value, mask or alpha band, get the largest value of
    the output's type, 255 or 65535, which is declared as its nodata value. There, the network sees
    the mean if values are float32 or int16, and otherwise the nodata value, e.g. black.

    Finished rows are kept in a hidden folder next to the output, and the same call resumes after
    an interruption. The output doesn't exist until all rows are finished.

    Args:
        source: the TIFF, with the network's bands. An additional alpha band is used as a mask. For
            an RGB network, values must be uint8.
        output: the GeoTIFF to write.
        model: see `keras_psp.predict`; or a `Segmenter`, which has its own protocol.
        force: replace an existing output, and finished rows with other settings.
        progress: show a progress bar on stderr.
        protocol: fields of `Protocol`: crop, which is required, overlap, flip and batch_size. The
            base size "auto" is the raster's own size.

    Raises:
        ImportError: if rasterio isn't installed.
        FileExistsError: if the output exists and `force` is False.
        ValueError: if the source or the protocol isn't suitable, or finished rows were predicted
            with other settings.

    Example:
        predict_raster("ortho.tif", "classes.tif", "runs/fields", crop=473)
    """
    source, output = local_path("source", source), local_path("output", output)
    required_rasterio(str(source))
    if output.exists() and not force:
        raise FileExistsError(f"{output} exists; choose another output, or give force=True.")
    if output.exists() and output.resolve() == source.resolve():
        raise ValueError(f"{output} is the source; choose another output.")
    segmenter = model
    if isinstance(model, Segmenter) and protocol:
        raise ValueError(
            "the model is a Segmenter, which has its own protocol; make it with "
            f"{', '.join(protocol)} instead."
        )
    if not isinstance(model, Segmenter):
        segmenter = open_segmenter(model, Protocol(**protocol))
        segmenter = at_own_size(segmenter, protocol.get("base_size", "auto"), source.name)
    import rasterio

    with rasterio.Env(GDAL_CACHEMAX=_CACHE), opened_raster(source) as raster:
        reader = _Reader(raster, str(source), segmenter)
        strips = Strips(segmenter, raster.height, raster.width, reader.rows)
        status = source.stat()
        settings = {
            "source": source.name,
            "size in bytes": status.st_size,
            "modified": status.st_mtime_ns,
            "weights": digest(segmenter.model),
            **segmenter.protocol.settings,
        }
        with _opened_parts(output, settings, raster.width, force=force) as parts:
            if parts.end and progress:
                print(f"{output}: resuming after row {parts.end}", file=sys.stderr)
            _predict(strips, reader, parts, f"Predicting {source.name}", progress)
            shares = _assemble(parts, output, raster, reader, segmenter.model)
            parts.remove()
    return RasterSummary(output, raster.height, raster.width, shares)


def _predict(strips, reader, parts, title, progress):
    done = strips.windows * parts.end // strips.height
    with Bar(title, strips.windows, completed=done, shown=progress) as bar:
        if parts.end == strips.height:
            return
        for first, classes, finished in strips.classes(parts.end):
            missing = reader.missing(first, first + len(classes))
            if missing is not None:
                classes[missing] = reader.nodata
            parts.add(first, classes)
            bar.update(finished)


class _Reader:
    """Rows of a raster as the network takes them."""

    def __init__(self, raster, name, segmenter):
        self._raster, channels = raster, segmenter.model.input_channels
        alpha = [c.name == "alpha" for c in raster.colorinterp]
        self._bands = list(raster.indexes)
        if len(self._bands) == channels + 1 and alpha[-1] and sum(alpha) == 1:
            del self._bands[-1]
        check_bands(len(self._bands), raster.dtypes[0], channels, name)
        if channels == 3 and raster.dtypes[0] != "uint8":
            raise ValueError(
                f"{name}: has values of type {raster.dtypes[0]}, but large RGB rasters must be "
                "uint8; convert it, e.g. with gdal_translate -ot Byte -scale."
            )
        self.dtype = "uint8" if segmenter.model.num_classes <= 255 else "uint16"
        if segmenter.model.num_classes == 256:
            raise ValueError(
                "the network has 256 classes, which leave no value for pixels without data; "
                "predict smaller images with keras_psp.predict."
            )
        self.nodata = int(np.iinfo(self.dtype).max)
        self.has_mask = any(
            all(flag.name != "all_valid" for flag in flags) for flags in raster.mask_flag_enums
        )
        self._name, self._mean = name, segmenter._mean
        height, width = (min(side, _SAMPLE) for side in raster.shape)
        shape = len(self._bands), height, width
        sample = self._filled(raster.read(self._bands, out_shape=shape))
        check_values(segmenter.model, sample[None], warn_of_values)

    def rows(self, first: int, last: int) -> np.ndarray:
        """Rows of the image, (last - first, width, channels)."""
        rasterio = required_rasterio(self._name)
        try:
            pixels = self._raster.read(self._bands, window=self._window(first, last))
        except rasterio.errors.RasterioError as error:
            raise ValueError(
                f"{self._name}: rows {first} to {last} can't be read ({error}); copy it again."
            ) from error
        pixels = self._filled(pixels)
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
            raise ValueError(
                f"{self._name}: rows {first} to {last} have values that are NaN or infinite; "
                "declare them as the file's nodata value, or write a number there."
            )
        return pixels

    def _filled(self, pixels):
        """Pixels (bands, rows, columns) as (rows, columns, bands), with the mean for nodata."""
        pixels = np.moveaxis(pixels, 0, -1)
        absent = pixels_without_data(pixels, self._raster.nodata)
        return pixels if absent is None else np.where(absent, self._mean, pixels)

    def missing(self, first: int, last: int) -> np.ndarray | None:
        """Which pixels have no data, (last - first, width) bool; None if all have data."""
        if not self.has_mask:
            return None
        return self._raster.dataset_mask(window=self._window(first, last)) == 0

    def _window(self, first, last):
        return (first, last), (0, self._raster.width)


@contextlib.contextmanager
def _opened_parts(output, settings, width, *, force):
    """Locks the folder of an output's finished rows, and yields those with these settings."""
    folder = output.with_name(f".{output.name}.parts")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock") as has_lock:
        if has_lock is False:
            raise ValueError(
                f"{folder}: another process is predicting into this output; wait for it, or "
                "choose another output."
            )
        path = folder / _SETTINGS
        remedy = f"remove the folder {folder} to begin again, or give force=True"
        if path.exists() and not force:
            stored = read_record(path, remedy)
            check_settings(stored, settings, contents=f"{folder} has rows", remedy=remedy)
        elif path.exists():
            changed = True
            with contextlib.suppress(ValueError):
                changed = bool(changed_settings(read_record(path, remedy), settings))
            for file in folder.glob("rows_*.npz") if changed else ():
                file.unlink()
        write_record(path, settings)
        yield _Parts(folder, width)


class _Parts:
    """Finished rows of classes, in files that are complete or absent at any moment."""

    def __init__(self, folder, width):
        self._folder, self._width = folder, width
        self.files: list[tuple[int, Path]] = []
        self.end = 0  # the row after the last one that is finished
        self._find()

    def _find(self):
        """Finds the finished rows, from the first one up to a gap."""
        while (path := self._folder / _PART.format(self.end)).exists():
            try:
                classes = self._read(path)
            except ValueError as error:
                print(f"{error}; it and the rows after it are predicted again", file=sys.stderr)
                return
            self.files.append((self.end, path))
            self.end += len(classes)

    def _read(self, path):
        classes = read_npz(path)["classes"]
        if classes.ndim != 2 or classes.shape[1] != self._width or not len(classes):
            raise ValueError(f"{path} is damaged (shape {classes.shape})")
        return classes

    def add(self, first: int, classes: np.ndarray) -> None:
        """Writes rows that begin where the earlier ones end."""
        path = self._folder / _PART.format(first)
        with writing(path), written_aside(path) as draft, draft.open("wb") as file:
            np.savez_compressed(file, classes=classes)
        self.files.append((first, path))
        self.end = first + len(classes)

    def tiles(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yields (first row, classes) for one row of the output's tiles at a time."""
        waiting = np.empty((0, self._width), np.uint8)
        top = 0
        for _, path in self.files:
            classes = self._read(path)
            waiting = np.concatenate([waiting.astype(classes.dtype), classes])
            while len(waiting) >= _TILE:
                yield top, waiting[:_TILE]
                waiting, top = waiting[_TILE:], top + _TILE
        if len(waiting):
            yield top, waiting

    def remove(self) -> None:
        """Removes the folder, once the output is written."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _assemble(parts, output, raster, reader, network):
    """Writes the GeoTIFF and returns the class shares."""
    profile = {
        "height": raster.height,
        "width": raster.width,
        "dtype": reader.dtype,
        "nodata": reader.nodata if reader.has_mask else None,
        **Reference.of(raster).profile,
        "tiled": True,
        "blockxsize": _TILE,
        "blockysize": _TILE,
    }
    counts = np.zeros(network.num_classes, np.int64)
    with (
        writing(output),
        written_aside(output) as draft,
        opened_output(draft, profile) as file,
    ):
        describe_classes(file, class_names_of(network), palette_of(network))
        for top, classes in parts.tiles():
            window = (top, top + len(classes)), (0, raster.width)
            file.write(classes.astype(reader.dtype), 1, window=window)
            counts += np.bincount(classes.ravel(), minlength=65536)[: len(counts)]
    return counts / max(counts.sum(), 1)
