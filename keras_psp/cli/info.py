"""`keras-psp info`: what a bug report should contain."""

import argparse
import importlib.metadata
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

from keras_psp.files import cache_folder
from keras_psp.version import __version__

_PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy", "pillow")


def add(commands: Any) -> None:
    """Adds the command to the parser's subcommands."""
    commands.add_parser(
        "info",
        help="print versions, devices, extras and folders, e.g. for a bug report",
        description="Print the versions of the packages, the backend and its devices, which "
        "extras are installed, and where downloaded weights are.",
    )


def run(options: argparse.Namespace) -> int:
    """Prints one fact per line."""
    rows = [
        ("keras_psp", f"{__version__}, {Path(__file__).parents[1]}"),
        ("Python", f"{platform.python_version()}, {sys.executable}"),
        ("system", f"{platform.platform()}, {os.cpu_count()} CPUs"),
        *((name, _version(name)) for name in _PACKAGES),
        ("extras", ", ".join(_extras()) or "none"),
        ("cache", _cache()),
        *_backend(),
    ]
    for name, text in rows:
        print(f"{name + ':':12}{text}")
    return 0


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _extras():
    """The extras of this package whose requirements are all installed."""
    try:
        provided = importlib.metadata.metadata("keras-psp").get_all("Provides-Extra") or ()
    except importlib.metadata.PackageNotFoundError:  # a clone that isn't installed
        return []
    return [extra for extra in provided if _has_extra("keras-psp", extra)]


def _has_extra(package, extra):
    from packaging.requirements import Requirement

    requirements = map(Requirement, importlib.metadata.requires(package) or ())
    return all(
        _is_installed(requirement)
        for requirement in requirements
        if requirement.marker and requirement.marker.evaluate({"extra": extra})
    )


def _is_installed(requirement):
    version = _version(requirement.name)
    if version == "not installed" or version not in requirement.specifier:
        return False
    return all(_has_extra(requirement.name, extra) for extra in requirement.extras)


def _cache():
    folder = cache_folder()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    free = shutil.disk_usage(existing).free
    return f"{folder}, {size / 1e6:,.0f} MB used, {free / 1e9:,.0f} GB free"


def _devices(keras):
    """Names of the devices; Keras 3.15 can't list those of PyTorch."""
    if keras.backend.backend() != "torch":
        return keras.distribution.list_devices()
    import torch

    return [f"cuda:{number}" for number in range(torch.cuda.device_count())] or ["cpu"]


def _backend():
    """The backend and its devices, as Keras sees them."""
    try:
        import keras

        backend, devices = keras.backend.backend(), _devices(keras)
    except Exception as error:  # whatever is wrong with the installation is what is asked for
        return [("backend", f"{type(error).__name__}: {error}")]
    rows = [("backend", backend), ("devices", ", ".join(devices) or "the CPU")]
    if shutil.which("nvidia-smi") and not any("gpu" in name or "cuda" in name for name in devices):
        rows.append(("GPU", f"this machine has one, but {backend} doesn't see it"))
    return rows
