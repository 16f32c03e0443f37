"""Folders that a second call may resume only with the settings of the first."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_psp.files import writing, written_aside

_OTHER_FILES = "from other images or labels: files were changed, added, removed or renamed since"
_DIGESTS = {
    "files": _OTHER_FILES,
    "first": _OTHER_FILES,
    "names": _OTHER_FILES,
    "network": "by a network with other weights",
    "weights": "by a network with other weights",
}


def check_settings(
    stored: Mapping[str, Any], settings: Mapping[str, Any], *, contents: str, remedy: str
) -> None:
    """Raises ValueError if the settings of a call differ from those stored in its folder.

    Its message is "{contents} with epochs=3, not 4; {remedy}." Of settings that are digests, it
    says what is different.
    """
    for name in changed_settings(stored, settings):
        inner = stored.get(name)
        if isinstance(inner, dict) and isinstance(settings[name], dict):
            check_settings(inner, settings[name], contents=contents, remedy=remedy)
        if name in _DIGESTS:
            raise ValueError(f"{contents} made {_DIGESTS[name]}; {remedy}.")
        value = _as_json(settings[name])
        raise ValueError(f"{contents} with {name}={stored.get(name)!r}, not {value!r}; {remedy}.")


def changed_settings(stored: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """Returns the names of all settings whose stored value is a different one."""
    return [name for name in settings if stored.get(name) != _as_json(settings[name])]


def store_or_check_settings(
    path: str | os.PathLike, settings: Mapping[str, Any], *, contents: str, remedy: str
) -> None:
    """Writes the settings of a new folder to a JSON file, or checks those of an existing one."""
    path = Path(path)
    if path.exists():
        stored = json.loads(path.read_text("utf-8"))
        check_settings(stored, settings, contents=contents, remedy=remedy)
    else:
        write_json(path, settings)


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes a JSON file that is complete or absent at any moment."""
    with writing(path), written_aside(path) as draft:
        draft.write_text(json.dumps(value, indent=1, default=str) + "\n", "utf-8")


def _as_json(value):
    """Returns the value as it is read back: tuples are lists."""
    return json.loads(json.dumps(value, default=str))
