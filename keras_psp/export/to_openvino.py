"""OpenVINO models (.xml and .bin)."""

import contextlib
import io
import json
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from keras_psp.export.graph import InputType, Output, Signature, check_network
from keras_psp.export.inference import as_input, export_target, in_batches
from keras_psp.export.metadata import metadata, metadata_json
from keras_psp.export.representative import calibration_batches, check_representative
from keras_psp.export.to_onnx import onnx_model
from keras_psp.export.trial import check_output
from keras_psp.files import written_aside
from keras_psp.models.pspnet import PSPNet

INSTALL = 'pip install "keras-psp[openvino]"'


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
    licence: str | None = None,
    progress: bool = True,
) -> None:
    """Write an OpenVINO model, made for inference; on any backend of Keras.

    Args:
        model: a `PSPNet`, see `onnx`.
        path: the folder to write, of `model.xml` and `model.bin`; an existing one is replaced
            once the new one is whole.
        image_size: (height, width); None for any size, which is slower.
        batch_size: images at a time; None for any number.
        precision: "float32"; "bfloat16": the same weights, with the hint that `open_openvino`
            gives the runtime; "int8": quantised by NNCF on `representative`.
        representative: for "int8", images like those to come, see `representative_images`.
        input_dtype, output: see `Signature`.
        winograd: as in `onnx`.
        preset, licence: see `metadata`; they are in rt_info, key "keras_psp".
        progress: show on stderr how far it is.

    Input and output are those of `onnx`.

    Raises:
        ValueError: for arguments that make no model.
        RuntimeError: the model that was made doesn't run.
    """
    if precision not in ("float32", "bfloat16", "int8"):
        raise ValueError(
            f"precision={precision!r} is unknown; choose 'float32', 'bfloat16' or 'int8'."
        )
    signature = Signature(image_size, batch_size, input_dtype, output)
    check_representative(precision, signature, representative, "bfloat16")
    check_network(model, signature)
    target = export_target(path, own=("model.xml", "model.bin"))
    runtime = _require()
    if precision == "int8":
        batches = calibration_batches(representative, signature)
    # Winograd's sums and differences lose too many of bfloat16's eight bits.
    fewer = winograd and precision == "float32"
    halves = precision == "bfloat16"
    proto, _ = onnx_model(model, signature, winograd=fewer, planes=True, halves=halves)
    with tempfile.TemporaryDirectory() as folder, written_aside(target) as aside:
        source = Path(folder) / "model.onnx"
        source.write_bytes(proto.SerializeToString())
        del proto
        # Not convert_model: it would store the kernels as Winograd's products want them, four
        # times as large, which takes a second when the model is opened.
        converted = runtime.Core().read_model(source)
        if precision == "int8":
            converted = _quantised(converted, batches, progress)
        about = metadata(model, signature, preset=preset, licence=licence)
        converted.set_rt_info(metadata_json(about), "keras_psp")
        converted.set_rt_info(precision, "keras_psp_precision")
        aside.mkdir()
        runtime.serialize(converted, aside / "model.xml")
        if progress:
            print(f"{target.name}: running it once", file=sys.stderr)
        check_output("OpenVINO model", lambda: open_openvino(aside), model, signature)


def _require():
    try:
        import openvino
    except ImportError as error:
        raise ImportError(f"OpenVINO models need openvino: {INSTALL}") from error
    return openvino


def _quantised(converted, batches, progress):
    try:
        import nncf
    except ImportError as error:
        raise ImportError(f"8 bits in OpenVINO need nncf: {INSTALL}") from error

    nncf.set_log_level(logging.ERROR)
    # Its bar goes to stdout, which is for results.
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
    """A function from images (batch, height, width, 3) to the output, on the CPU.

    Args:
        path: folder that `openvino` wrote.
        num_threads: default all cores.
        precision: to compute in; default: that of the export.
    """
    runtime = _require()
    path = Path(path)
    for name in ("model.xml", "model.bin"):
        if not (path / name).is_file():
            raise FileNotFoundError(f"{path}: there is no {name}; give a folder of an export.")
    core = runtime.Core()
    try:
        model = core.read_model(path / "model.xml")
    except RuntimeError as error:
        raise ValueError(
            f"{path} can't be opened by OpenVINO ({str(error).splitlines()[0]}); export it again."
        ) from error
    if not model.has_rt_info("keras_psp"):
        raise ValueError(
            f"{path} isn't of keras_psp.export.openvino; open it with openvino itself."
        )
    about = json.loads(model.get_rt_info("keras_psp").astype(str))
    precision = precision or model.get_rt_info("keras_psp_precision").astype(str)
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
        "INFERENCE_NUM_THREADS": num_threads or os.cpu_count() or 1,
    }
    request = core.compile_model(model, "CPU", options).create_infer_request()
    given = model.inputs[0]
    batch, *size, _ = (n.get_length() if n.is_static else None for n in given.partial_shape)
    dtype = given.element_type.to_dtype()

    lock = threading.Lock()  # of the one request, which has the memory of one run

    def predict(images):
        images = as_input(images, dtype, size, about["input"]["smallest_side"])
        parts = [images] if batch is None else in_batches(images, batch)
        with lock:
            return np.concatenate([request.infer([part])[0] for part in parts])

    return predict
