"""Images and label files in pairs: what every source of examples on disk shares."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_psp.arguments import checked_integer
from keras_psp.data.python_calls import until_exit
from keras_psp.palette import checked_palette, default_palette
from keras_psp.progress import in_threads

if TYPE_CHECKING:
    import tensorflow as tf
from keras_psp.data.label_files import read_mask, read_training_image, stored_size

Pair = tuple[Path, Path | None]
"""An image and its label file, or None where the labels aren't published."""


class ImagePairs:
    """Splits of (image, label) files.

    Args:
        pairs: for each split its (image, label) paths; a label of None for every
            example of a split whose labels aren't published.
        class_names: in index order.
        palette: (num_classes, 3), RGB 0 to 255; `default_palette` if not given.
        ignore_class: label of pixels that don't count, 0 to 255.
        lookup: for each value that may be in the files the class index or
            `ignore_class`; by default values are class indices already.
        read_label: from a path to (height, width) uint8, the values in the file.
        title: what messages call the source.

    Attributes:
        class_names: tuple of str.
        palette: (num_classes, 3) uint8.
        num_classes: number of classes.
        ignore_class: as given.
        splits: names that `split` arguments can take.
        label_values: the (smallest) value that each class has in the files, which results
            for a benchmark's server must be written with.
        skipped: (image path, reason) of the examples that `check` left out.
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
    ):
        if (
            isinstance(ignore_class, bool)
            or not isinstance(ignore_class, (int, np.integer))
            or not 0 <= ignore_class <= 255
        ):
            raise ValueError(
                f"ignore_class is {ignore_class!r}; it must be an integer from 0 to 255."
            )
        self.ignore_class = int(ignore_class)
        self.splits: tuple[str, ...] = tuple(pairs)
        self.skipped: list[tuple[Path, str]] = []
        self._pairs: dict[str, list[Pair]] = {split: list(part) for split, part in pairs.items()}
        self._sizes: dict[str, list[tuple[int, int]]] = {}
        self._names = tuple(class_names)
        self._palette = palette
        self._lookup = None if lookup is None else _table(lookup)
        self._read_label = read_label or read_mask
        self._title = str(title)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._names

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @cached_property
    def palette(self) -> np.ndarray:
        return self._colours()

    def _colours(self):
        if self._palette is None:
            return default_palette(self.num_classes)
        palette = checked_palette(self._palette)
        if len(palette) != self.num_classes:
            raise ValueError(
                f"palette has {len(palette)} colours but there are "
                f"{self.num_classes} classes; it needs one colour each."
            )
        return palette

    @property
    def label_values(self) -> tuple[int, ...]:
        if self._lookup is None:
            return tuple(range(self.num_classes))
        return tuple(int(np.argmax(self._lookup == index)) for index in range(self.num_classes))

    def paths(self, split: str) -> list[Pair]:
        """(image, label) paths of the split; the label is None where it isn't published.

        Sorted by name, or in the order of the list that the split is defined by.
        """
        if split not in self.splits:
            raise ValueError(
                f"Split {split!r} is unknown; {self._title} has {', '.join(self.splits)}."
                + self._why_absent(split)
            )
        pairs = self._found(split)
        if not pairs:
            raise ValueError(f"Split {split!r} of {self._title} is empty: {self._why_empty()}")
        return pairs

    def count(self, split: str) -> int:
        """Number of examples in the split."""
        return len(self.paths(split))

    def labeled(self, split: str) -> bool:
        """Whether the split has labels; a benchmark's test split may have none."""
        return self.paths(split)[0][1] is not None

    def sizes(self, split: str) -> list[tuple[int, int]]:
        """(height, width) of each image of the split, from the file headers."""
        if split not in self._sizes:
            images = [image for image, _ in self.paths(split)]
            self._sizes[split] = list(in_threads(stored_size, images, "", progress=False))
        return self._sizes[split]

    def image(self, split: str, index: int) -> np.ndarray:
        """One image, (height, width, 3) uint8 RGB, with or without labels."""
        return read_training_image(self.paths(split)[index][0])

    def example(self, split: str, index: int) -> tuple[np.ndarray, np.ndarray]:
        """One checked example, read from its files.

        Returns:
            The image, (height, width, 3) uint8 RGB, and the mask, (height, width)
            uint8 with class indices or `ignore_class`.

        Raises:
            ValueError: a file is at fault, or the split has no labels.
        """
        image, label = self.paths(split)[index]
        if label is None:
            self._demand_labels(split)
        return self._read(image, label)

    def examples(self, split: str) -> "tf.data.Dataset":
        """The split as a dataset, in the order of `paths`, decoded in parallel.

        Elements: image (height, width, 3) uint8 RGB and mask (height, width) uint8.
        """
        import tensorflow as tf

        self._demand_labels(split)

        def read(index):
            image, mask = tf.numpy_function(
                until_exit(lambda i: self.example(split, int(i))),
                [index],
                [tf.uint8, tf.uint8],
                stateful=False,
            )
            return tf.ensure_shape(image, (None, None, 3)), tf.ensure_shape(mask, (None, None))

        return self._dataset(split, read)

    def images(self, split: str) -> "tf.data.Dataset":
        """The images alone, in the order of `paths`; also of splits without labels.

        Elements: (height, width, 3) uint8 RGB.
        """
        import tensorflow as tf

        def read(index):
            image = tf.numpy_function(
                until_exit(lambda i: self.image(split, int(i))),
                [index],
                tf.uint8,
                stateful=False,
            )
            return tf.ensure_shape(image, (None, None, 3))

        return self._dataset(split, read)

    def arrays(self, split: str, *, progress: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """All examples of a split whose images have one size.

        Args:
            split: one of `splits`.
            progress: show a progress bar on stderr.

        Returns:
            Images, (count, height, width, 3) uint8, and masks, (count, height,
            width) uint8.
        """
        self._demand_labels(split)
        pairs = self.paths(split)
        sizes = self.sizes(split)
        for (image, _), size in zip(pairs, sizes, strict=True):
            if size != sizes[0]:
                raise ValueError(
                    f"{image}: image is {size[1]}x{size[0]} but {pairs[0][0].name} is "
                    f"{sizes[0][1]}x{sizes[0][0]}; arrays need one size, "
                    "use examples()."
                )
        images = np.empty((len(pairs), *sizes[0], 3), np.uint8)
        masks = np.empty((len(pairs), *sizes[0]), np.uint8)

        def fill(index):
            images[index], masks[index] = self._read(*pairs[index])

        for _ in in_threads(fill, range(len(pairs)), f"Reading {split}", progress=progress):
            pass
        return images, masks

    def check(self, split: str | None = None, *, progress: bool = True, skip: bool = False) -> int:
        """Read every file now, so that no bad one stops a training run later.

        Args:
            split: one of `splits`; every split by default.
            progress: show a progress bar on stderr.
            skip: leave examples with a fault out of the source from now on, and say so
                in one line on stderr; `skipped` has their reasons.

        Returns:
            The number of examples, all of them good.

        Raises:
            ValueError: without `skip` the first fault, with its file, and the number of
                others.
        """
        return self._checked(split, progress, skip)[0]

    def _checked(self, split, progress, skip):
        """The number of good examples, and the set of classes in their labels."""
        splits = self._whole() if split is None else (split,)
        pairs = list(dict.fromkeys(pair for name in splits for pair in self.paths(name)))
        _ = self.num_classes  # may read the labels: once, not in each thread

        def examined(pair):
            try:
                if pair[1] is None:
                    read_training_image(pair[0])
                    return None, ()
                _, mask = self._read(*pair)
            except ValueError as error:
                return str(error), ()
            return None, np.flatnonzero(np.bincount(mask.ravel())).tolist()

        results = list(in_threads(examined, pairs, "Checking", progress=progress))
        faults = {
            image: fault for (image, _), (fault, _) in zip(pairs, results, strict=True) if fault
        }
        if faults and not skip:
            others = f" ({len(faults) - 1} more like it.)" if len(faults) > 1 else ""
            raise ValueError(next(iter(faults.values())) + others)
        if faults:
            self._leave_out(faults, len(pairs))
        classes = {value for _, values in results for value in values} - {self.ignore_class}
        return len(pairs) - len(faults), classes

    def _leave_out(self, faults, total):
        for split, pairs in self._pairs.items():
            self._pairs[split] = [pair for pair in pairs if pair[0] not in faults]
        self._sizes.clear()
        self.skipped += faults.items()
        first = ", ".join(path.name for path in list(faults)[:3])
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        print(
            f"{self._title}: left out {len(faults)} of {total} examples with a fault: "
            f"{first}{more}; source.skipped has the reasons.",
            file=sys.stderr,
        )

    def _read(self, image_path, label_path):
        image = read_training_image(image_path)
        values = self._read_label(label_path)
        if values.shape != image.shape[:2]:
            raise ValueError(
                f"{label_path}: mask is {values.shape[1]}x{values.shape[0]} but its image "
                f"is {image.shape[1]}x{image.shape[0]}; masks must have their image's "
                "size."
            )
        return image, self.to_classes(values, label_path)

    def to_classes(self, values: np.ndarray, origin: str | os.PathLike) -> np.ndarray:
        """Class indices for the values in a file, or a ValueError that names it.

        Args:
            values: (height, width) uint8, as in the file.
            origin: the file.

        Returns:
            (height, width) uint8, class indices or `ignore_class`.
        """
        if self._lookup is not None:
            mask = self._lookup[values]
            if mask.min(initial=0) < 0:
                raise ValueError(
                    f"{origin}: label value {values[mask < 0][0]} is none of {self._title} "
                    f"({ranges(np.flatnonzero(self._lookup >= 0))}); the file belongs to another "
                    "set or version, or was converted already."
                )
            return mask.astype(np.uint8)
        occurring = np.flatnonzero(np.bincount(values.ravel(), minlength=256))
        wrong = occurring[(occurring >= self.num_classes) & (occurring != self.ignore_class)]
        if wrong.size:
            raise ValueError(
                f"{origin}: label value {wrong[0]} is neither a class (0 to "
                f"{self.num_classes - 1}) nor ignore_class ({self.ignore_class}); "
                "correct the file, name all classes, or set ignore_class."
            )
        return values

    def _found(self, split):
        return self._pairs[split]

    def _whole(self):
        """Splits that together hold every example."""
        return self.splits

    def _why_absent(self, split):
        return ""

    def _why_empty(self):
        return "check(skip=True) left out every example; see source.skipped."

    def _demand_labels(self, split):
        if not self.labeled(split):
            raise ValueError(
                f"Split {split!r} of {self._title} has no labels, its benchmark keeps them; read "
                "its pictures with image() or images(), or choose another split."
            )

    def _dataset(self, split, read):
        import tensorflow as tf

        return (
            tf.data.Dataset.range(self.count(split))
            .map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
            .prefetch(tf.data.AUTOTUNE)
        )


class Split(Sequence):
    """One split of a source as a sequence of its examples.

    `split[i]` is (image, mask): (height, width, 3) uint8 RGB and (height, width) uint8
    with class indices or `ignore_class`. Where the split has no labels the mask is None.

    Args:
        source: a source with `example(split, index)`, as `ImagePairs`.
        name: one of `source.splits`.

    Attributes:
        source, name: as given.
        class_names, palette, ignore_class, num_classes: the source's.
    """

    def __init__(self, source, name: str):
        source.count(name)  # an unknown or empty split is heard of here
        self.source = source
        self.name = name
        self.class_names: tuple[str, ...] = source.class_names
        self.palette: np.ndarray = source.palette
        self.ignore_class: int = source.ignore_class
        self.num_classes: int = source.num_classes

    def __len__(self) -> int:
        return self.source.count(self.name)

    def __getitem__(self, index):
        position = range(len(self))[index]
        if isinstance(position, range):
            return [self[i] for i in position]
        if not self.labeled:
            return self.source.image(self.name, position), None
        if not hasattr(self.source, "example"):
            raise TypeError(
                f"{type(self.source).__name__} can't be read in any order; use examples()."
            )
        return self.source.example(self.name, position)

    def __iter__(self) -> Iterator:
        if self.labeled and not hasattr(self.source, "example"):
            return iter(self.examples().as_numpy_iterator())
        return super().__iter__()

    def __repr__(self) -> str:
        return f"<Split {self.name!r}: {len(self)} examples, {self.num_classes} classes>"

    @property
    def labeled(self) -> bool:
        """Whether there are masks."""
        return not hasattr(self.source, "labeled") or self.source.labeled(self.name)

    def count(self, value):
        raise TypeError(
            f"a Split is no source; give its .source and split={self.name!r}, or len() for the "
            "number of examples."
        )

    def paths(self) -> list[Pair]:
        """(image, label) paths, where the examples are files."""
        if not hasattr(self.source, "paths"):
            raise TypeError(
                f"{type(self.source).__name__} doesn't keep its examples in files of their own; "
                "use examples()."
            )
        return self.source.paths(self.name)

    def examples(self) -> "tf.data.Dataset":
        """The examples as a tf.data dataset, in order."""
        return self.source.examples(self.name)


def matched(
    images: Mapping[str, Path],
    labels: Mapping[str, Path],
    *,
    image_home: Path,
    label_at: Callable[[str], Path],
    complete: bool = True,
) -> list[Pair]:
    """Pairs of images and labels of the same name, sorted by it.

    Args:
        images, labels: paths by name.
        image_home: the folder where an image would be added.
        label_at: from a name to where its label belongs.
        complete: whether one without the other is a fault, or left out.
    """
    for name in sorted(images.keys() ^ labels.keys()) if complete else ():
        if name in images:
            raise ValueError(
                f"{images[name]}: image has no label; add {label_at(name)} or remove the image."
            )
        raise ValueError(
            f"{labels[name]}: label has no image; add {name} to {image_home} or remove the label."
        )
    return [(images[name], labels[name]) for name in sorted(images.keys() & labels.keys())]


def _table(lookup):
    """(256,) int16: the class of each value, -1 for those that don't occur."""
    table = np.full(256, -1, np.int16)
    for value, index in lookup.items():
        table[checked_integer("label value", value, least=0)] = index
    return table


def ranges(values):
    """`0 to 10, 12, 14 to 20` for sorted integers."""
    parts = np.split(values, np.flatnonzero(np.diff(values) > 1) + 1)
    return ", ".join(f"{p[0]} to {p[-1]}" if len(p) > 1 else str(p[0]) for p in parts)
