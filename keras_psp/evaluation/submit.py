"""A test split to a benchmark's server: predictions, checked and packed."""

import collections
import os
from collections.abc import Sequence
from pathlib import Path

from keras_psp.data.progress import ahead, with_bar
from keras_psp.evaluation.prediction import open_model
from keras_psp.evaluation.segmenter import Segmenter
from keras_psp.evaluation.submissions import (
    ADE20KSubmission,
    CityscapesSubmission,
    Submission,
    VOCSubmission,
    image_sizes,
)

SERVERS: dict[str, type[Submission]] = {
    "ade20k": ADE20KSubmission,
    "cityscapes": CityscapesSubmission,
    "voc2012": VOCSubmission,
}


def submit(
    model,
    source,
    server: str,
    output: str | os.PathLike,
    *,
    split: str = "test",
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    crop: int | None = None,
    overlap: float = 1 / 3,
    base_size: int | None = None,
    batch_size: int = 4,
    archive: str | os.PathLike | None = None,
    progress: bool = True,
    **options,
) -> Submission:
    """Predict a split and write it as a benchmark's server takes it.

    What is there already is left, so the same call goes on after a stop; give a folder of its
    own to each network and protocol.

    Args:
        model: see `keras_psp.evaluate`.
        source: images in files, such as `keras_psp.data.load("cityscapes", root=...)`.
        server: "ade20k", "cityscapes" or "voc2012".
        output: folder of the files.
        split: of the source; it needs no labels.
        scales, flip, crop, overlap, base_size, batch_size: see `Segmenter`.
        archive: also pack them for the upload, .zip or .tgz.
        progress: bars on stderr.
        options: of the server's class, as competition="comp5".

    Returns:
        The submission, every file read back.
    """
    if server not in SERVERS:
        raise ValueError(f"server={server!r} is unknown; choose {', '.join(sorted(SERVERS))}.")
    network = open_model(model)
    if network.num_classes != SERVERS[server].num_classes:
        raise ValueError(
            f"the network has {network.num_classes} classes but {SERVERS[server].title} "
            f"{SERVERS[server].num_classes}; take one that was trained for it."
        )
    segmenter = Segmenter(
        network,
        scales=scales,
        flip=flip,
        crop=crop,
        overlap=overlap,
        base_size=base_size,
        batch_size=batch_size,
    )
    submission = SERVERS[server](Path(output), image_sizes(source, split), **options)
    names = list(submission.images)
    missing = [index for index, name in enumerate(names) if not submission.path(name).exists()]
    waiting: collections.deque = collections.deque()

    def images():
        for index, image in ahead(lambda index: (index, source.image(split, index)), missing):
            waiting.append(names[index])
            yield image

    found = segmenter.stream(images())
    for classes in with_bar(found, "predicting", len(missing)) if progress else found:
        submission.write(waiting.popleft(), classes)
    submission.check(progress=progress)
    if archive is not None:
        submission.pack(archive, progress=progress)
    return submission
