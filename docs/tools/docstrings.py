"""Griffe extension: formats this project's docstrings for the reference.

- The lines "Input:" and "Output:" of a layer become a list.
- Several names that share an entry stay together.
- A name in backticks that the reference documents becomes a link to it.
"""

import re
from pathlib import Path

import griffe

REFERENCE = Path(__file__).parents[1] / "reference"


class HouseStyle(griffe.Extension):
    """Changes each docstring when it is loaded."""

    def __init__(self):
        super().__init__()
        pages = "".join(path.read_text("utf-8") for path in sorted(REFERENCE.glob("*.md")))
        self._documented = re.findall(r"^::: (keras_psp\.[\w.]+)", pages, re.MULTILINE)
        short = [name.rpartition(".")[2] for name in self._documented]
        # A name that is a single lowercase word may be an argument's.
        self._short = {
            last: name
            for last, name in zip(short, self._documented, strict=True)
            if short.count(last) == 1 and (not last.islower() or "_" in last)
        }

    def on_instance(self, *, obj, **kwargs):
        """Formats the docstring of a module, class, function or attribute."""
        if obj.docstring is None:
            return
        own = obj.path.split(".")
        text = re.sub(r"`([\w.]+)`", lambda match: self._linked(match[1], own), obj.docstring.value)
        text = re.sub(r"(?:^(?:In|Out)put: +.*\n?(?:^ .*\n?)*)+", _listed, text, flags=re.MULTILINE)
        # In "mean, std: ...", Griffe would take the word after a plain space for a type.
        names = re.compile(r"^( {4}\w+(?:, \w+)+):", re.MULTILINE)
        obj.docstring.value = names.sub(lambda m: m[0].replace(", ", ",\N{NO-BREAK SPACE}"), text)

    def _linked(self, name, own):
        known = [f"keras_psp.{name}", name]
        target = next((full for full in known if full in self._documented), self._short.get(name))
        itself = target and target.split(".")[:2] == own[:2] and name.rpartition(".")[2] in own
        if target is None or itself:
            return f"`{name}`"
        return f"[`{name}`][{target}]"


def _listed(match):
    """Formats input and output as a list, whose continuation lines Markdown needs indented."""
    lines = []
    for line in match[0].splitlines():
        entry = re.match(r"(Input|Output): +(.*)", line)
        lines.append(f"- *{entry[1]}*: {entry[2]}" if entry else f"    {line.strip()}")
    return "\n".join(["", *lines, ""])
