"""Makes a camera image and an annotator's mask from a painted scene."""

import numpy as np

from keras_psp.data.scenes.classes import IGNORE_CLASS
from keras_psp.data.scenes.painting import Canvas


def with_void(rng: np.random.Generator, canvas: Canvas) -> np.ndarray:
    """Returns the mask with borders, and in every fourth image small patches, as void.

    Its draws from `rng` don't depend on the kinds of surface and skyline.
    """
    mask, layer = canvas.mask.copy(), canvas.layer
    height, width = mask.shape
    for _ in range(max(1, round(canvas.unit / 192))):
        before = mask.copy()
        for axis in (0, 1):
            first = (slice(None),) * axis + (slice(None, -1),)
            second = (slice(None),) * axis + (slice(1, None),)
            differ = before[first] != before[second]
            nearer = layer[second] > layer[first]
            mask[first][differ & nearer] = IGNORE_CLASS
            mask[second][differ & ~nearer] = IGNORE_CLASS
    for _ in range(rng.integers(1, 4) if rng.random() < 0.25 else 0):
        size = rng.uniform(0.02, 0.06, 2) * canvas.unit
        y, x = rng.uniform(0, 1, 2) * (height, width)
        (rows, columns), _, _ = canvas.window(x, y, x + size[0] + 1, y + size[1] + 1)
        mask[rows, columns] = IGNORE_CLASS
    return mask


def camera_image(rng: np.random.Generator, canvas: Canvas) -> np.ndarray:
    """Adds exposure, color temperature, vignetting, blur and noise; (height, width, 3) uint8."""
    image = canvas.image
    height, width = canvas.mask.shape
    warm = rng.uniform(-0.08, 0.08)
    gain = rng.uniform(0.9, 1.25) * np.array([1 + warm, 1, 1 - warm], np.float32)
    rows = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    columns = np.linspace(-1, 1, width, dtype=np.float32)[None]
    fall = 1 - rng.uniform(0, 0.16) * (rows**2 + columns**2)
    fall = fall + rng.uniform(-0.06, 0.06) * columns
    image = image * (fall[..., None] * gain.astype(np.float32))
    side = np.float32(rng.uniform(0.04, 0.24))
    for _ in range(max(1, round(canvas.unit / 192))):
        image[1:-1] += side * (image[2:] + image[:-2] - 2 * image[1:-1])
        image[:, 1:-1] += side * (image[:, 2:] + image[:, :-2] - 2 * image[:, 1:-1])
    noise = rng.standard_normal(image.shape, np.float32)
    noise *= np.float32(rng.uniform(0.004, 0.025))
    # Similar to the rounding of the means of JPEG's blocks.
    blocks = rng.normal(0, 0.005, (height // 8 + 1, width // 8 + 1)).astype(np.float32)
    noise += blocks.repeat(8, 0).repeat(8, 1)[:height, :width, None]
    image += noise
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
