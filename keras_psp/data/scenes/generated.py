"""Generated scenes: small outdoor images with per-pixel labels, made on the fly.

They show what the pyramid pooling module is for. Each mistake of a network that lacks context
(PSPNet paper, section 3.1) is built in:

* Mismatched relationships: the same hull is a `boat` in an image with water and a `car` in an
  image with a road. It is on bare ground that extends about the hull's size beyond it, so that
  only the rest of the image tells them apart.
* Confusion categories: the same tower is a `building` where the distant skyline is a village and
  a `skyscraper` where it is a city. The skyline never touches the tower.
* Inconspicuous classes: persons and poles are a few pixels wide.

Pixels at the border of two labels, and sometimes a small patch, are labeled `IGNORE_CLASS`, as
in PASCAL VOC.
"""

import operator
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np

from keras_psp.arguments import checked_choice, checked_integer, checked_pair
from keras_psp.data.scenes.camera import camera_image, with_void
from keras_psp.data.scenes.classes import CLASS_NAMES, IGNORE_CLASS, PALETTE
from keras_psp.data.scenes.layout import ATTEMPTS, LEAST_SURFACE_SHARE, draw_layout
from keras_psp.data.scenes.noise import random_stream
from keras_psp.data.scenes.painting import SKYLINES, SURFACES, paint_scene
from keras_psp.progress import in_threads

if TYPE_CHECKING:
    import tensorflow as tf

SMALLEST_SIDE, LARGEST_SIDE = 48, 512
_LONG_WORK = 8e6  # pixels, which take a few seconds


def scene(
    seed: int,
    *,
    image_size: tuple[int, int] = (128, 128),
    surface: Literal["water", "road"] | None = None,
    skyline: Literal["village", "city"] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Generates an image and its labels; the same arguments always give the same pixels.

    With `surface` or `skyline`, the same scene can be generated in both of its contexts: layout,
    light, all objects and the noise of the camera depend on the seed alone. Only the pixels of
    the surface itself change, and the hulls, whose pixels stay equal, are boats or cars.

    Args:
        seed: at least 0.
        image_size: (height, width) in pixels, each from 48 to 512.
        surface: what is on the ground: with "water", hulls are boats; with "road", cars. None
            chooses one by the seed.
        skyline: what is on the horizon: with "village", towers are buildings; with "city",
            skyscrapers. None chooses one by the seed.

    Returns:
        The image, (height, width, 3) uint8 RGB, and the mask, (height, width) uint8 with indices
        into `CLASS_NAMES` or `IGNORE_CLASS`.

    Raises:
        ValueError: if an argument is invalid.

    Example:
        beside_water, mask = keras_psp.data.scenes.scene(26, surface="water")
        beside_road, _ = keras_psp.data.scenes.scene(26, surface="road")
    """
    seed = checked_integer("seed", seed, least=0)
    coin = random_stream(seed, "kinds")
    by_seed = ("water", "road")[coin.integers(2)], ("village", "city")[coin.integers(2)]
    kinds: dict[str, str] = {
        "surface": checked_choice("surface", surface, (*SURFACES, None)) or by_seed[0],
        "skyline": checked_choice("skyline", skyline, (*SKYLINES, None)) or by_seed[1],
    }
    height, width = _checked_size(image_size)
    # Only the context can decide, by construction: the layout, the light, all objects and the
    # camera depend on the seed alone. Only the pixels of the surface, the same ones for both kinds,
    # or those of the skyline depend on their kind.
    for attempt in range(ATTEMPTS + 1):
        layout = draw_layout(seed, height=height, width=width, attempt=attempt)
        if layout is None:
            continue
        canvas = paint_scene(seed, layout, **kinds)
        rng = random_stream(seed, "camera")
        mask = with_void(rng, canvas)
        # Trees, for example, may cover what the layout left free.
        shown = np.mean(mask == SURFACES[kinds["surface"]][0])
        if not layout.hulls or shown >= LEAST_SURFACE_SHARE:
            break
    return camera_image(rng, canvas), mask


class GeneratedScenes:
    """A source of generated scenes, with the same interface as a folder of images.

    Args:
        seed: sources with different seeds have different images.
        image_size: (height, width) in pixels, each from 48 to 512.
        counts: images per split; by default 1200 train, 200 val and 300 test. The n-th image
            of a split doesn't depend on the counts.

    Example:
        ```python
        source = keras_psp.data.GeneratedScenes(counts={"train": 8})
        images, masks = source.arrays("train")  # (8, 128, 128, 3) and (8, 128, 128)
        ```
    """

    class_names = CLASS_NAMES
    palette = PALETTE
    ignore_class = IGNORE_CLASS
    num_classes = len(CLASS_NAMES)

    def __init__(
        self,
        *,
        seed: int = 0,
        image_size: tuple[int, int] = (128, 128),
        counts: Mapping[str, int] | None = None,
    ):
        if counts is None:
            counts = {"train": 1200, "val": 200, "test": 300}
        if not counts:
            raise ValueError(f"counts is {counts!r}; it must name at least one split.")
        self.seed = checked_integer("seed", seed, least=0)
        self.image_size = _checked_size(image_size)
        self.counts = {
            split: checked_integer(f"counts[{split!r}]", count, least=1)
            for split, count in counts.items()
        }
        self.splits: tuple[str, ...] = tuple(counts)

    def count(self, split: str) -> int:
        """Returns the number of images in the split."""
        if split not in self.counts:
            raise ValueError(
                f"Split {split!r} is unknown; this source has {', '.join(self.counts)}."
            )
        return self.counts[split]

    def scene_seed(self, split: str, index: int) -> int:
        """Returns the seed from which `scene` makes an image, different for all images."""
        return int.from_bytes(f"{self.seed}/{split}/{index}".encode(), "big")

    def arrays(self, split: str, *, progress: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """Generates all images of a split, with a progress bar on stderr if it takes long.

        Returns:
            Images, (count, height, width, 3) uint8, and masks, (count, height, width) uint8.
        """
        count = self.count(split)
        height, width = self.image_size
        images = np.empty((count, height, width, 3), np.uint8)
        masks = np.empty((count, height, width), np.uint8)

        def make(index):
            seed = self.scene_seed(split, index)
            images[index], masks[index] = scene(seed, image_size=self.image_size)

        # Threads help because NumPy releases the lock: by a factor of 1.4 on two cores at
        # 128x128, and 1.8 at 256x256. They slow down small images. Processes would each have
        # to import Keras first.
        threads = min(4, os.cpu_count() or 1) if height * width >= 96 * 96 else 1
        bar = progress and count * height * width >= _LONG_WORK
        title = f"Generating {split}"
        for _ in in_threads(make, range(count), title, progress=bar, threads=threads):
            pass
        return images, masks

    def examples(self, split: str) -> "tf.data.Dataset":
        """Returns the split as a `tf.data.Dataset` in memory.

        Elements: image (height, width, 3) uint8 and mask (height, width) uint8.
        """
        import tensorflow as tf

        return tf.data.Dataset.from_tensor_slices(self.arrays(split))


def _checked_size(image_size):
    """Returns (height, width) as Python integers, or raises a ValueError."""
    return checked_pair(
        "image_size",
        image_size,
        image_size,
        operator.index,
        lambda *sides: SMALLEST_SIDE <= min(sides) <= max(sides) <= LARGEST_SIDE,
        f"two integers from {SMALLEST_SIDE} to {LARGEST_SIDE}, (height, width)",
    )
