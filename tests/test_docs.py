import ast
import html
import importlib.util
import json
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import keras_psp

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS]
# Their names are documented as those of keras_psp, keras_psp.data and keras_psp.weights.
ELSEWHERE = {"keras_psp.data.scenes", "keras_psp.models", "keras_psp.weights.files"}


def public_names():
    """Yields (package, its __all__), without imports, since some packages may not be installed."""
    for path in sorted(ROOT.glob("keras_psp/**/__init__.py*")):
        package = ".".join(path.parent.relative_to(ROOT).parts)
        for node in ast.parse(path.read_text("utf-8")).body:
            named = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
            if named and package not in ELSEWHERE:
                yield package, ast.literal_eval(node.value)


def tool(name):
    """Imports a module of docs/tools, which isn't a package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs/tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """All pages of the site, by path."""
    for needed in ("mkdocs", "material", "mkdocstrings_handlers"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip('needs mkdocs-material and mkdocstrings-python: pip install -e ".[docs]"')
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return {
        path.relative_to(folder).as_posix(): path.read_text("utf-8")
        for path in folder.rglob("*.html")
    }


def test_the_tables_of_the_zoo_are_up_to_date():
    zoo = tool("zoo")
    assert (ROOT / "docs/zoo.md").read_text("utf-8") == zoo.page(), "python docs/tools/zoo.py"


def test_every_preset_is_in_the_zoo(site):
    presets = json.loads((ROOT / "keras_psp/weights/presets.json").read_text("utf-8"))
    for preset in presets:
        assert f"<code>{preset['name']}</code>" in site["zoo/index.html"]
        assert not preset["url"] or f'href="{preset["url"]}"' in site["zoo/index.html"]


@pytest.mark.parametrize(("package", "names"), public_names())
def test_every_public_name_is_in_the_reference(site, package, names):
    reference = "".join(text for page, text in site.items() if page.startswith("reference/"))
    # A function may be documented in its module: keras_psp.export.to_onnx.onnx.
    place = rf'id="{re.escape(package)}\.(\w+\.)*'
    assert [name for name in names if not re.search(f'{place}{name}"', reference)] == []


def test_every_command_is_in_the_reference(site):
    script = [sys.executable, str(ROOT / "docs/tools/command_line.py")]
    helps = json.loads(subprocess.run(script, capture_output=True, check=True).stdout)
    assert {"train", "evaluate", "export"} <= set(helps)
    page = html.unescape(site["reference/command_line/index.html"])
    assert [name for name in helps if f"usage: keras-psp {name}".strip() not in page] == []


def test_pages_load_nothing_from_other_sites(site):
    loaded = r'<(?:script|img|iframe)[^>]+src="(?:https?:)?//|<link[^>]+href="(?:https?:)?//'
    assert not [page for page, text in site.items() if re.search(loaded, text)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_to_files_work(page):
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^()\s:#]+)(?:#[^()\s]*)?\)", text):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_every_page_begins_with_its_readers(page):
    title, _, first = page.read_text("utf-8").splitlines()[:3]
    assert title.startswith("# ") and first.startswith("For ")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_code_blocks_use_existing_names(page):
    blocks = re.findall(
        r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    for block in blocks:
        names = {"keras_psp": keras_psp}
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("keras_psp"):
                exec(ast.unparse(node), names)
            if isinstance(node, ast.Import) and node.names[0].name.startswith("keras_psp"):
                exec(ast.unparse(node), names)
        for chain in re.findall(r"(?<![\w./\"])([a-z_]+(?:\.\w+)+)", block):
            if isinstance(names.get(chain.split(".")[0]), types.ModuleType):
                eval(chain, names)


def test_the_code_of_the_fusion_page_runs():
    text = (ROOT / "docs/fusion.md").read_text("utf-8")
    code = re.search(r"^```python\n(import numpy.*?)^```$", text, re.DOTALL | re.MULTILINE)[1]
    assert "assert " in code
    exec(code, {})


def test_the_drawings_are_up_to_date():
    for name, drawing in tool("diagrams").drawings().items():
        assert (ROOT / "docs/images" / name).read_text("utf-8") == str(drawing), name


def test_the_drawing_of_the_architecture_has_the_shapes_of_the_network():
    from keras_psp import DilatedResNet

    drawing = (ROOT / "docs/images/architecture.svg").read_text("utf-8")
    for shape in DilatedResNet(50).compute_output_shape((1, 473, 473, 3)):
        assert ">{}x{}x{}<".format(*shape[1:]) in drawing
