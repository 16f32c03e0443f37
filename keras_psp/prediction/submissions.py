"""Predictions in the files that the benchmarks' servers take.

submission = VOCSubmission("out", image_sizes(source, "test"))
for name, classes in predictions:
    submission.write(name, classes)
submission.check()
submission.pack("results.tgz")
"""

import os
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from keras_psp.data.pairs import ranges
from keras_psp.data.sets.cityscapes_labels import CLASSES, label_ids
from keras_psp.files import written_aside
from keras_psp.progress import in_threads

COMPETITIONS = {
    "comp5": "trained on VOC 2012's own trainval split alone",
    "comp6": "trained on any data but the test split",
}


def image_sizes(source, split: str) -> dict[str, tuple[int, int]]:
    """Names and sizes of a split's images, which a submission is made for.

    Args:
        source: a `keras_psp.data` source with files, such as `load("voc2012")`.
        split: one of its splits.

    Returns:
        For each image's file name without suffix its (height, width).
    """
    names = [image.stem for image, _ in source.paths(split)]
    return dict(zip(names, source.sizes(split), strict=True))


def checked_archive(path: str | os.PathLike) -> Path:
    """The path, if its suffix is that of an archive that can be made."""
    path = Path(path)
    if not path.name.endswith((".zip", ".tgz", ".tar.gz")):
        raise ValueError(f"{path}: the archive must end in .zip, .tgz or .tar.gz.")
    return path


class Submission:
    """One PNG per image, as a benchmark's server takes them.

    Args:
        folder: where the files go; made if it isn't there.
        images: (height, width) of every image by its file name without suffix, as from
            `image_sizes`; what the server expects, no more and no less.

    Attributes:
        folder: as given.
        images: as given.
        title: the benchmark's name.
        num_classes: number of classes that predictions may have.
        mode: Pillow's name of the files' kind of pixels, "L" or "P".

    Raises:
        ValueError: `images` is empty, or one has a name or size that the benchmark's haven't.
    """

    title = ""
    num_classes = 0
    mode = "L"

    def __init__(self, folder: str | os.PathLike, images: Mapping[str, tuple[int, int]]):
        self.folder = Path(folder)
        self.images = dict(images)
        if not self.images:
            raise ValueError(f"images is empty; give the names and sizes of {self.title}'s images.")

    def path(self, name: str) -> Path:
        """The file of an image's prediction."""
        return self.folder / f"{name}.png"

    def write(self, name: str, classes: np.ndarray) -> Path:
        """Write one image's prediction, whole or not at all.

        Args:
            name: the image's file name without suffix, one of `images`.
            classes: (height, width) integers, class indices, of the image's size.

        Returns:
            The file's path.

        Raises:
            ValueError: the name is unknown, the size wrong, or a value no class.
        """
        if name not in self.images:
            raise ValueError(
                f"{name!r} is none of the {len(self.images)} images of the submission, such as "
                f"{next(iter(self.images))!r}; give an image's file name without suffix."
            )
        classes = np.asarray(classes)
        if classes.shape != tuple(self.images[name]):
            height, width = self.images[name]
            raise ValueError(
                f"{name}: classes have shape {classes.shape} but the image is {width}x{height}; "
                f"they must have shape ({height}, {width})."
            )
        if not np.issubdtype(classes.dtype, np.integer):
            raise ValueError(
                f"{name}: classes have dtype {classes.dtype}; give class indices, integers."
            )
        wrong = classes[(classes < 0) | (classes >= self.num_classes)]
        if wrong.size:
            raise ValueError(
                f"{name}: value {wrong[0]} is no class of {self.title} (0 to "
                f"{self.num_classes - 1}); give class indices."
            )
        picture = Image.fromarray(self.to_values(classes))
        if self.mode == "P":
            picture.putpalette(self.palette().tobytes())
        with written_aside(self.path(name)) as aside:
            picture.save(aside)
        return self.path(name)

    def check(self, *, progress: bool = True) -> int:
        """Read everything back, so that no bad file spends one of the few submissions.

        Args:
            progress: show a progress bar on stderr.

        Returns:
            The number of files, all of them right.

        Raises:
            ValueError: the first fault, and the number of others.
        """
        found = in_threads(self._fault, list(self.images), "Checking", progress=progress)
        faults = [fault for fault in found if fault]
        expected = {self.path(name) for name in self.images}
        faults += [
            f"{path}: belongs to no image of the submission; remove it."
            for path in sorted(self._home().rglob("*.png"))
            if path not in expected
        ]
        if faults:
            others = f" ({len(faults) - 1} more like it.)" if len(faults) > 1 else ""
            raise ValueError(faults[0] + others)
        return len(self.images)

    def pack(self, path: str | os.PathLike, *, progress: bool = True) -> Path:
        """Check the files, then put them into the archive to upload.

        Args:
            path: the archive, .zip, .tgz or .tar.gz.
            progress: show a progress bar on stderr.

        Returns:
            The archive's path.

        Raises:
            ValueError: the first fault of `check`, or a suffix of another archive.
        """
        path = checked_archive(path)
        self.check(progress=progress)
        files = {self.path(name).relative_to(self.folder): self.path(name) for name in self.images}
        with written_aside(path) as aside:
            if path.suffix == ".zip":
                with zipfile.ZipFile(aside, "w") as archive:
                    for inside, file in files.items():
                        archive.write(file, inside)
            else:
                with tarfile.open(aside, "w:gz") as archive:
                    for inside, file in files.items():
                        archive.add(file, str(inside))
        return path

    def to_values(self, classes: np.ndarray) -> np.ndarray:
        """Class indices as the files have them, uint8."""
        return classes.astype(np.uint8)

    def palette(self) -> np.ndarray:
        """(256, 3) uint8 colours of the files' values, for mode "P"."""
        raise NotImplementedError

    def _home(self):
        """The folder that must hold the files and nothing else."""
        return self.path(next(iter(self.images))).parent

    def _fault(self, name):
        path = self.path(name)
        if not path.is_file():
            return f"{path}: no such file; write the prediction of {name}."
        try:
            with Image.open(path) as picture:
                mode, size, values = picture.mode, picture.size, np.asarray(picture)
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
                f"{path}: has the value {wrong[0]}, which {self.title} knows no class by (it "
                f"knows {ranges(allowed)}); write it with {type(self).__name__}.write."
            )
        return None


class VOCSubmission(Submission):
    """PASCAL VOC 2012: results/VOC2012/Segmentation/comp6_test_cls/NAME.png in a .tgz.

    The layout is that of the development kit's VOCinit.m and section 5.3 of its manual;
    files are palette PNGs with the devkit's colours and values 0 (background) to 20.

    Args:
        folder: will hold results/.
        images: see `Submission`.
        competition: "comp5", trained on VOC 2012's own trainval alone, or "comp6",
            trained on any other data too (SBD's 10,582 among them).
        image_set: "test", or "val" to let the devkit evaluate on one's own.
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
        """The file of an image's prediction."""
        folder = f"{self.competition}_{self.image_set}_cls"
        return self.folder / "results" / "VOC2012" / "Segmentation" / folder / f"{name}.png"

    def palette(self) -> np.ndarray:
        """(256, 3) uint8, the devkit's colour map.

        The bits of a value are dealt out to red, green and blue in turn, lowest first,
        and fill each channel from its highest bit down.
        """
        values = np.arange(256)
        colours = np.zeros((256, 3), np.uint8)
        for bit in range(8):
            colours[:, bit % 3] |= ((values >> bit & 1) << (7 - bit // 3)).astype(np.uint8)
        return colours


class CityscapesSubmission(Submission):
    """Cityscapes: CITY_SEQUENCE_FRAME_pred_labelIds.png of label ids, 2048x1024, in a .zip.

    The server runs cityscapesScripts' csEvalPixelLevelSemanticLabeling, which looks, in
    whatever folders, for the one file CITY_SEQUENCE_FRAME*.png of an image.

    Args:
        folder: will hold the files.
        images: see `Submission`; names may end in _leftImg8bit as the images' files do.
        size: (height, width) of all images; other than Cityscapes' own for trials.
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
        for name, found in self.images.items():
            if tuple(found) != tuple(size):
                raise ValueError(
                    f"{name}: the image is {found[1]}x{found[0]} but Cityscapes' are "
                    f"{size[1]}x{size[0]}; predict the full size."
                )
            city, *numbers = _core(name).split("_")
            if not city or len(numbers) != 2 or not all(number.isdigit() for number in numbers):
                raise ValueError(
                    f"{name!r} is no name of an image of Cityscapes, such as "
                    "'berlin_000000_000019_leftImg8bit'; take the names from its files."
                )

    def path(self, name: str) -> Path:
        """The file of an image's prediction."""
        return self.folder / f"{_core(name)}_pred_labelIds.png"

    def to_values(self, classes: np.ndarray) -> np.ndarray:
        """Class indices as label ids, uint8."""
        return label_ids(classes)


class ADE20KSubmission(Submission):
    """ADE20K, the Scene Parsing benchmark: NAME.png with values 1 to 150, in a .zip.

    CSAILVision/sceneparsing, README.md: the name is the image's with the suffix png. 0 is
    "other objects", which the evaluation ignores in the truth and no prediction has.
    """

    title = "ADE20K"
    num_classes = 150

    def to_values(self, classes: np.ndarray) -> np.ndarray:
        """Class index + 1, uint8."""
        return (classes + 1).astype(np.uint8)


_MODES = {"L": "grey values that are labels", "P": "a palette whose indices are labels"}


def _core(name):
    return name.removesuffix("_leftImg8bit")
