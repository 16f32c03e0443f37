"""TIFFs of several bands, and miniature data sets of them; rasterio is needed."""

import warnings

import numpy as np
from PIL import Image

CRS = "EPSG:32632"
"""UTM zone 32 north, in meters."""


def write_raster(path, values, *, crs=None, origin=(500_000.0, 5_400_000.0), pixel=0.2, **profile):
    """Writes (height, width, bands) as a GeoTIFF; with `crs`, its pixels have `pixel` meters."""
    import rasterio
    from rasterio.transform import from_origin

    height, width, bands = values.shape
    profile = {"driver": "GTiff", "height": height, "width": width, "count": bands, **profile}
    if crs is not None:
        profile |= {"crs": crs, "transform": from_origin(*origin, pixel, pixel)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", dtype=values.dtype, **profile) as file:
            file.write(np.moveaxis(values, -1, 0))
    return path


def band_image(size, channels, dtype="uint8", seed=0):
    """An image and its mask of two classes, which the last band tells apart."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(size, np.uint8)
    mask[size[0] // 4 : size[0] // 2 + 2 * (seed % 5), size[1] // 3 :] = 1
    top = {"uint8": 255, "uint16": 9000, "int16": 4000, "float32": 1.0}[dtype]
    image = rng.uniform(0.1, 0.4, (*size, channels))
    image[..., -1] += 0.4 * mask
    return (top * image).astype(dtype), mask


def band_folder(root, channels, dtype="uint8", *, counts=None, size=(64, 80), suffix=".tif"):
    """A folder for `ImageFolder`: train and val, with TIFFs, or gray PNGs of one band."""
    seed = 0
    for split, count in (counts or {"train": 4, "val": 2}).items():
        for folder in ("images", "labels"):
            (root / split / folder).mkdir(parents=True)
        for _ in range(count):
            image, mask = band_image(size, channels, dtype, seed)
            path = root / split / "images" / f"{split}{seed}{suffix}"
            if suffix == ".png":
                Image.fromarray(image[..., 0]).save(path)
            else:
                write_raster(path, image)
            Image.fromarray(mask).save(root / split / "labels" / f"{split}{seed}.png")
            seed += 1
    (root / "classes.txt").write_text("ground\ntree\n")
    return root
