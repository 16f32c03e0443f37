import base64
import dataclasses
import html
import json
import re
import shutil
import subprocess
import urllib.parse

import numpy as np
import pytest
from support.report_pages import Tags, embedded_images, measures, text_of

import keras_psp
from keras_psp.evaluation.report import explanation, report_page
from keras_psp.explanation import level_means


def decoded(example, num_classes, parts):
    """The grid of a page's example, as its script reads it: classes, parts, parts to the label."""
    size = len(example["y"]), len(example["x"])

    def numbers(name, dtype):
        return np.frombuffer(base64.b64decode(example[name]), dtype)

    classes = numbers("classes", "u1" if num_classes < 256 else "<u2").reshape(5, *size)
    first = numbers("parts", "<i2").reshape(*size, parts) * example["step"]
    second = numbers("truth", "<i2").reshape(-1, parts) * example["step"]
    return classes, first, second


def data_of(content):
    return json.loads(re.search(r'id="explanations">(.*?)</script>', content, re.S)[1])


@pytest.fixture
def page(tmp_path, model, examples, explanations):
    path = tmp_path / "report.html"
    names = model.class_names
    confusion = np.ones((5, 5), int)
    report_page(
        path,
        title="A test",
        measures=measures(confusion, names),
        images=examples,
        explanations=explanations,
    )
    return path.read_text("utf-8")


def test_the_page_of_an_evaluation_has_the_parts_of_explain(model, examples, tmp_path):
    pairs = [(example.image, example.truth) for example in examples[:3]]
    keras_psp.evaluate(pairs, model, output=tmp_path, progress=False)
    content = (tmp_path / "report.html").read_text("utf-8")
    data = data_of(content)
    assert data["names"] == model.class_names and data["levels"] == ["whole image", "2x2 regions"]
    means = level_means(np.stack([image for image, _ in pairs]), model)
    names = re.findall(r"mean IoU: (\d+)", content)
    checked = 0
    for name, example in zip(names, data["examples"], strict=True):
        image, truth = pairs[int(name)]
        known = keras_psp.explain(image, model, reference=means)
        without = known.context().classes
        classes, first, second = decoded(example, 5, 4)
        predicted, runner_up, label = classes[:3]
        apart = (label < 5) & (label != predicted) & (label != runner_up)
        assert len(second) == apart.sum()
        for row, column in [(0, 0), (20, 33), (35, 47), (10, 3), *np.argwhere(apart)[::40]]:
            x, y = example["x"][column], example["y"][row]
            pixel = known.pixel(x, y)
            np.testing.assert_allclose(
                first[row, column], list(pixel.parts.values()), atol=0.51 * example["step"] + 2e-5
            )
            label = 5 if truth[y, x] == 255 else truth[y, x]
            expected = [known.classes[y, x], model.class_names.index(pixel.other), label]
            assert classes[:4, row, column].tolist() == [*expected, without[y, x]]
            if apart[row, column]:
                pixel = known.pixel(x, y, pixel.target, int(truth[y, x]))
                found = second[np.count_nonzero(apart.ravel()[: row * apart.shape[1] + column])]
                np.testing.assert_allclose(
                    found, list(pixel.parts.values()), atol=0.51 * example["step"] + 2e-5
                )
                checked += 1
    assert len(data["examples"]) == 3 and checked > 5


def test_without_a_script_one_pixel_of_each_example_is_read(page, explanations):
    figures = re.findall(r'<figure class="example why".*?</figure>', page, flags=re.S)
    assert len(figures) == 6
    for figure, one in zip(figures, explanations.examples, strict=True):
        row, column = divmod(explanation.telling_cell(one), len(one.x))
        text = text_of(figure)
        assert f"column {one.x[column]}, row {one.y[row]} " in text
        values = [*one.parts[row, column], one.parts[row, column].sum()]
        shown = re.findall(r'class="n">(.)([\d.]+)<', figure)
        numbers = [float(number) * (1 if sign == "+" else -1) for sign, number in shown]
        np.testing.assert_allclose(numbers[:5], values, atol=0.0051)
        if one.apart[row, column]:
            assert len(numbers) == 10 and "the label" in text
    assert "their mean over these 6 images" in text_of(page)


def test_the_telling_pixel_is_labeled_and_decided_by_context(explanations):
    for one in explanations.examples:
        decided = one.predicted != one.without
        added = one.parts[..., 1:-1].sum(axis=-1).ravel()
        cell = explanation.telling_cell(one)
        labeled = decided & (one.truth >= 0)
        assert labeled.any() and labeled.flat[cell]
        assert added[cell] == added[labeled.ravel()].max()
        nothing = dataclasses.replace(one, without=one.predicted)
        assert added[explanation.telling_cell(nothing)] == added.max()


def test_the_page_is_well_formed_and_escapes_names(page):
    tags = Tags(page)
    scripts = [attributes for tag, attributes in tags.tags if tag == "script"]
    assert [script.get("id") for script in scripts] == ["confusion", "explanations", None]
    assert "<b>sea" not in page and "<b>sea</b>" in html.unescape(page)
    identifiers = [attributes["id"] for _, attributes in tags.tags if "id" in attributes]
    assert len(set(identifiers)) == len(identifiers)
    assert len(embedded_images(page, "jpeg")) == 8  # as without explanations


def test_the_numbers_of_an_example_are_at_most_96_kilobytes(page):
    for example in data_of(page)["examples"]:
        encoded = sum(len(example[name]) for name in ("classes", "parts", "truth"))
        assert 20_000 < encoded <= 96_000


def test_many_classes_take_two_bytes(explanations):
    one = explanations.examples[0]
    packed = explanation.packed(one, 300)
    classes, _, _ = decoded(packed, 300, 4)
    np.testing.assert_array_equal(classes[2], np.where(one.truth < 0, 300, one.truth))
    np.testing.assert_array_equal(classes[4], one.level)


def test_classes_are_listed_by_their_dependence_on_the_pyramid(tmp_path, examples, explanations):
    counted = dataclasses.replace(
        explanations,
        correct=np.array([1000, 100, 0, 20, 5]),
        dependent=np.array([10, 50, 0, 0, 5]),
    )
    path = report_page(
        tmp_path / "report.html",
        title="A test",
        measures=measures(np.ones((5, 5), int), ["sky", "sea", "boat", "car", "road"]),
        images=examples,
        explanations=counted,
    )
    text = text_of(path.read_text("utf-8"))
    assert "65 of the 1\u202f125 correct pixels of these images (5.8 %)" in text
    rows = text[text.index("class correct pixels dependent share") :]
    assert re.findall(r"(\w+) +([\d\u202f]+) +(\d+) +([\d.]+ %)", rows)[:3] == [
        ("road", "5", "5", "100.0 %"),
        ("sea", "100", "50", "50.0 %"),
        ("sky", "1\u202f000", "10", "1.0 %"),
    ]


def test_an_outline_is_white_inside_and_black_outside():
    mask = np.zeros((6, 8), bool)
    mask[2:5, 2:6] = True
    content = f'"{explanation.outline_png(mask)}"'
    pixels = np.asarray(embedded_images(content)[0].convert("RGBA"))
    assert pixels.shape == (360, 480, 4)
    # From left to right through the middle, 60 pixels for each of the mask.
    assert pixels[210, 118, 3] == 0 and pixels[210, 119].tolist() == [0, 0, 0, 255]
    assert pixels[210, 120].tolist() == [255] * 4 and not pixels[210, 121:359, 3].any()
    assert pixels[210, 359].tolist() == [255] * 4 and pixels[210, 360].tolist() == [0, 0, 0, 255]
    whole = embedded_images(f'"{explanation.outline_png(np.ones((6, 8), bool))}"')[0]
    assert not np.asarray(whole.convert("RGBA"))[..., 3].any()


def test_several_views_leave_a_sentence(model, examples, tmp_path):
    pairs = [(example.image, example.truth) for example in examples[:2]]
    keras_psp.evaluate(pairs, model, output=tmp_path, flip=True, progress=False)
    content = (tmp_path / "report.html").read_text("utf-8")
    assert "Why: local features and context" in content and "evaluate without --scales" in content
    assert 'id="explanations"' not in content and ".why" not in content


def test_explanations_of_other_images_or_classes_are_refused(tmp_path, examples, explanations):
    for images, names, message in (
        (examples[:2], "abcde", "explanations have image 7, which isn't one of images"),
        (examples, "abcdef", "explanations have 5 classes but measures 6; give both"),
    ):
        count = len(names)
        with pytest.raises(ValueError, match=message):
            report_page(
                tmp_path / "report.html",
                title="A test",
                measures=measures(np.ones((count, count), int), list(names)),
                images=images,
                explanations=explanations,
            )


# Clicks and keys on the first example, in a page of the given width; the texts that follow.
SCRIPT = """
onload = () => {
  const inner = document.querySelector("iframe").contentWindow, page = inner.document;
  const figure = page.querySelector(".why"), panel = figure.querySelector(".panel");
  const texts = selector => [...figure.querySelectorAll(selector)].map(e => e.textContent);
  const state = () => ({
    facts: texts(".facts td"), values: texts(".parts:not([hidden]) td.n"),
    captions: texts(".parts:not([hidden]) caption"), left: figure.querySelector(".mark").style.left,
  });
  const states = [state()];
  const click = (x, y) => {
    const box = panel.getBoundingClientRect();
    panel.dispatchEvent(new inner.MouseEvent("click", {
      clientX: box.left + x * box.width, clientY: box.top + y * box.height}));
    states.push(state());
  };
  for (const [x, y] of POINTS) click(x, y);
  panel.focus();
  for (const key of ["ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp", "ArrowUp"]) {
    panel.dispatchEvent(new inner.KeyboardEvent("keydown", {key, shiftKey: key == "ArrowDown"}));
    states.push(state());
  }
  document.title = encodeURIComponent(JSON.stringify({
    states, focused: page.activeElement === panel, name: panel.getAttribute("aria-label"),
    width: page.documentElement.scrollWidth}));
};
"""


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs Debian's chromium")
@pytest.mark.parametrize("width", [390, 1280])
def test_clicks_and_arrow_keys_show_the_parts_of_a_pixel(page, explanations, tmp_path, width):
    one = explanations.examples[0]
    rows, columns = np.nonzero(one.apart)
    cells = [(0, 0), (len(one.y) - 1, len(one.x) - 1), (rows[0], columns[0]), (20, 20)]
    height, across = one.classes.shape
    points = [[(one.x[c] + 0.5) / across, (one.y[r] + 0.5) / height] for r, c in cells]
    row, column = divmod(explanation.telling_cell(one), len(one.x))
    # Right, five down, left, up and up again.
    cells = [(row, column), *cells, (20, 21), (25, 21), (25, 20), (24, 20), (23, 20)]
    frame = f'<iframe width="{width}" height="900" srcdoc="{html.escape(page)}"></iframe>'
    script = SCRIPT.replace("POINTS", json.dumps(np.array(points).tolist()))
    outer = tmp_path / "outer.html"
    outer.write_text(f"<title>none</title><body>{frame}<script>{script}</script>", "utf-8")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    rendered = subprocess.run(
        [*command, outer.as_uri()], capture_output=True, text=True, timeout=60
    ).stdout
    result = json.loads(urllib.parse.unquote(re.search("<title>(.*?)</title>", rendered)[1]))
    assert result["width"] <= width and result["focused"]
    assert result["name"].startswith("classes of image 7")
    names = ["sky", "<b>sea</b>", "boat", "car", "road"]
    for state, (row, column) in zip(result["states"], cells, strict=True):
        predicted, truth = one.predicted[row, column], one.truth[row, column]
        runner_up, without = one.runner_up[row, column], one.without[row, column]
        x, y = one.x[column], one.y[row]
        assert state["facts"][0] == f"column {x}, row {y}"
        assert float(state["left"][:-1]) == pytest.approx(100 * (x + 0.5) / across, abs=0.01)
        assert state["facts"][1] == names[predicted]
        wrong = ", so the prediction is wrong" if truth != predicted else ""
        assert state["facts"][2] == ("not labeled" if truth < 0 else names[truth] + wrong)
        level = [None, "the whole image", "the 2x2 regions"][one.level[row, column]]
        why = f"decided by context, most by {level}" if level else "not decided by context"
        assert state["facts"][3] == f"{names[without]}: {why}"
        expected = [*one.parts[row, column], one.parts[row, column].sum()]
        kind = "the runner-up and the label" if truth == runner_up else "the runner-up"
        captions = [f"Why {names[predicted]} and not {names[runner_up]} {kind}"]
        if one.apart[row, column]:
            number = np.count_nonzero(one.apart.ravel()[: row * len(one.x) + column])
            expected += [*one.truth_parts[number], one.truth_parts[number].sum()]
            captions.append(f"Why {names[predicted]} and not {names[truth]} the label")
        assert state["captions"] == captions
        values = [float(value.replace("\N{MINUS SIGN}", "-")) for value in state["values"]]
        np.testing.assert_allclose(values, expected, atol=0.0055)
