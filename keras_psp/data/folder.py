"""A folder of images and label pictures as a source of examples."""

import hashlib
import os
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from keras_psp.data.label_files import IMAGE_SUFFIXES, by_stem, read_mask, read_training_image
from keras_psp.data.pairs import ImagePairs, matched
from keras_psp.palette import checked_palette
from keras_psp.progress import in_threads

__all__ = ["ImageFolder", "NamedByFiles", "read_mask", "read_text", "read_training_image"]

SPLITS = ("train", "val", "test")


class NamedByFiles(ImagePairs):
    """Pairs whose classes are named by text files beside them, or by their labels.

    Class names come from `class_names`, else from `root/classes.txt` (one name a
    line), else from the names in `root/palette.txt`. Without any of them all labels
    are read once, when first needed (with a bar on stderr), and the largest value
    other than `ignore_class` is the last class. Colours come from `palette`, else from
    `root/palette.txt` (lines `index R G B name`), else from `default_palette`.

    A subclass calls `_open` when it knows its splits, and has `_found(split)`.
    """

    def __init__(self, root, *, ignore_class, class_names, palette):
        super().__init__({}, ignore_class=ignore_class, palette=palette, title=root)
        self.root = Path(root)
        self._given_names = class_names
        self._class_names: tuple[str, ...] | None = None
        self._lock = threading.Lock()
        if not self.root.is_dir():
            raise ValueError(f"{self.root}: no such folder.")

    def _open(self, splits):
        self.splits = splits
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

    @cached_property
    def palette(self) -> np.ndarray:
        if self._palette is not None or not self._palette_lines:
            return self._colours()
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

    def _names_without_labels(self):
        """Class names from wherever they are written down, or None."""
        path = self.root / "classes.txt"
        if self._given_names is not None:
            origin, names = "class_names", list(self._given_names)
        elif path.is_file():
            lines = read_text(path).splitlines()
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
            text = read_text(path)
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
        labels = {label for split in self._whole() for _, label in self.paths(split) if label}

        def largest(path):
            mask = read_mask(path)
            return int(mask[mask != self.ignore_class].astype(np.int16).max(initial=-1))

        found = max(in_threads(largest, sorted(labels), "Counting classes"))
        if found < 0:
            raise ValueError(
                f"{self.root}: every label pixel is ignore_class "
                f"({self.ignore_class}), so there is no class; write the "
                "names into classes.txt."
            )
        return found


class ImageFolder(NamedByFiles):
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

    Class names and colours: see `NamedByFiles`.

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
        super().__init__(root, ignore_class=ignore_class, class_names=class_names, palette=palette)
        divided = tuple(s for s in SPLITS if (self.root / s / "images").is_dir())
        self._flat = not divided
        if self._flat and not (self.root / "images").is_dir():
            raise ValueError(
                f"{self.root}: neither images/ nor any of train/images/, val/images/ "
                "and test/images/ is here; put pictures into images/ and their labels "
                "into labels/, one .png of the same name each."
            )
        self._open(("all", *SPLITS) if self._flat else divided)

    def check(self, split: str | None = None, *, progress: bool = True, skip: bool = False) -> int:
        """As `ImagePairs.check`, which see; of every split it also demands two classes.

        Raises:
            ValueError: fewer than two classes occur, where every split was read.
        """
        count, classes = self._checked(split, progress, skip)
        if split is None and len(classes) < 2:
            raise ValueError(
                f"{self.root}: the labels hold no two classes, only {sorted(classes)} and the "
                f"ignored {self.ignore_class}; number the classes 0, 1 and so on, or set "
                "ignore_class to another value."
            )
        return count

    def _found(self, split):
        if split not in self._pairs:
            if not self._flat:
                self._pairs[split] = _pairs_in(self.root / split)
            else:
                pairs = _pairs_in(self.root)
                self._pairs = {"all": pairs, **_divided(pairs)}
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
    """(image, label) paths of one folder with images/ and labels/."""
    if not (folder / "labels").is_dir():
        raise ValueError(f"{folder / 'labels'}: no such folder; it must hold one .png per image.")
    images = by_stem(folder / "images", IMAGE_SUFFIXES)
    if not images:
        raise ValueError(
            f"{folder / 'images'}: no images in this folder; files must end in "
            f"{', '.join(IMAGE_SUFFIXES)}."
        )
    return matched(
        images,
        by_stem(folder / "labels", (".png",)),
        image_home=folder / "images",
        label_at=lambda stem: folder / "labels" / f"{stem}.png",
    )


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


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: isn't UTF-8 text; save it as UTF-8.") from None
