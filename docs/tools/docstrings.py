"""Griffe extension: this project's docstrings as the reference shows them.

- "Input:" and "Output:", which a layer's shapes stand behind, become a list;
- several names that share an entry stay together;
- a name in backticks that the reference documents becomes a link to it.
"""

import re
from pathlib import Path

import griffe

REFERENCE = Path(__file__).parents[1] / "reference"


class HouseStyle(griffe.Extension):
    """Changes each docstring as it is read."""

    def __init__(self):
        super().__init__()
        pages = "".join(path.read_text("utf-8") for path in sorted(REFERENCE.glob("*.md")))
        self._documented = re.findall(r"^::: (keras_psp\.[\w.]+)", pages, re.MULTILINE)
        short = [name.rpartition(".")[2] for name in self._documented]
        # A name of a single small word is as often an argument's.
        self._short = {
            last: name
            for last, name in zip(short, self._documented, strict=True)
            if short.count(last) == 1 and (not last.islower() or "_" in last)
        }

    def on_instance(self, *, obj, **kwargs):
        """Griffe calls this for every module, class, function and attribute that it has read."""
        if obj.docstring is None:
            return
        own = obj.path.split(".")
        text = re.sub(r"`([\w.]+)`", lambda match: self._linked(match[1], own), obj.docstring.value)
        text = re.sub(r"(?:^(?:In|Out)put: +.*\n?(?:^ .*\n?)*)+", _listed, text, flags=re.MULTILINE)
        # Griffe takes what follows a plain space in "mean, std: ..." for a type.
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
    """Input and output as entries of a list, whose further lines Markdown wants indented."""
    lines = []
    for line in match[0].splitlines():
        found = re.match(r"(Input|Output): +(.*)", line)
        lines.append(f"- *{found[1]}*: {found[2]}" if found else f"    {line.strip()}")
    return "\n".join(["", *lines, ""])
