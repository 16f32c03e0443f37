"""Facts about a preset's training and license, for its model card."""

from collections.abc import Mapping
from typing import Any

from keras_psp.arguments import checked_integer, checked_number, checked_string, checked_tuple


def _size(name, value):
    def side(key, n):
        return checked_integer(key, n, least=1, most=1 << 16)

    return list(checked_tuple(name, value, side, length=2))


def _share(name, value):
    return checked_number(name, value, least=0, most=1)


def _count(name, value):
    return checked_integer(name, value, least=1)


# The check of each fact.
_FACTS = {
    "dataset": checked_string,
    "split": checked_string,
    "mean_iou": _share,
    "training_images": _count,
    "epochs": _count,
    "crop_size": _size,
    "image_size": _size,
    "weights": checked_string,
    "recipe": checked_string,
    "command": checked_string,
}


def checked_facts(facts: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns the facts of `PSPNet.save_to_preset`, checked.

    Raises:
        ValueError: if one is unknown or of the wrong type.
    """
    checked = {}
    for name, value in (facts or {}).items():
        if name not in _FACTS:
            raise ValueError(
                f"facts has {name!r}, which is unknown; choose from {', '.join(_FACTS)}."
            )
        if value is not None:
            checked[name] = _FACTS[name](f"facts[{name!r}]", value)
    return checked


def checked_license(license: str | None) -> str | None:
    """Returns the name of a license, e.g. "apache-2.0" or "CC BY-NC 4.0"."""
    if license is None:
        return None
    if not checked_string("license", license).strip() or not license.isprintable():
        raise ValueError(f"license is {license!r}; give its name, e.g. 'apache-2.0', or None.")
    return license.strip()
