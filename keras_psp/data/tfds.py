"""Data sets of tensorflow-datasets as sources of examples."""

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from keras_psp.data.pairs import ImagePairs
from keras_psp.data.python_calls import map_python
from keras_psp.data.sets.cityscapes import CITYSCAPES_LOOKUP
from keras_psp.labels import labels

if TYPE_CHECKING:
    import tensorflow as tf

_IMAGES = ("image", "image_left")
_FILE_NAMES = ("file_name", "filename", "image/filename", "image_id", "image/id", "id")
_MASKS = ("segmentation_mask", "segmentation_label", "mask", "label_mask", "annotation")

# Values in the masks of known builders; their class names are in labels.json.
_LOOKUPS = {
    # In the trimaps 1 is the pet, 2 the background, 3 the border (README of annotations).
    "oxford_iiit_pet": {1: 0, 2: 1, 3: 2},
    "cityscapes": CITYSCAPES_LOOKUP,
}


class TFDSSource:
    """A data set of tensorflow-datasets with images and masks; needs the extra `tfds`.

    Prepared as `array_record`, it has `example`, which reads in any order, and training needs
    no cache. Otherwise there is only `examples`, in order.

    Args:
        name: the builder's name, `name/config:version`.
        data_dir: folder of prepared data sets; by default that of tensorflow-datasets.
        download: download and prepare the data set (as array_record) if it isn't there.
        image: feature of the image; by default the one with a usual name.
        mask: feature of the mask, an image with one channel; by default as for `image`.
        lookup: maps each value in the masks to its class index or `ignore_class`. It is known
            for oxford_iiit_pet (1 to 3) and cityscapes (label ids); otherwise, values are class
            indices by default.
        class_names: names in index order; known for these two, and if the feature has names.
        palette, ignore_class: as for `ImagePairs`.

    Attributes:
        class_names, palette, num_classes, ignore_class: as in `ImagePairs`.
        splits: those of tensorflow-datasets, such as "train" and "test".

    Example:
        ```python
        source = keras_psp.data.TFDSSource("oxford_iiit_pet", download=True)
        ```
    """

    def __init__(
        self,
        name: str,
        *,
        data_dir: str | os.PathLike | None = None,
        download: bool = False,
        image: str | None = None,
        mask: str | None = None,
        lookup: Mapping[int, int] | None = None,
        class_names: Sequence[str] | None = None,
        palette: Sequence | np.ndarray | None = None,
        ignore_class: int = 255,
    ):
        try:
            import tensorflow_datasets as tfds
        except ImportError as error:
            raise ImportError(
                f'tensorflow-datasets can\'t be imported ({error}); pip install "keras-psp[tfds]".'
            ) from error
        try:
            self._builder = tfds.builder(name, data_dir=data_dir and os.fspath(data_dir))
        except (tfds.core.DatasetNotFoundError, ValueError) as error:
            raise ValueError(
                f"tensorflow-datasets has no data set {name!r} (version {tfds.__version__}); "
                "tfds.list_builders() returns their names."
            ) from error
        if not self._builder.is_prepared():
            if not download:
                raise ValueError(
                    f"{name} isn't prepared in {self._builder.data_path}; pass download=True, or "
                    f"run `tfds build {name} --file_format=array_record`."
                )
            self._builder.download_and_prepare(file_format="array_record")
        key = self._builder.name
        self.name = name
        self.splits: tuple[str, ...] = tuple(self._builder.info.splits)
        features = self._builder.info.features
        self._image = _feature(features, image, "image", _IMAGES, 3, name)
        self._mask = _feature(features, mask, "mask", _MASKS, 1, name)
        _check_types(features, self._image, self._mask, name)
        self._file_name = next((key for key in _FILE_NAMES if key in features), None)
        if lookup is None and class_names is None and key in _LOOKUPS:
            lookup, known = _LOOKUPS[key], labels(key)
            class_names = known.class_names
            palette = known.palette if palette is None else palette
        class_names = class_names or getattr(features[self._mask], "names", None)
        if not class_names:
            raise ValueError(
                f"{name}: tensorflow-datasets doesn't define what the values of {self._mask!r} "
                "mean; pass class_names=[...], and lookup={value: class} if they aren't class "
                "indices."
            )
        # Checks the arguments and converts label values.
        self._pairs = ImagePairs(
            {},
            class_names=class_names,
            palette=palette,
            ignore_class=ignore_class,
            lookup=lookup,
            title=name,
        )
        self.class_names = self._pairs.class_names
        self.palette = self._pairs.palette
        self.num_classes = self._pairs.num_classes
        self.ignore_class = self._pairs.ignore_class
        self._readers: dict = {}
        if str(self._builder.info.file_format.value) == "array_record":
            if not find_spec("array_record"):
                raise ImportError(
                    f"{name} is prepared as array_record, which needs the package array_record; "
                    'pip install "keras-psp[tfds]".'
                )
            self.example = self._example  # pipelines check for the attribute

    def count(self, split: str) -> int:
        """Returns the number of examples in the split."""
        if split not in self.splits:
            raise ValueError(
                f"Split {split!r} is unknown; {self.name} has {', '.join(self.splits)}."
            )
        return self._builder.info.splits[split].num_examples

    def examples(self, split: str) -> "tf.data.Dataset":
        """Returns the split as a dataset, in the order of its files.

        Elements: image (height, width, 3) uint8 RGB and mask (height, width) uint8.
        """
        import tensorflow as tf

        if hasattr(self, "example"):  # tf.data can't read array_record files
            elements = tf.data.Dataset.range(self.count(split))
            read: Callable = self._example
        else:
            self.count(split)
            stored = self._builder.as_dataset(split=split, shuffle_files=False).enumerate()
            keys = [key for key in (self._image, self._mask, self._file_name) if key]
            elements = stored.map(lambda i, parts: (i, *(parts[key] for key in keys)))
            read = self._checked
        shapes = (None, None, 3), (None, None)
        examples = map_python(elements, functools.partial(read, split), *shapes)
        return examples.prefetch(tf.data.AUTOTUNE)

    def _example(self, split: str, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns an example, as `ImagePairs.example`; needs array_record files."""
        self.count(split)
        if split not in self._readers:
            self._readers[split] = self._builder.as_data_source(split=split)
        example = self._readers[split][int(index)]
        name = example[self._file_name] if self._file_name else b""
        return self._checked(split, index, example[self._image], example[self._mask], name)

    def names(self, split: str) -> list[str]:
        """Returns what messages call the examples of a split: number and file name, if known.

        The images aren't decoded for this.
        """
        import tensorflow_datasets as tfds

        count = self.count(split)
        if self._file_name is None:
            return [_called(split, index) for index in range(count)]
        skipped = {key: tfds.decode.SkipDecoding() for key in (self._image, self._mask)}
        if hasattr(self, "example"):
            stored = self._builder.as_data_source(split=split, decoders=skipped)
        else:
            stored = self._builder.as_dataset(split=split, decoders=skipped, shuffle_files=False)
            stored = stored.as_numpy_iterator()
        return [_called(split, i, each[self._file_name]) for i, each in enumerate(stored)]

    def _checked(self, split, index, image, mask, name=b""):
        origin = f"{self.name}, {_called(split, int(index), name)}"
        if mask.shape[:2] != image.shape[:2]:
            raise ValueError(
                f"{origin}: mask is {mask.shape[1]}x{mask.shape[0]} but its image is "
                f"{image.shape[1]}x{image.shape[0]}; choose the right features with image= and "
                "mask=."
            )
        values = mask.reshape(mask.shape[:2])
        for value in (values.min(initial=0), values.max(initial=0)):
            if not 0 <= value <= 255:
                raise ValueError(f"{origin}: label value {value} isn't in 0 to 255.")
        return image, self._pairs.to_classes(values.astype(np.uint8), origin)


def _called(split, index, name=b""):
    text = name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
    return f"example {index} of {split!r}" + (f" ({text})" if text else "")


def _feature(features, given, kind, usual, channels, name):
    """Returns the name of a feature: as given, or the first usual one."""
    images = {
        key: feature.shape
        for key, feature in features.items()
        if feature.shape is not None and len(feature.shape) == 3
    }
    feature = given or next((key for key in usual if key in images), None)
    if feature not in images or images[feature][-1] != channels:
        listed = ", ".join(f"{key} {shape}" for key, shape in images.items()) or "none"
        wrong = f"{feature!r} isn't" if feature else "no feature with a usual name is"
        raise ValueError(
            f"{name}: {wrong} an image of {channels} channel(s), as the {kind} must be; "
            f"image features are: {listed}. Pass {kind}=... if one of them is right."
        )
    return feature


def _check_types(features, image, mask, name):
    """Raises ValueError for images other than uint8, and for masks of floats."""
    kind = np.dtype(features[image].np_dtype)
    if kind != np.uint8:
        raise ValueError(
            f"{name}: {image!r} has values of type {kind}; images must be uint8, 0 to 255. Choose "
            "another feature with image=, or write the images to files (see docs/bands.md)."
        )
    kind = np.dtype(features[mask].np_dtype)
    if kind.kind not in "biu":
        raise ValueError(
            f"{name}: {mask!r} has values of type {kind}; a mask has whole numbers. Choose another "
            "feature with mask=."
        )
