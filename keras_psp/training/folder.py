"""The folder of a training: all that it takes to repeat it, and what came of it."""

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

from keras_psp.files import locked, remove_drafts, writing
from keras_psp.resume import check_settings, write_json
from keras_psp.training.log import Table
from keras_psp.training.recipes import Recipe

_PACKAGES = ("keras-psp", "keras", "tensorflow", "jax", "torch", "numpy", "pillow")
_FILES = (
    *("recipe.json", "starts.json", "log.csv", "steps.csv"),
    *("best.keras", "last.keras", "curve.png", "augmented.png"),
)


class RunFolder:
    """Names and contents of a run's files.

        recipe.json       every field of the recipe, and the data
        starts.json       each start: time, command, versions, devices, git state
        log.csv           one row an epoch
        steps.csv         one row a step
        curve.png         both, drawn
        augmented.png     16 crops as the network sees them
        pictures/         predictions after each validation
        checkpoints/      to go on from
        best.keras        the network that did best on the validation split
        last.keras        the network at the last validation, and at the end
        tensorboard/      scalars and pictures for TensorBoard

    Args:
        path: made if it doesn't exist.
        writes: whether this process writes; on several machines only the first does.

    Raises:
        ValueError: it is a file, or holds files that are no run's.
    """

    def __init__(self, path: str | os.PathLike, *, writes: bool = True):
        self.path = Path(path)
        self.writes = writes
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} is a file; the output must be a folder.")
        if writes:
            with writing(self.path):
                self.path.mkdir(parents=True, exist_ok=True)
            others = [p.name for p in self.path.iterdir() if not p.name.startswith(".")]
            if others and not (self / "recipe.json").exists():
                raise ValueError(
                    f"{self.path} isn't empty ({others[0]}) and holds no run; choose another "
                    "--output."
                )

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep the folder for this training; two at once would overwrite each other's files.

        Raises:
            ValueError: another training has it.
        """
        if not self.writes:
            yield
            return
        owner = self / ".owner"
        with locked(self / ".lock") as has_lock:
            if has_lock is False:
                name = owner.read_text("utf-8") if owner.exists() else "another process"
                raise ValueError(
                    f"another training is running in {self.path} ({name}); let it end or stop it, "
                    "or choose another --output."
                )
            with writing(owner):
                owner.write_text(f"process {os.getpid()} on {platform.node()}", "utf-8")
            remove_drafts(self.path, _FILES.__contains__)
            remove_drafts(self / "pictures", lambda name: name.startswith("epoch-"))
            yield

    def begin(self, recipe: Recipe, data: str) -> bool:
        """Write the recipe of a new run, or check that an old one has the same.

        Returns:
            Whether the run was begun before.

        Raises:
            ValueError: where the folder holds another run, or the log of one without a checkpoint.
        """
        file = self / "recipe.json"
        written = {**recipe.to_dict(), "data": data}
        if self._begun():
            # A field that a later version of the package brought has its default; the data
            # may have moved.
            defaults = json.loads(json.dumps(Recipe().to_dict()))
            stored = {**defaults, **json.loads(file.read_text("utf-8"))}
            self._check(stored, {name: written[name] for name in sorted(defaults)})
            return True
        # A start that made no step, perhaps for a wrong value in its recipe, is no run yet.
        if not self.writes:  # the machine that writes may be doing so just now
            return False
        if len(Table(self / "log.csv", ("step",), writes=False).rows):
            raise ValueError(
                f"{self.path} holds the log of a run but no checkpoint to go on from; choose "
                "another --output, or remove the folder to start anew."
            )
        self.write_json("recipe.json", written)
        return False

    def settle(self, key: str, value: Any) -> None:
        """Write what only became known after `begin`, or check that it is as it was."""
        if not self.writes and not self._begun():
            return
        recipe = json.loads((self / "recipe.json").read_text("utf-8"))
        if self._begun() and key in recipe:
            self._check(recipe, {key: value})
        if self.writes and recipe.get(key) != value:
            self.write_json("recipe.json", {**recipe, key: value})

    def _begun(self):
        made = any((self / "checkpoints").glob("step-*.npz"))
        return made and (self / "recipe.json").exists()

    def _check(self, stored, settings):
        check_settings(
            stored,
            settings,
            contents=f"{self.path} holds a run",
            remedy="choose another --output, or give the same recipe and data to resume it",
        )

    def record_start(self, devices: list[str]) -> None:
        """Add this start to starts.json."""
        if not self.writes:
            return
        file = self / "starts.json"
        starts = json.loads(file.read_text("utf-8")) if file.exists() else []
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
        self.write_json("starts.json", starts)

    def write_json(self, name: str, value: Any) -> None:
        """Writes a JSON file that is complete or absent at any moment."""
        write_json(self / name, value)


def _versions():
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _git_state():
    """Commit of the code that runs, and whether it was changed; None outside of git."""
    here = Path(__file__).resolve().parent

    def git(*arguments):
        return subprocess.run(
            ["git", "-C", str(here), *arguments], capture_output=True, text=True, timeout=20
        )

    try:
        commit = git("rev-parse", "HEAD")
        if commit.returncode:
            return None
        changed = git("status", "--porcelain", "--", str(here.parent)).stdout.strip()
        return {"commit": commit.stdout.strip(), "changed": bool(changed)}
    except (OSError, subprocess.SubprocessError):
        return None
