"""Model versions for TensorFlow Serving, and the configuration files of its server."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from keras_psp.arguments import checked_flag, checked_integer, checked_tuple
from keras_psp.export.graph import (
    MAX_PIXELS,
    MAX_SIDE,
    InputType,
    Output,
    Signature,
    takes_photos,
)
from keras_psp.export.to_saved_model import saved_model
from keras_psp.export.versions import is_model_name, model_folder, publish, versions
from keras_psp.export.warmup import FILE, MAX_REQUESTS, Request, warmup_requests, write_warmup
from keras_psp.files import local_path, sweep, written_aside
from keras_psp.models.checks import smallest_side
from keras_psp.models.pspnet import PSPNet

WARMUP_SIDES = (256, 512)
"""Sides of the square images that warm up a network for any size."""

SERVING = Path(__file__).with_name("serving")
"""The server's files: docker-compose.yml with batching, its addition for a GPU, and models.config
for one model."""


def tf_serving(
    model: PSPNet,
    folder: str | os.PathLike,
    *,
    image_size: tuple[int, int] | None = None,
    batch_size: int | None = None,
    input_dtype: InputType = "uint8",
    output: Output = "classes",
    winograd: bool = True,
    max_pixels: int = MAX_PIXELS,
    warmup_sizes: Sequence[tuple[int, int]] | None = None,
    preset: str | None = None,
    license: str | None = None,
) -> Path:
    """Writes the next version, 1, 2, 3 ..., of a model for TensorFlow Serving.

    The version is written to a temporary folder, opened, tested with its warm-up requests, and
    only then moved into place; a server that watches the folder sees all of it or nothing.

    Args:
        model: a `PSPNet`, on Keras' TensorFlow backend.
        folder: the folder of the model's versions, whose name is the model's, e.g.
            "saved_models/pspnet".
        image_size, batch_size, input_dtype, output, winograd, max_pixels, preset, license: see
            `saved_model`, which also describes the signatures.
        warmup_sizes: (height, width) of the images in the warm-up requests; by default
            `image_size`, or squares of `WARMUP_SIDES`. () for none.

    Returns:
        The version's folder, e.g. saved_models/pspnet/3.
    """
    folder = model_folder(folder)
    if isinstance(model, PSPNet) and not takes_photos(model):
        taken = "images of 0..1" if model.input_channels == 3 else f"{model.input_channels} bands"
        raise ValueError(
            f"the network takes {taken}, but TensorFlow Serving's requests are JPEG and PNG in "
            "RGB; use saved_model, whose input is numbers."
        )
    signature = Signature(image_size, batch_size, input_dtype, output)
    winograd = checked_flag("winograd", winograd)
    max_pixels = checked_integer("max_pixels", max_pixels, least=1)
    sizes = _warmup_sizes(warmup_sizes, signature.image_size, smallest_side(model), max_pixels)
    requests = warmup_requests(sizes, batch_size=batch_size or 1, input_dtype=input_dtype)
    options = {**dataclasses.asdict(signature), "winograd": winograd, "max_pixels": max_pixels}
    del options["channels"]  # the network's

    def write(path):
        saved_model(model, path, **options, preset=preset, license=license)
        if requests:
            write_warmup(path / "assets.extra" / FILE, folder.name, requests)
            replay(path, requests)

    return publish(folder, write)


def replay(path: str | os.PathLike, requests: Sequence[Request]) -> None:
    """Sends all requests to a SavedModel, and raises its errors."""
    import tensorflow as tf

    module = tf.saved_model.load(str(path))
    for request in requests:
        dtype = "string" if request.value.dtype == object else request.value.dtype
        inputs = {request.input: tf.constant(request.value, dtype)}
        module.signatures[request.signature](**inputs)


def server_files(
    folder: str | os.PathLike, *, batching: bool = False, replace: bool = False
) -> list[Path]:
    """Writes the server's configuration files and a Docker Compose file that starts it.

    Args:
        folder: the folder of the models, e.g. saved_models; every model in it that has a version
            is served.
        batching: let the server merge requests. Only for models with an image_size and without
            a batch_size: images of different sizes can't be merged, and an invalid encoded image
            would fail the requests that it is merged with.
        replace: overwrite files that have other contents.

    Returns:
        Paths of "models.config", "batching_parameters.txt", "monitoring.config",
        "docker-compose.yml" and "docker-compose.gpu.yml", which adds a GPU to it.

    Raises:
        FileExistsError: if one of them exists with other contents and `replace` is False.
        ValueError: if the folder has no model with a version.
    """
    folder = local_path("folder", folder)
    names = sorted(
        path.name
        for path in (folder.iterdir() if folder.is_dir() else ())
        if path.is_dir() and is_model_name(path.name) and versions(path)
    )
    if not names:
        raise ValueError(
            f"{folder} has no model with a version; export one to it first, e.g. "
            f'tf_serving(model, "{folder / "pspnet"}").'
        )
    contents = {path.name: path.read_text("utf-8") for path in sorted(SERVING.iterdir())}
    models = "".join(contents["models.config"].replace("MODEL", name) for name in names)
    contents["models.config"] = f"model_config_list {{\n{models}}}\n"
    if not batching:
        lines = contents["docker-compose.yml"].splitlines(keepends=True)
        contents["docker-compose.yml"] = "".join(line for line in lines if "batching" not in line)
    for name, text in contents.items():
        path = folder / name
        if not replace and path.exists() and path.read_text("utf-8") != text:
            raise FileExistsError(f"{path} has other contents; replace=True overwrites it.")
    for name, text in contents.items():
        sweep(folder / name)
        with written_aside(folder / name) as draft:
            draft.write_text(text, "utf-8")
    return [folder / name for name in contents]


def _warmup_sizes(sizes, image_size, smallest, max_pixels):
    if sizes is None:
        sides = dict.fromkeys(max(side, smallest) for side in WARMUP_SIDES)
        sizes = [image_size] if image_size else [(side, side) for side in sides]
        # Under a small limit, no warm-up is better than an error.
        sizes = [(h, w) for h, w in sizes if h * w <= max_pixels and max(h, w) <= MAX_SIDE]
    checked = []
    for index, size in enumerate(checked_tuple("warmup_sizes", sizes, lambda _, size: size)):
        height, width = checked_tuple(f"warmup_sizes[{index}]", size, checked_integer, length=2)
        if image_size and (height, width) != image_size:
            raise ValueError(
                f"warmup_sizes has {size!r} but image_size={image_size!r}; leave warmup_sizes out."
            )
        fits = max(height, width) <= MAX_SIDE and height * width <= max_pixels
        if (not image_size and min(height, width) < smallest) or not fits:
            raise ValueError(
                f"warmup_sizes has {size!r}; give sizes from {smallest} to {MAX_SIDE:,} pixels per "
                f"side and at most {max_pixels:,} in all."
            )
        checked.append((height, width))
    if 2 * len(checked) > MAX_REQUESTS:
        raise ValueError(
            f"warmup_sizes has {len(checked)} sizes; give at most {MAX_REQUESTS // 2}."
        )
    return checked
