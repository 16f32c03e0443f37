"""A test split to a benchmark's server: predictions, checked and packed."""

import collections
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from keras_psp.files import writing, written_aside
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
from keras_psp.weights.opening import digest

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
    base_size: int | Literal["auto"] | None = "auto",
    batch_size: int = 4,
    archive: str | os.PathLike | None = None,
    progress: bool = True,
    **options,
) -> Submission:
    """Predict a split and write it as a benchmark's server takes it.

    What is there already is left, so the same call goes on after a stop.

    Args:
        model: see `keras_psp.evaluate`.
        source: images in files, such as `keras_psp.data.load("cityscapes", root=...)`.
        server: "ade20k", "cityscapes" or "voc2012".
        output: folder of the files.
        split: of the source; it needs no labels.
        scales, flip, crop, overlap, batch_size: see `Segmenter`.
        base_size: see `keras_psp.evaluate`.
        archive: also pack them for the upload, .zip or .tgz.
        progress: bars on stderr.
        options: of the server's class, as competition="comp5".

    Returns:
        The submission, every file read back.

    Raises:
        ValueError: the arguments don't fit, or `output` has files of another network or protocol.
    """
    if server not in SERVERS:
        raise ValueError(f"server={server!r} is unknown; choose {', '.join(sorted(SERVERS))}.")
    if archive is not None:
        checked_archive(archive)
    segmenter = open_segmenter(model, Protocol(scales, flip, crop, overlap, base_size, batch_size))
    network = segmenter.model
    if network.num_classes != SERVERS[server].num_classes:
        raise ValueError(
            f"the network has {network.num_classes} classes but {SERVERS[server].title} "
            f"{SERVERS[server].num_classes}; take one that was trained for it."
        )
    submission = SERVERS[server](Path(output), image_sizes(source, split), **options)
    settings = {
        "network": digest(network),
        "split": split,
        **segmenter.protocol.settings,
        **options,
    }
    _settle(Path(output) / "submission.json", settings)
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


def _settle(path: Path, settings: dict[str, Any]) -> None:
    """Write what the files are made with, or check that those there are made so."""
    here = json.loads(json.dumps(settings))
    if path.exists():
        there = json.loads(path.read_text("utf-8"))
        for key in here:
            if there.get(key) != here[key]:
                raise ValueError(
                    f"{path.parent} holds files with {key}={there.get(key)!r}, not {here[key]!r}; "
                    "choose another output."
                )
        return
    with writing(path), written_aside(path) as draft:
        draft.write_text(json.dumps(here, indent=1) + "\n", "utf-8")
