"""Generated scenes: small outdoor pictures with per-pixel labels, made on the spot.

The default data set of the package: nothing to download, no licence to read,
and the same pixels for the same seed. It exists to show what the pyramid
pooling module is for. Section 3.1 of the PSPNet paper lists the mistakes of a
network that lacks context: mismatched relationships (a boat on a river called a
car), confusion categories (building, skyscraper) and inconspicuous classes.
Here they are built in:

* The same hull is a `boat` in a picture with water and a `car` in a picture
  with a road. It stands on bare ground that reaches about the hull's own size
  beyond it; only the rest of the picture tells.
* The same tower is a `building` where the distant skyline is a village and a
  `skyscraper` where it is a city. The skyline never touches the tower.
* Persons and poles are a few pixels wide.

That context alone decides holds by construction: a layout (`_plan`) is drawn
without knowing the kind of surface or of skyline. The two kinds of surface fill
the same pixels, so pictures that differ in nothing else are equal, pixel for
pixel, up to the edge of the water or the road (see `_compose`).

Pixels at the border of two labels, and now and then a small patch, are labelled
`IGNORE_CLASS`, as in PASCAL VOC.
"""

import operator
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from keras_psp.arguments import checked_integer
from keras_psp.progress import in_threads

if TYPE_CHECKING:
    import tensorflow as tf
from keras_psp.data.scenes.classes import CLASS_NAMES, IGNORE_CLASS, PALETTE
from keras_psp.data.scenes.layout import _ATTEMPTS, LEAST_SURFACE_SHARE, _plan
from keras_psp.data.scenes.noise import _rng
from keras_psp.data.scenes.painting import SURFACES, _paint, _photograph, _with_void

SMALLEST_SIDE, LARGEST_SIDE = 48, 512

_LONG_WORK = 8e6  # pixels: a few seconds


def scene(seed: int, *, image_size: tuple[int, int] = (128, 128)) -> tuple[np.ndarray, np.ndarray]:
    """One picture and its labels, a pure function of the arguments.

    Args:
        seed: any integer >= 0.
        image_size: (height, width) in pixels, each from 48 to 512.

    Returns:
        The image, (height, width, 3) uint8 RGB, and the mask, (height, width)
        uint8 with indices into `CLASS_NAMES` or `IGNORE_CLASS`.
    """
    seed = checked_integer("seed", seed, least=0)
    height, width = _checked_size(image_size)
    coin = _rng(seed, "kinds")
    surface = ("water", "road")[coin.integers(2)]
    skyline = ("village", "city")[coin.integers(2)]
    return _compose(seed, image_size=(height, width), surface=surface, skyline=skyline)


class GeneratedScenes:
    """Splits of generated scenes, a source of examples like a folder of images.

    Args:
        seed: pictures of two different seeds are different draws.
        image_size: (height, width) in pixels, each from 48 to 512.
        counts: pictures per split; 1200 train, 200 val and 300 test by default.
            A split's n-th picture doesn't depend on the counts.
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

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.counts)

    def count(self, split: str) -> int:
        """Number of pictures in the split."""
        if split not in self.counts:
            raise ValueError(
                f"Split {split!r} is unknown; this source has {', '.join(self.counts)}."
            )
        return self.counts[split]

    def scene_seed(self, split: str, index: int) -> int:
        """The seed that `scene` makes the split's picture number `index` from.

        The text is the number, so no two splits, nor sources of different seed,
        can ever share one.
        """
        return int.from_bytes(f"{self.seed}/{split}/{index}".encode(), "big")

    def arrays(self, split: str, *, progress: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """All pictures of a split, made now.

        Args:
            split: one of `splits`.
            progress: show a progress bar on stderr if the work is long.

        Returns:
            Images, (count, height, width, 3) uint8, and masks, (count, height,
            width) uint8.
        """
        count = self.count(split)
        height, width = self.image_size
        images = np.empty((count, height, width, 3), np.uint8)
        masks = np.empty((count, height, width), np.uint8)

        def make(index):
            images[index], masks[index] = scene(
                self.scene_seed(split, index), image_size=self.image_size
            )

        # Threads, since numpy releases the lock while it works: a gain of 1.4 with
        # two cores at 128x128 and 1.8 at 256x256. Small pictures would lose, and
        # processes would first import Keras once more each.
        threads = min(4, os.cpu_count() or 1) if height * width >= 96 * 96 else 1
        bar = progress and count * height * width >= _LONG_WORK
        title = f"Generating {split}"
        for _ in in_threads(make, range(count), title, progress=bar, threads=threads):
            pass
        return images, masks

    def examples(self, split: str) -> "tf.data.Dataset":
        """The split as a dataset of (image, mask), held in memory.

        Elements: image (height, width, 3) uint8 and mask (height, width) uint8.
        """
        import tensorflow as tf

        return tf.data.Dataset.from_tensor_slices(self.arrays(split))


def _checked_size(image_size):
    """(height, width) as Python integers, or a ValueError."""
    try:
        height, width = (operator.index(side) for side in image_size)
    except (TypeError, ValueError):
        raise ValueError(
            f"image_size is {image_size!r}; it must be two integers, (height, width)."
        ) from None
    if not all(SMALLEST_SIDE <= side <= LARGEST_SIDE for side in (height, width)):
        raise ValueError(
            f"image_size is {height}x{width} (height x width); both must be from "
            f"{SMALLEST_SIDE} to {LARGEST_SIDE} pixels."
        )
    return height, width


# --- Randomness and noise -----------------------------------------------------


# --- The layout: where things are, before anything is known of the kinds -------


# --- Painting -------------------------------------------------------------------


def _compose(seed, *, image_size, surface, skyline):
    """A picture of forced kinds: `surface` water or road, `skyline` village or
    city.

    The layout, the light, all objects and the camera are those of the seed.
    Only the pixels of the surface, or those of the skyline, know the kind.
    """
    height, width = image_size
    for attempt in range(_ATTEMPTS + 1):
        plan = _plan(seed, height=height, width=width, attempt=attempt)
        if plan is None:
            continue
        canvas = _paint(seed, plan, surface=surface, skyline=skyline)
        rng = _rng(seed, "camera")
        mask = _with_void(rng, canvas)
        # Trees and the like may have covered what the layout left free.
        shown = np.mean(mask == SURFACES[surface][0])
        if not plan.hulls or shown >= LEAST_SURFACE_SHARE:
            break
    return _photograph(rng, canvas), mask


# --- The camera and the annotator -----------------------------------------------
