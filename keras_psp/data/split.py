"""One split of a source as a sequence."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_psp.data.pairs import Pair

if TYPE_CHECKING:
    import tensorflow as tf


class Split(Sequence):
    """One split of a source as a sequence of its examples.

    `split[i]` is (image, mask): (height, width, channels), e.g. uint8 RGB, and (height, width)
    uint8 with class indices or `ignore_class`. If the split has no labels, the mask is None.

    Args:
        source: a source with `example(split, index)`, such as `ImagePairs`.
        name: one of `source.splits`.

    Attributes:
        source, name: as given.
        class_names, palette, ignore_class, num_classes: the source's.

    Example:
        ```python
        source = keras_psp.data.ImageFolder("aerial")
        image, mask = keras_psp.data.Split(source, "val")[0]
        ```
    """

    def __init__(self, source: Any, name: str):
        source.count(name)  # raises for an unknown or empty split
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

    def count(self, value: Any) -> int:
        """Raises a TypeError, because a caller that wants to count needs the source."""
        raise TypeError(
            f"a Split isn't a source; pass its .source and split={self.name!r}, or use len() for "
            "the number of examples."
        )

    def paths(self) -> list[Pair]:
        """Returns the (image, label) paths, if each example has its own files."""
        if not hasattr(self.source, "paths"):
            raise TypeError(
                f"{type(self.source).__name__} doesn't keep each example in its own files; "
                "use examples()."
            )
        return self.source.paths(self.name)

    def examples(self) -> "tf.data.Dataset":
        """Returns the examples as a `tf.data.Dataset`, in order."""
        return self.source.examples(self.name)
