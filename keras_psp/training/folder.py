"""The folder of a run: everything needed to repeat it, and its results."""

import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

from keras_psp import files
from keras_psp.data.identity import data_difference, renamed_files
from keras_psp.files import writing
from keras_psp.resume import (
    changed_settings,
    check_settings,
    read_json,
    read_record,
    write_json,
    write_record,
)
from keras_psp.training.log import Table
from keras_psp.training.recipes import Recipe

_PACKAGES = ("keras-psp", "keras", "tensorflow", "jax", "torch", "numpy", "pillow")


class RunFolder:
    """The folder of a run and its files.

        recipe.json       every field of the recipe, and where the data was
        bands.json        mean and standard deviation of each band, if images aren't RGB
        data.json         names and contents of the data, to compare when the run is resumed
        starts.json       each start: time, command, versions, devices, git state
        log.csv           one row per epoch
        steps.csv         one row per step
        curve.png         curves of both
        augmented.png     16 crops as the network sees them
        pictures/         predictions after each validation
        checkpoints/      the state to resume from
        best.keras        the network with the best validation mean IoU
        last.keras        the network at the last validation, and at the end
        tensorboard/      scalars and images for TensorBoard

    Args:
        path: Path of the folder, which is created if needed.
        writes: Whether this process writes; on several machines only the first one does.

    Raises:
        ValueError: If it is a file, or contains files but no run.
        OSError: If it can't be created.
    """

    def __init__(self, path: str | os.PathLike, *, writes: bool = True):
        self.path = files.local_path("output", path)
        self.writes = writes
        if writes:
            files.claim(self.path, "recipe.json", contents="run")

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Locks the folder, since two runs at once would overwrite each other's files.

        Raises:
            ValueError: If another run is training in it.
        """
        if not self.writes:
            yield
            return
        owner = self / ".owner"
        with files.locked(self / ".lock") as has_lock:
            if has_lock is False:
                name = owner.read_text("utf-8", "replace") if owner.exists() else "another process"
                raise ValueError(
                    f"another run is training in {self.path} ({name}); let it end or stop it, "
                    "or choose another --output."
                )
            with writing(owner):
                owner.write_text(f"process {os.getpid()} on {platform.node()}", "utf-8")
            yield

    def begin(self, recipe: Recipe, data: str) -> bool:
        """Writes the recipe of a new run, or checks that an earlier one has the same.

        Args:
            recipe: The recipe.
            data: Description of the data. It may change, since data can be moved.

        Returns:
            Whether there is an earlier run to resume.

        Raises:
            ValueError: If the folder holds another run, or the log of one without a checkpoint.
        """
        # A start without a checkpoint, perhaps due to a wrong value in its recipe, is replaced.
        if self._has_checkpoint():
            fields = Recipe().to_dict()  # fields that older versions lack have their default
            stored = {**json.loads(json.dumps(fields)), **self._stored()}
            self._check(stored, {name: getattr(recipe, name) for name in sorted(fields)})
            return True
        if self.writes:  # other machines may look while the first one is writing
            if Table(self / "log.csv", ("step",), writes=False).rows:
                raise ValueError(
                    f"{self.path} holds the log of a run but no checkpoint to resume from; choose "
                    "another --output, or remove the folder to start again."
                )
            write_record(self / "recipe.json", {**recipe.to_dict(), "data": data})
        return False

    def store_or_check(self, name: str, value: Any) -> None:
        """Adds a value to recipe.json, or checks that an earlier run has the same."""
        if self._has_checkpoint() and name in self._stored():
            self._check(self._stored(), {name: value})
        elif self.writes:
            write_record(self / "recipe.json", {**self._stored(), name: value})

    def store_or_check_data(self, data: dict[str, Any]) -> None:
        """Writes data.json of a new run, or checks that an earlier one had the same data.

        Args:
            data: What `keras_psp.data.identity.data_identity` returned.

        Raises:
            ValueError: If files, contents, classes or the order of examples are different.
        """
        path = self / "data.json"
        if not self._has_checkpoint():
            if self.writes:
                write_record(path, data)
            return
        if not path.exists():
            self._print("has no data.json, so its data can't be compared with that of the start")
            return
        remedy = "restore it, remove it to resume without comparing the data, or choose another"
        stored = read_record(path, f"{remedy} --output")
        if difference := data_difference(stored, data):
            raise ValueError(
                f"{self.path} was trained on other data: {difference}; restore the data, or choose "
                "another --output to train on this."
            )
        if renamed := renamed_files(stored, data):
            self._print(f"{renamed} images have other names than at the start, in the same order")

    def _print(self, text):
        if self.writes:
            print(f"{self.path}: {text}", file=sys.stderr)

    def _has_checkpoint(self):
        exists = any((self / "checkpoints").glob("step-*.npz"))
        return exists and (self / "recipe.json").exists()

    def _stored(self):
        return read_record(self / "recipe.json", "restore it, or choose another --output")

    def _check(self, stored, settings):
        remedy = "choose another --output, or give the same recipe and data to resume it"
        if changed_settings(stored, settings) == ["epochs"]:
            remedy = (
                "to train longer, give another --output and "
                f"weights={str(self.path)!r}, to start from its network; to resume it, give "
                f"epochs={stored['epochs']}"
            )
        check_settings(stored, settings, contents=f"{self.path} holds a run", remedy=remedy)

    def record_start(self, devices: list[str]) -> None:
        """Adds this start, with the names of its devices, to starts.json."""
        if not self.writes:
            return
        path = self / "starts.json"
        starts = read_json(path, "restore it, or remove it", list) if path.exists() else []
        starts.append(
            {
                "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "command": sys.argv,
                "python": platform.python_version(),
                "platform": platform.platform(),
                "backend": keras.backend.backend(),
                "versions": _versions(),
                "devices": devices,
                "git": _git_state(),
            }
        )
        write_json(path, starts)


def _versions():
    versions = {}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def _git_state():
    """Returns the commit of this code and whether it is modified; None outside of git."""
    here = Path(__file__).resolve().parent

    def git(*arguments):
        command = ["git", "-C", str(here), *arguments]
        output = subprocess.check_output(command, stderr=subprocess.DEVNULL, text=True, timeout=20)
        return output.strip()

    try:
        changed = git("status", "--porcelain", "--", str(here.parent))
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(changed)}
    except (OSError, subprocess.SubprocessError):
        return None
