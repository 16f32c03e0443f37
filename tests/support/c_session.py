"""A SavedModel in a separate process, run by TensorFlow's C API without TensorFlow's Python.

`TF_LoadSessionFromSavedModel` is the C++ loader that TensorFlow Serving is built on. This file
contains both sides: `CSession` starts it as a program that answers lines of JSON with JSON.
"""

import base64
import ctypes
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

# TF_DataType of tensorflow/c/tf_datatype.h.
_DTYPES = {"float32": 1, "uint8": 4, "int64": 9, "uint16": 17}
_STRING = 7
_TSTRING_BYTES = 24


class CSession:
    """The signatures of a SavedModel; `returncode` is None while its process runs."""

    def __init__(self, folder):
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            text=True,
        )
        self.loaded = self._answer()
        self.signatures = _signatures(folder)

    @property
    def returncode(self):
        return self.process.poll()

    def __call__(self, signature, value):
        """Maps a list of bytes to one, or an array to an array; errors are RuntimeErrors."""
        names = dict(zip(("input", "output"), self.signatures[signature], strict=True))
        if isinstance(value, list):
            request = {"strings": [base64.b64encode(content).decode() for content in value]}
        else:
            data = base64.b64encode(value.tobytes()).decode()
            request = {"dtype": value.dtype.name, "shape": value.shape, "data": data}
        self.process.stdin.write(json.dumps(request | names) + "\n")
        self.process.stdin.flush()
        answer = self._answer()
        if "strings" in answer:
            return [base64.b64decode(content) for content in answer["strings"]]
        import numpy as np

        data = base64.b64decode(answer["data"])
        return np.frombuffer(data, answer["dtype"]).reshape(answer["shape"])

    def close(self):
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise EOFError(f"the process ended with {self.process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer


def _signatures(folder):
    """{signature: (input's tensor, output's tensor)}, read with TensorFlow's Python messages."""
    from tensorflow.core.protobuf import saved_model_pb2

    parsed = saved_model_pb2.SavedModel.FromString((Path(folder) / "saved_model.pb").read_bytes())
    tensors = {}
    for name, signature in parsed.meta_graphs[0].signature_def.items():
        if not name.startswith("__"):
            (into,), (out,) = signature.inputs.values(), signature.outputs.values()
            tensors[name] = (into.name, out.name)
    return tensors


# The program in the other process.


class _Output(ctypes.Structure):
    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


class _Program:
    def __init__(self, folder):
        libraries = Path(importlib.util.find_spec("tensorflow").origin).parent
        ctypes.CDLL(str(libraries / "libtensorflow_framework.so.2"), ctypes.RTLD_GLOBAL)
        self.c = ctypes.CDLL(str(libraries / "libtensorflow_cc.so.2"), ctypes.RTLD_GLOBAL)
        for name in (
            *("TF_NewStatus", "TF_NewGraph", "TF_NewSessionOptions", "TF_AllocateTensor"),
            *("TF_TensorData", "TF_GraphOperationByName", "TF_LoadSessionFromSavedModel"),
            *("TF_StringGetDataPointer",),
        ):
            getattr(self.c, name).restype = ctypes.c_void_p
        for name in ("TF_Dim", "TF_TensorByteSize", "TF_StringGetSize"):
            getattr(self.c, name).restype = ctypes.c_size_t
        self.c.TF_Message.restype = ctypes.c_char_p
        self.status = ctypes.c_void_p(self.c.TF_NewStatus())
        self.graph = ctypes.c_void_p(self.c.TF_NewGraph())
        options = ctypes.c_void_p(self.c.TF_NewSessionOptions())
        tags = (ctypes.c_char_p * 1)(b"serve")
        self.session = ctypes.c_void_p(
            self.c.TF_LoadSessionFromSavedModel(
                *(options, None, os.fsencode(folder), tags, 1, self.graph, None, self.status)
            )
        )
        self.check()

    def check(self):
        if self.c.TF_GetCode(self.status):
            raise RuntimeError(self.c.TF_Message(self.status).decode("utf-8", "replace"))

    def answer(self, request):
        into, out = self.output(request["input"]), self.output(request["output"])
        value = ctypes.c_void_p(self.tensor(request))
        result = ctypes.c_void_p()
        self.c.TF_SessionRun(
            *(self.session, None, ctypes.byref(into), ctypes.byref(value), 1),
            *(ctypes.byref(out), ctypes.byref(result), 1, None, 0, None, self.status),
        )
        self.c.TF_DeleteTensor(value)
        self.check()
        answer = self.described(result)
        self.c.TF_DeleteTensor(result)
        return answer

    def output(self, name):
        operation, index = name.split(":")
        pointer = self.c.TF_GraphOperationByName(self.graph, operation.encode())
        if not pointer:
            raise RuntimeError(f"no operation {operation}")
        return _Output(pointer, int(index))

    def tensor(self, request):
        if "strings" in request:
            contents = [base64.b64decode(text) for text in request["strings"]]
            tensor = self.allocated(_STRING, [len(contents)], len(contents) * _TSTRING_BYTES)
            start = self.c.TF_TensorData(ctypes.c_void_p(tensor)) if contents else 0
            for index, content in enumerate(contents):
                string = ctypes.c_void_p(start + index * _TSTRING_BYTES)
                self.c.TF_StringInit(string)
                self.c.TF_StringCopy(string, content, ctypes.c_size_t(len(content)))
            return tensor
        data = base64.b64decode(request["data"])
        tensor = self.allocated(_DTYPES[request["dtype"]], request["shape"], len(data))
        if data:
            ctypes.memmove(self.c.TF_TensorData(ctypes.c_void_p(tensor)), data, len(data))
        return tensor

    def allocated(self, dtype, shape, size):
        dims = (ctypes.c_int64 * len(shape))(*shape)
        return self.c.TF_AllocateTensor(dtype, dims, len(shape), ctypes.c_size_t(size))

    def described(self, tensor):
        shape = [self.c.TF_Dim(tensor, axis) for axis in range(self.c.TF_NumDims(tensor))]
        dtype = self.c.TF_TensorType(tensor)
        size = self.c.TF_TensorByteSize(tensor)
        start = self.c.TF_TensorData(tensor) if size else 0
        if dtype == _STRING:
            strings = [ctypes.c_void_p(start + i * _TSTRING_BYTES) for i in range(shape[0])]
            contents = [
                ctypes.string_at(self.c.TF_StringGetDataPointer(s), self.c.TF_StringGetSize(s))
                for s in strings
            ]
            return {"strings": [base64.b64encode(content).decode() for content in contents]}
        name = {code: name for name, code in _DTYPES.items()}[dtype]
        data = base64.b64encode(ctypes.string_at(start, size)).decode()
        return {"dtype": name, "shape": shape, "data": data}


def _serve(folder):
    def reply(answer):
        print(json.dumps(answer), flush=True)

    try:
        program = _Program(folder)
    except RuntimeError as error:
        return reply({"error": str(error)})
    reply({"modules": [name for name in ("tensorflow", "keras", "numpy") if name in sys.modules]})
    for line in sys.stdin:
        try:
            reply(program.answer(json.loads(line)))
        except RuntimeError as error:
            reply({"error": str(error)})


if __name__ == "__main__":
    _serve(sys.argv[1])
