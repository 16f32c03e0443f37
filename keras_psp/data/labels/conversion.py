"""Converts labels of any tool once, to a folder that `ImageFolder` reads."""

import collections
import dataclasses
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from keras_psp.data.bands import bands_size, channels_of
from keras_psp.data.division import SPLITS
from keras_psp.data.images import image_size
from keras_psp.data.label_files import check_names
from keras_psp.files import (
    is_hidden,
    local_path,
    printable,
    sweep,
    writing,
    written_aside,
)
from keras_psp.palette import VOID_COLOR
from keras_psp.progress import in_threads

_IGNORED = 255  # by default, for `ImageFolder`


@dataclasses.dataclass(frozen=True)
class Converted:
    """What `convert_labels` wrote.

    Attributes:
        folder: the folder.
        class_names: names in index order.
        pixels: (num_classes + 1,), number of pixels of each class; ignored pixels come last.
        images: (num_classes + 1,), number of images that contain them.
        count: number of images.
    """

    folder: Path
    class_names: tuple[str, ...]
    pixels: np.ndarray
    images: np.ndarray
    count: int

    def summary(self) -> str:
        """Returns one line with the share of pixels and the images of each class."""
        total = max(1, int(self.pixels.sum()))
        names = [*self.class_names, "ignored"]
        counts = [
            f"{name} {pixels / total:.2%} in {images}"
            for name, pixels, images in zip(names, self.pixels, self.images, strict=True)
            if pixels or name != "ignored"
        ]
        return f"{self.count} images: {', '.join(counts)}"


def convert_labels(
    source: Any, output: str | os.PathLike, *, link: bool = False, progress: bool = True
) -> Converted:
    """Writes the examples of a source as a folder for `ImageFolder`.

    The folder has images/, labels/, classes.txt and palette.txt, and train/, val/ and test/ if the
    source has these splits. It is complete or absent, even if the process is killed.

    Args:
        source: a source with files, such as `keras_psp.data.load("labelme", root=...)`.
        output: the folder to write, which must be absent or empty.
        link: make hard links to the images instead of copies.
        progress: show a progress bar on stderr.

    Raises:
        ValueError: if the output isn't empty, or an image or label can't be read.
        OSError: if the output can't be written.
    """
    output = empty_folder(output)
    sweep(output)
    names = source.class_names
    written_names = [printable(" ".join(name.split())) for name in names]
    check_names(written_names, source.title)
    jobs = list(_jobs(source))
    colors = _colors(source)
    pixels, images = np.zeros(len(names) + 1, np.int64), np.zeros(len(names) + 1, np.int64)
    with written_aside(output) as draft:

        def convert(job):
            return _convert(source, job, draft, colors, link)

        for folder in {job.folder for job in jobs}:
            for kind in ("images", "labels"):
                (draft / folder / kind).mkdir(parents=True)
        for counts in in_threads(convert, jobs, "Converting", progress=progress):
            counts = np.append(counts[: len(names)], counts[source.ignore_class])
            pixels += counts
            images += counts > 0
        _write_names(written_names, source.palette, draft)
    return Converted(output, tuple(names), pixels, images, len(jobs))


def empty_folder(output: str | os.PathLike) -> Path:
    """Returns the path of a folder to write; raises ValueError unless it is absent or empty."""
    output = local_path("output", output)
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output} is a file; the output must be a folder.")
    with writing(output):
        others = sorted(output.iterdir()) if output.exists() else []
    others = [entry for entry in others if not is_hidden(entry.name)]
    if others:
        raise ValueError(f"{output} is not empty ({others[0].name}); choose another --output.")
    return output


@dataclasses.dataclass(frozen=True)
class _Job:
    """An example to convert: its files, and the folder and name that it gets."""

    image: Path
    label: Path
    folder: str
    name: str


def _jobs(source: Any) -> Iterator[_Job]:
    for split in ("all",) if "all" in source.splits else source.splits:
        if split not in ("all", *SPLITS):
            raise ValueError(
                f"split {split!r} of {source.title} can't be converted; its folder must be called "
                f"{', '.join(SPLITS)} or similar."
            )
        if not source.labeled(split):
            print(
                f"{source.title}: split {split!r} has no labels and is left out.", file=sys.stderr
            )
            continue
        pairs, root = source.paths(split), getattr(source, "root", None)
        # Windows and macOS take names that differ in case for the same file.
        stems = collections.Counter(image.stem.casefold() for image, _ in pairs)
        used: dict[str, Path] = {}
        for image, label in pairs:
            unique = stems[image.stem.casefold()] == 1
            name = image.name if unique else _long_name(image, root)
            other = used.setdefault(os.path.splitext(name)[0].casefold(), image)
            if other != image:
                raise ValueError(
                    f"{image}: {other} would be called {name} too; rename one of them."
                )
            yield _Job(image, label, "" if split == "all" else split, name)


def _long_name(image, root):
    """The name for an image that shares its own with others: with the names of its folders."""
    known = root is not None and image.is_relative_to(root)
    inside = image.relative_to(root) if known else image
    folders = [part for part in inside.parts[:-1] if part != image.anchor]
    return "_".join([*folders, image.stem, image.suffix[1:]]) + image.suffix


def _convert(source, job, draft, colors, link):
    mask = source.to_classes(source.read_label(job.label), job.label)
    size = (image_size if channels_of(source) == 3 else bands_size)(job.image)
    if size != mask.shape:
        raise ValueError(
            f"{job.label}: label is {mask.shape[1]}x{mask.shape[0]} but its image is "
            f"{size[1]}x{size[0]}; labels must have their image's size."
        )
    image = draft / job.folder / "images" / job.name
    if link:
        _link(job.image, image)
    else:
        shutil.copyfile(job.image, image)
    drawn = Image.fromarray(np.where(mask == source.ignore_class, _IGNORED, mask).astype(np.uint8))
    drawn.putpalette(colors)
    drawn.save((draft / job.folder / "labels" / job.name).with_suffix(".png"))
    return np.bincount(mask.ravel(), minlength=256)


def _link(source, target):
    try:
        os.link(source, target)
    except OSError as error:
        raise ValueError(
            f"{source}: can't be linked ({error.strerror}); put the output on the same disk, or "
            "leave out --link."
        ) from None


def _colors(source):
    colors = np.full((256, 3), VOID_COLOR, np.uint8)
    colors[: len(source.palette)] = source.palette
    return colors.ravel().tolist()


def _write_names(names, palette, folder):
    lines = [
        f"{index} {' '.join(map(str, color))} {name}"
        for index, (name, color) in enumerate(zip(names, palette.tolist(), strict=True))
    ]
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in names), "utf-8")
    (folder / "palette.txt").write_text("".join(f"{line}\n" for line in lines), "utf-8")
