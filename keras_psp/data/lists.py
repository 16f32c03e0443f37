"""Images and labels that text files list."""

import os
from collections.abc import Mapping, Sequence

import numpy as np

from keras_psp.data.folder import NamedByFiles, read_text
from keras_psp.data.pairs import Pair


class FileList(NamedByFiles):
    """Pairs that text files list, one `image label` a line, as semseg's do.

        FileList(root, {"train": "list/training.txt", "val": "list/validation.txt"})

    Paths are relative to `root` (a leading slash counts for nothing, as in the lists of
    DeepLab and SegNet; `root="/"` for absolute ones) and separated by white space, or by a
    tab if they have spaces in them. Lines of a list without labels have the image alone.
    Images and labels are read as in `ImageFolder`, and classes named as in `NamedByFiles`.

    Args:
        root: the folder that paths are relative to.
        lists: for each split its text file, also relative to `root`.
        ignore_class: label value of pixels that don't count, 0 to 255.
        class_names: names in index order.
        palette: (num_classes, 3), RGB 0 to 255.
    """

    def __init__(
        self,
        root: str | os.PathLike,
        lists: Mapping[str, str | os.PathLike],
        *,
        ignore_class: int = 255,
        class_names: Sequence[str] | None = None,
        palette: Sequence | np.ndarray | None = None,
    ):
        super().__init__(root, ignore_class=ignore_class, class_names=class_names, palette=palette)
        if not lists:
            raise ValueError("lists is empty; give a text file for each split.")
        self._pairs = {split: self._listed(self.root / path) for split, path in lists.items()}
        self._open(tuple(lists))

    def _listed(self, path) -> list[Pair]:
        if not path.is_file():
            raise ValueError(f"{path}: no such file; it must list an image and a label a line.")
        pairs: list[Pair] = []
        for number, line in enumerate(read_text(path).splitlines(), start=1):
            fields = [f.strip() for f in line.split("\t")] if "\t" in line else line.split()
            if not fields:
                continue
            if len(fields) > 2:
                raise ValueError(
                    f"{path}, line {number}: {len(fields)} paths instead of `image label`; "
                    "separate paths that have spaces by a tab."
                )
            image, *label = (self.root / field.lstrip("/") for field in fields)
            if pairs and bool(label) != (pairs[0][1] is not None):
                raise ValueError(
                    f"{path}, line {number}: has {'a' if label else 'no'} label, unlike the lines "
                    "above; a list has labels on every line or on none."
                )
            for file in (image, *label):
                if not file.is_file():
                    raise ValueError(f"{path}, line {number}: {file} doesn't exist.")
            pairs.append((image, label[0] if label else None))
        if not pairs:
            raise ValueError(f"{path}: lists nothing; write `image label` lines into it.")
        return pairs
