"""Splits: joined by their names, named by folders, or divided by the hash of the names."""

import hashlib
import re
from pathlib import Path

SPLITS = ("train", "val", "test")
SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""Names that the folder of a split may have; case doesn't matter."""

Pair = tuple[Path, Path | None]
"""An image and its label file, or None if the labels aren't published."""


def split_parts(split: str) -> list[str]:
    """Returns the splits that a name joins, each as often as it is repeated.

    Example:
        split_parts("2*train+train_extra")  # ["train", "train", "train_extra"]
    """
    parts = []
    for term in split.split("+"):
        times, star, name = term.strip().partition("*")
        if not star:
            times, name = "1", times
        if not re.fullmatch("[1-9][0-9]{0,3}", times.strip()) or not name.strip():
            raise ValueError(
                f"split {split!r}: {term.strip()!r} must be the name of a split, or a whole "
                "number from 1 to 9999 and a name, e.g. 2*train+train_extra."
            )
        parts += [name.strip()] * int(times)
    return parts


def split_named(name: str) -> str | None:
    """Returns the split that a folder or subset of this name contains, or None."""
    for split, names in SPLIT_FOLDERS.items():
        if name.lower() in names:
            return split
    return None


def split_folders(root: Path) -> dict[str, Path]:
    """Returns the folders in `root` that are named like splits, in the order of `SPLITS`.

    Raises:
        ValueError: if two of them are the same split, for instance val and valid.
    """
    folders: dict[str, Path] = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        split = split_named(folder.name)
        if split in folders:
            raise ValueError(
                f"{root}: {folders[split].name} and {folder.name} are both the split {split!r}; "
                "rename or remove one of them."
            )
        if split is not None:
            folders[split] = folder
    return {split: folders[split] for split in SPLITS if split in folders}


def divided(pairs: list[Pair]) -> dict[str, list[Pair]]:
    """Returns "all" pairs, and 80, 10 and 10 % of them as splits, by the hash of the image's name.

    With 3 pairs or more, no split is empty. The order within each is that of `pairs`.
    """
    names = [f"keras_psp/{image.stem}" for image, _ in pairs]
    digests = [hashlib.sha256(name.encode()).digest() for name in names]
    order = sorted(range(len(pairs)), key=digests.__getitem__)
    tenth = max(1, round(len(pairs) / 10)) if len(pairs) >= 3 else 0
    cut = len(pairs) - 2 * tenth
    parts = (order[:cut], order[cut : cut + tenth], order[cut + tenth :])
    return {"all": pairs} | {
        split: [pairs[index] for index in sorted(part)]
        for split, part in zip(SPLITS, parts, strict=True)
    }


class MayBeFlat:
    """Mixin for sources whose examples may be in no split: "all" of them are then divided."""

    splits: tuple[str, ...]
    skipped: list
    _pairs: dict[str, list]
    _flat: bool

    def _whole(self):
        return ("all",) if self._flat else self.splits

    def _why_empty(self):
        if not self._flat or self.skipped:
            return super()._why_empty()
        return (
            f"{len(self._pairs['all'])} example(s) are too few to divide; use split='all' or "
            "add images."
        )
