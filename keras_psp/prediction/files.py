"""`predict_files`: writes results of many images and videos into a folder; can be resumed."""

import collections
import contextlib
import dataclasses
import os
import sys
from pathlib import Path
from typing import Any, Unpack

from keras_psp.data.images import MAX_PIXELS, is_url
from keras_psp.files import local_path, writing, written_aside
from keras_psp.models.classes import class_names_of
from keras_psp.prediction.georeference import reference_of, write_classes
from keras_psp.prediction.inputs import TABLE, Input, find_inputs
from keras_psp.prediction.opening import open_segmenter
from keras_psp.prediction.outcomes import is_out_of_memory, predict_inputs
from keras_psp.prediction.protocol import Protocol, ProtocolFields
from keras_psp.prediction.raster import at_own_size, is_large_raster, predict_raster
from keras_psp.prediction.record import Record
from keras_psp.prediction.strips import check_protocol
from keras_psp.prediction.video import predict_video
from keras_psp.progress import ahead, in_threads, with_bar
from keras_psp.weights.locating import chosen_model
from keras_psp.weights.opening import digest

SUFFIXES = (".png", ".jpg", ".webp")


@dataclasses.dataclass(frozen=True)
class Summary:
    """What `predict_files` did; `print` shows it on one line.

    `done` is the number of images and videos whose results were written, `skipped` that of those
    whose results existed already; `failures` has (source, reason) of the others.
    """

    folder: Path
    done: int
    skipped: int
    failures: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        parts = [f"{self.done} done"]
        if self.skipped:
            parts.append(f"{self.skipped} done before")
        if self.failures:
            parts.append(f"{len(self.failures)} failed")
        return f"{', '.join(parts)}: {self.folder / TABLE}"


def predict_files(
    images: Any,
    output: str | os.PathLike,
    model: Any = None,
    *,
    probabilities: bool = False,
    confidence: bool = False,
    suffix: str = ".png",
    alpha: float = 0.5,
    max_pixels: int = MAX_PIXELS,
    force: bool = False,
    progress: bool = True,
    **protocol: Unpack[ProtocolFields],
) -> Summary:
    """Predicts the classes of images and videos and writes the results into a folder.

        NAME_overlay.png       tinted and outlined by class, above a legend with shares
        NAME_classes.png       class indices, see `Prediction.save`
        NAME_probabilities.npz with `probabilities`, float16
        NAME_classes.tif       for a georeferenced TIFF, class indices with its georeference, if
                               rasterio is installed; for a TIFF of more than `max_pixels`, the
                               only file, see `predict_raster`
        NAME_confidence.png    with `confidence`, its maps side by side, and each as 16-bit gray;
                               see `Prediction.save`
        NAME_overlay.mp4       for a video, see `predict_video`
        predictions.csv        one row per input: size, share of every class, why it failed,
                               and its state: "done", "failed", "begun", or "other settings" if
                               a later call with `force` had others; and checksums of the
                               input, its results and the row. If several rows have the same
                               name, the last one counts
        predictions.json       the settings

    NAME is the file name of the input without suffix; if it is taken, the name of its folder is
    prepended, or a number appended. Calling the function again resumes: inputs that are done are
    skipped unless their content has changed, and those that failed or were interrupted are tried
    again. Web addresses are compared by name only. Images in memory can't be recognized and get
    new names.

    Args:
        images: see `predict`; also videos.
        output: the folder. It is created if needed, and not searched for inputs.
        model: see `predict`.
        max_pixels: larger images are refused; larger TIFFs are predicted from disk to disk, in
            windows of `crop` pixels, if rasterio is installed.
        probabilities: also write the probabilities, for images only.
        confidence: also write how sure each pixel's class is, for images only.
        suffix: format of the overlays: ".png", ".jpg" or ".webp".
        alpha: opacity of the class colors in the overlays, 0 to 1.
        force: replace results, even those with other settings and files that aren't results.
        progress: show progress bars on stderr.
        protocol: fields of `Protocol`: scales, flip, crop, overlap, base_size, antialias,
            batch_size.

    Raises:
        ValueError: if an argument is invalid, a folder contains no images, or the output has
            results with other settings or a damaged table; nothing is written.
        FileExistsError: if a file that isn't a recorded result would be replaced.
        OSError: if the output can't be written.

    Example:
        summary = keras_psp.prediction.predict_files("holiday/", "results")
        print(summary)  # 240 done, 1 failed: results/predictions.csv
    """
    output = local_path("output", output)
    _check(images, output, suffix, alpha)
    unique: dict[Any, Input] = {}  # what is named twice is read once
    for item in find_inputs(images, without=output):
        source = item.source if is_url(item.source) else id(item)
        unique.setdefault(item.path.resolve() if item.path else source, item)
    if not unique:
        raise ValueError("images is empty; pass at least one.")
    model = chosen_model(model)
    segmenter = open_segmenter(model, Protocol(**protocol))
    network, fields = segmenter.model, segmenter.protocol.settings
    settings = {
        "model": str(getattr(model, "name", model)),
        "weights": digest(network),
        **fields,
        "overlap": fields["overlap"] if fields["crop"] else None,  # only windows overlap
        "probabilities": probabilities,
        "confidence": confidence,
        "suffix": suffix,
        "alpha": alpha,
    }
    record = Record(output, class_names_of(network), settings, force=force)
    own_size, items = segmenter, []
    for item in unique.values():
        is_raster = is_large_raster(item.path, max_pixels)
        if is_raster:
            own_size = at_own_size(segmenter, protocol.get("base_size", "auto"), item.origin)
            check_protocol(own_size, item.origin)
        has_reference = not is_raster and reference_of(item.path) is not None
        items.append(dataclasses.replace(item, is_raster=is_raster, has_reference=has_reference))
    inputs = record.named(items)
    todo = inputs
    if not force:
        done = in_threads(record.is_done, inputs, "Comparing", progress=progress)
        todo = [item for item, is_done in zip(inputs, done, strict=True) if not is_done]
    if record.changed:
        print(
            f"{min(record.changed)}: was changed after it was written ({len(record.changed)} "
            "results were) and is kept; remove it to predict it again",
            file=sys.stderr,
        )
    record.check_files(todo, force=force)
    record.begin(todo)

    def save(pair):
        item, outcome = pair
        if isinstance(outcome, Exception):
            record.add(item, {"failure": str(outcome)})
            return
        with writing(output):
            outcome.save(output, suffix=suffix, alpha=alpha, force=True)
            if item.has_reference and (reference := reference_of(item.path)) is not None:
                with written_aside(output / f"{item.stem}_classes.tif") as draft:
                    write_classes(
                        draft, outcome.classes, reference, outcome.class_names, outcome.palette
                    )
        height, width = outcome.classes.shape
        # Recorded here, in the thread: if rows were added in the order of the inputs, many
        # results would lack theirs when the process is stopped.
        record.add(item, {"width": width, "height": height}, outcome.class_shares)

    stills = [item for item in todo if not (item.is_video or item.is_raster)]
    rasters = [item for item in todo if item.is_raster]
    videos = [item for item in todo if item.is_video]
    outcomes = predict_inputs(
        record.noted(stills),
        segmenter,
        probabilities=probabilities,
        confidence=confidence,
        max_pixels=max_pixels,
    )
    saved: Any = ahead(save, outcomes, threads=1 if probabilities else None)
    shown = with_bar(saved, "Predicting", len(stills)) if progress and stills else saved
    try:
        # Closed before the table is finished: its threads add rows until they end.
        with contextlib.closing(saved):
            collections.deque(shown, maxlen=0)
        for item in record.noted(rasters):
            record.add(item, *_raster(item, output, own_size, force, progress))
        for item in record.noted(videos):
            record.add(item, *_video(item, output, segmenter, alpha, progress))
    finally:
        record.finish([item.stem for item in inputs])
    failures = record.failures([*stills, *rasters, *videos])
    return Summary(output, len(todo) - len(failures), len(inputs) - len(todo), failures)


def _raster(item, output, segmenter, force, progress):
    """Returns the row of a large raster and its class shares."""
    path = output / f"{item.stem}_classes.tif"
    try:
        summary = predict_raster(
            item.path, path, segmenter, force=force or path.exists(), progress=progress
        )
    except ValueError as error:
        return {"failure": str(error)}, None
    return {"width": summary.width, "height": summary.height}, summary.class_shares


def _video(item, output, segmenter, alpha, progress):
    """Returns the row of a video and its class shares."""
    path = output / f"{item.stem}_overlay.mp4"
    try:
        summary = predict_video(item.source, path, segmenter, alpha=alpha, progress=progress)
    except (ValueError, ImportError) as error:
        return {"failure": str(error)}, None
    except OSError as error:
        # A damaged video is a ValueError, so unless it is missing, the output is the problem.
        if not isinstance(error, FileNotFoundError) or os.path.exists(item.source):
            with writing(path):
                raise
        return {"failure": str(error)}, None
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        remedy = "set crop=, base_size= or a smaller batch_size="
        return {"failure": f"{item.origin}: not enough memory; {remedy}."}, None
    row = {"width": summary.width, "height": summary.height, "frames": summary.frames}
    return row, summary.class_shares


def _check(images, output, suffix, alpha):
    if suffix not in SUFFIXES:
        raise ValueError(f"suffix is {suffix!r}; it must be one of {', '.join(SUFFIXES)}.")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha!r}; it must be from 0 to 1.")
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output} is a file; the output must be a folder.")
    for folder in images if isinstance(images, list | tuple) else [images]:
        if not isinstance(folder, str | os.PathLike):
            continue
        if Path(os.path.expanduser(folder)).resolve() == output.resolve():
            raise ValueError(f"{output} contains the images; choose another output.")
