"""TODO."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_psp.data.folder import read_text
from keras_psp.data.label_files import (
    IMAGE_SUFFIXES,
    by_stem,
    read_mask,
)
from keras_psp.data.pairs import ImagePairs, Pair, matched
from keras_psp.labels import labels

VOID = 255


@dataclass(frozen=True)
class DataSet:
    """What is known of a data set before its files are seen.

    Attributes:
        key: its name in `keras_psp.data.load`.
        title: its name in text.
        summary: its classes and what it shows, in a few words.
        open: from a folder, `complete` and `options` to the source.
        counts: for each split the published number of examples.
        where: addresses and archives.
        layout: what the folder must hold, as a tree.
        optional: splits that a usual copy may lack.
        options: names of further arguments of `open`.
    """

    key: str
    title: str
    summary: str
    open: Callable[..., ImagePairs]
    counts: Mapping[str, int]
    where: str
    layout: str
    optional: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def help(self) -> str:
        """Where to get the files and how to lay them out."""
        tree = "\n".join(f"    {line}" for line in self.layout.strip("\n").splitlines())
        return f"{self.title} comes from {self.where}. Its folder holds\n{tree}"


class PublishedSet(ImagePairs):
    """`ImagePairs` of a set whose numbers of examples are published, checked on opening.

    Args:
        entry: its entry in `SETS`.
        root: its folder.
        pairs: see `ImagePairs`; a split whose files aren't there is left out.
        complete: whether the numbers must be the published ones.
        lookup: see `ImagePairs`.
        read_label: see `ImagePairs`.
        lacking: for each split, how many examples a whole copy may lack and this one does.
        labels_key: where `labels.json` has class names and colours, if not at `entry.key`.

    Attributes:
        root: as given.
        title: the set's name.
    """

    def __init__(
        self,
        entry: DataSet,
        root: Path,
        pairs: Mapping[str, list[Pair]],
        *,
        complete: bool,
        lookup: Mapping[int, int],
        read_label: Callable[[Path], np.ndarray] = read_mask,
        lacking: Mapping[str, int] | None = None,
        labels_key: str | None = None,
    ):
        known = labels(labels_key or entry.key)
        self.root = root
        self._set = entry
        self.title = self._set.title
        super().__init__(
            {split: part for split, part in pairs.items() if part},
            class_names=known.class_names,
            palette=known.palette,
            ignore_class=VOID,
            lookup=lookup,
            read_label=read_label,
            title=f"{self._set.title} in {root}",
        )
        if complete:
            self._demand_published(pairs, lacking or {})
        if not self.splits:
            raise ValueError(f"{self._title} has no examples.\n{self._set.help()}")

    def _demand_published(self, pairs, lacking):
        wrong, fewer = [], False
        for split, published in self._set.counts.items():
            found, expected = len(pairs.get(split, ())), published - lacking.get(split, 0)
            if found == expected or (split not in pairs and split in self._set.optional):
                continue
            wrong.append(f"{split} has {found:,} examples instead of {expected:,}")
            fewer |= found < expected
        if wrong:
            cause = (
                "an archive is missing or wasn't unpacked whole"
                if fewer
                else "files of another set or version are among them"
            )
            raise ValueError(
                f"{self._title}: {', '.join(wrong)}; {cause}. Unpack again what comes from "
                f"{self._set.where}, or pass complete=False to use what is here."
            )

    def _why_absent(self, split):
        if split not in self._set.counts:
            return ""
        return f" Its files aren't here.\n{self._set.help()}"


def _home(entry, root, marker, *below):
    """The folder that has the marker: the root itself, or one where archives put it."""
    for folder in (root, *(root / inner for inner in below)):
        if (folder / marker).exists():
            return folder
    raise ValueError(f"{root}: {marker} isn't here.\n{entry.help()}")


def _first(*paths):
    """The first that exists, or None."""
    return next((path for path in paths if path is not None and path.exists()), None)


def _folders(images, labels, *, complete):
    """Pairs of a folder of .jpg and a folder of .png with the same names."""
    if not labels.is_dir():
        raise ValueError(f"{labels}: no such folder; it must hold the labels of {images}.")
    return matched(
        by_stem(images, IMAGE_SUFFIXES),
        # mmsegmentation's converters write these beside the originals.
        {k: p for k, p in by_stem(labels, (".png",)).items() if not k.endswith("_labelTrainIds")},
        image_home=images,
        label_at=lambda name: labels / f"{name}.png",
        complete=complete,
    )


def _listed(path):
    """Names in a list file: of each line the first path, without folders and suffix."""
    lines = read_text(path).splitlines()
    return [Path(line.split()[0].replace("\\", "/")).stem for line in lines if line.strip()]


def _choose(names, images, labels, *, complete, origin, image_home, label_at):
    """Pairs of the listed names, in the list's order."""
    pairs = []
    for name in names:
        if name in images and name in labels:
            pairs.append((images[name], labels[name]))
        elif complete:
            missing = label_at(name) if name in images else image_home / f"{name}.jpg"
            raise ValueError(
                f"{missing}: no such file, but {origin} lists {name}; unpack the archives again, "
                "or pass complete=False to leave out what isn't here."
            )
    return pairs
