"""Runs a job and reads its outcome."""

import contextlib
import dataclasses
import io
import json
import os
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from keras_psp.arguments import checked_integer
from keras_psp.beam import results
from keras_psp.beam.handler import SegmentationHandler, model_facts
from keras_psp.beam.pipeline import build
from keras_psp.beam.sources import Source
from keras_psp.beam.storage import absolute, matches, read_bytes, sweep, write_bytes
from keras_psp.data.pairs import ImagePairs
from keras_psp.progress import Bar
from keras_psp.resume import check_settings, damaged

# "DirectRunner" would first try to download a binary of Prism.
_LOCAL = "FnApiRunner"
_SETTINGS = "job.json"
_RESULTS = ("failed.jsonl", "confusion.npy", "confusion.json", "summary.json")
_LOCAL_RUNNERS = (_LOCAL, "DirectRunner", "PrismRunner", "BundleBasedDirectRunner")


class JobError(RuntimeError):
    """Beam stopped a job. Results written so far are kept."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The outcome of a job."""

    output: str  # folder of the results
    images: int  # number of images with a result
    failures: list[dict[str, str]]  # name, image and reason for each image without one
    class_names: tuple[str, ...]  # of the network
    # (num_classes, num_classes) int64, rows are labels and columns predictions; None without labels
    confusion: np.ndarray | None


def predict_many(
    source: Source,
    model: str | os.PathLike,
    output: str | os.PathLike,
    *,
    format: str = "png",
    shards: int = 8,
    ignore_class: int = 255,
    label_lookup: Mapping[int, int] | None = None,
    batch_size: int = 4,
    share_model: bool = False,
    workers: int = 1,
    beam_options: Sequence[str] = (),
    progress: bool = True,
    **options: Any,
) -> Outcome | None:
    """Predicts the classes of many images with Apache Beam, and evaluates them if they have labels.

    A job that was stopped or killed resumes with the same call: it skips images that have a
    result, and counts each image once in the confusion matrix. Images that can't be read or
    predicted, or whose label is invalid, are listed in failed.jsonl; the next call retries them.
    The network is compared by its weights, but images and labels only by their names: if an image
    or its label was replaced, remove its result.

    The output folder, on any of Beam's file systems:

        job.json              the settings, which must not change between calls
        classes/NAME.png      class indices, 8-bit (16-bit for more than 256 classes)
        classes-*.tfrecord    with format="tfrecord", instead of classes/; made from parts/
        failed.jsonl          name, image and reason, one line per image without a result
        confusion.npy, .json  with labels: (num_classes, num_classes) int64 pixel counts
        summary.json          numbers of images; written last

    Args:
        source: `ImageFiles`, `ImageList` or `TFRecords`.
        model: a `.keras` file, the folder of a training run, or a preset. Workers on other
            machines must be able to read it.
        output: folder of the results.
        format: "png", or "tfrecord" for shards of tf.train.Example.
        shards: number of final TFRecord files.
        ignore_class: label of pixels that don't count.
        label_lookup: maps each value in the labels to a class or `ignore_class`; by default,
            values are classes.
        batch_size, share_model, options: see `SegmentationHandler`.
        workers: number of processes of the local runner.
        beam_options: command-line flags for Beam, e.g. "--runner=DataflowRunner". By default,
            Beam's local runner runs in this process.
        progress: whether a local runner shows a progress bar on stderr.

    Returns:
        The outcome, or None if the runner doesn't wait for the end of the job.

    Raises:
        ValueError: if an argument is invalid, or the output folder has results of another job or
            other files of the same names.
        JobError: if Beam stops the job.

    Example:
        predict_many(ImageFiles("photos/**.jpg"), "best.keras", "classes")
    """
    if format not in results.FORMATS:
        raise ValueError(f"format={format!r} is unknown; choose png or tfrecord.")
    for name, value in (("shards", shards), ("batch_size", batch_size), ("workers", workers)):
        checked_integer(name, value, least=1)
    pipeline_options = _pipeline_options(beam_options, workers)
    facts = model_facts(model)
    source = source.resolved()
    fields = {"share_model": share_model, "batch_size": batch_size, **options}
    handler = SegmentationHandler(facts.model, **fields)
    values = _values(facts, label_lookup, ignore_class) if source.labeled else None
    folder = absolute(output).rstrip("/")
    if wildcards := sorted(set(folder) & set("*?[")):
        raise ValueError(
            f"output is {folder!r}, but Beam wouldn't find results in a folder with "
            f"{' or '.join(wildcards)} in its path; choose another one."
        )
    total = source.count(folder)
    lookup = None if label_lookup is None else {str(k): v for k, v in label_lookup.items()}
    settings = {
        "network": facts.digest,
        "source": {"kind": type(source).__name__, **dataclasses.asdict(source)},
        "format": format,
        "ignore_class": ignore_class if values else None,
        "label_lookup": lookup if values else None,
        # With the defaults, so that omitting them is the same job.
        "segmenter": handler.protocol.settings,
    }
    _store_or_check(folder, settings)
    sweep(folder)
    local = pipeline_options.view_as(StandardOptions).runner in _LOCAL_RUNNERS
    pipeline = beam.Pipeline(options=pipeline_options)
    with _watched(folder, format, total, shown=progress and local) as ticks:
        store = results.FORMATS[format](folder)
        build(pipeline, source, handler, facts, store, shards=shards, values=values, progress=ticks)
        finished = _run(pipeline, folder)
    return _outcome(folder, facts, evaluated=values is not None) if finished else None


def _values(facts, label_lookup, ignore_class):
    """Returns what maps the values in label files to the network's classes."""
    for value, index in (label_lookup or {}).items():
        if index != ignore_class and not 0 <= index < facts.num_classes:
            raise ValueError(
                f"label_lookup maps value {value} to class {index}, but there are "
                f"{facts.num_classes} classes; omit the value, or map it to ignore_class."
            )
    values = ImagePairs(
        {},
        class_names=facts.class_names,
        ignore_class=ignore_class,
        lookup=label_lookup,
        title=f"the {facts.num_classes} classes",
    )
    if label_lookup is not None and ignore_class < facts.num_classes:
        raise ValueError(
            f"ignore_class={ignore_class} is also class {ignore_class}, "
            f"{facts.class_names[ignore_class]!r}, which wouldn't count; choose a number that "
            "isn't a class, e.g. 255."
        )
    return values


def _outcome(folder, facts, *, evaluated):
    summary = json.loads(read_bytes(f"{folder}/summary.json"))
    lines = read_bytes(f"{folder}/failed.jsonl").decode().splitlines()
    confusion = None
    if evaluated:
        confusion = np.load(io.BytesIO(read_bytes(f"{folder}/confusion.npy")))
    failures = [json.loads(line) for line in lines]
    return Outcome(folder, summary["images"], failures, facts.class_names, confusion)


def _pipeline_options(flags, workers):
    flags = list(flags)
    chosen = PipelineOptions(flags).view_as(StandardOptions).runner
    local = chosen is None or chosen.rpartition(".")[2] in _LOCAL_RUNNERS
    if workers > 1 and not local:
        raise ValueError(
            f"workers={workers} is only for the local runner; use the options of {chosen}, e.g. in "
            "beam_options."
        )
    if chosen is None:
        flags.append(f"--runner={_LOCAL}")
    if workers > 1:
        flags += ["--direct_running_mode=multi_processing", f"--direct_num_workers={workers}"]
        flags.append("--default_sdk_harness_log_level=WARNING")
    return PipelineOptions(flags)


def _store_or_check(folder, settings):
    """Writes the settings of a new job, or checks that they are those of the job in the folder."""
    file = f"{folder}/{_SETTINGS}"
    if not FileSystems.exists(file):
        # It may be the folder of the images, but none of the user's files is replaced.
        for name in ("classes", "parts", *_RESULTS):
            if FileSystems.exists(f"{folder}/{name}"):
                raise ValueError(
                    f"{folder} has {name!r} but no {_SETTINGS}, so it isn't a job's output; "
                    "choose another one."
                )
        write_bytes(file, json.dumps(settings, indent=1).encode() + b"\n")
        return
    try:
        stored = json.loads(read_bytes(file))
        if not isinstance(stored, dict):
            raise ValueError("it isn't an object")
    except ValueError as error:
        raise damaged(file, error, "restore it, or choose another output") from error
    check_settings(
        stored,
        settings,
        contents=f"{folder} holds a job",
        remedy="choose another output, or use the same arguments to resume",
    )


def _run(pipeline, folder):
    """Runs the pipeline and returns whether it has finished."""
    try:
        result = pipeline.run()
        state = result.wait_until_finish()
    except Exception as error:
        raise JobError(
            f"Beam stopped: {_cause(error)}. The results in {folder} are complete; run the same "
            "command again to resume."
        ) from error
    if str(state) not in ("DONE", "None"):
        raise JobError(f"Beam ended in state {state}; run the same command again to resume.")
    return str(state) == "DONE"


def _cause(error):
    """Returns the last line of a worker's traceback, without Beam's additions."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    messages = [line for line in lines if not line.startswith((" ", "\t", "Traceback"))]
    cause = (messages or lines or [type(error).__name__])[-1]
    return cause.split(" [while running")[0].rstrip(".")


@contextlib.contextmanager
def _watched(folder, format, total, *, shown):
    """Creates a file to which workers append one byte per image, and shows its size as a bar."""
    if not shown:
        yield None
        return
    before = len(matches(f"{folder}/{results.PNGs.pattern}")) if format == "png" else 0
    stopped = threading.Event()
    with tempfile.TemporaryDirectory(prefix="keras-psp-progress-") as work:
        path = Path(work) / "images"
        path.touch()
        view = threading.Thread(target=_view, args=(path, before, total, stopped), daemon=True)
        view.start()
        try:
            yield str(path)
        finally:
            stopped.set()
            view.join()


def _view(path, before, total, stopped):
    """Shows the progress that workers write to a file, until stopped."""
    with Bar("predicting", total, completed=before) as bar:
        running = True
        while running:
            running = not stopped.wait(0.5)
            if done := path.stat().st_size:
                bar.update(before + done, f"{bar.rate:.1f} images/s")
