"""What is wrong with a weights file, in one sentence."""

import contextlib
from collections.abc import Iterator


class WeightsFileError(ValueError):
    """A file that is damaged, unsafe, of an unknown kind or not what its name says."""


def printable(text: object) -> str:
    """What a file says, for a message: one line, no control characters, not too long."""
    shown = str(text).encode("unicode_escape").decode()
    return shown if len(shown) <= 120 else f"{shown[:117]}..."


@contextlib.contextmanager
def naming(file: object) -> Iterator[None]:
    """Errors about a file's contents, which can be anything, name the file."""
    try:
        yield
    except WeightsFileError as error:
        raise WeightsFileError(f"{file}: {error}") from error
    except Exception as error:
        raise WeightsFileError(
            f"{file}: its contents make no sense ({type(error).__name__}: {printable(error)})."
        ) from error
