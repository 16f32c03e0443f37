"""`submit`: predicts a test split and packs the files for a benchmark server."""

import functools
import os
from typing import Any

from keras_psp.data.examination import examine_pairs
from keras_psp.data.identity import data_difference, data_identity
from keras_psp.data.report import DataReport
from keras_psp.files import claim, local_path
from keras_psp.prediction.opening import open_segmenter
from keras_psp.prediction.protocol import Protocol, ProtocolFields
from keras_psp.prediction.submissions import (
    SERVERS,
    Submission,
    checked_archive,
    image_sizes,
)
from keras_psp.progress import ahead, with_bar
from keras_psp.resume import check_settings, read_record, write_record
from keras_psp.weights.opening import digest

SETTINGS = "submission.json"


def submit(
    data: Any,
    model: Any,
    server: str,
    output: str | os.PathLike,
    *,
    split: str = "test",
    archive: str | os.PathLike | None = None,
    progress: bool = True,
    **options: Any,
) -> Submission:
    """Predicts a split and writes it in the format of a benchmark server.

    Images that are done already are skipped, so the same call resumes after an interruption.

    Args:
        data: a source with image files, such as `keras_psp.data.load("cityscapes", root=...)`.
        model: see `keras_psp.predict`.
        server: "ade20k", "cityscapes" or "voc2012".
        output: folder of the files; new, empty or that of an earlier call.
        split: split of the data; it needs no labels.
        archive: also pack the files for the upload, as .zip or .tgz.
        progress: show progress bars on stderr.
        options: fields of `Protocol`: scales, flip, crop, overlap, base_size, antialias,
            batch_size; and those of the server's class, e.g. competition="comp5".

    Returns:
        The submission; every file has been read back and checked.

    Raises:
        ValueError: if an argument is invalid, an image can't be read, or `output` has other files
            or those of another network, protocol or images.
        OSError: if a file can't be written.

    Example:
        cityscapes = keras_psp.data.load("cityscapes", root="data/cityscapes")
        submit(cityscapes, "runs/mine", "cityscapes", "out", crop=713, archive="out.zip")
    """
    if server not in SERVERS:
        raise ValueError(f"server={server!r} is unknown; choose {', '.join(sorted(SERVERS))}.")
    archive = None if archive is None else checked_archive(archive)
    fields = {name: options.pop(name) for name in ProtocolFields.__annotations__ if name in options}
    segmenter = open_segmenter(model, Protocol(**fields))
    network = segmenter.model
    if network.num_classes != SERVERS[server].num_classes:
        raise ValueError(
            f"the network has {network.num_classes} classes but {SERVERS[server].title} has "
            f"{SERVERS[server].num_classes}; choose one that was trained on it."
        )
    output = local_path("output", output)
    claim(output, SETTINGS, contents="submission")
    submission = SERVERS[server](output, image_sizes(data, split), **options)
    settings = {
        "network": digest(network),
        "split": split,
        **segmenter.protocol.settings,
        **options,
    }
    _store_or_check(output, settings, _identity(data, split, progress))
    names = list(submission.images)
    missing = [index for index, name in enumerate(names) if not submission.path(name).exists()]
    masks = segmenter.stream(ahead(functools.partial(data.image, split), missing))
    shown = with_bar(masks, "predicting", len(missing)) if progress else masks
    for index, classes in zip(missing, shown, strict=True):
        submission.write(names[index], classes)
    if archive is None:
        submission.check(progress=progress)
    else:
        submission.pack(archive, progress=progress)  # checks, too
    return submission


def _identity(data, split, progress):
    """Reads all images now, so that a faulty one doesn't stop long work; returns their identity."""
    pairs = [(image, None) for image, _ in data.paths(split)]
    examined = {split: list(examine_pairs(data, pairs, progress=progress))}
    report = DataReport(data, examined)
    report.require()
    report.print_notes()
    return data_identity(data, [split], examined)


def _store_or_check(folder, settings, images):
    """Writes the settings of a new submission, or checks those of an earlier call."""
    path = folder / SETTINGS
    if not path.exists():
        write_record(path, {**settings, "data": images})
        return
    contents, remedy = f"{folder} holds files", "choose another output"
    stored = read_record(path, f"restore it, or {remedy}")
    check_settings(stored, settings, contents=contents, remedy=remedy)
    if stored.get("data") and (difference := data_difference(stored["data"], images)):
        raise ValueError(f"{contents} of other images: {difference}; {remedy}.")
