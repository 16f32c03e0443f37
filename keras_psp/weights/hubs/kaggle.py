"""Presets on Kaggle, with kagglehub's cache and login."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_psp.weights import preset_folder
from keras_psp.weights.hubs.addresses import HubAddress

# Kaggle's names of licenses, by Hugging Face's names (Kaggle/kaggle-api, docs/models_metadata.md).
_LICENSES = {
    "agpl-3.0": "GNU Affero General Public License 3.0",
    "apache-2.0": "Apache 2.0",
    "bsd-3-clause": "BSD-3-Clause",
    "cc-by-4.0": "Attribution 4.0 International (CC BY 4.0)",
    "cc-by-nc-4.0": "Attribution-NonCommercial 4.0 International (CC BY-NC 4.0)",
    "cc-by-nc-sa-4.0": "CC BY-NC-SA 4.0",
    "cc-by-sa-4.0": "CC BY-SA 4.0",
    "cc0-1.0": "CC0: Public Domain",
    "gpl-2.0": "GPL 2",
    "gpl-3.0": "GPL 3",
    "lgpl-3.0": "GNU Lesser General Public License 3.0",
    "mit": "MIT",
}
_LOGIN = "log in with kagglehub.login(), or set KAGGLE_API_TOKEN"


def download(address: HubAddress) -> Path:
    """Returns the folder in kagglehub's cache with the files that a preset lists.

    Without a version, the newest is fetched. An interrupted download resumes.
    """
    hub = _library(address)
    with _explained(address):
        first = Path(hub.model_download(_handle(address), preset_folder.METADATA))
        metadata = preset_folder.read_metadata(first.parent, str(address))
        # A newer version may be published in the meantime.
        version = first.parent.name if first.parent.name.isdecimal() else address.revision
        for file in preset_folder.listed_files(metadata):
            hub.model_download(f"{address.name}/{version}".rstrip("/"), file)
    return first.parent


def check_upload(address: HubAddress, license: str | None) -> None:
    """Raises ImportError without kagglehub, and ValueError if Kaggle doesn't know the license."""
    _kaggles(license)
    _library(address)


def _kaggles(license):
    """Returns Kaggle's name of a license."""
    name = license and _LICENSES.get(license.casefold().replace(" ", "-"))
    if license is not None and name is None:
        raise ValueError(
            f"license={license!r} isn't one that Kaggle has; choose one of {', '.join(_LICENSES)}."
        )
    return name


def upload(address: HubAddress, folder: Path, *, message: str, license: str | None) -> str:
    """Uploads the files of a folder as a new version, and returns the address of its page.

    The version is created once every file is there. A new model is private until its author
    publishes it on Kaggle's site.
    """
    hub, name = _library(address), _kaggles(license)
    with _explained(address):
        hub.model_upload(address.name, str(folder), license_name=name, version_notes=message)
    owner, model, framework, variation = address.name.split("/")
    return f"https://www.kaggle.com/models/{owner}/{model}/{framework}/{variation}"


def _handle(address):
    return f"{address.name}/{address.revision}".rstrip("/")


def _library(address: HubAddress) -> Any:
    try:
        import kagglehub
        import kagglehub.exceptions
    except ImportError as error:
        raise ImportError(f'{address} needs a package: pip install "keras-psp[kaggle]".') from error
    return kagglehub


@contextlib.contextmanager
def _explained(address: HubAddress) -> Iterator[None]:
    """Turns the errors of kagglehub into sentences with a remedy."""
    import requests
    from kagglehub import exceptions

    try:
        yield
    except requests.HTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            raise PermissionError(
                f"{address}: Kaggle denies access; {_LOGIN}, and accept the terms on its page, if "
                "there are any."
            ) from error
        if status == 404:
            raise FileNotFoundError(
                f"{address}: there is no such model or version, or it isn't a preset of keras_psp "
                f"(without {preset_folder.METADATA}); check the address."
            ) from error
        raise ConnectionError(f"{address}: Kaggle answers {_reason(error)}; try later.") from error
    except (exceptions.UnauthenticatedError, exceptions.CredentialError) as error:
        raise PermissionError(f"{address}: you aren't logged in; {_LOGIN}.") from error
    except requests.ConnectionError as error:
        pinned = (
            "" if address.revision else f", name the version, e.g. {address}/1, if it is cached"
        )
        raise ConnectionError(
            f"{address}: Kaggle can't be reached ({_reason(error)}); connect to the internet"
            f"{pinned}, or pass the path of a preset's folder."
        ) from error
    except (exceptions.BackendError, exceptions.DataCorruptionError, OSError) as error:
        raise ConnectionError(
            f"{address}: the transfer failed ({_reason(error)}); run it again to resume."
        ) from error


def _reason(error):
    first = str(error).strip().split("\n")[0].rstrip(".")
    return first or type(error).__name__
