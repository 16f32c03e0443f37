"""Stores a network's temperature in its .keras file, without touching anything else."""

import json
import os
import zipfile

from keras_psp.arguments import checked_number
from keras_psp.files import local_path, written_aside
from keras_psp.weights.files import WeightsFileError

_CONFIG = "config.json"


def store_temperature(
    path: str | os.PathLike, temperature: float, target: str | os.PathLike | None = None
) -> None:
    """Copies a .keras file of a `PSPNet`, with another temperature.

    The weights, the optimizer's state and everything else are copied byte by byte.

    Args:
        path: the file.
        temperature: see `PSPNet`.
        target: the new file; None replaces the old one, once the new one is complete.

    Raises:
        ValueError: if the file isn't a `PSPNet` saved by Keras, or the temperature is invalid.
        OSError: if a file can't be read or written.
    """
    path = local_path("path", path)
    target = path if target is None else local_path("target", target)
    temperature = checked_number("temperature", temperature, above=0)
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read(_CONFIG))
            if config["class_name"] != "PSPNet":
                raise WeightsFileError(f"{path} holds a {config['class_name']}, not a PSPNet.")
            config["config"]["temperature"] = temperature
            with written_aside(target) as draft, zipfile.ZipFile(draft, "w") as copy:
                for entry in archive.infolist():
                    is_config = entry.filename == _CONFIG
                    content = json.dumps(config).encode() if is_config else archive.read(entry)
                    copy.writestr(entry, content)
    except (zipfile.BadZipFile, KeyError, TypeError, json.JSONDecodeError) as error:
        raise WeightsFileError(
            f"{path} isn't a .keras file of a PSPNet ({error}); choose one that Keras saved."
        ) from error
