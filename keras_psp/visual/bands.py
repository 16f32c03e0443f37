"""Shows images with any bands as RGB."""

import numpy as np

_PERCENTILES = 2, 98


def viewable(image: np.ndarray) -> np.ndarray:
    """Returns an image that a screen can show, whatever its bands are.

    Three bands are RGB 0 to 255, rounded and clipped. With more bands, the first three are shown
    as red, green and blue; with one or two, the first is shown as gray. These are unchanged if
    they are uint8, otherwise each is stretched from the 2nd to the 98th percentile of the image.

    Args:
        image: (height, width, bands).

    Returns:
        (height, width, 3) uint8, RGB.

    Raises:
        ValueError: if the image has another shape.
    """
    image = np.asarray(image)
    if image.ndim != 3 or 0 in image.shape:
        raise ValueError(
            f"image has shape {image.shape}; it must be (height, width, bands), e.g. 3 for RGB."
        )
    bands = image.shape[2]
    shown = image[..., :3] if bands >= 3 else np.repeat(image[..., :1], 3, axis=-1)
    if image.dtype == np.uint8:
        return shown
    shown = shown.astype(np.float64)
    if bands != 3:
        low, high = np.percentile(shown, _PERCENTILES, axis=(0, 1))
        shown = (shown - low) * (255 / np.where(high > low, high - low, 1.0))
    return np.rint(np.clip(shown, 0, 255)).astype(np.uint8)
