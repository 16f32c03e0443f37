"""The README with whole links, since relative ones lead nowhere on PyPI; see pyproject.toml."""

import re
import tomllib
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent


def readme():
    """README.md, its links and pictures those of this version's tag in the repository."""
    project = tomllib.loads((HERE / "pyproject.toml").read_text("utf-8"))["project"]
    source = (HERE / "keras_psp" / "version.py").read_text("utf-8")
    (version,) = re.findall(r'^__version__ = "(.+)"$', source, re.MULTILINE)
    address = project["urls"]["Homepage"]

    def whole(found):
        picture, text, target = found.groups()
        kind = "raw" if picture else "blob"
        return f"{picture}[{text}]({address}/{kind}/v{version}/{target})"

    text = (HERE / "README.md").read_text("utf-8")
    return re.sub(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)]+)\)", whole, text)


setup(long_description=readme(), long_description_content_type="text/markdown")
