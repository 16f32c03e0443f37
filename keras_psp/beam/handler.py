"""A model handler that runs PSPNet in Beam's RunInference."""

import dataclasses
import hashlib
import io
import json
import os
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from apache_beam.io.filesystems import FileSystems
from apache_beam.ml.inference.base import ModelHandler, PredictionResult

from keras_psp.beam.storage import absolute, read_bytes
from keras_psp.labels import labels
from keras_psp.models import PSPNet
from keras_psp.prediction.opening import with_own_sizes
from keras_psp.prediction.protocol import Protocol
from keras_psp.prediction.segmenter import Segmenter
from keras_psp.weights import convert, opening
from keras_psp.weights.hubs.addresses import hub_address
from keras_psp.weights.locating import is_preset
from keras_psp.weights.preset_folder import read_config, read_metadata, verify
from keras_psp.weights.presets import all_presets, find_preset
from keras_psp.weights.safe_config import check_config


class Failure(NamedTuple):
    """Takes the place of the classes of an image whose prediction failed."""

    reason: str  # a sentence


class SegmentationHandler(ModelHandler[np.ndarray, PredictionResult, Segmenter]):
    """Runs a `Segmenter` in RunInference; each worker process loads the network once.

    Elements are (height, width, 3) images, RGB 0 to 255, of any size; images of the same size
    are predicted together. The inference of each `PredictionResult` is a (height, width) map of
    classes, or a `Failure`. If a batch fails, its images are predicted one at a time.

    Args:
        model: a `.keras` file (also gs:// or s3://), the folder of a training run, or a preset
            (also its folder, or its address on a hub).
        share_model: whether all processes of a machine share one copy of the network, for
            networks too large for a copy per process.
        batch_size: images per batch, and windows per batch of the `Segmenter`.
        options: other fields of `Protocol`: scales, flip, crop, overlap, base_size, antialias.

    Example:
        images | RunInference(KeyedModelHandler(SegmentationHandler("best.keras")))
    """

    def __init__(
        self,
        model: str | os.PathLike,
        *,
        share_model: bool = False,
        batch_size: int = 4,
        **options: Any,
    ):
        super().__init__(max_batch_size=batch_size, large_model=share_model)
        self.model = os.fspath(model)
        # Checked here, since a worker's error would come late and in a traceback.
        self.protocol = _with_own_sizes(Protocol(**options, batch_size=batch_size), self.model)

    def load_model(self) -> Segmenter:
        return Segmenter(open_model(self.model), self.protocol)

    def run_inference(
        self,
        batch: Sequence[np.ndarray],
        model: Segmenter,
        inference_args: dict[str, Any] | None = None,
    ) -> Iterable[PredictionResult]:
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, image in enumerate(batch):
            groups[image.shape].append(index)
        results: dict[int, Any] = {}
        for indices in groups.values():
            group = _predict(model, [batch[index] for index in indices])
            results |= zip(indices, group, strict=True)
        return [PredictionResult(batch[index], results[index]) for index in range(len(batch))]

    def get_num_bytes(self, batch: Sequence[np.ndarray]) -> int:
        return sum(image.nbytes for image in batch)


def _with_own_sizes(protocol, model):
    """As in `keras-psp predict`, but the folder of the run may be on another file system."""
    if hub_address(model) or _is_local(model):
        return with_own_sizes(protocol, model)
    run = model.rpartition("/")[0] if model.endswith(".keras") else model.rstrip("/")
    with tempfile.TemporaryDirectory() as folder:
        recipe = f"{run}/recipe.json"
        if FileSystems.exists(recipe):
            (Path(folder) / "recipe.json").write_bytes(read_bytes(recipe))
        return with_own_sizes(protocol, folder)


def _predict(segmenter, images):
    """Returns the classes, or a `Failure`, of each image."""
    try:
        return segmenter.classes(images)
    except Exception as error:  # a bad image, or not enough memory for the batch
        if len(images) > 1:
            return [result for image in images for result in _predict(segmenter, [image])]
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        return [Failure(f"prediction failed: {reason}")]


@dataclasses.dataclass(frozen=True)
class ModelFacts:
    """What a job needs to know about its network, without loading it."""

    model: str  # absolute path of the `.keras` file, or the name or address of a preset
    digest: str  # SHA-256 of the file or files, or the name of the preset
    class_names: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)


def model_facts(model: str | os.PathLike) -> ModelFacts:
    """Reads the facts of a `.keras` file, the folder of a training run, or a preset."""
    name = os.fspath(model)
    if name in all_presets():
        return ModelFacts(name, name, tuple(labels(find_preset(name).labels).class_names))
    if hub_address(name) or (_is_local(name) and is_preset(name)):
        return _preset_facts(name)
    path = _keras_file(name)
    data = read_bytes(path)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            config = json.loads(archive.read("config.json"))["config"]
        int(config["num_classes"])  # fails for other networks
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ValueError(
            f"{path}: not a .keras file of a PSPNet ({error!r}); `keras-psp convert` converts "
            "checkpoints of other projects."
        ) from error
    return _facts(path, hashlib.sha256(data).hexdigest(), config)


def _facts(model, digest, arguments):
    """The facts of a network, from the arguments of its `PSPNet`."""
    channels = arguments.get("input_channels", 3)
    if channels != 3:
        raise ValueError(
            f"{model}: the network takes {channels} channels, but jobs on Beam read RGB only; use "
            "keras_psp.prediction.predict_files or `keras-psp predict`."
        )
    numbered = [f"class {index}" for index in range(int(arguments["num_classes"]))]
    return ModelFacts(model, digest, tuple(arguments.get("class_names") or numbered))


def _is_local(name):
    return FileSystems.get_scheme(name) is None


def _preset_facts(name):
    """The facts of a preset in a folder or on a hub, whose revision is fixed for all workers."""
    folder = opening.preset_location(name)
    metadata = read_metadata(folder, name)
    verify(folder, metadata, name)
    config = read_config(folder, name)
    check_config(config)
    address = hub_address(name)
    if address is None:
        model = absolute(name)
    else:
        model = str(dataclasses.replace(address, revision=address.revision or folder.name))
    digests = json.dumps(metadata["files"], sort_keys=True).encode()
    return _facts(model, hashlib.sha256(digests).hexdigest(), config["config"])


def _keras_file(name):
    """Returns the absolute path of a `.keras` file, or of the best one in a run's folder."""
    path = absolute(name)
    if path.endswith(".keras"):
        return path
    for network in ("best.keras", "last.keras"):
        if FileSystems.exists(f"{path.rstrip('/')}/{network}"):
            return f"{path.rstrip('/')}/{network}"
    if FileSystems.exists(path):
        raise ValueError(
            f"model={name!r}: neither a .keras file nor a folder with best.keras or last.keras; "
            "convert checkpoints of other projects with `keras-psp convert`."
        )
    try:
        find_preset(name)
    except ValueError as error:
        raise ValueError(f"model={name!r}: there is no such file, and {error}") from None


def open_model(model: str) -> PSPNet:
    """Opens a preset, or a network on any of Beam's file systems."""
    if hub_address(model) or _is_local(model):
        return opening.open_model(model)
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / "network.keras"
        local.write_bytes(read_bytes(_keras_file(model)))
        return convert(local, verbose=False)
