"""`submit`: predicts a test split and packs the files for a benchmark server."""

import collections
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from keras_psp.prediction.opening import open_segmenter
from keras_psp.prediction.protocol import Protocol
from keras_psp.prediction.submissions import (
    ADE20KSubmission,
    CityscapesSubmission,
    Submission,
    VOCSubmission,
    checked_archive,
    image_sizes,
)
from keras_psp.progress import ahead, with_bar
from keras_psp.resume import store_or_check_settings
from keras_psp.weights.opening import digest

SERVERS: dict[str, type[Submission]] = {
    "ade20k": ADE20KSubmission,
    "cityscapes": CityscapesSubmission,
    "voc2012": VOCSubmission,
}


def submit(
    data: Any,
    model: Any,
    server: str,
    output: str | os.PathLike,
    *,
    split: str = "test",
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    crop: int | None = None,
    overlap: float = 1 / 3,
    base_size: int | Literal["auto"] | None = "auto",
    batch_size: int = 4,
    archive: str | os.PathLike | None = None,
    progress: bool = True,
    **options: Any,
) -> Submission:
    """Predicts a split and writes it in the format of a benchmark server.

    Images that are done already are skipped, so the same call resumes after a stop.

    Args:
        data: a source with image files, such as `keras_psp.data.load("cityscapes", root=...)`.
        model: see `keras_psp.predict`.
        server: "ade20k", "cityscapes" or "voc2012".
        output: folder of the files.
        split: of the data; it needs no labels.
        scales, flip, crop, overlap, base_size, batch_size: see `Protocol`.
        archive: also pack the files for the upload, as .zip or .tgz.
        progress: show progress bars on stderr.
        options: of the server's class, e.g. competition="comp5".

    Returns:
        The submission; every file has been read back and checked.

    Raises:
        ValueError: if an argument is invalid, or `output` has files of another network or
            protocol.

    Example:
        cityscapes = keras_psp.data.load("cityscapes", root="data/cityscapes")
        submit(cityscapes, "runs/mine", "cityscapes", "out", crop=713, archive="out.zip")
    """
    if server not in SERVERS:
        raise ValueError(f"server={server!r} is unknown; choose {', '.join(sorted(SERVERS))}.")
    if archive is not None:
        checked_archive(archive)
    protocol = Protocol(scales, flip, crop, overlap, base_size, batch_size)
    segmenter = open_segmenter(model, protocol)
    network = segmenter.model
    if network.num_classes != SERVERS[server].num_classes:
        raise ValueError(
            f"the network has {network.num_classes} classes but {SERVERS[server].title} has "
            f"{SERVERS[server].num_classes}; choose one that was trained on it."
        )
    submission = SERVERS[server](Path(output), image_sizes(data, split), **options)
    settings = {
        "network": digest(network),
        "split": split,
        **segmenter.protocol.settings,
        **options,
    }
    store_or_check_settings(
        Path(output) / "submission.json",
        settings,
        contents=f"{output} holds files",
        remedy="choose another output",
    )
    names = list(submission.images)
    missing = [index for index, name in enumerate(names) if not submission.path(name).exists()]
    waiting: collections.deque = collections.deque()

    def images():
        for index, image in ahead(lambda index: (index, data.image(split, index)), missing):
            waiting.append(names[index])
            yield image

    masks = segmenter.stream(images())
    for classes in with_bar(masks, "predicting", len(missing)) if progress else masks:
        submission.write(waiting.popleft(), classes)
    submission.check(progress=progress)
    if archive is not None:
        submission.pack(archive, progress=progress)
    return submission
