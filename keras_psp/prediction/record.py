"""TODO."""

import csv
import dataclasses
import io
import json
import threading

from keras_psp.data.images import is_url
from keras_psp.files import DRAFT_NAME, remove_drafts, written_aside
from keras_psp.prediction.inputs import Input
from keras_psp.prediction.result import result_files

TABLE, SETTINGS = "predictions.csv", "predictions.json"


_COLUMNS = ("name", "source", "state", "width", "height", "frames", "failure")


# States of a row. What is only begun may have results, or some of them, after a kill.
_BEGUN, _DONE, _FAILED, _OTHER = "begun", "done", "failed", "other settings"


def _unwritten(path, error):
    reason = error.strerror or error
    return OSError(
        f"{path} can't be written ({reason}); make room or give write access, and start the same "
        "command again to go on."
    )


class _Record:
    """predictions.csv and predictions.json: what is done, and how it was made."""

    def __init__(self, folder, class_names, settings, *, force):
        self._folder = folder
        self._settings = settings
        self._names = _distinct(class_names)
        self._columns = (*_COLUMNS, *self._names)
        there = self._there()
        if there is None and (folder / TABLE).exists() and not force:
            raise FileExistsError(
                f"{folder / TABLE} exists without its {SETTINGS}; choose another output, or force "
                "its replacement."
            )
        differing = [
            key for key in settings if there is not None and there.get(key) != settings[key]
        ]
        if differing and differing != ["model"] and not force:
            # Another model is told by its name, the same one trained on by its weights.
            asked = differing if "weights" in differing else [k for k in differing if k != "model"]
            key = asked[0]
            raise ValueError(
                f"{folder} holds predictions with {key}={there.get(key)!r}, not "
                f"{settings[key]!r}; choose another output, or force their replacement."
            )
        same = there is not None and (not differing or differing == ["model"])
        self._rows = self._read(same)
        self._lock = threading.Lock()

    def _there(self):
        path = self._folder / SETTINGS
        if not path.exists():
            return None
        try:
            return dict(json.loads(path.read_text("utf-8")))
        except (ValueError, TypeError):
            return {}

    def _read(self, same):
        path = self._folder / TABLE
        if not path.exists():
            return {}
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or [""]
            if not {"name", "source", "state"} <= set(columns):
                return {}
            # A killed process may have left half a row; of two of a name the later counts.
            # Another network has other classes.
            rows = [
                {column: row.get(column, "") for column in self._columns}
                for row in reader
                if row[columns[-1]] is not None
            ]
        for row in rows:
            if row["state"] == _DONE and not same:
                row["state"] = _OTHER
        return self._without_idle({row["name"]: row for row in rows})

    def _without_idle(self, rows):
        """Without those that were begun and have no file: their names are free."""
        begun = {name for name, row in rows.items() if row["state"] == _BEGUN}
        for entry in self._folder.iterdir() if begun else ():
            begun.discard(entry.name.rpartition("_")[0])
        return {name: row for name, row in rows.items() if name not in begun}

    def named(self, items):
        """The inputs under names of their own: those they had before, else new ones."""
        before = {row["source"]: name for name, row in self._rows.items()}
        taken = {name.casefold() for name in self._rows}
        named = []
        for item in items:
            stem = before.get(_origin(item)) if _lasting(item) else None
            if stem is None:
                stem = _free(item, taken)
                taken.add(stem.casefold())
            named.append(dataclasses.replace(item, stem=stem))
        return named

    def is_done(self, item):
        """Whether all its results are there, and newer than it."""
        row = self._rows.get(item.stem)
        if row is None or row["state"] != _DONE or not _lasting(item):
            return False
        files = self._files(item)
        if not all(file.exists() for file in files):
            return False
        if item.path is None or not item.path.exists():
            return True
        oldest = min(file.stat().st_mtime_ns for file in files)
        return item.path.stat().st_mtime_ns <= oldest

    def guard(self, items, *, force):
        """Refuse to replace what isn't a result recorded here, or a photograph."""
        sources = {item.path.resolve() for item in items if item.path is not None}
        for item in items:
            for file in self._files(item):
                if file.resolve() in sources:
                    raise ValueError(
                        f"{file} is one of the photographs and would be replaced; choose another "
                        "output."
                    )
                if file.exists() and item.stem not in self._rows and not force:
                    raise FileExistsError(
                        f"{file} exists and isn't recorded in {self._folder / TABLE}; choose "
                        "another output, or force its replacement."
                    )

    def _files(self, item):
        if item.is_video:
            return [self._folder / f"{item.stem}_overlay.mp4"]
        suffix, probabilities = self._settings["suffix"], self._settings["probabilities"]
        files = result_files(item.stem, suffix, probabilities=probabilities)
        return [self._folder / name for name in files]

    def begin(self, items):
        """Make the folder and write both files, so that nothing fails at the end for that.

        A row of each tells the next call whose the files are, should this one not come to note
        its results.
        """
        rows = {item.stem: self._row(item, {"state": _BEGUN}, None) for item in items}
        try:
            self._sweep(items)
            self._rows |= rows
            # A table is first, so that rows of other settings are never beside these, as if
            # they had been made with them; where there is none, it must not be without them.
            writes = [self._write_settings, lambda: self._write(self._rows.values())]
            for write in reversed(writes) if (self._folder / TABLE).exists() else writes:
                write()
        except OSError as error:
            raise _unwritten(self._folder, error) from error

    def _write_settings(self):
        with written_aside(self._folder / SETTINGS) as draft:
            draft.write_text(json.dumps(self._settings, indent=1) + "\n", "utf-8")

    def _sweep(self, items):
        """Removes the drafts of a killed process."""
        names = {file.name[:DRAFT_NAME] for item in items for file in self._files(item)}
        remove_drafts(self._folder, names.__contains__)

    def add(self, item, row, shares):
        """Add a row at the end of the table, at once."""
        state = _FAILED if "failure" in row else _DONE
        row = self._row(item, {"state": state, **row}, shares)
        with self._lock:
            self._rows[item.stem] = row
            try:
                with (self._folder / TABLE).open("a", newline="", encoding="utf-8") as file:
                    csv.DictWriter(file, self._columns).writerow(row)
            except OSError as error:
                raise _unwritten(self._folder / TABLE, error) from error

    def _row(self, item, row, shares):
        figures = [""] * len(self._names) if shares is None else [f"{s:.6f}" for s in shares]
        shares = dict(zip(self._names, figures, strict=True))
        return {"name": item.stem, "source": _origin(item), **row, **shares}

    def finish(self, order):
        """The table in the order of the inputs, after those of earlier calls."""
        with self._lock:
            rows = self._without_idle(self._rows)
            these = [rows[name] for name in order if name in rows]
            ordered = set(order)
            self._write([*(row for name, row in rows.items() if name not in ordered), *these])

    def _write(self, rows):
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns)
        writer.writeheader()
        writer.writerows(rows)
        with written_aside(self._folder / TABLE) as draft:
            draft.write_text(text.getvalue(), "utf-8", newline="")


def _lasting(item: Input) -> bool:
    """Whether its origin means the same photograph in the next call."""
    return item.path is not None or is_url(item.source)


def _origin(item):
    return item.origin if item.path is None else str(item.path.absolute())


def _free(item, taken):
    """A name that no other has: its own, one with its folder's, or one with a number."""
    stems = [item.stem]
    if item.path is not None and item.path.absolute().parent.name:
        stems.append(f"{item.path.absolute().parent.name}_{item.stem}"[-100:])
    for stem in stems:
        if stem.casefold() not in taken:
            return stem
    number = 2
    while f"{item.stem}-{number}".casefold() in taken:
        number += 1
    return f"{item.stem}-{number}"


def _distinct(names):
    """Class names as columns: no two alike, and none like another column."""
    found: list[str] = []
    for index, name in enumerate(names):
        found.append(f"{name} ({index})" if name in (*_COLUMNS, *found) else name)
    return found
