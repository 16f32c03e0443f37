"""Several splits, or several sources, as one training set."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_psp.data.pairs import ImagePairs, Pair


class JoinedPairs(ImagePairs):
    """Joins sources with the same classes, e.g. several folders of your own.

    Splits of the same name are joined. Splits of the `extra` sources get a prefix, e.g.
    "coco:train", and are only used where they are named: "2*train+coco:train" trains twice per
    epoch on the first and once on the second.

    Args:
        sources: `ImagePairs` (data sets and folders on disk) with equal class names. The first
            one determines the colors and `ignore_class`.
        extra: further sources, by prefix.

    Raises:
        TypeError: if a source isn't in files.
        ValueError: if the classes differ, or two sources share labels.

    Example:
        ```python
        voc = keras_psp.data.load("voc2012", root="VOCdevkit/VOC2012")
        coco = keras_psp.data.load("coco", root="coco", classes="voc2012")
        source = keras_psp.data.JoinedPairs([voc], extra={"coco": coco})
        source.count("train+coco:train")
        ```
    """

    def __init__(
        self, sources: Sequence[ImagePairs], extra: Mapping[str, ImagePairs] | None = None
    ):
        named = [("", source) for source in sources]
        named += [(f"{name}:", source) for name, source in (extra or {}).items()]
        first = named[0][1]
        pairs: dict[str, list[Pair]] = {}
        self._owner: dict[Path, ImagePairs] = {}
        for prefix, source in named:
            _check(source, first)
            for split in source.splits:
                part = source._pairs_of(split)  # may be empty: too few to divide
                pairs.setdefault(prefix + split, []).extend(part)
                for _, label in part:
                    if label is not None and self._owner.setdefault(label, source) is not source:
                        raise ValueError(
                            f"{label} is in two of the joined sources; give each folder once, and "
                            "repeat a split by its name, e.g. 2*train."
                        )
        super().__init__(
            {split: part for split, part in pairs.items() if part},
            class_names=first.class_names,
            palette=first.palette,
            ignore_class=first.ignore_class,
            read_label=self._read_label,
            channels=first.channels,
            title=" + ".join(dict.fromkeys(str(source.title) for _, source in named)),
        )

    def label_file(self, label: Path) -> Path:
        """Returns the file that contains an example's label, given the label's path in `paths`."""
        file_of = getattr(self._owner[label], "label_file", lambda path: path)
        return file_of(label)

    def _read_label(self, path):
        """Reads a label as class indices, whatever the values in its file are."""
        owner = self._owner[path]
        mask = owner.to_classes(owner.read_label(path), path)
        return np.where(mask == owner.ignore_class, np.uint8(self.ignore_class), mask)


def _check(source: Any, first: ImagePairs) -> None:
    """Raises an error if a source can't be joined to the first one."""
    if not isinstance(source, ImagePairs):
        raise TypeError(
            f"a {type(source).__name__} can't be joined, since its examples aren't files; join "
            "data sets and folders on disk."
        )
    if source.channels != first.channels:
        raise ValueError(
            f"{source.title} can't be joined with {first.title}: its images have "
            f"{source.channels} bands, not {first.channels}."
        )
    names, others = first.class_names, source.class_names
    if names == others:
        return
    difference = f"{len(others)} classes, not {len(names)}"
    if len(names) == len(others):
        index = next(i for i in range(len(names)) if names[i] != others[i])
        difference = f"class {index} is {others[index]!r}, not {names[index]!r}"
    raise ValueError(
        f"{source.title} can't be joined with {first.title}: {difference}. Give both the same "
        "classes in the same order, e.g. by class_names, classes.txt or label_map."
    )
