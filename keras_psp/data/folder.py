"""A folder of images and label pictures as a source of examples."""

import hashlib
import os
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from keras_psp.data.progress import in_threads
from keras_psp.visual.palette import checked_palette, default_palette

if TYPE_CHECKING:
    import tensorflow as tf

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
SPLITS = ("train", "val", "test")


class ImageFolder:
    """Images and their per-pixel labels, read from a folder.

    Either with splits, any of the three:

        root/train/images/NAME.jpg    root/train/labels/NAME.png
        root/val/...                  root/test/...

    or flat, `root/images` and `root/labels`. A flat folder is one split, "all". Its
    "train", "val" and "test" are 80, 10 and 10 % of it: the names are ordered by
    the SHA-256 of "keras_psp/NAME" (without suffix) and cut, so that the same names
    give the same split everywhere. From 3 examples on, no part is empty.

    Images are .jpg, .jpeg, .png, .bmp or .webp. Greyscale, palette and CMYK images
    become RGB, transparency is dropped, 16-bit images are refused. EXIF rotation is
    ignored, as label pictures seldom carry it: image and label are taken as stored.

    Labels are PNG with one number per pixel: greyscale, or palette, where the
    palette's *indices* are the classes and its colours mean nothing. (TensorFlow's
    `decode_png` would return the brightness of the colours instead.) 16-bit
    greyscale is accepted as long as the values fit 8 bits.

    Class names come from `class_names`, else from `root/classes.txt` (one name a
    line), else from the names in `root/palette.txt`. Without any of them all labels
    are read once, when first needed (with a bar on stderr), and the largest value
    other than `ignore_class` is the last class. Colours come from `palette`, else from
    `root/palette.txt` (lines `index R G B name`), else from `default_palette`.

    Args:
        root: the folder.
        ignore_class: label value of pixels that don't count, 0 to 255.
        class_names: names in index order.
        palette: (num_classes, 3), RGB 0 to 255.

    Attributes:
        class_names: tuple of str.
        palette: (num_classes, 3) uint8.
        num_classes: number of classes.
        ignore_class: as given.
        splits: names that `split` arguments can take.
    """

    def __init__(
        self,
        root: str | os.PathLike,
        *,
        ignore_class: int = 255,
        class_names: Sequence[str] | None = None,
        palette: Sequence | np.ndarray | None = None,
    ):
        self.root = Path(root)
        if (
            isinstance(ignore_class, bool)
            or not isinstance(ignore_class, (int, np.integer))
            or not 0 <= ignore_class <= 255
        ):
            raise ValueError(
                f"ignore_class is {ignore_class!r}; it must be an integer from 0 to 255."
            )
        self.ignore_class = int(ignore_class)
        self._given_names = class_names
        self._given_palette = palette
        self._class_names: tuple[str, ...] | None = None
        self._lock = threading.Lock()
        self._pairs: dict[str, list[tuple[Path, Path]]] = {}
        self._sizes: dict[str, list[tuple[int, int]]] = {}

        if not self.root.is_dir():
            raise ValueError(f"{self.root}: no such folder.")
        divided = tuple(s for s in SPLITS if (self.root / s / "images").is_dir())
        self._flat = not divided
        if self._flat and not (self.root / "images").is_dir():
            raise ValueError(
                f"{self.root}: neither images/ nor any of train/images/, val/images/ "
                "and test/images/ is here; put pictures into images/ and their labels "
                "into labels/, one .png of the same name each."
            )
        self.splits: tuple[str, ...] = ("all", *SPLITS) if self._flat else divided

        # A wrong text file should be heard of now, not after an hour.
        if self._names_without_labels() is not None:
            _ = self.palette

    @property
    def class_names(self) -> tuple[str, ...]:
        with self._lock:  # examples are read in threads; the labels are scanned once
            if self._class_names is None:
                names = self._names_without_labels()
                if names is None:
                    names = [f"class {i}" for i in range(self._largest_label() + 1)]
                self._class_names = tuple(names)
            return self._class_names

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @cached_property
    def palette(self) -> np.ndarray:
        if self._given_palette is not None:
            palette = checked_palette(self._given_palette)
            if len(palette) != self.num_classes:
                raise ValueError(
                    f"palette has {len(palette)} colours but there are "
                    f"{self.num_classes} classes; it needs one colour each."
                )
            return palette
        if not self._palette_lines:
            return default_palette(self.num_classes)
        path = self.root / "palette.txt"
        for index, name in enumerate(self.class_names):
            if index not in self._palette_lines:
                raise ValueError(
                    f"{path}: no colour for class {index} ({name}); "
                    f"add a line `{index} R G B {name}`."
                )
            listed = self._palette_lines[index][1]
            if self._given_names is None and listed and listed != name:
                raise ValueError(
                    f"{path}: class {index} is called {listed!r} but {name!r} in "
                    "classes.txt; the two files must agree."
                )
        return checked_palette([self._palette_lines[index][0] for index in range(self.num_classes)])

    def paths(self, split: str) -> list[tuple[Path, Path]]:
        """(image, label) paths of the split, sorted by name."""
        if split not in self.splits:
            raise ValueError(
                f"Split {split!r} is unknown; {self.root} has {', '.join(self.splits)}."
            )
        if split not in self._pairs:
            if not self._flat:
                self._pairs[split] = _pairs_in(self.root / split)
            else:
                pairs = _pairs_in(self.root)
                self._pairs = {"all": pairs, **_divided(pairs)}
        pairs = self._pairs[split]
        if not pairs:
            raise ValueError(
                f"Split {split!r} of {self.root} is empty: {len(self._pairs['all'])} "
                "example(s) are too few to divide; use split='all' or add images."
            )
        return pairs

    def count(self, split: str) -> int:
        """Number of examples in the split."""
        return len(self.paths(split))

    def sizes(self, split: str) -> list[tuple[int, int]]:
        """(height, width) of each image of the split, from the file headers."""
        if split not in self._sizes:
            self._sizes[split] = [_image_size(image) for image, _ in self.paths(split)]
        return self._sizes[split]

    def example(self, split: str, index: int) -> tuple[np.ndarray, np.ndarray]:
        """One checked example, read from its files.

        Returns:
            The image, (height, width, 3) uint8 RGB, and the mask, (height, width)
            uint8 with class indices or `ignore_class`.
        """
        return self._read(*self.paths(split)[index])

    def examples(self, split: str) -> "tf.data.Dataset":
        """The split as a dataset, in the order of `paths`, decoded in parallel.

        Elements: image (height, width, 3) uint8 RGB and mask (height, width) uint8.
        """
        import tensorflow as tf

        def read(index):
            image, mask = tf.numpy_function(
                lambda i: self.example(split, int(i)),
                [index],
                [tf.uint8, tf.uint8],
                stateful=False,
            )
            return tf.ensure_shape(image, (None, None, 3)), tf.ensure_shape(mask, (None, None))

        return (
            tf.data.Dataset.range(self.count(split))
            .map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
            .prefetch(tf.data.AUTOTUNE)
        )

    def arrays(self, split: str, *, progress: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """All examples of a split whose images have one size.

        Args:
            split: one of `splits`.
            progress: show a progress bar on stderr.

        Returns:
            Images, (count, height, width, 3) uint8, and masks, (count, height,
            width) uint8.
        """
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

    def check(self, split: str | None = None, *, progress: bool = True) -> int:
        """Read every file now, so that no bad one stops a training run later.

        Args:
            split: one of `splits`; every split by default.
            progress: show a progress bar on stderr.

        Returns:
            The number of examples, all of them good.

        Raises:
            ValueError: the first fault, with its file, and the number of others; or, where
                every split was read, that fewer than two classes occur.
        """
        if split is not None:
            chosen: tuple[str, ...] = (split,)
        else:
            chosen = ("all",) if self._flat else self.splits
        pairs = [pair for name in chosen for pair in self.paths(name)]
        _ = self.num_classes  # may read the labels: once, not in each thread

        def examined(pair):
            try:
                _, mask = self._read(*pair)
            except ValueError as error:
                return str(error), ()
            return None, np.flatnonzero(np.bincount(mask.ravel())).tolist()

        results = list(in_threads(examined, pairs, "Checking", progress=progress))
        found = [fault for fault, _ in results if fault]
        if found:
            others = f" ({len(found) - 1} more like it.)" if len(found) > 1 else ""
            raise ValueError(found[0] + others)
        classes = {value for _, values in results for value in values} - {self.ignore_class}
        if split is None and len(classes) < 2:
            raise ValueError(
                f"{self.root}: the labels hold no two classes, only {sorted(classes)} and the "
                f"ignored {self.ignore_class}; number the classes 0, 1 and so on, or set "
                "ignore_class to another value."
            )
        return len(pairs)

    def _read(self, image_path, mask_path):
        image = read_image(image_path)
        mask = read_mask(mask_path)
        if mask.shape != image.shape[:2]:
            raise ValueError(
                f"{mask_path}: mask is {mask.shape[1]}x{mask.shape[0]} but its image "
                f"is {image.shape[1]}x{image.shape[0]}; masks must have their image's "
                "size."
            )
        occurring = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
        wrong = occurring[(occurring >= self.num_classes) & (occurring != self.ignore_class)]
        if wrong.size:
            raise ValueError(
                f"{mask_path}: label value {wrong[0]} is neither a class (0 to "
                f"{self.num_classes - 1}) nor ignore_class ({self.ignore_class}); "
                "correct the file, name all classes, or set ignore_class."
            )
        return image, mask

    def _names_without_labels(self):
        """Class names from wherever they are written down, or None."""
        path = self.root / "classes.txt"
        if self._given_names is not None:
            origin, names = "class_names", list(self._given_names)
        elif path.is_file():
            lines = _text(path).splitlines()
            origin, names = str(path), [line.strip() for line in lines if line.strip()]
        elif self._palette_lines and all(n for _, n in self._palette_lines.values()):
            origin = str(self.root / "palette.txt")
            lines = {
                index: name
                for index, (_, name) in self._palette_lines.items()
                if index != self.ignore_class
            }
            if sorted(lines) != list(range(len(lines))):
                raise ValueError(
                    f"{origin}: classes are {sorted(lines)}; they must be numbered 0, "
                    "1, 2 and so on without a gap."
                )
            names = [lines[index] for index in sorted(lines)]
        else:
            return None
        if not 1 <= len(names) <= 256:
            raise ValueError(f"{origin}: {len(names)} class names; between 1 and 256 are needed.")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{origin}: class {twice[0]!r} occurs twice; names must differ.")
        return names

    @cached_property
    def _palette_lines(self) -> dict[int, tuple[tuple[int, ...], str]]:
        """Class index -> ((R, G, B), name) of palette.txt; empty without that file."""
        path = self.root / "palette.txt"
        lines = {}
        if path.is_file():
            text = _text(path)
            for number, line in enumerate(text.splitlines(), start=1):
                if not line.strip() or line.lstrip().startswith("#"):
                    continue
                fields = line.split(maxsplit=4)
                try:
                    index, *colour = (int(field) for field in fields[:4])
                    if len(colour) != 3 or not all(0 <= v <= 255 for v in colour):
                        raise ValueError
                except ValueError:
                    raise ValueError(
                        f"{path}, line {number}: {line.strip()!r} isn't "
                        "`index R G B name` with colours from 0 to 255."
                    ) from None
                name = fields[4].strip() if len(fields) > 4 else ""
                lines[index] = (tuple(colour), name)
        return lines

    def _largest_label(self):
        pairs = [p for s in self.splits[: 1 if self._flat else None] for p in self.paths(s)]

        def largest(pair):
            mask = read_mask(pair[1])
            return int(mask[mask != self.ignore_class].astype(np.int16).max(initial=-1))

        found = max(in_threads(largest, pairs, "Counting classes"))
        if found < 0:
            raise ValueError(
                f"{self.root}: every label pixel is ignore_class "
                f"({self.ignore_class}), so there is no class; write the "
                "names into classes.txt."
            )
        return found


def read_image(path: str | os.PathLike) -> np.ndarray:
    """An image file as (height, width, 3) uint8 RGB, as stored (EXIF is ignored)."""
    try:
        with Image.open(path) as image:
            # Pillow keeps the high byte of 16-bit RGB, and says "RGB".
            if image.mode.startswith(("I", "F")) or _raw_mode(image).endswith("16B"):
                raise ValueError(
                    f"{path}: image has mode {image.mode} (more than 8 bits a "
                    "channel); save it with 8 bits."
                )
            return np.asarray(image.convert("RGB"))
    except ValueError as error:
        if str(error).startswith(f"{path}: "):
            raise
        raise _unreadable(path, error) from error
    except Exception as error:  # Pillow raises a dozen types on broken files
        raise _unreadable(path, error) from error


def read_mask(path: str | os.PathLike) -> np.ndarray:
    """A label PNG as (height, width) uint8: its numbers, never its colours."""
    try:
        with Image.open(path) as picture:
            mode = picture.mode
            # Pillow stretches 2- and 4-bit grey to 0..255: times 85 and times 17.
            stretch = {"L;2": 85, "L;4": 17}.get(_raw_mode(picture), 1)
            values = np.asarray(picture)
    except Exception as error:  # Pillow raises a dozen types on broken files
        raise _unreadable(path, error) from error
    if mode not in ("L", "P", "1", "I", "I;16", "I;16B"):
        raise ValueError(
            f"{path}: label has mode {mode}, colours instead of one class number per "
            "pixel; save it as an 8-bit greyscale or palette PNG of class indices."
        )
    if values.dtype.itemsize > 1:
        too_large = values[(values > 255) | (values < 0)]
        if too_large.size:
            raise ValueError(
                f"{path}: label value {too_large[0]} doesn't fit 8 bits; "
                "class indices must be from 0 to 255."
            )
    return values.astype(np.uint8) // np.uint8(stretch)


def _text(path):
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: isn't UTF-8 text; save it as UTF-8.") from None


def _raw_mode(picture):
    if picture.format != "PNG" or not picture.tile:
        return ""
    args = picture.tile[0][3]
    return args if isinstance(args, str) else args[0]


def _unreadable(path, error):
    # Pillow repeats the path in some messages; the sentence starts with it already.
    reason = str(error).replace(repr(str(path)), "file") or type(error).__name__
    return ValueError(
        f"{path}: can't be read ({reason}); replace the file or remove it with its partner."
    )


def _image_size(path):
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except Exception as error:
        raise _unreadable(path, error) from error


def _pairs_in(folder):
    """(image, label) paths of one folder with images/ and labels/."""
    if not (folder / "labels").is_dir():
        raise ValueError(f"{folder / 'labels'}: no such folder; it must hold one .png per image.")
    images = _by_stem(folder / "images", IMAGE_SUFFIXES)
    labels = _by_stem(folder / "labels", (".png",))
    if not images:
        raise ValueError(
            f"{folder / 'images'}: no images in this folder; files must end in "
            f"{', '.join(IMAGE_SUFFIXES)}."
        )
    for stem in sorted(images.keys() ^ labels.keys()):
        if stem in images:
            raise ValueError(
                f"{images[stem]}: image has no label; add "
                f"{folder / 'labels' / stem}.png or remove the image."
            )
        raise ValueError(
            f"{labels[stem]}: label has no image; add {stem} to {folder / 'images'} "
            "or remove the label."
        )
    return [(images[stem], labels[stem]) for stem in sorted(images)]


def _by_stem(folder, suffixes):
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        # A leading dot: what macOS leaves next to every file on foreign disks.
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        if path.stem in found:
            raise ValueError(
                f"{path}: {found[path.stem].name} has the same name but for the "
                "suffix; names must be unique within a folder."
            )
        found[path.stem] = path
    return found


def _divided(pairs):
    """80, 10 and 10 % of the pairs, by the hash of their names."""
    order = sorted(
        pairs,
        key=lambda pair: hashlib.sha256(f"keras_psp/{pair[0].stem}".encode()).digest(),
    )
    tenth = max(1, round(len(pairs) / 10)) if len(pairs) >= 3 else 0
    cut = len(pairs) - 2 * tenth
    parts = order[:cut], order[cut : cut + tenth], order[cut + tenth :]
    return {name: sorted(part) for name, part in zip(SPLITS, parts, strict=True)}
