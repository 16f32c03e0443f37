"""A folder of images and labels as a source of examples."""

import glob
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_psp.data import patterns
from keras_psp.data.class_files import NamedByFiles
from keras_psp.data.division import SPLITS, MayBeFlat, divided
from keras_psp.data.images import IMAGE_SUFFIXES
from keras_psp.data.label_files import by_stem
from keras_psp.data.labels.recognition import recognized
from keras_psp.data.pairs import matched


class ImageFolder(MayBeFlat, NamedByFiles):
    """Images and their per-pixel labels in a folder.

    The folder either has splits, at least one of these:

        root/train/images/NAME.jpg    root/train/labels/NAME.png
        root/val/...                  root/test/...

    or is flat, with `root/images` and `root/labels`. A flat folder is one split, "all". Its
    "train", "val" and "test" are 80, 10 and 10 % of it: the names are sorted by
    the SHA-256 of "keras_psp/NAME" (without suffix) and cut, so that the same names
    give the same splits everywhere. With 3 examples or more, none of them is empty.

    Images are files with any of `keras_psp.data.images.IMAGE_SUFFIXES`; see
    `keras_psp.data.images.read_image` for how they become 8-bit RGB.

    Other names and folders are given by patterns:

        images="img/*.jpg", labels="masks/{stem}_mask.png"
        images="**/*.png", labels="truth/**/{name}.png"
        images="{split}/rgb/{id}_rgb.png", labels="{split}/seg/{id}_seg.png"

    `*` matches within a name and `**/` any folders, which the labels then have as well. `{stem}`
    is the image's name without suffix, `{name}` its name with suffix, and any other word in braces
    stands for what it matches in the image's path. The folders that `{split}` matches are the
    splits; without it, the patterns apply to `root`, or to its folders train, val and test.

    Labels are grayscale or palette PNGs with one number per pixel. The *indices* into the
    palette are the classes; its colors have no meaning. 16-bit grayscale is accepted if the
    values fit 8 bits. Labels in RGB are read by the colors in `palette.txt` or `palette`. See
    `NamedByFiles` for class names and colors.

    Args:
        root: the folder.
        images: pattern of the images' paths within the folder.
        labels: pattern of the labels' paths, given the paths of their images.
        label_map: maps values in the labels to class indices or "ignore", e.g. {255: 1} for
            masks of 0 and 255, or {"1-254": 1} for instances. Other values stay as they are.
        ignore_class: label value of pixels that don't count, 0 to 255.
        class_names: names in index order.
        palette: (num_classes, 3), RGB 0 to 255.
        channels: number of bands of the images; 3 is RGB, and images with any other number are
            read by `keras_psp.data.bands.read_bands`.

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
        images: str | None = None,
        labels: str | None = None,
        label_map: Mapping[Any, Any] | None = None,
        ignore_class: int = 255,
        class_names: Sequence[str] | None = None,
        palette: Sequence | np.ndarray | None = None,
        channels: int = 3,
    ):
        super().__init__(
            root,
            ignore_class=ignore_class,
            class_names=class_names,
            palette=palette,
            label_map=label_map,
            channels=channels,
        )
        if images is not None or labels is not None:
            pairs = patterns.pairs_by_pattern(
                self.root,
                patterns.IMAGES if images is None else images,
                patterns.LABELS if labels is None else labels,
            )
            self._flat = tuple(pairs) == ("",)
            if self._flat:
                pairs = divided(pairs[""])
            self._pairs = pairs
            self._set_splits(tuple(pairs))
            return
        parts = tuple(s for s in SPLITS if (self.root / s / "images").is_dir())
        self._flat = not parts
        if self._flat and not (self.root / "images").is_dir():
            raise ValueError(f"{self.root}: {_why_no_images(self.root)}")
        self._set_splits(("all", *SPLITS) if self._flat else parts)

    def _pairs_of(self, split):
        if split not in self._pairs:
            folder = self.root if self._flat else self.root / split
            pairs = _pairs_in(folder, self.root)
            if self._flat:
                self._pairs |= divided(pairs)
            else:
                self._pairs[split] = pairs
        return self._pairs[split]


def _why_no_images(root):
    found = recognized(root)
    if found is None or (found.name == "folder" and not found.options):
        return (
            "has neither images/ nor any of train/images/, val/images/ and test/images/; put "
            "images into images/ and their labels into labels/, one .png of the same name each, "
            "or give patterns, e.g. images='img/*.jpg', labels='masks/{stem}.png'."
        )
    return f"has no images/. {found.how_to_open()}"


def _pairs_in(folder, root):
    """Returns the (image, label) paths of a folder with images/ and labels/."""
    images, labels = folder / "images", folder / "labels"
    if not labels.is_dir():
        found = recognized(root)
        other = f" {found.how_to_open()}" if found and found.options else ""
        raise ValueError(f"{labels}: no such folder; it must hold one .png per image.{other}")
    paths = by_stem(images, IMAGE_SUFFIXES)
    _check_subfolders(images, labels, root)
    if not paths:
        raise ValueError(
            f"{images}: no images in this folder; files must end in {', '.join(IMAGE_SUFFIXES)}."
        )
    masks = by_stem(labels, (".png",))
    for stem in masks.keys() - paths.keys():
        for path in images.glob(f"{glob.escape(stem)}*"):
            if path.is_file() and path.stem == stem:
                raise ValueError(
                    f"{path}: isn't read because its name doesn't end in one of "
                    f"{', '.join(IMAGE_SUFFIXES)}; rename it."
                )
    missing = [paths[stem] for stem in sorted(paths.keys() - masks.keys())]
    if missing:
        inside = [path.relative_to(root).as_posix() for path in missing]
        why = patterns.why_no_label(root, inside, labels / f"{missing[0].stem}.png")
        raise ValueError(f"{missing[0]}: image has no label; {why}.")
    return matched(paths, masks, image_folder=images, label_at=(labels, ".png"))


def _check_subfolders(images, labels, root):
    """Refuses subfolders of images/ that contain images, which would be left out."""
    for path, _ in patterns.image_files(images):
        if "/" not in path:
            continue
        first = images.relative_to(root).as_posix()
        second = labels.relative_to(root).as_posix()
        word = "{split}/" if patterns.split_named(path.split("/")[0]) else "**/"
        values = f"{first}/{word}*", f"{second}/{word}{{stem}}.png"
        raise ValueError(
            f"{images / path}: images in folders within {images} aren't read by default; give "
            f"images={values[0]!r} and labels={values[1]!r}."
        )
