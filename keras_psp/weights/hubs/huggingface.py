"""Presets on Hugging Face, with huggingface_hub's cache, login, HF_ENDPOINT and offline mode."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_psp.version import __version__
from keras_psp.weights import preset_folder
from keras_psp.weights.hubs.addresses import HubAddress

_AGENT = {"library_name": "keras_psp", "library_version": __version__}
_LOGIN = "log in with `hf auth login`, or set HF_TOKEN"


def download(address: HubAddress) -> Path:
    """Returns the folder in huggingface_hub's cache with the files that a preset lists.

    The first request fixes the commit of all files. Files that are complete in the cache aren't
    fetched again.
    """
    hub = _library(address)
    with _explained(address):
        try:
            first = hub.hf_hub_download(
                address.name,
                preset_folder.METADATA,
                revision=address.revision or None,
                **_AGENT,
            )
        except hub.errors.LocalEntryNotFoundError:
            raise
        except hub.errors.EntryNotFoundError:
            raise preset_folder.not_a_preset(str(address), _found(hub, address)) from None
        folder = Path(first).parent
        metadata = preset_folder.read_metadata(folder, str(address))
        for file in preset_folder.listed_files(metadata):
            hub.hf_hub_download(address.name, file, revision=folder.name, **_AGENT)
    return folder


def check_upload(address: HubAddress, license: str | None) -> None:
    """Raises ImportError without huggingface_hub; Hugging Face takes any license."""
    _library(address)


def upload(
    address: HubAddress, folder: Path, *, message: str, private: bool, replace_card: bool
) -> str:
    """Uploads the files of a folder in one commit, and returns the address of its page.

    The repository doesn't change until the commit, which comes last. Files that an interrupted
    upload has already sent aren't sent again.
    """
    hub = _library(address)
    api = hub.HfApi(**_AGENT)
    with _explained(address):
        api.create_repo(address.name, private=private, exist_ok=True)
        files = sorted(path.name for path in folder.iterdir())
        if not replace_card and api.file_exists(address.name, preset_folder.CARD):
            files = [file for file in files if file != preset_folder.CARD]
        operations = [hub.CommitOperationAdd(file, str(folder / file)) for file in files]
        # Weights of another format would be left over.
        for file in preset_folder.WEIGHTS.values():
            if file not in files and api.file_exists(address.name, file):
                operations.append(hub.CommitOperationDelete(file))
        api.create_commit(address.name, operations, commit_message=message)
    return f"{api.endpoint}/{address.name}"


def _library(address: HubAddress) -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        raise ImportError(f'{address} needs a package: pip install "keras-psp[hf]".') from error
    return huggingface_hub


def _found(hub, address):
    """What is in a repository without metadata.json."""
    names = hub.HfApi(**_AGENT).list_repo_files(address.name, revision=address.revision or None)
    if preset_folder.CONFIG not in names:
        return preset_folder.describe_names(names)
    path = hub.hf_hub_download(
        address.name, preset_folder.CONFIG, revision=address.revision or None, **_AGENT
    )
    return preset_folder.describe({}, preset_folder.read_config(Path(path).parent, str(address)))


@contextlib.contextmanager
def _explained(address: HubAddress) -> Iterator[None]:
    """Turns the errors of huggingface_hub into sentences with a remedy."""
    import huggingface_hub.errors as errors

    page = f"https://huggingface.co/{address.name}"
    try:
        yield
    except errors.GatedRepoError as error:
        raise PermissionError(
            f"{address} needs its author's consent: accept the terms on {page}, and {_LOGIN}."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"{address}: there is no such repository, or it is private; check the name, or "
            f"{_LOGIN}."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise FileNotFoundError(
            f"{address}: the repository has no revision {address.revision!r}; {page}/commits/main "
            "lists them."
        ) from error
    except errors.LocalTokenNotFoundError as error:
        raise PermissionError(f"{address}: you aren't logged in; {_LOGIN}.") from error
    except errors.LocalEntryNotFoundError as error:  # also for other answers of the server
        raise ConnectionError(
            f"{address} isn't in the cache and can't be fetched ({_reason(error)}); connect to "
            "the internet, or copy the preset's folder here and pass its path."
        ) from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            raise PermissionError(
                f"{address}: you may not do this ({_reason(error)}); {_LOGIN} with a token that "
                "may write to this repository."
            ) from error
        reason = _reason(error)
        raise ConnectionError(f"{address}: Hugging Face answers {reason}; try later.") from error
    except (OSError, RuntimeError, _transport_error(errors)) as error:
        raise ConnectionError(
            f"{address}: the transfer failed ({_reason(error)}); run it again to resume."
        ) from error


def _transport_error(errors):
    """The base class of errors of the HTTP library: requests', httpx's or httpx2's."""
    return next(
        kind for kind in errors.HfHubHTTPError.__mro__[1:] if kind.__name__.startswith("HTTPError")
    )


def _reason(error):
    while error.__cause__ is not None:
        error = error.__cause__
    status = getattr(getattr(error, "response", None), "status_code", None)
    first = str(getattr(error, "server_message", None) or error).strip().split("\n")[0].rstrip(".")
    text = first or type(error).__name__
    return text if status is None or str(status) in text else f"{status}: {text}"
