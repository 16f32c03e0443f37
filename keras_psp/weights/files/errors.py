"""What is wrong with a weights file, in one sentence."""


class WeightsFileError(ValueError):
    """A file that is damaged, unsafe, of an unknown kind or not what its name says."""


def printable(text: object) -> str:
    """What a file says, for a message: one line, no control characters, not too long."""
    shown = str(text).encode("unicode_escape").decode()
    return shown if len(shown) <= 120 else f"{shown[:117]}..."
