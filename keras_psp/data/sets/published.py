"""Data sets whose files and numbers of examples are published."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from keras_psp.data.images import IMAGE_SUFFIXES
from keras_psp.data.label_files import by_stem, read_mask, read_text
from keras_psp.data.pairs import ImagePairs, Pair, matched
from keras_psp.labels import labels

VOID = 255


@dataclass(frozen=True)
class DataSet:
    """What is known about a data set before its files are read.

    Attributes:
        key: its name in `keras_psp.data.load`.
        title: its name in text.
        summary: its classes and subject, in a few words.
        opener: returns the source, given this entry, a folder, `complete` and `options`.
        counts: the published number of examples of each split.
        where: addresses and archives.
        layout: what the folder must hold, as a tree.
        optional: splits that a copy often lacks.
        options: names of further arguments of `open`.
        lookup: maps each value in the label files to its class, or to void.
    """

    key: str
    title: str
    summary: str
    opener: Callable[..., ImagePairs]
    counts: Mapping[str, int]
    where: str
    layout: str
    optional: Sequence[str] = ()
    options: Sequence[str] = ()
    lookup: Mapping[int, int] = field(default_factory=dict)

    def open(self, root: Path, *, complete: bool = True, **options: Any) -> ImagePairs:
        """Opens the data set in a folder; see `keras_psp.data.load`."""
        return self.opener(self, root, complete=complete, **options)

    def help(self) -> str:
        """Returns where to get the files and how to lay them out."""
        tree = "\n".join(f"    {line}" for line in self.layout.splitlines())
        return f"{self.title} comes from {self.where}. Its folder holds\n{tree}"

    def missing(self, fault: str) -> ValueError:
        """Returns an error with the help, and then a sentence about what is missing."""
        return ValueError(f"{self.help()}\n{fault}")

    def find_home(self, root: Path, marker: str, *below: str) -> Path:
        """Returns the folder that contains the marker: the root, or one where archives put it."""
        for folder in (root, *(root / inner for inner in below)):
            if (folder / marker).exists():
                return folder
        raise self.missing(f"{root}: {marker} isn't here; give the folder that holds all of this.")


class PublishedSet(ImagePairs):
    """`ImagePairs` whose numbers of examples are compared with the published ones.

    Args:
        entry: what is known about the data set.
        root: its folder.
        pairs: as for `ImagePairs`; splits without files are dropped.
        complete: whether the numbers must be the published ones.
        lookup, read_label: as for `ImagePairs`; `entry.lookup` by default.
        lacking: for each split, how many examples that a complete copy may lack are missing.
        labels_key: where `labels.json` has class names and colors, if not under `entry.key`.

    Attributes:
        root: as given.
        title: the data set's name.
    """

    def __init__(
        self,
        entry: DataSet,
        root: Path,
        pairs: Mapping[str, list[Pair]],
        *,
        complete: bool,
        lookup: Mapping[int, int] | None = None,
        read_label: Callable[[Path], np.ndarray] = read_mask,
        lacking: Mapping[str, int] | None = None,
        labels_key: str | None = None,
    ):
        classes = labels(labels_key or entry.key)
        self.root = root
        self._entry = entry
        super().__init__(
            {split: part for split, part in pairs.items() if part},
            class_names=classes.class_names,
            palette=classes.palette,
            ignore_class=VOID,
            lookup=lookup or entry.lookup,
            read_label=read_label,
            title=f"{entry.title} in {root}",
        )
        self.title = entry.title
        if complete:
            self._require_published(pairs, lacking or {})
        if not self.splits:
            raise entry.missing(f"{self._title} has no examples; unpack all of this.")

    def _require_published(self, pairs, lacking):
        wrong, fewer = [], False
        for split, published in self._entry.counts.items():
            count, expected = len(pairs.get(split, ())), published - lacking.get(split, 0)
            if count == expected or (split not in pairs and split in self._entry.optional):
                continue
            wrong.append(f"{split} has {count:,} examples instead of {expected:,}")
            fewer |= count < expected
        if wrong:
            cause = (
                "an archive is missing or was only partly unpacked"
                if fewer
                else "it contains files of another data set or version"
            )
            raise ValueError(
                f"{self._title}: {', '.join(wrong)}; {cause}. Unpack again what comes from "
                f"{self._entry.where}, or pass complete=False to use what is here."
            )

    def _absent(self, split):
        if split not in self._entry.counts:
            return super()._absent(split)
        return self._entry.missing(
            f"Split {split!r} of {self._title} isn't here; unpack its files, or choose one of "
            f"{', '.join(self.splits)}."
        )


def first_existing(*paths: Path) -> Path | None:
    """Returns the first path that exists, or None."""
    return next((path for path in paths if path.exists()), None)


def folder_pairs(images: Path, labels: Path, *, complete: bool) -> list[Pair]:
    """Pairs a folder of images with a folder of PNG labels by their names."""
    if not labels.is_dir():
        raise ValueError(f"{labels}: no such folder; it must hold the labels of {images}.")
    pngs = by_stem(labels, (".png",))
    return matched(
        by_stem(images, IMAGE_SUFFIXES),
        # mmsegmentation's converters write files with this ending next to the originals.
        {stem: path for stem, path in pngs.items() if not stem.endswith("_labelTrainIds")},
        image_folder=images,
        label_at=(labels, ".png"),
        complete=complete,
    )


def listed_names(path: Path) -> list[str]:
    """Returns the first path on each line of a list, without folders and suffix."""
    lines = read_text(path).splitlines()
    return [Path(line.split()[0].replace("\\", "/")).stem for line in lines if line.strip()]


def listed_pairs(
    names: Iterable[str],
    images: Mapping[str, Path],
    labels: Mapping[str, Path],
    *,
    complete: bool,
    origin: Path,
    image_folder: Path,
    label_at: tuple[Path, str],
) -> list[Pair]:
    """Pairs the images and labels that a list, `origin`, names, in its order; see `matched`."""
    pairs: list[Pair] = []
    for name in names:
        if name in images and name in labels:
            pairs.append((images[name], labels[name]))
        elif complete:
            folder, ending = label_at if name in images else (image_folder, ".jpg")
            raise ValueError(
                f"{folder / name}{ending}: no such file, but {origin} lists {name}; unpack the "
                "archives again, or pass complete=False to leave out what isn't here."
            )
    return pairs
