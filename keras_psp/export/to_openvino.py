"""OpenVINO models (.xml and .bin)."""

import contextlib
import errno
import io
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from keras_psp.arguments import checked_choice, checked_flag
from keras_psp.export.formats import PRECISIONS
from keras_psp.export.graph import InputType, Output, Signature, channels_of_network
from keras_psp.export.inputs import graph_function, thread_count
from keras_psp.export.metadata import metadata, metadata_json
from keras_psp.export.representative import calibration_batches, check_precision
from keras_psp.export.to_onnx import onnx_model
from keras_psp.export.writing import checked_export, required
from keras_psp.files import local_path
from keras_psp.models.pspnet import PSPNet

FILES = ("model.xml", "model.bin")


def openvino(
    model: PSPNet,
    path: str | os.PathLike,
    *,
    image_size: tuple[int, int] | None = None,
    batch_size: int | None = None,
    precision: Literal["float32", "bfloat16", "int8"] = "float32",
    representative: Iterable[Any] | None = None,
    input_dtype: InputType = "uint8",
    output: Output = "classes",
    winograd: bool = True,
    preset: str | None = None,
    license: str | None = None,
    progress: bool = True,
) -> None:
    """Writes an OpenVINO model, optimized for inference, on any backend of Keras.

    Args:
        model: a `PSPNet`, see `onnx`.
        path: the folder to write, with `model.xml` and `model.bin`; an existing export is
            replaced once the new one is complete.
        precision: "float32"; "bfloat16": the same weights, with a hint that `open_openvino`
            passes to the runtime; "int8": quantized by NNCF on `representative`.
        preset, license: see `metadata`; they are in rt_info, key "keras_psp".
        representative, image_size, batch_size, input_dtype, output, winograd, progress: see `onnx`.

    Raises:
        ValueError: if the arguments are invalid.
        RuntimeError: if the resulting model doesn't run.
    """
    signature = Signature(image_size, batch_size, input_dtype, output, channels_of_network(model))
    winograd = checked_flag("winograd", winograd)
    check_precision(model, precision, PRECISIONS["openvino"], signature, representative)
    checked = checked_export(
        path, "OpenVINO model", open_openvino, model, signature, files=FILES, progress=progress
    )
    with checked as draft, tempfile.TemporaryDirectory() as folder:
        runtime = _runtime()
        if precision == "int8":
            batches = calibration_batches(representative, signature)
        proto, _ = onnx_model(
            model,
            signature,
            use_winograd=winograd and precision == "float32",
            channels_first=True,
            split_fusion=precision == "bfloat16",
        )
        source = Path(folder) / "model.onnx"
        source.write_bytes(proto.SerializeToString())
        del proto
        # convert_model would store the kernels transformed for Winograd's products, four times
        # as large; transforming them takes a second when the model is opened.
        converted = runtime.Core().read_model(source)
        if precision == "int8":
            converted = _quantized(converted, batches, progress)
        about = metadata(model, signature, preset=preset, license=license)
        converted.set_rt_info(metadata_json(about), "keras_psp")
        converted.set_rt_info(precision, "keras_psp_precision")
        draft.mkdir()
        full = OSError(errno.EIO, "the disk is full or broken", str(draft))
        try:
            runtime.serialize(converted, draft / FILES[0])
        except RuntimeError as error:  # of a C++ stream, which doesn't know the reason
            raise full from error
        if not shutil.disk_usage(draft).free:  # which OpenVINO 2025.0 doesn't report
            raise full


def _runtime():
    return required("openvino", "OpenVINO models need", "openvino")


def _quantized(converted, batches, progress):
    nncf = required("nncf", "8-bit OpenVINO models are quantized by", "openvino")
    nncf.set_log_level(logging.ERROR)
    # Its progress bar goes to stdout, which is for results.
    with contextlib.redirect_stdout(sys.stderr if progress else io.StringIO()):
        return nncf.quantize(
            converted,
            nncf.Dataset(batches),
            subset_size=len(batches),
            preset=nncf.QuantizationPreset.MIXED,
        )


def open_openvino(
    path: str | os.PathLike,
    *,
    num_threads: int | None = None,
    precision: Literal["float32", "bfloat16", "int8"] | None = None,
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from images (batch, height, width, channels) to the output, on the CPU.

    Args:
        path: folder written by `openvino`.
        num_threads: number of threads, by default one per core.
        precision: precision to compute in, by default that of the export.
    """
    num_threads = thread_count(num_threads)
    if precision is not None:
        checked_choice("precision", precision, PRECISIONS["openvino"])
    runtime = _runtime()
    path = local_path("path", path)
    for name in FILES:
        if not (path / name).is_file():
            raise FileNotFoundError(f"{path} has no {name}; give the folder of an export.")
    core = runtime.Core()
    try:
        model = core.read_model(path / FILES[0])
    except RuntimeError as error:
        raise ValueError(
            f"{path} can't be opened by OpenVINO ({str(error).splitlines()[0]}); export it again."
        ) from error
    if not model.has_rt_info("keras_psp"):
        raise ValueError(
            f"{path} wasn't written by keras_psp.export.openvino; open it with openvino itself."
        )
    about = json.loads(model.get_rt_info("keras_psp").astype(str))
    precision = precision or model.get_rt_info("keras_psp_precision").astype(str)
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
        "INFERENCE_NUM_THREADS": num_threads,
    }
    request = core.compile_model(model, "CPU", options).create_infer_request()
    image = model.inputs[0]
    return graph_function(
        lambda batch: request.infer([batch])[0],
        [n.get_length() if n.is_static else None for n in image.partial_shape],
        image.element_type.to_dtype(),
        about["input"]["smallest_side"],
        one_at_a_time=True,
    )
