"""Writes predictions in the file formats of benchmark servers."""

import os
import tarfile
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from keras_psp.data.pairs import ranges
from keras_psp.data.sets.cityscapes_labels import CLASSES, label_ids
from keras_psp.files import checked_name, local_path, written_aside
from keras_psp.progress import in_threads

COMPETITIONS = {
    "comp5": "trained on VOC 2012's own trainval split only",
    "comp6": "trained on any data but the test split",
}

_MODES = {"L": "gray values that are labels", "P": "a palette whose indices are labels"}


def image_sizes(source: Any, split: str) -> dict[str, tuple[int, int]]:
    """Returns the (height, width) of each image of a split, by file name without suffix.

    Raises:
        ValueError: if several images have the same name.
    """
    names = [image.stem for image, _ in source.paths(split)]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(
            f"split {split!r} has several images named {twice[0]!r}, for each of which the server "
            "expects one file; rename all but one of them."
        )
    return dict(zip(names, source.sizes(split), strict=True))


def checked_archive(path: str | os.PathLike) -> Path:
    """Returns the path, or raises a ValueError if its suffix is not .zip, .tgz or .tar.gz."""
    path = local_path("archive", path)
    if not path.name.endswith((".zip", ".tgz", ".tar.gz")):
        raise ValueError(f"{path}: the archive must end in .zip, .tgz or .tar.gz.")
    return path


class Submission:
    """Writes one PNG per image in the format of a benchmark server; base class of the servers'.

    Args:
        folder: where the files are written; created if it doesn't exist.
        images: (height, width) of every image the server expects, by file name without suffix;
            see `image_sizes`.

    Attributes:
        folder, images: as passed.
        title: name of the benchmark.
        num_classes: number of classes in predictions.
        mode: Pillow's mode of the files, "L" or "P".

    Raises:
        ValueError: if `images` is empty, or a name or size is not the benchmark's.

    Example:
        submission = VOCSubmission("out", image_sizes(source, "test"))
        for name, classes in predictions:
            submission.write(name, classes)
        submission.pack("results.tgz")
    """

    title = ""
    num_classes = 0
    mode = "L"

    def __init__(self, folder: str | os.PathLike, images: Mapping[str, tuple[int, int]]):
        self.folder = local_path("folder", folder)
        self.images = {
            checked_name(name, "pass an image's file name without suffix"): size
            for name, size in images.items()
        }
        if not self.images:
            raise ValueError(f"images is empty; give the names and sizes of {self.title}'s images.")

    def path(self, name: str) -> Path:
        """Returns the path of an image's prediction."""
        return self.folder / f"{name}.png"

    def write(self, name: str, classes: np.ndarray) -> Path:
        """Writes the prediction of one image, completely or not at all, and returns the path.

        Args:
            name: file name of the image without suffix, one of `images`.
            classes: (height, width) integers, class indices at the image's size.

        Raises:
            ValueError: if the name is unknown, the size is wrong, or a value is not a class.
        """
        if name not in self.images:
            raise ValueError(
                f"{name!r} is not one of the {len(self.images)} images of the submission, e.g. "
                f"{next(iter(self.images))!r}; pass an image's file name without suffix."
            )
        classes = np.asarray(classes)
        height, width = self.images[name]
        if classes.shape != (height, width):
            raise ValueError(
                f"{name}: classes have shape {classes.shape} but the image is {width}x{height}; "
                f"they must have shape ({height}, {width})."
            )
        if not np.issubdtype(classes.dtype, np.integer):
            raise ValueError(
                f"{name}: classes have dtype {classes.dtype}; they must be integers, class indices."
            )
        wrong = classes[(classes < 0) | (classes >= self.num_classes)]
        if wrong.size:
            raise ValueError(
                f"{name}: value {wrong[0]} is not a class of {self.title} (0 to "
                f"{self.num_classes - 1}); pass class indices."
            )
        image = Image.fromarray(self.to_values(classes))
        if self.mode == "P":
            image.putpalette(self.palette().tobytes())
        with written_aside(self.path(name)) as draft:
            image.save(draft)
        return self.path(name)

    def check(self, *, progress: bool = True) -> int:
        """Reads every file back, so that no bad file wastes one of the few submissions.

        Args:
            progress: show a progress bar on stderr.

        Returns:
            The number of files.

        Raises:
            ValueError: with the first fault and the number of others.
        """
        checks = in_threads(self._fault, list(self.images), "Checking", progress=progress)
        faults = [fault for fault in checks if fault]
        expected = {self.path(name) for name in self.images}
        faults += [
            f"{path}: doesn't belong to any image of the submission; remove it."
            for path in sorted(set(next(iter(expected)).parent.rglob("*.png")) - expected)
        ]
        if faults:
            others = f" ({len(faults) - 1} more like it.)" if len(faults) > 1 else ""
            raise ValueError(faults[0] + others)
        return len(self.images)

    def pack(self, path: str | os.PathLike, *, progress: bool = True) -> Path:
        """Checks the files, packs them into the archive to upload and returns its path.

        Args:
            path: the archive, .zip, .tgz or .tar.gz.
            progress: show a progress bar on stderr.

        Raises:
            ValueError: if `check` finds a fault, or the suffix is not an archive's.
        """
        path = checked_archive(path)
        self.check(progress=progress)
        zipped = path.suffix == ".zip"
        opened: Any = zipfile.ZipFile if zipped else tarfile.open
        with written_aside(path) as draft, opened(draft, "w" if zipped else "w:gz") as archive:
            add = archive.write if zipped else archive.add
            for file in map(self.path, self.images):
                add(file, str(file.relative_to(self.folder)))
        return path

    def to_values(self, classes: np.ndarray) -> np.ndarray:
        """Converts class indices to the values in the files, uint8."""
        return classes.astype(np.uint8)

    def palette(self) -> np.ndarray:
        """Returns the colors of the values in the files, (256, 3) uint8, for mode "P"."""
        raise NotImplementedError

    def _fault(self, name):
        path = self.path(name)
        if not path.is_file():
            return f"{path}: there is no such file; write the prediction of {name}."
        try:
            with Image.open(path) as image:
                image.verify()  # all checksums, which reading the pixels ignores
            with Image.open(path) as image:
                mode, size, values = image.mode, image.size, np.asarray(image)
        except Exception as error:  # Pillow raises a dozen types on broken files
            return f"{path}: can't be read ({error}); write it again."
        if mode != self.mode:
            return (
                f"{path}: has pixels of mode {mode} instead of {self.mode}, "
                f"{_MODES[self.mode]}; write it with {type(self).__name__}.write."
            )
        height, width = self.images[name]
        if size != (width, height):
            return f"{path}: is {size[0]}x{size[1]} but its image is {width}x{height}."
        allowed = self.to_values(np.arange(self.num_classes))
        wrong = np.setdiff1d(np.unique(values), allowed)
        if wrong.size:
            return (
                f"{path}: has the value {wrong[0]}, which is not a label of {self.title} (these "
                f"are {ranges(allowed)}); write it with {type(self).__name__}.write."
            )
        return None


class VOCSubmission(Submission):
    """PASCAL VOC 2012: results/VOC2012/Segmentation/comp6_test_cls/NAME.png in a .tgz.

    The layout is that of the development kit (VOCinit.m, and section 5.3 of its manual). Files
    are palette PNGs with the devkit's colors and values 0 (background) to 20.

    Args:
        folder: will contain results/.
        images: see `Submission`.
        competition: "comp5" for networks trained on VOC 2012's own trainval split only, or
            "comp6" for those trained on any other data too (including SBD's 10,582 images).
        image_set: "test", or "val" to evaluate locally with the devkit.
    """

    title = "PASCAL VOC 2012"
    num_classes = 21
    mode = "P"

    def __init__(
        self,
        folder: str | os.PathLike,
        images: Mapping[str, tuple[int, int]],
        *,
        competition: str = "comp6",
        image_set: str = "test",
    ):
        if competition not in COMPETITIONS:
            known = " or ".join(f"{name!r} ({what})" for name, what in COMPETITIONS.items())
            raise ValueError(f"competition is {competition!r}; it must be {known}.")
        super().__init__(folder, images)
        self.competition = competition
        self.image_set = image_set

    def path(self, name: str) -> Path:
        """Returns the path of an image's prediction."""
        folder = f"{self.competition}_{self.image_set}_cls"
        return self.folder / "results" / "VOC2012" / "Segmentation" / folder / f"{name}.png"

    def palette(self) -> np.ndarray:
        """Returns the devkit's color map, (256, 3) uint8.

        The bits of a value go to red, green and blue in turn, lowest first, and fill each
        channel from its highest bit down.
        """
        values = np.arange(256)
        colors = np.zeros((256, 3), np.uint8)
        for bit in range(8):
            colors[:, bit % 3] |= ((values >> bit & 1) << (7 - bit // 3)).astype(np.uint8)
        return colors


class CityscapesSubmission(Submission):
    """Cityscapes: CITY_SEQUENCE_FRAME_pred_labelIds.png of label ids, 2048x1024, in a .zip.

    The server runs cityscapesScripts' csEvalPixelLevelSemanticLabeling, which searches all
    folders for the only file CITY_SEQUENCE_FRAME*.png of an image.

    Args:
        folder: where the files are written.
        images: see `Submission`; names may end in _leftImg8bit as those of the image files do.
        size: (height, width) of all images; other than Cityscapes' own only for tests.
    """

    title = "Cityscapes"
    num_classes = len(CLASSES)

    def __init__(
        self,
        folder: str | os.PathLike,
        images: Mapping[str, tuple[int, int]],
        *,
        size: tuple[int, int] = (1024, 2048),
    ):
        super().__init__(folder, images)
        for name, (height, width) in self.images.items():
            if (height, width) != tuple(size):
                raise ValueError(
                    f"{name}: the image is {width}x{height} but Cityscapes' are "
                    f"{size[1]}x{size[0]}; predict the full size."
                )
            city, *numbers = _core(name).split("_")
            if not city or len(numbers) != 2 or not all(number.isdigit() for number in numbers):
                raise ValueError(
                    f"{name!r} is not the name of a Cityscapes image, e.g. "
                    "'berlin_000000_000019_leftImg8bit'; use the names of its files."
                )

    def path(self, name: str) -> Path:
        """Returns the path of an image's prediction."""
        return self.folder / f"{_core(name)}_pred_labelIds.png"

    def to_values(self, classes: np.ndarray) -> np.ndarray:
        """Converts class indices to label ids, uint8."""
        return label_ids(classes)


class ADE20KSubmission(Submission):
    """ADE20K, the Scene Parsing benchmark: NAME.png with values 1 to 150, in a .zip.

    NAME is that of the image (CSAILVision/sceneparsing, README.md). 0 is "other objects", which
    the evaluation ignores in the labels and predictions never contain.
    """

    title = "ADE20K"
    num_classes = 150

    def to_values(self, classes: np.ndarray) -> np.ndarray:
        """Converts class indices to values, 1 higher, uint8."""
        return (classes + 1).astype(np.uint8)


def _core(name):
    return name.removesuffix("_leftImg8bit")


SERVERS: dict[str, type[Submission]] = {
    "ade20k": ADE20KSubmission,
    "cityscapes": CityscapesSubmission,
    "voc2012": VOCSubmission,
}
"""Submission classes by the name of the data set."""
