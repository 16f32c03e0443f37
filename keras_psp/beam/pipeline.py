"""The graph of a job, from its images to the final files."""

import io
import json
import os
import zlib
from collections.abc import Iterable
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.io.filesystems import FileSystems
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from keras_psp.beam import records, results, sources
from keras_psp.beam.handler import Failure, ModelFacts, SegmentationHandler
from keras_psp.beam.sources import Failed, Item
from keras_psp.beam.storage import matches, write_bytes
from keras_psp.data.pairs import ImagePairs
from keras_psp.metrics.confusion import per_class_iou

# Images of many sizes wait for their batch to be full; no more of them than this many batches.
_WAITING_BATCHES = 8
# Of images that have one name each is told so many of the others.
_NAMED_ORIGINS = 4


def build(
    pipeline: beam.Pipeline,
    source: sources.Source,
    handler: SegmentationHandler,
    facts: ModelFacts,
    output: str,
    *,
    format: str,
    shards: int,
    values: ImagePairs | None,
    batch_size: int,
    progress: str | None,
) -> None:
    """Add everything to the pipeline.

    Args:
        pipeline: empty.
        source: of the images, settled.
        handler: predicts.
        facts: of the network.
        output: folder, absolute.
        format: one of `results.FORMATS`.
        shards: number of TFRecord files at the end.
        values: of the labels; None where there is nothing to evaluate.
        batch_size: images at a time.
        progress: a local file that grows by a byte an image.
    """
    store = results.store(format, output)
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
        # The files are read twice, as otherwise all images were kept until the last name is known.
        names = source.names(pipeline, output) | "OneName" >> beam.GroupByKey()
        shared = names | "Shared" >> beam.FlatMap(_shared)
    else:
        # Also spreads the images over the workers.
        items = items | "OneName" >> beam.GroupByKey() | "Unique" >> beam.FlatMap(_unique)
        shared = pipeline | "Shared" >> beam.Create([], reshuffle=False)
    pending = items | "Pending" >> beam.ParDo(
        _Pending(), beam.pvalue.AsMultiMap(done), beam.pvalue.AsMultiMap(shared)
    ).with_outputs("kept", "failed", main="items")
    loaded = pending["items"] | "Load" >> beam.ParDo(_Load(values, progress)).with_outputs(
        "failed", main="images"
    )
    predicted = (
        loaded["images"]
        | "OneSize" >> beam.ParDo(_OneSize(batch_size))
        | "Predict" >> RunInference(KeyedModelHandler(handler).with_no_batching())
    )
    new = predicted | "Write" >> beam.ParDo(
        _Write(format, output, facts.num_classes, values and values.ignore_class, progress)
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
    if format == "tfrecord":
        made = (
            (
                chosen | "ToShard" >> beam.Map(_to_shard, shards),
                # A shard may be empty, yet is there.
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


def _unique(pair) -> Iterable[Item | Failed]:
    """One item of a name; where different images have one name, none of them."""
    name, items = pair
    found = sorted(set(items))
    if len(found) == 1:
        yield found[0]
        return
    origins = [item.origin for item in found[:_NAMED_ORIGINS]]
    for item in found:
        yield _ambiguous(item, origins, len(found))


def _shared(pair):
    """Of (name, origins) the first few and their number, where there are several."""
    name, found = pair
    origins = sorted(set(found))
    if len(origins) > 1:
        yield name, (origins[:_NAMED_ORIGINS], len(origins))


def _ambiguous(item, origins, count):
    """That an item has the name of others, of all of which these are the first."""
    others = [origin for origin in origins if origin != item.origin]
    more = count - 1 - len(others)
    told = ", ".join(others) + (f" and {more} more" if more else "")
    return Failed(
        item.name,
        item.origin,
        f"{item.origin}: its result would have the name of {told}'s; rename one of them.",
    )


class _Pending(beam.DoFn):
    """Images that no earlier start has predicted."""

    def process(self, item, done, shared):
        if isinstance(item, Failed):
            yield beam.pvalue.TaggedOutput("failed", item)
            return
        if sources.unsafe(item.name):
            reason = f"{item.origin}: {item.name!r} is no name for a result; give another."
            yield beam.pvalue.TaggedOutput("failed", Failed(item.name, item.origin, reason))
            return
        for origins, count in shared[item.name]:
            yield beam.pvalue.TaggedOutput("failed", _ambiguous(item, origins, count))
            return
        origins = set(done[item.name])
        if not origins:
            yield item
        elif item.origin in origins:
            yield beam.pvalue.TaggedOutput("kept", (item.name, True))
        else:
            reason = (
                f"{item.origin}: the result of its name is that of {min(origins)}; rename one of "
                "them, or choose another output."
            )
            yield beam.pvalue.TaggedOutput("failed", Failed(item.name, item.origin, reason))


class _Load(beam.DoFn):
    def __init__(self, values, progress):
        self.values = values
        self.progress = progress

    def process(self, item):
        found = sources.load(item, self.values)
        if isinstance(found, Failure):
            tick(self.progress)
            yield beam.pvalue.TaggedOutput("failed", Failed(item.name, item.origin, found.reason))
        else:
            image, label = found
            yield (item.name, item.origin, label), image


class _OneSize(beam.DoFn):
    """Batches of images of one size, across the bundle."""

    def __init__(self, batch_size):
        self.batch_size = batch_size

    def start_bundle(self):
        self.waiting: dict[Any, list] = {}

    def process(self, element):
        shape = element[1].shape
        batch = self.waiting.setdefault(shape, [])
        batch.append(element)
        if len(batch) == self.batch_size:
            yield self.waiting.pop(shape)
        elif sum(map(len, self.waiting.values())) > _WAITING_BATCHES * self.batch_size:
            largest = max(self.waiting, key=lambda key: len(self.waiting[key]))
            yield self.waiting.pop(largest)

    def finish_bundle(self):
        for batch in self.waiting.values():
            yield _at_the_end(batch)
        self.waiting = {}


class _Write(beam.DoFn):
    def __init__(self, format, output, num_classes, ignore_class, progress):
        self.format = format
        self.output = output
        self.num_classes = num_classes
        self.ignore_class = ignore_class
        self.progress = progress

    def setup(self):
        self.store = results.store(self.format, self.output)

    def process(self, element):
        (name, origin, label), prediction = element
        classes = prediction.inference
        tick(self.progress)
        if isinstance(classes, Failure):
            yield beam.pvalue.TaggedOutput("failed", Failed(name, origin, classes.reason))
            return
        cells: tuple[int, ...] = ()
        if label is not None:
            cells = results.confusion_cells(label, classes, self.num_classes, self.ignore_class)
        try:
            yield from self.store.add(name, origin, classes, cells)
        except results.BadName as error:
            yield beam.pvalue.TaggedOutput("failed", Failed(name, origin, str(error)))

    def finish_bundle(self):
        for record in self.store.flush():
            yield _at_the_end(record)


def _at_the_end(value):
    window = GlobalWindow()
    return WindowedValue(value, window.max_timestamp(), [window])


def _once(pair):
    """One record of a name, of what was written before and now."""
    _, groups = pair
    found = list(groups["new"]) + (list(groups["written"]) if list(groups["kept"]) else [])
    # A bundle that was tried again, or a kill between two files, leaves a result twice.
    return sorted(found)[:1]


class _Sum(beam.CombineFn):
    """The sum of confusion matrices, (num_classes, num_classes) int64."""

    def __init__(self, num_classes):
        self.num_classes = num_classes

    def create_accumulator(self):
        return np.zeros((self.num_classes, self.num_classes), np.int64)

    def add_input(self, accumulator, record):
        labels, classes, counts = np.reshape(record.cells, (-1, 3)).astype(np.int64).T
        np.add.at(accumulator, (labels, classes), counts)
        return accumulator

    def merge_accumulators(self, accumulators):
        return np.sum(list(accumulators), axis=0, dtype=np.int64)

    def extract_output(self, accumulator):
        return accumulator


def _to_shard(record, shards):
    # crc32, since Python's own hash differs from process to process.
    return zlib.crc32(record.file.encode()) % shards, (record.file, record.name)


def _write_shard(pair, output, shards):
    index, entries = pair
    parts: dict[str, list[str]] = {}
    for file, name in filter(None, entries):
        parts.setdefault(file, []).append(name)
    path = f"{output}/classes-{index:05d}-of-{shards:05d}.tfrecord"
    write_bytes(path, records.to_bytes(results.shard(list(parts.items()))))
    return path


def _finish(output, facts, values, count, confusion, failed, made=()):
    """The final files, that of all numbers last."""
    if made:
        # Those of a start with another number of shards hold the same images.
        current = {path.rpartition("/")[2] for path in made}
        shards = matches(f"{output}/{results.SHARDS}")
        old = [path for path in shards if path.rpartition("/")[2] not in current]
        if old:
            FileSystems.delete(old)
    failures = sorted(set(failed))
    lines = [
        json.dumps({"name": name, "image": origin, "reason": reason})
        for name, origin, reason in failures
    ]
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
    return summary["images"]


def tick(progress: str | None) -> None:
    """One image more; appending a byte is safe among processes."""
    if progress is not None and os.path.exists(progress):
        handle = os.open(progress, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(handle, b".")
        finally:
            os.close(handle)
