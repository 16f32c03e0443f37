"""The error for invalid weights files, whose message is one sentence."""

import contextlib
from collections.abc import Iterator


class WeightsFileError(ValueError):
    """Raised if a file is damaged, unsafe, of an unknown format, or not what its name implies."""


def printable(text: object) -> str:
    """Returns text of a file for use in a message: one short line without control characters."""
    shown = str(text).encode("unicode_escape").decode()
    return shown if len(shown) <= 120 else f"{shown[:117]}..."


@contextlib.contextmanager
def naming(file: object) -> Iterator[None]:
    """Turns all errors about a file's contents into `WeightsFileError`s that name the file."""
    try:
        yield
    except WeightsFileError as error:
        raise WeightsFileError(f"{file}: {error}") from error
    except ImportError:  # a missing optional package
        raise
    except Exception as error:  # a damaged file can raise anything
        raise WeightsFileError(
            f"{file}: it is damaged or truncated ({type(error).__name__}: {printable(error)}); "
            "restore it, or download it again."
        ) from error
