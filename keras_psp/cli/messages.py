"""Errors as one sentence about what was typed."""

import argparse
import re
from pathlib import Path

# Arguments of our functions that the command line spells in another way.
_SPELLINGS = {
    "complete=False": "--partial",
    "force=True": "--force",
    "flip=True": "--flip",
    "skip=True": "--unreadable skip",
    "root=...": "--data FOLDER",
    "base_size=None": "--base-size 0",
    "keras_psp.list_presets()": "`keras-psp presets`",
}
_PACKAGE = str(Path(__file__).resolve().parents[1])
_SPECIAL = set("*?[]{} ")
_VALUE = r"'[^']*'|\"[^\"]*\"|\([^()]*\)|\{[^{}]*\}|[\w.+-]+"


def sentence(error: BaseException, options: argparse.Namespace) -> str:
    """Returns what an error says, in terms of the command's options.

    Errors of this package are sentences. Others keep their type and first line.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return (
            "there isn't enough memory; choose a smaller --batch-size, --crop-size or "
            "--image-size, or a machine with more."
        )
    if isinstance(error, OSError) and error.strerror and not _is_ours(error):
        name = f"{error.filename}: " if error.filename is not None else ""
        return f"{name}{error.strerror.lower()}; check the path, the permissions and the disk."
    if _is_ours(error) or isinstance(error, ImportError):
        return as_typed(str(error), options)
    first = str(error).strip().split("\n")[0] or "no message"
    return (
        f"{type(error).__name__}: {first}. This is a bug in keras_psp unless the input is damaged: "
        "run the command again with --verbose and report what it prints."
    )


def _is_ours(error):
    """Whether an error was raised by a line of this package."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback is None or traceback.tb_frame.f_code.co_filename.startswith(_PACKAGE)


def _flag(sentence, names):
    """Returns a function that names the option of a match, if there is one."""

    def typed(match):
        option = f"--{match[1].replace('_', '-')}"
        return sentence.format(option) if match[1] in names else match[0]

    return typed


def as_typed(text: str, options: argparse.Namespace) -> str:
    """Replaces arguments as Python spells them by the options of the command."""
    for python, option in _SPELLINGS.items():
        text = text.replace(python, option)
    names = {name.removeprefix("field_") for name in vars(options)}
    text = re.sub(r"with (\w+)=False, not True", _flag("without {}, not with it", names), text)
    text = re.sub(r"with (\w+)=True, not False", _flag("with {}, not without it", names), text)

    def typed(match):
        name, value = match[1], match[2].strip("'\"")
        if name not in names:
            return match[0]
        if match[2][0] in "'\"" and set(value) & _SPECIAL:  # which a shell would replace
            return f'--{name.replace("_", "-")} "{value}"'
        value = re.sub("[(){},]", "", value.replace(": ", "="))
        return f"--{name.replace('_', '-')} {value}"

    return re.sub(rf"(?<![\w.-])(\w+)=({_VALUE})", typed, text)
