"""Lines that other packages log, which users of the package shouldn't see."""

import re

_FOREIGN = re.compile(
    r"^[IWEF]\d{4} |^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[.\d:]*: [IWEF] |absl|oneDNN|XNNPACK|cuInit"
    r"|fully_quantize|^(?:INFO|WARNING|DEBUG)\b|TensorFlow binary|rebuild TensorFlow"
    r"|\w*Warning: |^  warnings\.warn"
)


def foreign_lines(stderr: str) -> list[str]:
    """Returns the lines of TensorFlow's, absl's, LiteRT's and Python's logs and warnings."""
    return [line for line in re.split(r"[\r\n]+", stderr) if _FOREIGN.search(line)]
