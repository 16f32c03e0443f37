"""What is wrong with a weights file, in one sentence."""


class WeightsFileError(ValueError):
    """A file that is damaged, unsafe, of an unknown kind or not what its name says."""
