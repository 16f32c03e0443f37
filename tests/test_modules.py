"""What holds for every module of the package."""

import ast
import functools
import importlib
import pkgutil
from pathlib import Path

import pytest

import keras_psp

PACKAGE = Path(keras_psp.__file__).parent
NAMES = [module.name for module in pkgutil.walk_packages(keras_psp.__path__, "keras_psp.")]


@pytest.mark.parametrize("name", NAMES)
def test_the_dotted_name_of_a_module_is_the_module(name):
    # What `import a.b.c as m` binds: a function of the same name would come in its place.
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        if "apache_beam" in str(error) or "Apache Beam" in str(error):
            pytest.skip("Apache Beam is not installed")
        raise
    assert functools.reduce(getattr, name.split(".")[1:], keras_psp) is module


def test_no_package_exports_a_name_of_one_of_its_modules():
    # Covers, without importing it, also what needs Apache Beam.
    for init in PACKAGE.rglob("__init__.py*"):
        modules = {path.stem for path in init.parent.glob("*.py")}
        modules |= {path.parent.name for path in init.parent.glob("*/__init__.py")}
        exported = set()
        for node in ast.parse(init.read_text("utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                exported = set(ast.literal_eval(node.value))
        assert not exported & modules, init
