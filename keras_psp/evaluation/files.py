"""Many photographs and videos to a folder of results that can be gone on with."""

import contextlib
import csv
import dataclasses
import io
import json
import os
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from keras_psp.data.photos import MAX_PIXELS, is_address
from keras_psp.data.progress import ahead, with_bar
from keras_psp.evaluation.inputs import Input, find_inputs
from keras_psp.evaluation.prediction import (
    Prediction,
    chosen_model,
    class_names_of,
    digest,
    open_model,
    out_of_memory,
    outcomes,
    palette_of,
    result_files,
)
from keras_psp.evaluation.protocol import chosen_base_size
from keras_psp.evaluation.segmenter import Segmenter
from keras_psp.evaluation.video import predict_video
from keras_psp.files import written_aside

TABLE, SETTINGS = "predictions.csv", "predictions.json"
_COLUMNS = ("name", "source", "state", "width", "height", "frames", "failure")
SUFFIXES = (".png", ".jpg", ".webp")
# States of a row. What is only begun may have results, or some of them, after a kill.
_BEGUN, _DONE, _FAILED, _OTHER = "begun", "done", "failed", "other settings"


@dataclasses.dataclass(frozen=True)
class Summary:
    """What `predict_files` did.

    Attributes:
        folder: of the results.
        done: number of photographs and videos whose results were written.
        skipped: number of those whose results were there already.
        failures: (source, reason) of those that have none.
    """

    folder: Path
    done: int
    skipped: int
    failures: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        """One line."""
        parts = [f"{self.done} done"]
        if self.skipped:
            parts.append(f"{self.skipped} done before")
        if self.failures:
            parts.append(f"{len(self.failures)} failed")
        return f"{', '.join(parts)}: {self.folder / TABLE}"


def predict_files(
    photos: Any,
    output: str | os.PathLike,
    model: Any = None,
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    crop: int | None = None,
    overlap: float = 1 / 3,
    base_size: int | Literal["auto"] | None = "auto",
    batch_size: int = 4,
    probabilities: bool = False,
    suffix: str = ".png",
    alpha: float = 0.5,
    max_pixels: int = MAX_PIXELS,
    force: bool = False,
    progress: bool = True,
) -> Summary:
    """Write the classes of photographs and videos into a folder.

        NAME_overlay.png       tinted and outlined by class, above a legend with shares
        NAME_classes.png       class indices, see `Prediction.save`
        NAME_probabilities.npz with `probabilities`, float16
        NAME_overlay.mp4       of a video, see `predict_video`
        predictions.csv        a row each: its state ("done", "failed", "begun", or "other
                               settings" where those of a forced call differ from its own),
                               size, why it failed, the share of every class; of two rows of
                               a name the later counts
        predictions.json       the settings they were made with

    NAME is the photograph's without suffix; of several alike the later ones get that of their
    folder in front, or a number behind. The same call again goes on: what is done is left,
    unless the photograph is newer, and what failed or was interrupted is tried again. Photographs
    in memory can't be known again; they get new names.

    Args:
        photos: see `predict`; videos too.
        output: the folder; made if it doesn't exist, left out of the photographs.
        model, scales, flip, crop, overlap, base_size, batch_size, max_pixels: see `predict`.
        probabilities: write them as well.
        suffix: of the overlays: ".png", ".jpg" or ".webp".
        alpha: share of the classes' colours in the overlays, 0 to 1.
        force: replace results, also those of other settings and files that aren't results.
        progress: show progress bars on stderr.

    Raises:
        ValueError: for wrong arguments, a folder without photographs, or one that holds
            results of other settings; nothing was written then.
        FileExistsError: a file that isn't a result recorded there would be replaced.
    """
    output = Path(output)
    _check(photos, output, suffix, alpha)
    items = _without_twins(find_inputs(photos, without=output))
    if not items:
        raise ValueError("photos is empty; give at least one.")
    model = chosen_model(model)
    network = open_model(model)
    base_size = chosen_base_size(model, base_size)
    segmenter = Segmenter(
        network,
        scales=scales,
        flip=flip,
        crop=crop,
        overlap=overlap,
        base_size=base_size,
        batch_size=batch_size,
    )
    settings = {
        "model": str(getattr(model, "name", model)),
        "weights": digest(network),
        "scales": list(segmenter.scales),
        "flip": flip,
        "crop": crop,
        "overlap": overlap if crop else None,  # without windows it changes nothing
        "base_size": base_size,
        "probabilities": probabilities,
        "suffix": suffix,
        "alpha": alpha,
    }
    record = _Record(output, class_names_of(network), settings, force=force)
    named = record.named(items)
    todo = [item for item in named if force or not record.is_done(item)]
    record.guard(todo, force=force)
    record.begin(todo)

    def save(outcome):
        item, found = outcome
        if isinstance(found, Prediction):
            try:
                found.save(output, suffix=suffix, alpha=alpha, force=True)
            except OSError as error:
                raise _unwritten(output, error) from error
            height, width = found.classes.shape
            # Here, in the thread: noted in the order of the inputs, many results would be
            # without their rows when something stops the process.
            record.add(item, {"width": width, "height": height}, found.class_shares)
            return []
        record.add(item, {"failure": str(found)}, None)
        return [(item.origin, str(found))]

    stills = [item for item in todo if not item.is_video]
    found = outcomes(
        stills,
        segmenter,
        batch_size=batch_size,
        probabilities=probabilities,
        max_pixels=max_pixels,
    )
    saved: Any = ahead(save, found, threads=1 if probabilities else None)
    shown = with_bar(saved, "Predicting", len(stills)) if progress and stills else saved
    failures: list[tuple[str, str]] = []
    try:
        # Closed before the table is, as results are noted until its threads have ended.
        with contextlib.closing(saved):
            for failed in shown:
                failures += failed
        for item in todo:
            if item.is_video:
                row, shares = _video(item, output, segmenter, alpha, batch_size, progress)
                record.add(item, row, shares)
                if "failure" in row:
                    failures.append((item.origin, row["failure"]))
    finally:
        record.finish([item.stem for item in named])
    done = len(todo) - len(failures)
    return Summary(output, done, len(named) - len(todo), tuple(failures))


def _video(item, output, segmenter, alpha, batch_size, progress):
    path = output / f"{item.stem}_overlay.mp4"
    try:
        found = predict_video(
            item.source,
            path,
            segmenter,
            class_names=class_names_of(segmenter.model),
            palette=palette_of(segmenter.model),
            alpha=alpha,
            batch_size=batch_size,
            progress=progress,
        )
    except (ValueError, ImportError) as error:
        return {"failure": str(error)}, None
    except OSError as error:
        # A video that can't be read is a ValueError, unless it isn't there: the rest is the output.
        if not isinstance(error, FileNotFoundError) or os.path.exists(item.source):
            raise _unwritten(path, error) from error
        return {"failure": str(error)}, None
    except Exception as error:
        if not out_of_memory(error):
            raise
        reason = (
            f"{item.origin}: needs more memory than there is; give crop=, base_size=, or a smaller "
            "batch_size=."
        )
        return {"failure": reason}, None
    row = {"width": found.width, "height": found.height, "frames": found.frames}
    return row, found.class_shares


def _check(photos, output, suffix, alpha):
    if suffix not in SUFFIXES:
        raise ValueError(f"suffix is {suffix!r}; it must be one of {', '.join(SUFFIXES)}.")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha!r}; it must be from 0 to 1.")
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output} is a file; the output must be a folder.")
    folders = [photos] if isinstance(photos, str | os.PathLike) else photos
    for folder in folders if isinstance(folders, list | tuple) else ():
        if isinstance(folder, str | os.PathLike) and Path(folder).resolve() == output.resolve():
            raise ValueError(f"{output} holds the photographs; choose another output.")


def _without_twins(inputs):
    """A file that was named twice is read once."""
    seen: set[Path] = set()
    kept = []
    for item in inputs:
        if item.path is not None:
            path = item.path.resolve()
            if path in seen:
                continue
            seen.add(path)
        kept.append(item)
    return kept


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
        """Remove the drafts of a killed process."""
        drafts = {f".{file.name}" for item in items for file in self._files(item)}
        for entry in self._folder.iterdir() if self._folder.is_dir() else ():
            if entry.name.rpartition("-")[0] in drafts:
                shutil.rmtree(entry, ignore_errors=True)

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
    return item.path is not None or is_address(item.source)


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
