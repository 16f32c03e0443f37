"""Checks of folders that a call may resume only with the settings of the first call."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_psp.files import writing, written_aside

_NETWORK = "of another network (its weights or settings differ)"
_DIGESTS = {"network": _NETWORK, "weights": _NETWORK}
_CHECKSUM = "checksum"


def check_settings(
    stored: Mapping[str, Any], settings: Mapping[str, Any], *, contents: str, remedy: str
) -> None:
    """Raises ValueError if the settings of a call differ from those stored in its folder.

    The message is "{contents} with epochs=3, not 4; {remedy}." For nested settings, it names the
    inner one; for digests, it describes what differs.
    """
    for name in changed_settings(stored, settings):
        before, now = stored.get(name), settings[name]
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            check_settings(before, now, contents=contents, remedy=remedy)
        elif name in _DIGESTS:
            raise ValueError(f"{contents} {_DIGESTS[name]}; {remedy}.")
        else:
            raise ValueError(f"{contents} with {name}={before!r}, not {_as_json(now)!r}; {remedy}.")


def changed_settings(stored: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """Returns the names of all settings whose stored value differs."""
    return [name for name in settings if stored.get(name) != _as_json(settings[name])]


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes a JSON file that is complete or absent at any moment."""
    with writing(path), written_aside(path) as draft:
        draft.write_text(json.dumps(value, indent=1, default=str) + "\n", "utf-8")


def write_record(path: str | os.PathLike, record: Mapping[str, Any]) -> None:
    """Writes a JSON file with a checksum, for `read_record`."""
    write_json(path, {**record, _CHECKSUM: _checksum(_as_json(record))})


def read_json(path: str | os.PathLike, remedy: str, kind: type = dict) -> Any:
    """Reads a JSON file of an object, or of a list.

    Raises:
        ValueError: if it can't be read, "{path} is damaged (REASON); {remedy}."
    """
    try:
        value = json.loads(Path(path).read_text("utf-8"))
        if not isinstance(value, kind):
            raise ValueError(f"it contains a {type(value).__name__}, not a {kind.__name__}")
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path, error, remedy) from error
    return value


def read_record(path: str | os.PathLike, remedy: str) -> dict[str, Any]:
    """Reads a file of `write_record` and checks it; one without a checksum is taken as it is.

    Raises:
        ValueError: as for `read_json`.
    """
    record = read_json(path, remedy)
    checksum = record.pop(_CHECKSUM, None)
    if checksum is not None and checksum != _checksum(record):
        raise damaged(path, "wrong checksum", remedy)
    return record


def damaged(path: str | os.PathLike, reason: object, remedy: str) -> ValueError:
    """Returns the error for one of our files that can't be read."""
    text = str(reason).split("\n")[0] or type(reason).__name__
    return ValueError(f"{path} is damaged ({text}); {remedy}.")


def row_checksum(columns: Sequence[str], row: Mapping[str, Any]) -> str:
    """Returns eight hexadecimal digits that detect changes of a row in a CSV file."""
    cells = [(c, "" if row.get(c) is None else str(row[c])) for c in columns]
    return _checksum(cells)[:8]


def _checksum(value):
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _as_json(value):
    """Returns the value as it would be read back, e.g. tuples as lists."""
    return json.loads(json.dumps(value, default=str))
