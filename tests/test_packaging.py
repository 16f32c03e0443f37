"""The wheel and the sdist that a release would have."""

import email
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import keras_psp

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
IGNORED = (".git", ".*_cache", ".hypothesis", "__pycache__", "*.egg-info", "build", "dist", "runs")
BUILD = """
import sys
from setuptools import build_meta
folder = sys.argv[1]  # which setuptools changes
build_meta.build_wheel(folder)
build_meta.build_sdist(folder)
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of both, built without a network from a copy of this checkout."""
    setuptools = pytest.importorskip("setuptools", minversion="77", reason="needs setuptools 77")
    del setuptools
    folder = tmp_path_factory.mktemp("packaging")
    copy, dist = folder / "checkout", folder / "dist"
    dist.mkdir()
    ignored = shutil.ignore_patterns(*IGNORED, ".venv", "node_modules", "*.keras", "*.tflite")
    shutil.copytree(ROOT, copy, ignore=ignored)
    made = [sys.executable, "-c", BUILD, str(dist)]
    run = subprocess.run(made, cwd=copy, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    return dist


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def metadata(wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return email.message_from_bytes(wheel.read(name))


def test_the_wheel_has_every_module_and_file_of_the_package_and_nothing_else(wheel):
    package = ROOT / "keras_psp"
    expected = {
        path.relative_to(ROOT).as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    for name in ("py.typed", "labels.json", "data/sets/sets.json", "weights/presets.json"):
        assert f"keras_psp/{name}" in expected
    found = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert found == expected


def test_the_wheel_says_what_it_is(wheel):
    about = metadata(wheel)
    assert about["Name"] == "keras-psp"
    assert about["Version"] == keras_psp.__version__
    assert about["License-Expression"] == "Apache-2.0"
    assert {"Homepage", "Documentation", "Changelog", "Issues"} == {
        line.split(",")[0] for line in about.get_all("Project-URL")
    }
    (script,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "keras-psp = keras_psp.cli:main" in wheel.read(script).decode()


def test_links_lead_somewhere_on_pypi(wheel):
    text = metadata(wheel).get_payload(decode=True).decode()
    links = re.findall(r"(!?)\[[^\]]*\]\(([^)]+)\)", text)
    assert len(links) > 20
    assert all(target.startswith("https://") for _, target in links)
    here = f"{PROJECT['urls']['Homepage']}/(?:blob|raw)/v{re.escape(keras_psp.__version__)}/"
    paths = [re.sub(here, "", target) for _, target in links if re.match(here, target)]
    assert "docs/context.jpg" in paths and "CHANGELOG.md" in paths
    for path in paths:
        assert (ROOT / path).exists(), path
    assert [target for picture, target in links if picture and "/blob/" in target] == []


def test_the_sdist_has_what_the_tests_need(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for folder in ("keras_psp", "tests", "examples", "benchmarks", "docs", ".ci"):
        kept = {
            file.relative_to(ROOT).as_posix()
            for file in (ROOT / folder).rglob("*")
            if file.is_file()
            and not {"__pycache__", "node_modules"} & set(file.parts)
            and file.name != "model.onnx"
        }
        assert kept and not kept - names
    assert {"setup.cfg", "setup.py", "pyproject.toml", "CITATION.cff", "LICENSE"} <= names
    assert not [name for name in names if "__pycache__" in name]


def test_classifiers_are_the_pythons_that_are_allowed():
    listed = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if ":: Python :: 3." in c]
    allowed = Requirement(f"python{PROJECT['requires-python']}").specifier
    assert listed == [f"3.{minor}" for minor in range(30) if f"3.{minor}.0" in allowed]


def test_lower_bounds_are_those_of_the_project():
    # `.ci/run-lower-bounds` would else test versions that nobody is promised.
    pinned = {}
    for line in (ROOT / ".ci" / "lower-bounds.txt").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            name, version = line.split("==")
            pinned[name] = Version(version)
    tested = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]]
    bounds = {}
    for requirement in map(Requirement, tested):
        for clause in requirement.specifier:
            if clause.operator == ">=":
                bounds[requirement.name] = Version(clause.version)
    tools = {"setuptools"}
    assert pinned.keys() == bounds.keys() - tools
    for name, bound in bounds.items():
        if name not in tools:
            # ">=2" is 2.0.2 where there was no 2.0.0.
            assert pinned[name].release[: len(bound.release)] == bound.release, name
    # An extra may ask for more than the project, never for less.
    for name, extra in PROJECT["optional-dependencies"].items():
        for requirement in map(Requirement, extra):
            if requirement.name in bounds:
                (bound,) = (c.version for c in requirement.specifier if c.operator == ">=")
                assert Version(bound) >= bounds[requirement.name], (name, requirement)


def test_the_citation_is_of_this_version_and_repository():
    text = (ROOT / "CITATION.cff").read_text("utf-8")
    assert re.findall(r"^version: (.+)$", text, re.MULTILINE) == [keras_psp.__version__]
    (address,) = re.findall(r"^repository-code: (.+)$", text, re.MULTILINE)
    assert address == PROJECT["urls"]["Homepage"]
    assert "arXiv:1612.01105" in text
