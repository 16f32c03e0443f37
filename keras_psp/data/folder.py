"""A folder of images and labels as a source of examples."""

import hashlib
import os
from collections.abc import Sequence

import numpy as np

from keras_psp.data.class_files import NamedByFiles
from keras_psp.data.images import IMAGE_SUFFIXES
from keras_psp.data.label_files import by_stem
from keras_psp.data.pairs import matched

SPLITS = ("train", "val", "test")


class ImageFolder(NamedByFiles):
    """Images and their per-pixel labels in a folder.

    The folder either has splits, any of the three:

        root/train/images/NAME.jpg    root/train/labels/NAME.png
        root/val/...                  root/test/...

    or is flat, with `root/images` and `root/labels`. A flat folder is one split, "all". Its
    "train", "val" and "test" are 80, 10 and 10 % of it: the names are ordered by
    the SHA-256 of "keras_psp/NAME" (without suffix) and cut, so that the same names
    give the same splits everywhere. With 3 examples or more, none of them is empty.

    Images are files of any of `keras_psp.data.images.IMAGE_SUFFIXES`; see
    `keras_psp.data.images.read_image` for how they become RGB of 8 bits.

    Labels are grayscale or palette PNGs with one number per pixel. The *indices* into the
    palette are the classes; its colors have no meaning. 16-bit grayscale is accepted if the
    values fit 8 bits. See `NamedByFiles` for class names and colors.

    Args:
        root: the folder.
        ignore_class: label value of pixels that don't count, 0 to 255.
        class_names: names in index order.
        palette: (num_classes, 3), RGB 0 to 255.

    Example:
        ```python
        source = keras_psp.data.ImageFolder("aerial", class_names=("road", "roof", "tree"))
        source.check()
        image, mask = source.example("train", 0)
        ```
    """

    def __init__(
        self,
        root: str | os.PathLike,
        *,
        ignore_class: int = 255,
        class_names: Sequence[str] | None = None,
        palette: Sequence | np.ndarray | None = None,
    ):
        super().__init__(root, ignore_class=ignore_class, class_names=class_names, palette=palette)
        divided = tuple(s for s in SPLITS if (self.root / s / "images").is_dir())
        self._flat = not divided
        if self._flat and not (self.root / "images").is_dir():
            raise ValueError(
                f"{self.root}: has neither images/ nor any of train/images/, val/images/ and "
                "test/images/; put images into images/ and their labels into labels/, one .png "
                "of the same name each."
            )
        self._set_splits(("all", *SPLITS) if self._flat else divided)

    def _pairs_of(self, split):
        if split not in self._pairs:
            pairs = _pairs_in(self.root if self._flat else self.root / split)
            self._pairs |= {"all": pairs, **_divided(pairs)} if self._flat else {split: pairs}
        return self._pairs[split]

    def _whole(self):
        return ("all",) if self._flat else self.splits

    def _why_empty(self):
        if not self._flat or self.skipped:
            return super()._why_empty()
        return (
            f"{len(self._pairs['all'])} example(s) are too few to divide; use split='all' or "
            "add images."
        )


def _pairs_in(folder):
    """Returns the (image, label) paths of a folder with images/ and labels/."""
    images, labels = folder / "images", folder / "labels"
    if not labels.is_dir():
        raise ValueError(f"{labels}: no such folder; it must hold one .png per image.")
    paths = by_stem(images, IMAGE_SUFFIXES)
    if not paths:
        raise ValueError(
            f"{images}: no images in this folder; files must end in {', '.join(IMAGE_SUFFIXES)}."
        )
    return matched(
        paths, by_stem(labels, (".png",)), image_folder=images, label_at=(labels, ".png")
    )


def _divided(pairs):
    """Divides pairs into 80, 10 and 10 %, by the hash of their names."""
    order = sorted(
        pairs, key=lambda pair: hashlib.sha256(f"keras_psp/{pair[0].stem}".encode()).digest()
    )
    tenth = max(1, round(len(pairs) / 10)) if len(pairs) >= 3 else 0
    cut = len(pairs) - 2 * tenth
    train, val, test = order[:cut], order[cut : cut + tenth], order[cut + tenth :]
    return {"train": sorted(train), "val": sorted(val), "test": sorted(test)}
