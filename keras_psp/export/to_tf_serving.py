"""Versions for TensorFlow Serving, and the files that its server reads beside them."""

import os
from collections.abc import Sequence
from pathlib import Path

from keras_psp.export.graph import InputType, Output, Signature
from keras_psp.export.image_bytes import MAX_PIXELS, MAX_SIDE
from keras_psp.export.to_saved_model import saved_model
from keras_psp.export.versions import is_model_name, model_folder, publish, versions
from keras_psp.export.warmup import FILE, MOST, Request, warmup_requests, write_warmup
from keras_psp.files import written_aside
from keras_psp.models.checks import smallest_side
from keras_psp.models.pspnet import PSPNet

WARMUP_SIDES = (256, 512)
"""Of the squares that warm up a network for any size."""

IMAGE = "tensorflow/serving:2.20.0"
"""Docker image of the server."""


def tf_serving(
    model: PSPNet,
    folder: str | os.PathLike,
    *,
    image_size: tuple[int, int] | None = None,
    batch_size: int | None = None,
    input_dtype: InputType = "uint8",
    output: Output = "classes",
    max_pixels: int = MAX_PIXELS,
    warmup_sizes: Sequence[tuple[int, int]] | None = None,
    preset: str | None = None,
    licence: str | None = None,
) -> Path:
    """Write the next version, 1, 2, 3 ..., of a model that TensorFlow Serving serves.

    The version is written aside, opened, asked all of its warm-up requests, and only then moved
    into place; a server that watches the folder sees it whole or not at all.

    Args:
        model: a `PSPNet`, on Keras' TensorFlow backend.
        folder: of the model's versions, named as the model, as "saved_models/pspnet".
        image_size, batch_size, input_dtype, output, max_pixels, preset, licence: see
            `saved_model`, which also tells the signatures.
        warmup_sizes: (height, width) of the images in the warm-up requests; by default
            `image_size`, or squares of `WARMUP_SIDES`. () for none.

    Returns:
        the version's folder, as saved_models/pspnet/3.
    """
    folder = model_folder(folder)
    signature = Signature(image_size, batch_size, input_dtype, output)
    sizes = _warmup_sizes(warmup_sizes, signature.image_size, smallest_side(model), max_pixels)
    requests = warmup_requests(sizes, batch_size=batch_size or 1, input_dtype=input_dtype)

    def write(path):
        saved_model(
            model,
            path,
            image_size=image_size,
            batch_size=batch_size,
            input_dtype=input_dtype,
            output=output,
            max_pixels=max_pixels,
            preset=preset,
            licence=licence,
        )
        if requests:
            write_warmup(path / "assets.extra" / FILE, folder.name, requests)
            replay(path, requests)

    return publish(folder, write)


def replay(path: str | os.PathLike, requests: Sequence[Request]) -> None:
    """Ask a SavedModel all of the requests; whatever goes wrong is raised."""
    import tensorflow as tf

    module = tf.saved_model.load(str(path))
    for request in requests:
        dtype = "string" if request.value.dtype == object else request.value.dtype
        inputs = {request.input: tf.constant(request.value, dtype)}
        module.signatures[request.signature](**inputs)


def server_files(
    folder: str | os.PathLike, *, batching: bool = False, replace: bool = False
) -> list[Path]:
    """Write what the server reads beside the models of a folder, and how to start it.

    Args:
        folder: of the models, as saved_models; every model of it that has a version is served.
        batching: let the server merge requests. For models with an image_size and without a
            batch_size only: images of different sizes can't be merged, and pictures' bytes share
            their errors.
        replace: write anew what has other contents.

    Returns:
        "models.config", "batching_parameters.txt", "monitoring.config" and "docker-compose.yml".

    Raises:
        FileExistsError: one of them is there with other contents, and not replace.
        ValueError: the folder has no model with a version.
    """
    folder = Path(folder)
    names = sorted(
        path.name
        for path in (folder.iterdir() if folder.is_dir() else ())
        if path.is_dir() and is_model_name(path.name) and versions(path)
    )
    if not names:
        raise ValueError(
            f"{folder} has no model with a version; export one to it first, as "
            f'tf_serving(model, "{folder / "pspnet"}").'
        )
    contents = {
        "models.config": _models_config(names),
        "batching_parameters.txt": BATCHING_PARAMETERS,
        "monitoring.config": MONITORING,
        "docker-compose.yml": _docker_compose(batching),
    }
    for name, text in contents.items():
        path = folder / name
        if not replace and path.exists() and path.read_text("utf-8") != text:
            raise FileExistsError(f"{path} has other contents; replace=True writes it anew.")
    for name, text in contents.items():
        with written_aside(folder / name) as aside:
            aside.write_text(text, "utf-8")
    return [folder / name for name in contents]


def _warmup_sizes(sizes, image_size, smallest, max_pixels):
    if sizes is None:
        sides = dict.fromkeys(max(side, smallest) for side in WARMUP_SIDES)
        sizes = [image_size] if image_size else [(side, side) for side in sides]
        # A small limit leaves nothing to warm up with, rather than failing for it.
        sizes = [(h, w) for h, w in sizes if h * w <= max_pixels and max(h, w) <= MAX_SIDE]
    found = []
    for size in sizes:
        height, width = Signature(size).image_size or (0, 0)
        if image_size and (height, width) != image_size:
            raise ValueError(
                f"warmup_sizes has {size!r} but image_size={image_size!r}; leave warmup_sizes out."
            )
        most = max(height, width) <= MAX_SIDE and height * width <= max_pixels
        if (not image_size and min(height, width) < smallest) or not most:
            raise ValueError(
                f"warmup_sizes has {size!r}; give sizes from {smallest} to {MAX_SIDE:,} pixels a "
                f"side and {max_pixels:,} in all."
            )
        found.append((height, width))
    if 2 * len(found) > MOST:
        raise ValueError(f"warmup_sizes has {len(found)} sizes; give {MOST // 2} at most.")
    return found


def _models_config(names):
    models = "".join(
        f"""  config {{
    name: "{name}"
    base_path: "/models/{name}"
    model_platform: "tensorflow"
    model_version_policy {{ latest {{ num_versions: 1 }} }}
  }}
"""
        for name in names
    )
    return f"model_config_list {{\n{models}}}\n"


BATCHING_PARAMETERS = """\
max_batch_size { value: 8 }
batch_timeout_micros { value: 5000 }
max_enqueued_batches { value: 100 }
num_batch_threads { value: 2 }
"""
"""Requests wait 5 ms for seven others; beyond 100 waiting batches the server answers busy."""

MONITORING = """\
prometheus_config { enable: true path: "/monitoring/prometheus/metrics" }
"""


def _docker_compose(batching):
    more = (
        """
      - --enable_batching
      - --batching_parameters_file=/models/batching_parameters.txt"""
        if batching
        else ""
    )
    return f"""\
# docker compose up; REST on port 8501, gRPC on 8500, of this machine alone.
services:
  serving:
    image: ${{TF_SERVING_IMAGE:-{IMAGE}}}
    command:
      - --model_config_file=/models/models.config
      - --model_config_file_poll_wait_seconds=60
      - --monitoring_config_file=/models/monitoring.config
      - --rest_api_timeout_in_ms=60000{more}
    ports:
      - "127.0.0.1:8500:8500"
      - "127.0.0.1:8501:8501"
    volumes:
      - .:/models:ro
    mem_limit: ${{TF_SERVING_MEMORY:-8g}}
    security_opt: [no-new-privileges:true]
    restart: unless-stopped
"""
