"""Many photographs and videos to a folder of results that can be gone on with."""

import contextlib
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from keras_psp.data.images import MAX_PIXELS
from keras_psp.models.classes import class_names_of, palette_of
from keras_psp.prediction.inputs import find_inputs
from keras_psp.prediction.opening import open_segmenter
from keras_psp.prediction.outcomes import out_of_memory, outcomes
from keras_psp.prediction.protocol import Protocol
from keras_psp.prediction.record import TABLE, _Record, _unwritten
from keras_psp.prediction.result import Prediction
from keras_psp.prediction.video import predict_video
from keras_psp.progress import ahead, with_bar
from keras_psp.weights.opening import chosen_model, digest

SUFFIXES = (".png", ".jpg", ".webp")


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
    segmenter = open_segmenter(model, Protocol(scales, flip, crop, overlap, base_size, batch_size))
    network = segmenter.model
    settings = {
        "model": str(getattr(model, "name", model)),
        "weights": digest(network),
        **segmenter.protocol.settings,
        "overlap": overlap if crop else None,  # without windows it changes nothing
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
