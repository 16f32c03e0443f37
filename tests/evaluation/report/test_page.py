import html
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree

import numpy as np
import pytest
from support.report_pages import (
    NAMES,
    PALETTE,
    Tags,
    example,
    full_page,
    measures,
    text_of,
    written,
)

from keras_psp.evaluation import ErrorGroups
from keras_psp.evaluation.report import Example, report_page
from keras_psp.palette import default_palette


def test_page_is_well_formed_and_sends_no_requests(tmp_path):
    content = full_page(tmp_path)
    tags = Tags(content)
    for tag, attributes in tags.tags:
        assert tag not in ("link", "iframe", "object")
        for name in ("src", "href", "action", "srcset"):
            assert attributes.get(name, "#").startswith(("#", "data:image/"))
    assert all(address.startswith("data:") for address in re.findall(r"url\((.*?)\)", content))
    for svg in re.findall(r"<svg.*?</svg>", content, flags=re.S):
        xml.etree.ElementTree.fromstring(svg)
    policy = next(a["content"] for t, a in tags.tags if "http-equiv" in a)
    assert policy.startswith("default-src 'none';")
    identifiers = [attributes["id"] for _, attributes in tags.tags if "id" in attributes]
    assert len(set(identifiers)) == len(identifiers)


def test_markup_in_names_is_escaped(tmp_path):
    content = full_page(tmp_path, title="</title><script>bad()</script>")
    scripts = [attributes for tag, attributes in Tags(content).tags if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "confusion"}, {}]
    assert "<b>0</b>" not in content and "<i>one scale" not in content
    assert f"{NAMES[1]} 50.0 %" in text_of(content)
    assert "secret" not in content  # it may be part of the recorded command


def test_file_names_that_utf8_cannot_encode_are_written_escaped(tmp_path):
    assert "\\udcff" in written(tmp_path, images=[example("\udcff.png")])


def test_failed_write_leaves_the_old_page(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")

    def write_text(self, *arguments):
        self.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(type(path), "write_text", write_text)
    with pytest.raises(OSError, match="No space left"):
        report_page(path, title="new", measures=measures())
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"palette": PALETTE[:2]}, "palette has 2 colors but there are 3 class names"),
        ({"groups": ErrorGroups(4)}, "groups have 4 classes but measures 3; give both"),
        ({"groups": ErrorGroups(3, 0)}, "groups have ignore_class=0 but the page 255; give the"),
        ({"worst": -1}, "worst=-1 and best=3 must be at least 0"),
    ],
)
def test_inputs_that_do_not_match_raise(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        written(tmp_path, **arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("truth", np.zeros((2, 3), int), r"a: truth has shape \(2, 3\) .* image is \(20, 30\)"),
        ("prediction", np.zeros((20, 30)), "a: prediction has .* dtype float64 .*must be integers"),
        ("image", np.zeros((20, 30)), r"image has shape \(20, 30\)"),
        ("truth", np.full((20, 30), 3), "a: truth has the value 3, but there are 3 classes"),
    ],
)
def test_examples_that_do_not_match_raise(tmp_path, field, value, message):
    fields = {**vars(example()), field: value}
    with pytest.raises(ValueError, match=message):
        written(tmp_path, images=[Example(**fields)])


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs Debian's chromium")
@pytest.mark.parametrize("width", [375, 1280])
def test_page_fits_narrow_and_wide_windows(tmp_path, width):
    names = ["w" * 60, *(f"class number {index}" for index in range(149))]
    confusion = np.random.default_rng(0).integers(0, 50, (150, 150))
    content = full_page(
        tmp_path, measures=measures(confusion[:3, :3], names[:3]), palette=default_palette(3)
    )
    many = written(tmp_path, measures=measures(confusion, names), palette=None)
    frames = "".join(
        f'<iframe width="{width}" height="900" srcdoc="{html.escape(page)}"></iframe>'
        for page in (content, many)
    )
    script = (
        "onload = () => document.title = JSON.stringify([...document.querySelectorAll('iframe')]"
        ".map(frame => frame.contentDocument.documentElement.scrollWidth))"
    )
    outer = tmp_path / "outer.html"
    outer.write_text(f"<title>none</title><body>{frames}<script>{script}</script>")
    rendered = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", outer.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    widths = json.loads(re.search("<title>(.*?)</title>", rendered)[1])
    assert len(widths) == 2 and max(widths) <= width
