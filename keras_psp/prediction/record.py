"""predictions.csv and predictions.json: which inputs are done, and with which settings."""

import contextlib
import csv
import dataclasses
import itertools
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_psp.data.images import is_url
from keras_psp.files import (
    DRAFT_NAME,
    csv_text,
    file_checksum,
    file_digest,
    plain_text,
    printable,
    remove_drafts,
    writing,
    written_aside,
)
from keras_psp.prediction.confidence import map_names
from keras_psp.prediction.inputs import TABLE, Input
from keras_psp.prediction.result import result_files
from keras_psp.resume import (
    changed_settings,
    check_settings,
    damaged,
    read_record,
    row_checksum,
    write_record,
)

SETTINGS = "predictions.json"

_COLUMNS = (
    *("name", "source", "state", "width", "height", "frames", "failure"),
    *("sha256", "results", "check"),  # checksums of the input, the files made of it, and the row
)
# Columns that contain file names of the user.
_TEXTS = ("name", "source", "failure")

# States of a row. After a kill, an input that was begun may have some results.
_BEGUN, _DONE, _FAILED, _OTHER = "begun", "done", "failed", "other settings"


_REMEDY = "choose another output, or give force=True to replace it"


class Record:
    """Keeps the table and the settings of a folder of results, which need not exist.

    The settings are everything that changes results, as plain data for JSON. Without `force`,
    results with other settings or a damaged file raise a ValueError, and a table without settings
    raises a FileExistsError.
    """

    def __init__(
        self, folder: Path, class_names: Iterable[str], settings: dict[str, Any], *, force: bool
    ):
        self._folder = folder
        self._settings = settings
        self._class_columns = _class_columns(class_names)
        self._columns = (*_COLUMNS, *self._class_columns)
        self._force = force
        # Digests of this call's inputs, from just before they were read.
        self._contents: dict[str, str] = {}
        self.changed: list[Path] = []  # results that `is_done` found changed
        stored = None
        if (folder / SETTINGS).exists():
            try:
                stored = read_record(folder / SETTINGS, _REMEDY)
            except ValueError:
                if not force:
                    raise
                stored = {}
        elif (folder / TABLE).exists() and not force:
            raise FileExistsError(f"{folder / TABLE} exists without its {SETTINGS}; {_REMEDY}.")
        changed = [] if stored is None else changed_settings(stored, settings)
        if "weights" not in changed:  # the same network, perhaps with another name
            changed = [name for name in changed if name != "model"]
        if changed and not force:
            check_settings(
                stored or {},
                {name: settings[name] for name in changed},
                contents=f"{folder} holds predictions",
                remedy="choose another output, or give force=True to replace them",
            )
        self._rows = self._read(same_settings=stored is not None and not changed)
        self._lock = threading.Lock()

    def _read(self, *, same_settings):
        path = self._folder / TABLE
        if not path.exists():
            return {}
        try:
            rows = self._rows_of(path)
        except (OSError, ValueError, csv.Error) as error:
            if not self._force:
                raise damaged(path, error, _REMEDY) from error
            return {}
        for row in rows:
            if row["state"] == _DONE and not same_settings:
                row["state"] = _OTHER
        # If several rows have the same name, the last one counts.
        return self._without_unused({row["name"]: row for row in rows})

    def _rows_of(self, path):
        with path.open(newline="", encoding="utf-8") as file:
            # A killed process may leave half a row.
            lines = [line for line in file if line.endswith(("\r", "\n"))]
        reader = csv.DictReader(lines, strict=True)
        columns = reader.fieldnames or [""]
        if missing := [name for name in ("name", "source", "state") if name not in columns]:
            raise ValueError(f"it has no column {missing[0]!r}")
        rows = []
        for row in reader:
            if None in row or None in row.values():
                raise ValueError(f"wrong number of cells in line {reader.line_num}")
            if "check" in columns and row["check"] != _check(columns, row):
                raise ValueError(f"wrong checksum in line {reader.line_num}")
            # Another network may have other classes.
            rows.append(
                {
                    column: plain_text(cell) if column in _TEXTS else cell
                    for column in self._columns
                    for cell in [row.get(column, "")]
                }
            )
        return rows

    def _without_unused(self, rows):
        """Drops rows that were begun but have no files, which frees their names."""
        begun = {name for name, row in rows.items() if row["state"] == _BEGUN}
        for entry in self._folder.iterdir() if begun else ():
            begun.discard(entry.name.rpartition("_")[0])
        return {name: row for name, row in rows.items() if name not in begun}

    def named(self, inputs: Iterable[Input]) -> list[Input]:
        """Returns the inputs with unique stems: those of earlier calls, or new ones."""
        stems = {row["source"]: name for name, row in self._rows.items()}
        taken = {name.casefold() for name in self._rows}
        named = []
        for item in inputs:
            stem = stems.get(_source(item)) if _is_recognizable(item) else None
            stem = stem or _unused_stem(item, taken)
            taken.add(stem.casefold())
            named.append(dataclasses.replace(item, stem=stem))
        return named

    def is_done(self, item: Input) -> bool:
        """Whether all results of an input exist and were made from its current content."""
        row = self._rows.get(item.stem)
        if row is None or row["state"] != _DONE or not _is_recognizable(item):
            return False
        files = self._files(item)
        if not all(file.exists() for file in files):
            return False
        if item.path is None or not item.path.exists():
            return True
        if not row["sha256"]:  # of a table without this column
            modified = item.path.stat().st_mtime_ns
            return all(modified <= file.stat().st_mtime_ns for file in files)
        if row["sha256"] != _content(item):
            return False
        results = zip(files, row["results"].split(), strict=False)
        self.changed += [file for file, digits in results if _crc(file) != digits]
        return True

    def noted(self, inputs: Iterable[Input]) -> Iterator[Input]:
        """Yields inputs that are about to be read, and notes their contents for their rows.

        If a file is replaced while it is read, the next call finds other contents.
        """
        for item in inputs:
            self._contents[item.stem] = _content(item)
            yield item

    def check_files(self, inputs: Iterable[Input], *, force: bool) -> None:
        """Raises if an input, or a file that isn't a result recorded here, would be replaced."""
        sources = {item.path.resolve() for item in inputs if item.path is not None}
        for item in inputs:
            for file in self._files(item):
                if file.resolve() in sources:
                    raise ValueError(
                        f"{file} is one of the images and would be replaced; choose another output."
                    )
                if file.exists() and item.stem not in self._rows and not force:
                    raise FileExistsError(
                        f"{file} exists and isn't recorded in {self._folder / TABLE}; {_REMEDY}."
                    )

    def _files(self, item):
        if item.is_video:
            return [self._folder / f"{item.stem}_overlay.mp4"]
        if item.is_raster:
            return [self._folder / f"{item.stem}_classes.tif"]
        settings = self._settings
        views = len(settings["scales"]) * (1 + settings["flip"])
        names = result_files(
            item.stem,
            settings["suffix"],
            probabilities=settings["probabilities"],
            confidence=map_names(views) if settings["confidence"] else (),
        )
        names += [f"{item.stem}_classes.tif"] if item.has_reference else []
        return [self._folder / name for name in names]

    def begin(self, inputs: Iterable[Input]) -> None:
        """Creates the folder with both files, so that missing permissions are noticed now.

        If this call is stopped, one row per input shows the next call which files belong to it.
        """
        drafts = {file.name[:DRAFT_NAME] for item in inputs for file in self._files(item)}
        drafts |= {TABLE, SETTINGS}
        remove_drafts(self._folder, drafts.__contains__)
        self._rows |= {item.stem: self._row(item, {"state": _BEGUN}) for item in inputs}
        with writing(self._folder):
            # There is never a table without settings, or next to those of a later call.
            if not (self._folder / TABLE).exists():
                self._write_settings()
            self._write_table(self._rows.values())
            self._write_settings()

    def _write_settings(self):
        write_record(self._folder / SETTINGS, self._settings)

    def add(self, item: Input, row: dict[str, Any], shares: np.ndarray | None = None) -> None:
        """Appends a row to the table: size and class shares, or the reason for the failure."""
        state = _FAILED if "failure" in row else _DONE
        row = {"state": state, "sha256": self._contents.get(item.stem, ""), **row}
        if state == _DONE:
            row["results"] = " ".join(map(_crc, self._files(item)))
        row = self._row(item, row, shares)
        path = self._folder / TABLE
        with self._lock:
            self._rows[item.stem] = row
            with writing(path), path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self._columns).writerow(self._cells(row))

    def _cells(self, row):
        """Returns the texts of a row, with its checksum."""
        cells = {column: str(row.get(column, "")) for column in self._columns}
        cells |= {column: csv_text(cells[column]) for column in _TEXTS}
        return {**cells, "check": _check(self._columns, cells)}

    def _row(self, item, row, shares=None):
        row = {"name": item.stem, "source": _source(item), **row}
        if shares is not None:
            texts = [f"{share:.6f}" for share in shares]
            row |= zip(self._class_columns, texts, strict=True)
        return row

    def failures(self, inputs: Iterable[Input]) -> tuple[tuple[str, str], ...]:
        """Returns (source, reason) of the inputs that failed."""
        reasons = ((item.origin, self._rows[item.stem].get("failure")) for item in inputs)
        return tuple((origin, reason) for origin, reason in reasons if reason is not None)

    def finish(self, stems: Sequence[str]) -> None:
        """Writes the table in the order of the stems, below the rows of earlier calls."""
        with self._lock:
            rows = self._without_unused(self._rows)
            last = [rows.pop(stem) for stem in stems if stem in rows]
            self._write_table([*rows.values(), *last])

    def _write_table(self, rows):
        path = self._folder / TABLE
        with written_aside(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(map(self._cells, rows))


def _is_recognizable(item):
    """Whether the next call can tell that an input is the same."""
    return item.path is not None or is_url(item.source)


def _content(item):
    """Returns digits that identify the content of an input's file; "" if there is none."""
    with contextlib.suppress(OSError):
        return "" if item.path is None else file_digest(item.path)
    return ""


def _crc(path):
    return f"{file_checksum(path):08x}"


def _check(columns, row):
    return row_checksum([column for column in columns if column != "check"], row)


def _source(item):
    return item.origin if item.path is None else printable(item.path.absolute())


def _unused_stem(item, taken):
    """The input's stem if it isn't taken, else with its folder's name or a number."""
    stems = [item.stem]
    if item.path is not None and item.path.absolute().parent.name:
        stems.append(f"{item.path.absolute().parent.name}_{item.stem}"[-100:])
    numbered = (f"{item.stem}-{number}" for number in itertools.count(2))
    return next(s for s in itertools.chain(stems, numbered) if s.casefold() not in taken)


def _class_columns(class_names):
    """Class names as column names, each different from all other columns."""
    columns: list[str] = []
    for index, name in enumerate(class_names):
        name = csv_text(name)
        columns.append(f"{name} ({index})" if name in (*_COLUMNS, *columns) else name)
    return columns
