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
from keras_psp.files import writing
from keras_psp.resume import check_settings, write_json
from keras_psp.training.log import Table
from keras_psp.training.recipes import Recipe

_PACKAGES = ("keras-psp", "keras", "tensorflow", "jax", "torch", "numpy", "pillow")
_FILES = (
    *("recipe.json", "starts.json", "log.csv", "steps.csv"),
    *("best.keras", "last.keras", "curve.png", "augmented.png"),
)


class RunFolder:
    """The folder of a run and its files.

        recipe.json       every field of the recipe, and the data
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
    """

    def __init__(self, path: str | os.PathLike, *, writes: bool = True):
        self.path = files.local_path("output", path)
        self.writes = writes
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} is a file; the output must be a folder.")
        if writes:
            with writing(self.path):
                self.path.mkdir(parents=True, exist_ok=True)
            others = [p.name for p in self.path.iterdir() if not p.name.startswith(".")]
            if others and not (self / "recipe.json").exists():
                raise ValueError(
                    f"{self.path} is not empty ({others[0]}) and contains no run; choose another "
                    "--output."
                )

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Locks the folder, since two trainings at once would overwrite each other's files.

        Raises:
            ValueError: If another training is running in it.
        """
        if not self.writes:
            yield
            return
        owner = self / ".owner"
        with files.locked(self / ".lock") as has_lock:
            if has_lock is False:
                name = owner.read_text("utf-8") if owner.exists() else "another process"
                raise ValueError(
                    f"another training is running in {self.path} ({name}); let it end or stop it, "
                    "or choose another --output."
                )
            with writing(owner):
                owner.write_text(f"process {os.getpid()} on {platform.node()}", "utf-8")
            files.remove_drafts(self.path, _FILES.__contains__)
            files.remove_drafts(self / "pictures", lambda name: name.startswith("epoch-"))
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
            write_json(self / "recipe.json", {**recipe.to_dict(), "data": data})
        return False

    def store_or_check(self, name: str, value: Any) -> None:
        """Adds a value to recipe.json, or checks that an earlier run has the same."""
        if self._has_checkpoint() and name in self._stored():
            self._check(self._stored(), {name: value})
        elif self.writes:
            write_json(self / "recipe.json", {**self._stored(), name: value})

    def _has_checkpoint(self):
        exists = any((self / "checkpoints").glob("step-*.npz"))
        return exists and (self / "recipe.json").exists()

    def _stored(self):
        return json.loads((self / "recipe.json").read_text("utf-8"))

    def _check(self, stored, settings):
        check_settings(
            stored,
            settings,
            contents=f"{self.path} holds a run",
            remedy="choose another --output, or give the same recipe and data to resume it",
        )

    def record_start(self, devices: list[str]) -> None:
        """Adds this start, with the names of its devices, to starts.json."""
        if not self.writes:
            return
        path = self / "starts.json"
        starts = json.loads(path.read_text("utf-8")) if path.exists() else []
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
