"""The Beam graph of a job, from its images to the final files."""

import io
import json
import os
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.io.filesystems import FileSystems
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from keras_psp.beam import records, results, sources
from keras_psp.beam.handler import Failure, ModelFacts, SegmentationHandler
from keras_psp.beam.sources import Failed
from keras_psp.beam.storage import matches, write_bytes
from keras_psp.data.pairs import ImagePairs
from keras_psp.metrics.confusion import add_cells, confusion_matrix, nonzero_cells, per_class_iou

# Images of one size wait until their batch is full; in all, at most this many batches wait.
_WAITING_BATCHES = 8
# An error about images with the same name lists at most this many of them.
_NAMED_ORIGINS = 4


def build(
    pipeline: beam.Pipeline,
    source: sources.Source,
    handler: SegmentationHandler,
    facts: ModelFacts,
    store: results.PNGs | results.TFRecordParts,
    *,
    shards: int,
    values: ImagePairs | None,
    progress: str | None,
) -> None:
    """Adds all steps of a job to an empty pipeline.

    `values` maps the values in label files to classes, and is None without labels; `progress` is
    a local file that grows by one byte per image. All paths are absolute.
    """
    output = store.output
    written = (
        pipeline
        | "WrittenPattern" >> beam.Create([f"{output}/{store.pattern}"])
        | "WrittenFiles" >> beam.FlatMap(matches)
        | "WrittenApart" >> beam.Reshuffle()
        | "ReadWritten" >> beam.FlatMap(store.read)
        | "WrittenByName" >> beam.Map(lambda record: (record.name, record))
    )
    done = written | "WrittenOrigins" >> beam.Map(lambda pair: (pair[0], pair[1].origin))
    items = source.items(pipeline, output)
    if isinstance(source, sources.TFRecords):
        # Reads the files twice: otherwise every image would wait until the last name is known.
        names = source.names(pipeline, output) | "OneName" >> beam.GroupByKey()
        shared = names | "Shared" >> beam.FlatMap(_shared)
    else:
        # Also distributes the images to the workers.
        items = items | "OneName" >> beam.GroupByKey() | "Unique" >> beam.FlatMap(_unique)
        shared = pipeline | "Shared" >> beam.Create([], reshuffle=False)
    pending = items | "Pending" >> beam.FlatMap(
        _pending, beam.pvalue.AsMultiMap(done), beam.pvalue.AsMultiMap(shared)
    ).with_outputs("kept", "failed", main="items")
    loaded = pending["items"] | "Load" >> beam.FlatMap(_load, values, progress).with_outputs(
        "failed", main="images"
    )
    predicted = (
        loaded["images"]
        | "OneSize" >> beam.ParDo(_OneSize(handler.protocol.batch_size))
        | "Predict" >> RunInference(KeyedModelHandler(handler).with_no_batching())
    )
    new = predicted | "Write" >> beam.ParDo(
        _Write(store, facts.num_classes, values and values.ignore_class, progress)
    ).with_outputs("failed", main="records")
    chosen = (
        {
            "kept": pending["kept"],
            "written": written,
            "new": new["records"] | "NewByName" >> beam.Map(lambda record: (record.name, record)),
        }
        | "Join" >> beam.CoGroupByKey()
        | "Once" >> beam.FlatMap(_once)
    )
    failed = (pending["failed"], loaded["failed"], new["failed"]) | "Failures" >> beam.Flatten()
    count = chosen | "Count" >> beam.combiners.Count.Globally()
    confusion = chosen | "Confusion" >> beam.CombineGlobally(_Sum(facts.num_classes))
    finished = [beam.pvalue.AsSingleton(count), beam.pvalue.AsSingleton(confusion)]
    finished.append(beam.pvalue.AsIter(failed))
    if isinstance(store, results.TFRecordParts):
        made = (
            (
                chosen | "ToShard" >> beam.Map(_to_shard, shards),
                # Creates empty shards as well.
                pipeline | "Shards" >> beam.Create([(index, None) for index in range(shards)]),
            )
            | "AllShards" >> beam.Flatten()
            | "OneShard" >> beam.GroupByKey()
            | "WriteShard" >> beam.Map(_write_shard, output, shards)
        )
        finished.append(beam.pvalue.AsIter(made))
    (
        pipeline
        | "Output" >> beam.Create([output])
        | "Finish" >> beam.Map(_finish, facts, values, *finished)
    )


def _unique(pair):
    """Yields the item of a name, or a failure for each of several different items."""
    items = sorted(set(pair[1]))
    origins = [item.origin for item in items[:_NAMED_ORIGINS]]
    for item in items:
        yield item if len(items) == 1 else _ambiguous(item, origins, len(items))


def _shared(pair):
    """Yields (name, (first origins, number of origins)) if a name has several."""
    name, group = pair
    origins = sorted(set(group))
    if len(origins) > 1:
        yield name, (origins[:_NAMED_ORIGINS], len(origins))


def _ambiguous(item, origins, count):
    """Returns a failure for an item whose name is that of `count` images, some given."""
    others = [origin for origin in origins if origin != item.origin]
    more = count - 1 - len(others)
    listed = ", ".join(others) + (f" and {more} more" if more else "")
    return _failed(item, f"its result would have the same name as that of {listed}; rename one.")


def _failed(item, reason):
    return Failed(item.name, item.origin, f"{item.origin}: {reason}")


def _pending(item, done, shared):
    """Yields an image that no earlier run has predicted; others are "kept" or "failed"."""
    if isinstance(item, Failed):
        failed = item
    elif sources.unsafe(item.name):
        failed = _failed(item, f"{item.name!r} can't be the name of a result; choose another.")
    elif ambiguous := list(shared[item.name]):
        failed = _ambiguous(item, *ambiguous[0])
    elif not (origins := set(done[item.name])):
        yield item
        return
    elif item.origin in origins:
        yield beam.pvalue.TaggedOutput("kept", (item.name, True))
        return
    else:
        failed = _failed(
            item,
            f"the result of this name belongs to {min(origins)}; rename one of them, or choose "
            "another output.",
        )
    yield beam.pvalue.TaggedOutput("failed", failed)


def _load(item, values, progress):
    """Yields an image and its label, which may have "failed"."""
    try:
        image, label = sources.load(item, values)
    except ValueError as error:
        tick(progress)
        yield beam.pvalue.TaggedOutput("failed", Failed(item.name, item.origin, str(error)))
    else:
        yield (item.name, item.origin, label), image


class _OneSize(beam.DoFn):
    """Batches the images of a bundle by size."""

    def __init__(self, batch_size):
        self.batch_size = batch_size

    def start_bundle(self) -> None:
        self.waiting: dict[Any, list] = {}

    def process(self, element: Any) -> Iterator[Any]:
        shape = element[1].shape
        batch = self.waiting.setdefault(shape, [])
        batch.append(element)
        if len(batch) == self.batch_size:
            yield self.waiting.pop(shape)
        elif sum(map(len, self.waiting.values())) > _WAITING_BATCHES * self.batch_size:
            largest = max(self.waiting, key=lambda key: len(self.waiting[key]))
            yield self.waiting.pop(largest)

    def finish_bundle(self) -> Iterator[Any]:
        for batch in self.waiting.values():
            yield _at_the_end(batch)
        self.waiting = {}


class _Write(beam.DoFn):
    """Writes results and counts the pixels of their confusion matrices."""

    def __init__(self, store, num_classes, ignore_class, progress):
        self.store = store
        self.num_classes = num_classes
        self.ignore_class = ignore_class
        self.progress = progress

    def process(self, element: Any) -> Iterator[Any]:
        (name, origin, label), prediction = element
        classes = prediction.inference
        tick(self.progress)
        if isinstance(classes, Failure):
            yield beam.pvalue.TaggedOutput("failed", Failed(name, origin, classes.reason))
            return
        cells: tuple[int, ...] = ()
        if label is not None:
            confusion = confusion_matrix(
                label, classes, self.num_classes, ignore_class=self.ignore_class
            )
            cells = tuple(nonzero_cells(confusion).ravel().tolist())
        try:
            yield from self.store.add(name, origin, classes, cells)
        except results.BadName as error:
            yield beam.pvalue.TaggedOutput("failed", Failed(name, origin, str(error)))

    def finish_bundle(self) -> Iterator[Any]:
        for record in self.store.flush():
            yield _at_the_end(record)


def _at_the_end(value):
    window = GlobalWindow()
    return WindowedValue(value, window.max_timestamp(), [window])


def _once(pair):
    """Returns at most one of a name's new and earlier records."""
    _, groups = pair
    named = list(groups["new"]) + (list(groups["written"]) if list(groups["kept"]) else [])
    # A retried bundle, or a kill between two files, leaves a result twice.
    return sorted(named)[:1]


class _Sum(beam.CombineFn):
    """Adds up confusion matrices, (num_classes, num_classes) int64."""

    def __init__(self, num_classes):
        self.shape = (num_classes, num_classes)

    def create_accumulator(self) -> np.ndarray:
        return np.zeros(self.shape, np.int64)

    def add_input(self, accumulator: np.ndarray, record: Any) -> np.ndarray:
        add_cells(accumulator, record.cells)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[np.ndarray]) -> np.ndarray:
        return sum(accumulators, self.create_accumulator())

    def extract_output(self, accumulator: np.ndarray) -> np.ndarray:
        return accumulator


def _to_shard(record, shards):
    # Python's hash() differs between processes.
    return zlib.crc32(record.file.encode()) % shards, (record.file, record.name)


def _write_shard(pair, output, shards):
    index, entries = pair
    parts = defaultdict(list)
    for file, name in filter(None, entries):
        parts[file].append(name)
    path = f"{output}/classes-{index:05d}-of-{shards:05d}.tfrecord"
    write_bytes(path, records.to_bytes(results.shard(list(parts.items()))))
    return path


def _finish(output, facts, values, count, confusion, failed, made=()):
    """Writes the final files, summary.json last."""
    # Shards of an earlier run with another number of shards hold the same images.
    if current := {path.rpartition("/")[2] for path in made}:
        shards = matches(f"{output}/{results.SHARDS}")
        if old := [path for path in shards if path.rpartition("/")[2] not in current]:
            FileSystems.delete(old)
    failures = sorted(set(failed))
    lines = (
        json.dumps({"name": name, "image": origin, "reason": reason})
        for name, origin, reason in failures
    )
    write_bytes(f"{output}/failed.jsonl", "".join(f"{line}\n" for line in lines).encode())
    summary: dict[str, Any] = {"images": count, "failed": len(failures)}
    if values is not None:
        file = io.BytesIO()
        np.save(file, confusion)
        write_bytes(f"{output}/confusion.npy", file.getvalue())
        scores = [None if np.isnan(iou) else float(iou) for iou in per_class_iou(confusion)]
        present = [iou for iou in scores if iou is not None]
        table = {
            "images": count,
            "ignore_class": values.ignore_class,
            "mean_iou": float(np.mean(present)) if present else None,
            "iou": dict(zip(facts.class_names, scores, strict=True)),
            "class_names": list(facts.class_names),
            "confusion": confusion.tolist(),
        }
        write_bytes(f"{output}/confusion.json", json.dumps(table).encode() + b"\n")
        summary["mean_iou"] = table["mean_iou"]
    write_bytes(f"{output}/summary.json", json.dumps(summary).encode() + b"\n")
    return count


def tick(progress: str | None) -> None:
    """Appends one byte per image, which is safe between processes."""
    if progress is not None and os.path.exists(progress):
        with open(progress, "ab", buffering=0) as file:
            file.write(b".")
