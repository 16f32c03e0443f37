"""A PSPNet for Beam's RunInference."""

import dataclasses
import hashlib
import json
import os
import tempfile
import threading
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from apache_beam.io.filesystems import FileSystems
from apache_beam.ml.inference.base import ModelHandler, PredictionResult

from keras_psp.beam.storage import absolute, read_bytes
from keras_psp.prediction.protocol import Protocol
from keras_psp.prediction.segmenter import Segmenter


class Failure(NamedTuple):
    """What stands in place of the classes of an image that couldn't be predicted.

    Attributes:
        reason: a sentence.
    """

    reason: str


class SegmentationHandler(ModelHandler[np.ndarray, PredictionResult, "_OneAtATime"]):
    """Runs a `Segmenter` in RunInference; the network is loaded once per worker process.

        images | RunInference(KeyedModelHandler(SegmentationHandler("best.keras")))

    Examples are (height, width, 3) images, RGB 0 to 255, of any size; those of one size go
    together. Each result is a `PredictionResult` whose inference is a (height, width) map of
    classes, or a `Failure`: a batch that fails is tried again image by image.

    Args:
        model: a `.keras` file (also gs:// or s3://), the folder of a training, or a preset.
        share_model: one copy of the network for all processes of a machine, which then take
            turns; for networks too large for one copy each.
        batch_size: images at a time, and the `Segmenter`'s batch_size.
        options: other arguments of `Segmenter`: scales, flip, crop, overlap, base_size.
    """

    def __init__(
        self, model: str | os.PathLike, *, share_model: bool = False, batch_size: int = 4, **options
    ):
        super().__init__(max_batch_size=batch_size, large_model=share_model)
        self.model = os.fspath(model)
        # A worker would say it too late, and not in a sentence.
        self.protocol = Protocol(**{"base_size": None, **options}, batch_size=batch_size)

    def load_model(self) -> "_OneAtATime":
        return _OneAtATime(Segmenter(open_model(self.model), self.protocol))

    def run_inference(
        self,
        batch: Sequence[np.ndarray],
        model: "_OneAtATime",
        inference_args: dict[str, Any] | None = None,
    ) -> Iterable[PredictionResult]:
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, image in enumerate(batch):
            groups[image.shape].append(index)
        results: dict[int, Any] = {}
        for indices in groups.values():
            found = _predicted(model, [batch[index] for index in indices])
            results |= zip(indices, found, strict=True)
        return [PredictionResult(batch[index], results[index]) for index in range(len(batch))]

    def get_num_bytes(self, batch: Sequence[np.ndarray]) -> int:
        return sum(image.nbytes for image in batch)


class _OneAtATime:
    """A `Segmenter` that several threads may call.

    Beam gives one model to all threads of a worker, but `PSPNet.predict_classes` changes what
    the model's `predict` returns while it runs.
    """

    def __init__(self, segmenter):
        self._segmenter = segmenter
        self._lock = threading.Lock()

    def classes(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        with self._lock:
            return self._segmenter.classes(images)


def _predicted(segmenter, images):
    try:
        return segmenter.classes(images)
    except Exception as error:  # a bad image, or memory that a smaller batch would fit
        if len(images) > 1:
            return [found for image in images for found in _predicted(segmenter, [image])]
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        return [Failure(f"prediction failed: {reason}")]


@dataclasses.dataclass(frozen=True)
class ModelFacts:
    """What a job has to know of its network without loading it.

    Attributes:
        model: as `open_model` takes it, the same to every process.
        digest: of the file; the name of a preset.
        num_classes: number of classes.
        class_names: in index order.
    """

    model: str
    digest: str
    num_classes: int
    class_names: tuple[str, ...]


def model_facts(model: str | os.PathLike) -> ModelFacts:
    """The facts of a `.keras` file, a training's folder or a preset.

    Raises:
        ValueError: for what is none of them.
    """
    from keras_psp.labels import labels
    from keras_psp.weights.presets import find_preset, preset_names

    name = os.fspath(model)
    if name in preset_names():
        class_names = labels(find_preset(name).labels).class_names
        return ModelFacts(name, name, len(class_names), tuple(class_names))
    path = _network_in(name)
    data = read_bytes(path)
    with tempfile.TemporaryFile() as file:
        file.write(data)
        try:
            with zipfile.ZipFile(file) as archive:
                config = json.loads(archive.read("config.json"))
            num_classes = int(config["config"]["num_classes"])
        except (zipfile.BadZipFile, KeyError, ValueError) as error:
            raise ValueError(
                f"{path}: no .keras file of a PSPNet ({error!r}); `keras-psp convert` makes one of "
                "another project's."
            ) from error
    names = config["config"].get("class_names") or [f"class {i}" for i in range(num_classes)]
    return ModelFacts(path, hashlib.sha256(data).hexdigest(), num_classes, tuple(names))


def _network_in(name):
    """The `.keras` file, of a training's folder its best."""
    path = absolute(name)
    if path.endswith(".keras"):
        return path
    for network in ("best.keras", "last.keras"):
        if FileSystems.exists(f"{path.rstrip('/')}/{network}"):
            return f"{path.rstrip('/')}/{network}"
    if FileSystems.exists(path):
        raise ValueError(
            f"model={name!r}: neither a .keras file nor a folder with best.keras or last.keras; "
            "make a .keras file of another project's by `keras-psp convert`."
        )
    from keras_psp.weights.presets import find_preset

    try:
        find_preset(name)
    except ValueError as error:
        raise ValueError(f"model={name!r}: there is no such file, and {error}") from None
    raise AssertionError  # a preset's name was recognised before


def open_model(model: str):
    """The network of a `.keras` file on any of Beam's file systems, or of a preset."""
    from keras_psp.weights import convert
    from keras_psp.weights.presets import open_preset, preset_names

    if model in preset_names():
        return open_preset(model)
    path = _network_in(model)
    if FileSystems.get_scheme(path) is None:
        return convert(path, verbose=False)
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / "network.keras"
        local.write_bytes(read_bytes(path))
        return convert(local, verbose=False)
