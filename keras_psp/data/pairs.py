"""Pairs of image and label files: what all sources of examples on disk share."""

import contextlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_psp.arguments import checked_integer
from keras_psp.data.bands import bands_size, read_bands
from keras_psp.data.division import Pair, split_parts
from keras_psp.data.images import MAX_PIXELS, image_size, read_image
from keras_psp.data.label_files import check_size, ranges, read_mask
from keras_psp.data.python_calls import map_python
from keras_psp.data.report import checked
from keras_psp.files import printable
from keras_psp.palette import checked_palette, default_palette
from keras_psp.progress import in_threads

if TYPE_CHECKING:
    import tensorflow as tf


class ImagePairs:
    """Splits of (image, label) files.

    Args:
        pairs: the (image, label) paths of each split. The labels are None in a split whose labels
            aren't published.
        class_names: names in index order.
        palette: (num_classes, 3), RGB 0 to 255; `default_palette` if not given.
        ignore_class: label of pixels that don't count, 0 to 255.
        lookup: maps each value that may be in the files to its class index or
            `ignore_class`; by default the values are class indices.
        read_label: function that reads a path as (height, width) uint8, the values in the file;
            by default `keras_psp.data.label_files.read_mask`.
        title: what messages call the source.
        channels: number of bands of the images; 3 is RGB, and images with any other number are
            read by `keras_psp.data.bands.read_bands`.

    Attributes:
        ignore_class, channels: as given.
        splits: names that `split` arguments can take.
        title: what messages and reports call the source.
        skipped: (image path, reason) of the examples that `check` left out.

    Example:
        ```python
        pairs = {"train": [("a.jpg", "a.png"), ("b.jpg", "b.png")]}
        source = keras_psp.data.ImagePairs(pairs, class_names=("road", "other"))
        ```
    """

    def __init__(
        self,
        pairs: Mapping[str, Sequence[Pair]],
        *,
        class_names: Sequence[str] = (),
        palette: Sequence | np.ndarray | None = None,
        ignore_class: int = 255,
        lookup: Mapping[int, int] | None = None,
        read_label: Callable[[Path], np.ndarray] | None = None,
        title: str | os.PathLike = "the source",
        channels: int = 3,
    ):
        self.channels = checked_integer("channels", channels, least=1)
        self.ignore_class = checked_integer("ignore_class", ignore_class, least=0, most=255)
        self.splits: tuple[str, ...] = tuple(pairs)
        self.skipped: list[tuple[Path, str]] = []
        self._pairs: dict[str, list[Pair]] = {split: list(part) for split, part in pairs.items()}
        self._joined: dict[str, list[Pair]] = {}
        self._sizes: dict[str, list[tuple[int, int]]] = {}
        self._names = tuple(class_names)
        self._palette = palette
        self._lookup: np.ndarray | None = None
        if lookup is not None:
            # The class of each value, and -1 for values that don't occur.
            self._lookup = np.full(256, -1, np.int16)
            for value, index in lookup.items():
                self._lookup[checked_integer("label value", value, least=0, most=255)] = index
        self.read_label: Callable[[Path], np.ndarray] = read_label or read_mask
        self.title = self._title = str(title)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names in index order."""
        return self._names

    @property
    def classes_are_named(self) -> bool:
        """Whether the number of classes is known without reading labels."""
        return True

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @cached_property
    def image_dtype(self) -> str:
        """NumPy name of the images' dtype, that of the first image; see `bands.DTYPES`."""
        if self.channels == 3:
            return "uint8"
        for image, _ in (pair for split in self.splits for pair in self._pairs_of(split)):
            with contextlib.suppress(ValueError, OSError):  # reported by `check` and `example`
                return self.read_image(image).dtype.name
        return "uint8"

    @cached_property
    def palette(self) -> np.ndarray:
        """(num_classes, 3) uint8, RGB."""
        if self._palette is None:
            return default_palette(self.num_classes)
        palette = checked_palette(self._palette)
        if len(palette) != self.num_classes:
            raise ValueError(
                f"palette has {len(palette)} colors but there are {self.num_classes} classes; "
                "it needs one color per class."
            )
        return palette

    @property
    def label_values(self) -> tuple[int, ...]:
        """The smallest value of each class in the files, which results are written with."""
        if self._lookup is None:
            return tuple(range(self.num_classes))
        return tuple(int(np.argmax(self._lookup == index)) for index in range(self.num_classes))

    def paths(self, split: str) -> list[Pair]:
        """Returns the (image, label) paths of the split; unpublished labels are None.

        They are sorted by name, or in the order of the list that defines the split. A name such
        as "2*train+train_extra" joins splits in this order, each as often as it says.
        """
        if split in self._joined:
            return self._joined[split]
        parts = split_parts(split)
        for part in parts:
            if part not in self.splits:
                raise self._absent(part)
            if not self._pairs_of(part):
                raise ValueError(f"Split {part!r} of {self._title} is empty: {self._why_empty()}")
        if parts == [split]:
            return self._pairs_of(split)
        self._joined[split] = [pair for part in parts for pair in self._pairs_of(part)]
        return self._joined[split]

    def count(self, split: str) -> int:
        """Returns the number of examples in the split."""
        return len(self.paths(split))

    def labeled(self, split: str) -> bool:
        """Whether the split has labels; a benchmark's test split may have none."""
        return all(label is not None for _, label in self.paths(split))

    def sizes(self, split: str) -> list[tuple[int, int]]:
        """Returns (height, width) of each image of the split, from the files' headers."""
        if split not in self._sizes:
            images = [image for image, _ in self.paths(split)]
            size = image_size if self.channels == 3 else bands_size
            self._sizes[split] = list(in_threads(size, images, "", progress=False))
        return self._sizes[split]

    def image(self, split: str, index: int) -> np.ndarray:
        """Reads an image, which needs no label.

        Returns:
            (height, width, channels): uint8 RGB for 3 channels, otherwise what
            `keras_psp.data.bands.read_bands` returns.
        """
        return self.read_image(self.paths(split)[index][0])

    def read_image(self, path: Any, *, name: str | None = None, **options: Any) -> np.ndarray:
        """Reads an image, given its path or content, with the bands of the source."""
        if self.channels == 3:
            return read_image(path, name=name, max_pixels=2 * MAX_PIXELS, **options)
        return read_bands(path, self.channels, name=name, max_pixels=2 * MAX_PIXELS)

    def example(self, split: str, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Reads an example from its files and checks it.

        Returns:
            The image as from `image`, and the mask, (height, width) uint8 with class indices or
            `ignore_class`.
        """
        image, label = self.paths(split)[index]
        if label is None:
            self._require_labels(split)
        return self._read(image, label)

    def examples(self, split: str) -> "tf.data.Dataset":
        """Returns the split as a dataset, in the order of `paths`, decoded in parallel.

        Elements: image (height, width, channels) of `image_dtype` and mask (height, width) uint8.
        """
        self._require_labels(split)
        return self._dataset(split, self.example, (None, None, self.channels), (None, None))

    def images(self, split: str) -> "tf.data.Dataset":
        """Returns the images as a dataset, in the order of `paths`; they need no labels.

        Elements: (height, width, channels) of `image_dtype`.
        """
        return self._dataset(split, self.image, (None, None, self.channels))

    def arrays(self, split: str, *, progress: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """Reads all examples of a split whose images have the same size.

        Returns:
            Images, (count, height, width, channels) of `image_dtype`, and masks, (count, height,
            width) uint8.
        """
        self._require_labels(split)
        pairs = self.paths(split)
        sizes = self.sizes(split)
        for (image, _), size in zip(pairs, sizes, strict=True):
            if size != sizes[0]:
                raise ValueError(
                    f"{image}: image is {size[1]}x{size[0]} but {pairs[0][0].name} is "
                    f"{sizes[0][1]}x{sizes[0][0]}; arrays() needs images of one size, "
                    "use examples()."
                )
        images = np.empty((len(pairs), *sizes[0], self.channels), self.image_dtype)
        masks = np.empty((len(pairs), *sizes[0]), np.uint8)

        def fill(index):
            images[index], masks[index] = self._read(*pairs[index])

        for _ in in_threads(fill, range(len(pairs)), f"Reading {split}", progress=progress):
            pass
        return images, masks

    def check(self, split: str | None = None, *, progress: bool = True, skip: bool = False) -> int:
        """Reads every file now, so that a faulty one doesn't stop training later.

        Prints on stderr what is unusual, for instance classes that never occur; see
        `keras_psp.data.examine` for a whole report.

        Args:
            split: one of `splits`; every split by default.
            progress: show a progress bar on stderr.
            skip: leave faulty examples out of the source from now on, and report them on
                stderr; `skipped` has the reasons.

        Returns:
            The number of examples without a fault.

        Raises:
            ValueError: without `skip`, about the first faulty file, with the number of others;
                and without `split`, if the labels of the training split can't be trained on, for
                instance because they contain a single class.
        """
        splits = self._whole() if split is None else (split,)
        train_split = None if split else "train" if "train" in splits else splits[0]
        report = checked(self, splits, train_split=train_split, skip=skip, progress=progress)
        return report.count

    def leave_out(self, faults: Mapping[str, str], total: int) -> None:
        """Leaves out images from now on, given reasons by path, and reports them on stderr."""
        if not faults:
            return
        for split, pairs in self._pairs.items():
            self._pairs[split] = [pair for pair in pairs if str(pair[0]) not in faults]
        self._joined.clear()
        self._sizes.clear()
        self.skipped += [(Path(image), reason) for image, reason in faults.items()]
        lines = [f"{self._title}: left out {len(faults)} of {total} examples with a fault:"]
        lines += [f"    {reason}" for _, reason in self.skipped[-len(faults) :][:3]]
        if len(faults) > 3:
            lines.append(f"    and {len(faults) - 3} more, which `keras-psp check` lists")
        print(printable("\n".join(lines)), file=sys.stderr)

    def _read(self, image_path, label_path):
        image = self.read_image(image_path)
        self.check_dtype(image.dtype.name, image_path)
        values = self.read_label(label_path)
        check_size(values, image, label_path)
        return image, self.to_classes(values, label_path)

    def check_dtype(self, dtype: str, origin: Any) -> None:
        """Raises ValueError if an image's values have another type than the first image's."""
        if dtype != self.image_dtype:
            raise ValueError(
                f"{origin}: has values of type {dtype}, but the first image has "
                f"{self.image_dtype}; convert all images to one type."
            )

    def to_classes(self, values: np.ndarray, origin: str | os.PathLike) -> np.ndarray:
        """Converts (height, width) uint8 values in a file to class indices or `ignore_class`.

        Unknown values raise a ValueError that names their `origin`.
        """
        if self._lookup is not None:
            mask = self._lookup[values]
            if mask.min(initial=0) < 0:
                known = ranges(np.flatnonzero(self._lookup >= 0))
                raise ValueError(
                    f"{origin}: label value {values[mask < 0][0]} doesn't occur in {self._title} "
                    f"({known}); the file belongs to another data set or version, or was already "
                    "converted."
                )
            return mask.astype(np.uint8)
        occurring = np.flatnonzero(np.bincount(values.ravel(), minlength=256))
        wrong = occurring[(occurring >= self.num_classes) & (occurring != self.ignore_class)]
        if wrong.size:
            raise ValueError(
                f"{origin}: label value {wrong[0]} is neither a class (0 to "
                f"{self.num_classes - 1}) nor ignore_class ({self.ignore_class}); "
                f"correct the file, name all classes, or {self._value_remedy(wrong[0])}"
            )
        return values

    def _pairs_of(self, split):
        return self._pairs[split]

    def _whole(self):
        """Splits that together contain every example."""
        return self.splits

    def _absent(self, split):
        return ValueError(
            f"Split {split!r} is unknown; {self._title} has {', '.join(self.splits)}."
        )

    def _why_empty(self):
        first = f"; the first, {self.skipped[0][1]}" if self.skipped else "."
        return f"every example was left out because of a fault{first}"

    def _value_remedy(self, value):
        return "set ignore_class."

    def _require_labels(self, split):
        if not self.labeled(split):
            raise ValueError(
                f"Split {split!r} of {self._title} has no labels because its benchmark keeps them "
                "private; read its images with image() or images(), or choose another split."
            )

    def _dataset(self, split, read, *shapes):
        import tensorflow as tf

        indices = tf.data.Dataset.range(self.count(split))
        examples = map_python(
            indices,
            lambda index: read(split, int(index)),
            *shapes,
            image_dtype=self.image_dtype,
        )
        return examples.prefetch(tf.data.AUTOTUNE)


def matched(
    images: Mapping[str, Path],
    labels: Mapping[str, Path],
    *,
    image_folder: Path,
    label_at: tuple[Path, str],
    complete: bool = True,
) -> list[Pair]:
    """Pairs images and labels of the same name, sorted by name.

    An image without a label, or a label without an image, is an error, or is left out if not
    `complete`. `image_folder` and `label_at`, a folder and an ending, are where its message says
    that files belong.
    """
    for name in sorted(images.keys() ^ labels.keys()) if complete else ():
        if name in images:
            label = f"{label_at[0] / name}{label_at[1]}"
            raise ValueError(
                f"{images[name]}: image has no label; add {label} or remove the image."
            )
        raise ValueError(
            f"{labels[name]}: label has no image; add {name} to {image_folder} or remove the label."
        )
    return [(images[name], labels[name]) for name in sorted(images.keys() & labels.keys())]
