"""Addresses of presets on model hubs: hf://user/name and kaggle://user/model/keras/variation."""

import dataclasses
import os
import re
from typing import Any, Literal

# `Path` keeps one slash of two.
_ADDRESS = re.compile(r"(hf|kaggle):/{1,2}(.*)", re.DOTALL)
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/-]{0,199}")
_FORMS = {
    "hf": "hf://USER/NAME or, for one revision, hf://USER/NAME@REVISION",
    "kaggle": "kaggle://USER/MODEL/keras/VARIATION or, for one version, "
    "kaggle://USER/MODEL/keras/VARIATION/NUMBER",
}


@dataclasses.dataclass(frozen=True)
class HubAddress:
    """A repository on Hugging Face, or a variation of a model on Kaggle.

    Attributes:
        scheme: "hf" or "kaggle".
        name: what the hub's library calls it: "user/name" or "user/model/keras/variation".
        revision: a branch, tag or commit of a repository, or the number of a version; "" is the
            newest.
    """

    scheme: Literal["hf", "kaggle"]
    name: str
    revision: str = ""

    def __str__(self) -> str:
        separator = {"hf": "@", "kaggle": "/"}[self.scheme] if self.revision else ""
        return f"{self.scheme}://{self.name}{separator}{self.revision}"


def hub_address(text: Any) -> HubAddress | None:
    """Returns the address in a text, or None if it is something else, e.g. a path.

    Raises:
        ValueError: if it begins like an address but isn't one.
    """
    if not isinstance(text, str | os.PathLike):
        return None
    match = _ADDRESS.fullmatch(str(text))
    if match is None:
        return None
    scheme, rest = match.groups()
    if scheme == "hf":
        name, at, revision = rest.partition("@")
        parts = name.split("/")
        good = len(parts) == 2 and (not at or _is_revision(revision))
        address = HubAddress("hf", name, revision)
    else:
        parts, numbers = rest.split("/")[:4], rest.split("/")[4:]
        good = len(parts) == 4 and len(numbers) < 2
        good = good and all(number.isdecimal() and int(number) for number in numbers)
        address = HubAddress("kaggle", "/".join(parts), "".join(numbers))
    if not good or not all(map(_is_word, parts)):
        raise ValueError(f"{str(text)!r} isn't an address of a preset; write {_FORMS[scheme]}.")
    return address


def _is_word(text):
    return _WORD.fullmatch(text) is not None and ".." not in text


def _is_revision(text):
    return _REVISION.fullmatch(text) is not None and ".." not in text
