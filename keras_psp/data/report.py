"""Checks a data set before long work: what it contains, what is wrong, and what is unusual."""

import collections
import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_psp.data.division import split_parts
from keras_psp.data.examination import Examined, count_values, examine_pairs
from keras_psp.data.images import DEVIATIONS
from keras_psp.data.label_files import ranges
from keras_psp.data.python_calls import original_errors
from keras_psp.files import printable, writing, written_aside
from keras_psp.progress import with_bar

if TYPE_CHECKING:
    import rich.console
    import rich.table

# Smoothed or resized masks have many values that are nowhere wider than a pixel.
_LEAST_SMOOTH = 8
_DISJOINT = ("train", "val", "test")
_MUCH_IGNORED = 0.5  # a fraction of the pixels


@original_errors()
def examine(
    source: Any, splits: Sequence[str] | None = None, *, progress: bool = True
) -> "DataReport":
    """Reads all files of a data set and reports what is in them.

    Files whose content was examined before, even under another name, are only hashed.

    Args:
        source: a source of labeled images, for instance `keras_psp.data.ImageFolder`.
        splits: names of splits; by default all of the source's, except for "all" if the others
            divide it.
        progress: show a progress bar on stderr.

    Raises:
        ValueError: if a split is unknown or empty.

    Example:
        report = keras_psp.data.examine(keras_psp.data.load("folder", root="aerial"))
        report.print()
    """
    if splits is None:
        splits = [split for split in source.splits if split != "all"] or source.splits
    splits = tuple(splits)
    if not hasattr(source, "to_classes"):
        return DataReport(source, {s: list(_examined(source, s, progress)) for s in splits})
    # Splits may share files, as the "trainval" of PASCAL VOC.
    pairs = list(dict.fromkeys(pair for split in splits for pair in source.paths(split)))
    found = dict(zip(pairs, examine_pairs(source, pairs, progress=progress), strict=True))
    return DataReport(source, {s: [found[pair] for pair in source.paths(s)] for s in splits})


def checked(
    source: Any,
    splits: Sequence[str],
    *,
    train_split: str | None = None,
    skip: bool = False,
    progress: bool = True,
) -> "DataReport":
    """Examines splits before long work, and prints on stderr what is unusual.

    Args:
        source: an `ImagePairs`.
        splits: names of splits.
        train_split: the split to train on, whose labels must be usable for that.
        skip: leave faulty examples out of the source.
        progress: show a progress bar on stderr.

    Raises:
        ValueError: about the first fault, unless they are skipped, or about the labels.
    """
    report = examine(source, splits, progress=progress)
    if skip:
        source.leave_out(report.faults(), report.count)
        report = report.without_faults()
    report.require(train_split)
    report.print_notes()
    return report


def _examined(source, split, progress):
    examples: Iterable = source.examples(split)
    if progress:
        examples = with_bar(examples, f"Checking {split}", source.count(split))
    names = source.names(split) if hasattr(source, "names") else None
    for number, (image, mask) in enumerate(examples):
        contents = count_values(np.asarray(mask, np.uint8))
        size = (int(image.shape[0]), int(image.shape[1]))
        name = f"{split} {number}" if names is None else names[number]
        yield Examined(name, name, size=size, **contents)


@dataclasses.dataclass
class DataReport:
    """What `examine` found.

    Attributes:
        source: the data set.
        examined: for each split, what was found in each example, in order.
    """

    source: Any
    examined: dict[str, list[Examined]]

    @property
    def title(self) -> str:
        """What messages call the data set."""
        return getattr(self.source, "title", type(self.source).__name__)

    @property
    def _named(self):
        return getattr(self.source, "classes_are_named", True)

    @property
    def train_split(self) -> str:
        """The split that training uses by default, or else the first."""
        return "train" if "train" in self.examined else next(iter(self.examined))

    @property
    def count(self) -> int:
        """Number of images, each counted once."""
        return len({item.image for item in self._all(self.examined)})

    def faults(self) -> dict[str, str]:
        """Returns why images can't be used, by path."""
        return {item.image: item.fault for item in self._all(self.examined) if item.fault}

    def problems(self, split: str) -> list[str]:
        """Returns sentences that say why this split can't be trained on, if so."""
        name = f"split {split!r} of {self.title}"
        counts = self._class_pixels(split)
        values = self._value_pixels(split)
        occurring = np.flatnonzero(counts[:-1])
        if not counts.sum():  # its labels aren't published, or all are faulty
            return []
        problems = []
        if len(occurring) < 2:
            problems.append(self._one_class(name, occurring, counts))
        named = self._named
        if not named and self.source.num_classes > 2 * len(occurring):
            problems.append(
                f"{name}: the labels hold only the values {ranges(np.flatnonzero(values))}, which "
                f"would make {self.source.num_classes} classes. Map the values to classes 0, 1, 2 "
                "and so on, e.g. label_map={255: 1}, or name all classes in "
                "classes.txt."
            )
        elif not named and (smooth := self._smooth_values(split)):
            problems.append(
                f"{name}: {smooth} of the {np.count_nonzero(values)} values in the labels never "
                "fill a 2x2 square, as in masks that were drawn with smooth edges or resized with "
                "interpolation. Draw or resize the masks without smoothing (nearest neighbor), or "
                "name all classes in classes.txt if each of these values is one."
            )
        return problems

    def _one_class(self, name, occurring, counts):
        ignored = counts[-1] / counts.sum()
        what = "no class at all"
        if occurring.size:
            what = f"only class {occurring[0]} ({self.source.class_names[occurring[0]]})"
        reason = f"{name}: the labels hold {what}"
        value = self.source.ignore_class
        if ignored:
            reason += f", and {_percent(ignored)} of their pixels are {value}, which is ignored"
            return (
                f"{reason}; nothing can be learned from this. If {value} is a class, give it an "
                f"index: label_map={{{value}: 1}}."
            )
        return f"{reason}; nothing can be learned from this. Label the other classes as well."

    def notes(self) -> list[str]:
        """Returns sentences about what is unusual but may be intended."""
        notes = []
        everything = list(self._all(self.examined))
        for key, text in DEVIATIONS.items():
            images = [item.image for item in everything if key in item.deviations]
            if images:
                notes.append(f"{len(images)} of {len(everything)} images {text} ({images[0]})")
        for split in self.examined:
            notes += self._notes_of(split)
        notes += self._duplicates()
        return notes

    def _notes_of(self, split):
        counts = self._class_pixels(split)
        if not counts.sum():
            return
        names = self.source.class_names
        if not self._named and split == self.train_split:
            labels = [item for item in self.examined[split] if item.pixels]
            largest = max(labels, key=lambda item: self._largest_value(item))
            noun = "class" if len(names) == 1 else "classes"
            yield (
                f"{len(names)} {noun}, counted from the labels; the largest value of split "
                f"{split!r}, {self._largest_value(largest)}, is in {largest.label}"
            )
        absent = np.flatnonzero(counts[:-1] == 0)
        if absent.size and split == self.train_split:
            listed = ", ".join(names[index] for index in absent[:5])
            more = f" and {absent.size - 5} more" if absent.size > 5 else ""
            yield (
                f"{absent.size} of {len(names)} classes never occur in split {split!r}: "
                f"{listed}{more}"
            )
        ignored = counts[-1] / counts.sum()
        if ignored > _MUCH_IGNORED:
            yield (
                f"{_percent(ignored)} of the label pixels in split {split!r} are "
                f"{self.source.ignore_class}, which is ignored"
            )
        empty = [
            item.label for item in self.examined[split] if item.label and self._is_unlabeled(item)
        ]
        if empty:
            yield f"{_number(empty, 'label')} of split {split!r} without any class ({empty[0]})"
        if self._named and (smooth := self._smooth_values(split)):
            yield (
                f"{smooth} values in the labels of split {split!r} never fill a 2x2 square; check "
                "that the masks weren't smoothed or resized with interpolation"
            )

    def _largest_value(self, item):
        return max((v for v in item.pixels if v != self.source.ignore_class), default=-1)

    def _is_unlabeled(self, item):
        return bool(item.pixels) and not any(self._classes_of(item)[:-1])

    def _duplicates(self):
        """Notes on images with the same content in several splits, or with different labels."""
        first: dict[str, tuple[str, Examined]] = {}
        shared, differing = collections.defaultdict(list), []
        for split, items in self.examined.items():
            joined = len(split_parts(split)) > 1
            for item in items if joined or split in _DISJOINT else ():
                if not item.digest:
                    continue
                other_split, other = first.setdefault(item.digest, (split, item))
                if other_split != split:
                    shared[other_split, split].append((other, item))
                elif other.label_digest != item.label_digest:
                    differing.append((other, item))
        for (one, two), pairs in shared.items():
            other, item = pairs[0]
            yield (
                f"{_number(pairs, 'image')} of split {two!r} also in {one!r} ({item.image} is "
                f"{other.image}), so that results on {two!r} are too optimistic"
            )
        if differing:
            other, item = differing[0]
            yield (
                f"{_number(differing, 'image')} with the content of another but different labels "
                f"({item.image} and {other.image})"
            )

    def _smooth_values(self, split):
        """Returns how many values never fill a 2x2 square, if these are most of them, or 0."""
        items = self._all([split])
        values = {value for item in items for value in item.pixels} - {self.source.ignore_class}
        thin = values - {value for item in self._all([split]) for value in item.solid}
        return len(thin) if len(thin) >= max(_LEAST_SMOOTH, len(values) / 2) else 0

    def class_pixels(self, split: str) -> np.ndarray:
        """Returns the pixels of each class in each example of a split, (examples, classes)."""
        counts = [self._classes_of(item)[:-1] for item in self.examined[split]]
        return np.array(counts).reshape(-1, self.source.num_classes)

    def representative(self, count: int) -> dict[str, list[int]]:
        """Returns indices of examples, by split, that together show all classes.

        For each class, rarest first, this is the example with the largest share of it. The rest
        of the `count` examples are evenly spaced.
        """
        places = [
            (split, index)
            for split, items in self.examined.items()
            for index, item in enumerate(items)
            if item.pixels and not item.fault
        ]
        each = {split: self.class_pixels(split) for split in self.examined}
        counts = np.array([each[split][index] for split, index in places])
        counts = counts.reshape(len(places), -1)
        shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
        totals = counts.sum(axis=0)
        classes = [index for index in np.argsort(totals, kind="stable") if totals[index]]
        best = [int(np.argmax(shares[:, index])) for index in classes]
        even = np.linspace(0, len(places) - 1, min(count, len(places))).astype(int).tolist()
        chosen = sorted(list(dict.fromkeys([*best, *even]))[:count])
        result: dict[str, list[int]] = {}
        for place in chosen:
            split, index = places[place]
            result.setdefault(split, []).append(index)
        return result

    def digest(self, split: str) -> str:
        """Returns hexadecimal digits that identify a split's names, contents, order and classes."""
        contents = [
            (Path(item.image).name, item.digest, item.label_digest) for item in self.examined[split]
        ]
        contents += [self.source.class_names, self.source.ignore_class]
        return hashlib.sha256(json.dumps(contents).encode()).hexdigest()[:16]

    def without_faults(self) -> "DataReport":
        """Returns the report on the examples that can be used."""
        return DataReport(
            self.source,
            {
                split: [item for item in items if not item.fault]
                for split, items in self.examined.items()
            },
        )

    def require(self, train_split: str | None = None) -> None:
        """Raises a ValueError about the first fault, or why `train_split` can't be trained on."""
        faults = list(self.faults().values())
        if faults:
            others = f" ({len(faults) - 1} more like it.)" if len(faults) > 1 else ""
            raise ValueError(faults[0] + others)
        if train_split is not None and (problems := self.problems(train_split)):
            raise ValueError(problems[0])

    def print_notes(self) -> None:
        """Prints the notes on stderr, one per line."""
        for note in self.notes():
            print(printable(f"{self.title}: {note}."), file=sys.stderr)

    def table(self) -> "rich.table.Table":
        """Returns the classes with their share of each split's pixels and images."""
        from rich.table import Table
        from rich.text import Text

        title = Text(f"{self.title}: share of pixels and images")  # not markup
        table = Table(title=title, title_justify="left")
        table.add_column("class")
        for split, items in self.examined.items():
            table.add_column(f"{split}, {len(items)} images", justify="right")
        for cells in self._class_rows():
            table.add_row(*(Text(cell) for cell in cells))
        table.add_section()
        table.add_row("sizes", *(_sizes(items) for items in self.examined.values()))
        return table

    def _class_rows(self):
        names = [*enumerate(self.source.class_names), (self.source.ignore_class, "ignored")]
        columns = []
        for split, items in self.examined.items():
            pixels = self._class_pixels(split)
            images = sum((self._classes_of(item) > 0).astype(int) for item in items)
            shares = zip(pixels / max(1, pixels.sum()), images / max(1, len(items)), strict=True)
            columns.append([f"{_percent(p)}  {_percent(i)}" if p else "-" for p, i in shares])
        titles = [f"{index} {name}" for index, name in names]
        return zip(titles, *columns, strict=True)

    def print(
        self,
        *,
        console: "rich.console.Console | None" = None,
        wording: Callable[[str], str] = str,
    ) -> None:
        """Prints the table, and all faults, problems and notes, to stdout or a console.

        `wording` changes the sentences, e.g. to name the options of a command.
        """
        from rich.console import Console

        console = console or Console(highlight=False)
        console.print(self.table())
        faults = list(self.faults().values())
        for fault in faults[:20]:
            console.print(printable(f"fault: {wording(fault)}"), soft_wrap=True, markup=False)
        if len(faults) > 20:
            console.print(f"and {len(faults) - 20} more faults")
        for problem in self.problems(self.train_split):
            console.print(f"problem: {wording(problem)}", soft_wrap=True, markup=False)
        for note in self.notes():
            console.print(printable(f"note: {wording(note)}"), soft_wrap=True, markup=False)
        if not faults and not self.problems(self.train_split):
            console.print("ready to train on")

    def to_json(self, path: str | os.PathLike) -> None:
        """Writes the whole report as JSON, with what was found in each file."""
        content = {
            "title": self.title,
            "class_names": list(self.source.class_names),
            "ignore_class": self.source.ignore_class,
            "faults": self.faults(),
            "problems": self.problems(self.train_split),
            "notes": self.notes(),
            "splits": {
                split: [dataclasses.asdict(item) for item in items]
                for split, items in self.examined.items()
            },
        }
        with writing(path), written_aside(path) as draft:
            Path(draft).write_text(json.dumps(content, indent=1) + "\n", "utf-8")

    def _all(self, splits: Iterable[str]) -> Iterator[Examined]:
        return (item for split in splits for item in self.examined[split])

    def _value_pixels(self, split):
        """Returns the pixels of each value in the files, (256,)."""
        counts = np.zeros(256, np.int64)
        for item in self._all([split]):
            for value, count in item.pixels.items():
                counts[value] += count
        return counts

    def _class_pixels(self, split):
        """Returns the pixels of each class, and of the ignored ones, (num_classes + 1,)."""
        return sum(
            (self._classes_of(item) for item in self._all([split])),
            start=np.zeros(self.source.num_classes + 1, np.int64),
        )

    def _classes_of(self, item):
        counts = np.zeros(self.source.num_classes + 1, np.int64)
        if item.fault or not item.pixels:
            return counts
        values = np.array([list(item.pixels)], np.uint8)
        if hasattr(self.source, "to_classes"):
            values = self.source.to_classes(values, item.label)
        indices = np.where(values[0] == self.source.ignore_class, len(counts) - 1, values[0])
        np.add.at(counts, indices, list(item.pixels.values()))
        return counts


def _number(items, name):
    return f"{len(items)} {name}{'s' * (len(items) > 1)}"


def _percent(fraction):
    return f"{100 * fraction:.2f} %" if fraction >= 0.0001 or not fraction else "< 0.01 %"


def _sizes(items):
    sizes = sorted({item.size for item in items if item.size != (0, 0)}, key=lambda s: s[0] * s[1])
    texts = [f"{width}x{height}" for height, width in sizes]
    return " to ".join(dict.fromkeys([texts[0], texts[-1]])) if texts else "-"
