"""Georeferences of images, and class maps written as GeoTIFFs with them."""

import contextlib
import dataclasses
import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_psp.data.bands import TIFF_SUFFIXES, opened_raster, required_rasterio


@dataclasses.dataclass(frozen=True)
class Reference:
    """The coordinate reference system and the transform of a raster, as rasterio objects."""

    crs: Any
    transform: Any

    @classmethod
    def of(cls, raster: Any) -> "Reference":
        """Returns that of an open rasterio dataset; its fields are None if there is none."""
        return cls(raster.crs, None if raster.transform.is_identity else raster.transform)

    @property
    def profile(self) -> dict[str, Any]:
        """Options for rasterio to write a compressed GeoTIFF with one band."""
        return {
            "driver": "GTiff",
            "count": 1,
            "compress": "deflate",
            "bigtiff": "if_safer",
            "crs": self.crs,
            "transform": self.transform,
        }


def reference_of(path: Path | None) -> Reference | None:
    """Returns the reference of a TIFF; None for other files, and where rasterio isn't installed."""
    if path is None or path.suffix.lower() not in TIFF_SUFFIXES:
        return None
    with contextlib.suppress(ImportError, ValueError, OSError), opened_raster(path) as raster:
        reference = Reference.of(raster)
        return None if reference == Reference(None, None) else reference
    return None


def write_classes(
    path: Path,
    classes: np.ndarray,
    reference: Reference,
    class_names: Sequence[str],
    palette: np.ndarray,
) -> None:
    """Writes a class map, (height, width), as a GeoTIFF with a reference."""
    height, width = classes.shape
    profile = {"height": height, "width": width, "dtype": classes.dtype, **reference.profile}
    with opened_output(path, profile) as file:
        describe_classes(file, class_names, palette)
        file.write(classes, 1)


@contextlib.contextmanager
def opened_output(path: Path, profile: dict[str, Any]) -> Iterator[Any]:
    """Opens a GeoTIFF for writing; it need not be georeferenced."""
    rasterio = required_rasterio(str(path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", **profile) as file:
            yield file


def describe_classes(file: Any, class_names: Sequence[str], palette: np.ndarray) -> None:
    """Adds the names and colors of classes to an open GeoTIFF, before its pixels."""
    if len(palette) <= 256:
        colors = {index: (*color, 255) for index, color in enumerate(palette.tolist())}
        file.write_colormap(1, colors)
    file.update_tags(class_names=json.dumps(list(class_names), ensure_ascii=False))
