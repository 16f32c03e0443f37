"""Images and labels listed in text files."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_psp.data.class_files import NamedByFiles
from keras_psp.data.division import SPLITS
from keras_psp.data.label_files import read_text
from keras_psp.data.pairs import Pair


class FileList(NamedByFiles):
    """Pairs from text files with one `image label` per line, as in semseg.

    Paths are relative to `root`. A leading slash is ignored, which DeepLab's and SegNet's lists
    need; with `root="/"`, paths are absolute. Paths are separated by white space, or by a tab if
    they contain spaces. Each line of a list without labels has only an image. Files are read as
    in `ImageFolder`; see `NamedByFiles` for class names and colors.

    Args:
        root: the folder that paths are relative to.
        lists: a text file for each split, also relative to `root`; by default those of
            train.txt, val.txt and test.txt that exist.
        label_map, ignore_class, class_names, palette, channels: as for `ImageFolder`.

    Example:
        ```python
        lists = {"train": "list/training.txt", "val": "list/validation.txt"}
        source = keras_psp.data.FileList("/data/ade20k", lists)
        ```
    """

    def __init__(
        self,
        root: str | os.PathLike,
        lists: Mapping[str, str | os.PathLike] | None = None,
        *,
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
        if lists is None:
            lists = {s: f"{s}.txt" for s in SPLITS if (self.root / f"{s}.txt").is_file()}
            if not lists:
                raise ValueError(
                    f"{self.root}: has neither train.txt nor val.txt nor test.txt; write "
                    "`image label` lines into them, or give lists={'train': 'PATH.txt'}."
                )
        if not lists:
            raise ValueError("lists is empty; give a text file for each split.")
        self._pairs = {split: self._listed(self.root / path) for split, path in lists.items()}
        self._set_splits(tuple(lists))

    def _listed(self, path: Path) -> list[Pair]:
        if not path.is_file():
            raise ValueError(
                f"{path}: no such file; it must list an image and a label on each line."
            )
        pairs: list[Pair] = []
        for number, image, label in parse_list(read_text(path), path):
            pair = self.root / image, None if label is None else self.root / label
            for file in pair:
                if file is not None and not file.is_file():
                    raise ValueError(f"{path}, line {number}: {file} doesn't exist.")
            pairs.append(pair)
        return pairs


def parse_list(text: str, path: str | os.PathLike) -> list[tuple[int, str, str | None]]:
    """Returns (line number, image, label) for each nonempty line of a list.

    Paths have no leading slash; labels are None in a list without them. `path` is the list's
    file, for messages.
    """
    rows: list[tuple[int, str, str | None]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        fields = [f.strip() for f in line.split("\t")] if "\t" in line else line.split()
        if not fields:
            continue
        image, *labels = (field.lstrip("/") for field in fields)
        if len(labels) > 1 or (rows and bool(labels) != (rows[0][2] is not None)):
            raise ValueError(
                f"{path}, line {number}: {line.strip()!r}; every line must be `image label`, or "
                "every line `image`; separate paths with spaces by a tab."
            )
        rows.append((number, image, labels[0] if labels else None))
    if not rows:
        raise ValueError(f"{path}: lists nothing; write `image label` lines into it.")
    return rows
