"""A job: its settings, its run, and what came of it."""

import contextlib
import dataclasses
import io
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
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
from keras_psp.progress import bar_console

# "DirectRunner" would first try to fetch a binary of Prism from the network.
_LOCAL = "FnApiRunner"
_ON_THIS_MACHINE = (_LOCAL, "DirectRunner", "PrismRunner", "BundleBasedDirectRunner")


class JobError(RuntimeError):
    """Beam stopped a job as a whole; what was written stays."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a job left in its folder.

    Attributes:
        output: the folder.
        images: number of images with a result.
        failures: name, image and reason of those without.
        class_names: of the network.
        confusion: (num_classes, num_classes) int64, row the label, column the prediction;
            None without labels.
    """

    output: str
    images: int
    failures: list[dict[str, str]]
    class_names: tuple[str, ...]
    confusion: np.ndarray | None


def predict_many(
    model: str | os.PathLike,
    source: Source,
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
    **options,
) -> Outcome | None:
    """Predict the classes of many images, and with labels evaluate, by Apache Beam.

        predict_many("best.keras", ImageFiles("photos/**.jpg"), "classes")

    After a kill at any moment the same call goes on: images whose result was written are
    not predicted again, and each counts once in the confusion matrix. An image that can't be
    read or predicted, or whose label doesn't fit, stops nothing: it stands in failed.jsonl,
    and is tried again by the next call.

    Images without labels are read as `keras_psp.predict` does: upright by their EXIF, 16 bits,
    CMYK and transparency as RGB of 8. With labels they are taken as stored, as in training.

    The output folder, on any of Beam's file systems:

        job.json              the settings, which a second call must share
        classes/NAME.png      class indices, 8-bit (16-bit for more than 256 classes)
        classes-*.tfrecord    instead, for format="tfrecord"; made at the end of parts/
        failed.jsonl          a line for each image without result: name, image, reason
        confusion.npy, .json  for evaluation; (num_classes, num_classes) int64 pixels
        summary.json          numbers of images; written last

    Args:
        model: a `.keras` file, a training's folder, or a preset; where the workers are on
            other machines, at an address that they reach.
        source: `ImageFiles`, `ImageList` or `TFRecords`.
        output: folder of the results.
        format: "png", or "tfrecord" for shards of tf.train.Example.
        shards: number of TFRecord files at the end; those of another number are removed.
        ignore_class: label of pixels that don't count.
        label_lookup: for each value in the labels its class or `ignore_class`; by default
            values are classes already.
        batch_size: images of one size at a time.
        share_model: one network for all processes of a machine.
        workers: processes on this machine, for the local runner; each loads the network.
        beam_options: flags for Beam, as "--runner=DataflowRunner". By default Beam's local
            runner works in this process.
        progress: whether to say on stderr how far a local run is.
        options: of `Segmenter`: scales, flip, crop, overlap, base_size.

    Returns:
        The outcome; None where Beam was told not to wait for the job's end.

    Raises:
        ValueError: for arguments that can't be, or an output that holds another job.
        JobError: where Beam stopped for another reason than a single image; the same
            call goes on.
    """
    if format not in results.FORMATS:
        raise ValueError(f"format={format!r} is unknown; choose png or tfrecord.")
    for name, value in (("shards", shards), ("batch_size", batch_size), ("workers", workers)):
        checked_integer(name, value, least=1)
    pipeline_options = _pipeline_options(beam_options, workers)
    facts = model_facts(model)
    source = source.settled()
    handler = SegmentationHandler(
        facts.model, share_model=share_model, batch_size=batch_size, **options
    )
    values = None
    if source.labelled:
        for value, index in (label_lookup or {}).items():
            if index != ignore_class and not 0 <= index < facts.num_classes:
                raise ValueError(
                    f"label_lookup gives value {value} the class {index}, but there are "
                    f"{facts.num_classes}; leave the value out, or give ignore_class."
                )
        values = ImagePairs(
            {},
            class_names=facts.class_names,
            ignore_class=ignore_class,
            lookup=label_lookup,
            title=f"the {facts.num_classes} classes",
        )
    folder = absolute(output).rstrip("/")
    total = source.count(folder)
    if total == 0:
        raise ValueError(f"no image matches {_words(source)}; `**` goes into folders, `*` doesn't.")
    lookup = None if label_lookup is None else {str(k): v for k, v in label_lookup.items()}
    _settle(
        folder,
        {
            "network": facts.digest,
            "source": {"kind": type(source).__name__, **dataclasses.asdict(source)},
            "format": format,
            "ignore_class": ignore_class if values else None,
            "label_lookup": lookup if values else None,
            # With the defaults, so that leaving them out or not is the same job.
            "segmenter": handler.protocol.settings,
        },
    )
    sweep(folder)
    local = pipeline_options.view_as(StandardOptions).runner in _ON_THIS_MACHINE
    pipeline = beam.Pipeline(options=pipeline_options)
    with _watched(folder, format, total, shown=progress and local) as ticks:
        build(
            pipeline,
            source,
            handler,
            facts,
            folder,
            format=format,
            shards=shards,
            values=values,
            batch_size=batch_size,
            progress=ticks,
        )
        finished = _run(pipeline, folder)
    return outcome(folder, facts.class_names, evaluated=values is not None) if finished else None


def outcome(folder: str, class_names: Sequence[str], *, evaluated: bool) -> Outcome:
    """What the files of a finished job say."""
    summary = json.loads(read_bytes(f"{folder}/summary.json"))
    lines = read_bytes(f"{folder}/failed.jsonl").decode().splitlines()
    confusion = None
    if evaluated:
        confusion = np.load(io.BytesIO(read_bytes(f"{folder}/confusion.npy")))
    failures = [json.loads(line) for line in lines]
    return Outcome(folder, summary["images"], failures, tuple(class_names), confusion)


def _pipeline_options(flags, workers):
    flags = list(flags)
    chosen = PipelineOptions(flags).view_as(StandardOptions).runner
    local = chosen is None or chosen.rpartition(".")[2] in _ON_THIS_MACHINE
    if workers > 1 and not local:
        raise ValueError(
            f"workers={workers} is for the local runner; {chosen} has options of its own."
        )
    if chosen is None:
        flags.append(f"--runner={_LOCAL}")
    if workers > 1:
        flags += ["--direct_running_mode=multi_processing", f"--direct_num_workers={workers}"]
        flags.append("--default_sdk_harness_log_level=WARNING")
    return PipelineOptions(flags)


def _words(source):
    patterns = getattr(source, "patterns", None)
    return ", ".join(patterns) if patterns else str(source.path)


def _settle(folder, settings):
    """Write the settings of a new job, or check that an old one has the same."""
    here = json.loads(json.dumps(settings))
    file = f"{folder}/job.json"
    if not FileSystems.exists(file):
        write_bytes(file, json.dumps(here, indent=1).encode() + b"\n")
        return
    there = json.loads(read_bytes(file))
    for key in here:
        if there.get(key) != here[key]:
            raise ValueError(
                f"{folder} holds a job with {key}={there.get(key)!r}, not {here[key]!r}; choose "
                "another output, or give the same arguments to go on with it."
            )


def _run(pipeline, folder):
    """Whether the job came to its end before this returned."""
    try:
        result = pipeline.run()
        state = result.wait_until_finish()
    except KeyboardInterrupt:
        raise
    except Exception as error:
        raise JobError(
            f"Beam stopped: {_cause(error)}. What is in {folder} is whole; the same command goes "
            "on with it."
        ) from error
    if str(state) not in ("DONE", "None"):
        raise JobError(f"Beam ended in state {state}; the same command goes on with the job.")
    return str(state) == "DONE"


def _cause(error):
    """The last line that a worker's traceback has, without Beam's own remarks."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith((" ", "\t", "Traceback"))]
    return (told or lines or [type(error).__name__])[-1].split(" [while running")[0].rstrip(".")


@contextlib.contextmanager
def _watched(folder, format, total, *, shown) -> Iterator[str | None]:
    """A file that workers on this machine lengthen by a byte an image, and a view of it."""
    if not shown:
        yield None
        return
    before = len(matches(f"{folder}/{results.PNGs.pattern}")) if format == "png" else 0
    handle, path = tempfile.mkstemp(prefix="keras-psp-progress-")
    os.close(handle)
    stopped = threading.Event()
    view = threading.Thread(target=_view, args=(path, before, total, stopped), daemon=True)
    view.start()
    try:
        yield path
    finally:
        stopped.set()
        view.join()
        os.unlink(path)


def _view(path, before, total, stopped):
    """Images done, images a second and time left: a bar, or for a log a line now and then."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    console = bar_console()
    columns: tuple[Any, ...] = (
        TextColumn("predicting"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.1f} images/s"),
        Remaining(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total, completed=before, rate=0.0)
        first = told = None
        while not stopped.wait(0.5):
            done = os.path.getsize(path)
            if not done:
                continue
            now = time.monotonic()
            first = first or (now, done)
            rate = (done - first[1]) / max(now - first[0], 1e-9)
            bar.update(task, completed=before + done, rate=rate)
            if not console.is_terminal and rate and (told is None or now - told >= 10):
                told = now
                print(_line(before + done, total, rate), file=sys.stderr, flush=True)


def _line(done, total, rate):
    if total is None:
        return f"{done} images, {rate:.1f} a second"
    return f"{done} of {total} images, {rate:.1f} a second, {(total - done) / rate:.0f} s left"
