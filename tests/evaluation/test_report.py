import base64
import html.parser
import io
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree

import numpy as np
import pytest
from PIL import Image

from keras_psp.evaluation import Measures
from keras_psp.evaluation.errors import GROUPS, ErrorGroups
from keras_psp.evaluation.report.example import Example
from keras_psp.evaluation.report.page import report_page
from keras_psp.palette import VOID_COLOR
from keras_psp.visual import default_palette

NAMES = ("sky", "<script>alert('x')</script> & \"co\"", "car")
PALETTE = np.array([[250, 0, 0], [0, 200, 0], [0, 0, 150]])
# Recall 3/4, 2/4 and nothing; IoU 3/6, 2/4 and 0 of one predicted pixel.
CONFUSION = np.array([[3, 0, 1], [2, 2, 0], [0, 0, 0]])


def measures(confusion=CONFUSION, names=NAMES, **options):
    return Measures(np.asarray(confusion), names, **options)


def example(name="a", wrong=0, size=(20, 30)):
    """All sky but for a row that isn't labelled; `wrong` columns called car."""
    truth, prediction = np.zeros(size, int), np.zeros(size, int)
    truth[0] = 255
    prediction[:, :wrong] = 2
    return Example(name, np.full((*size, 3), 90, np.uint8), truth, prediction)


def written(tmp_path, **arguments):
    path = tmp_path / "report.html"
    arguments = {"title": "A test", "measures": measures(), "palette": PALETTE, **arguments}
    assert report_page(path, **arguments) == path
    return path.read_text("utf-8")


def run_folder(tmp_path, **starts):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "log.csv").write_text(
        "epoch,step,loss,mean_iou,learning_rate,images_per_second,val_loss,val_mean_iou,"
        "val_pixel_accuracy\n1,2,0.8,0.3,0.01,1,0.9,0.25,0.5\n2,4,0.4,0.6,0.005,1,,,\n"
    )
    (folder / "steps.csv").write_text(
        "step,epoch,loss,mean_iou,learning_rate,images_per_second\n"
        "1,1,1.0,0.1,0.01,\n2,1,0.8,0.3,0.01,\n3,2,nan,0.5,0.005,\n4,2,0.4,0.6,0.005,1\n"
    )
    (folder / "recipe.json").write_text(json.dumps({"name": "camvid", "bin_sizes": [1, 2]}))
    start = {"time": "2026-01-02", "command": ["secret"], "versions": {"keras": "3.13"}}
    (folder / "starts.json").write_text(json.dumps([{}, start]))
    return folder


class Tags(html.parser.HTMLParser):
    """Checks that tags close in order, and collects them with their attributes."""

    def __init__(self, content):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(content)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "input", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def full_page(tmp_path, **arguments):
    groups = ErrorGroups(3)
    examples = [example(f"picture <b>{k}</b>", wrong=k) for k in range(12)]
    for each in examples:
        groups.update(each.truth, each.prediction)
    return written(
        tmp_path,
        images=examples,
        groups=groups,
        run=run_folder(tmp_path),
        settings={"protocol": "<i>one scale</i>", "model": {"layers": 50, "none": None}},
        **arguments,
    )


def pictures(content, kind="png"):
    """Embedded pictures in the order of the page."""
    found = re.findall(rf"data:image/{kind};base64,([A-Za-z0-9+/=]+)", content)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


def text_of(content):
    body = re.sub(r"<(script|style)\b.*?</\1>", "", content, flags=re.S)
    return re.sub(r"[ \n]+", " ", html.unescape(re.sub(r"<[^>]+>", " ", body)))


def test_headline_figures_by_hand(tmp_path):
    text = text_of(written(tmp_path))
    assert "33.33 % mean IoU" in text  # 1/2, 1/2 and 0
    assert "62.50 % pixel accuracy" in text  # 5 of 8
    assert "62.50 % class accuracy" in text  # 3/4 and 2/4
    assert "50.00 % frequency-weighted IoU" in text
    assert "8 labelled pixels; 3 of 3 classes" in text


def test_absent_classes_are_left_out_of_means(tmp_path):
    text = text_of(written(tmp_path, measures=measures([[1, 0, 0], [0, 1, 0], [0, 0, 0]])))
    assert "100.00 % mean IoU" in text and "2 of 3 classes" in text
    zero = measures([[1, 0, 0], [0, 1, 0], [0, 0, 0]], absent_as_zero=True)
    text = text_of(written(tmp_path, measures=zero))
    assert "66.67 % mean IoU" in text and "Absent ones count as 0 in the means." in text
    nothing = text_of(written(tmp_path, measures=measures(np.zeros((3, 3), int))))
    assert nothing.count("\N{EN DASH} mean IoU") == 1


def test_predictions_of_no_class_are_errors_with_a_column(tmp_path):
    content = written(tmp_path, measures=measures([[1, 0, 0, 3], [0, 1, 0, 0], [0, 0, 1, 0]]))
    assert "50.00 % pixel accuracy" in text_of(content)
    data = json.loads(re.search(r'id="confusion">(.*?)</script>', content)[1])
    assert data["columns"] == [*NAMES, "no class"]
    assert data["counts"][0] == [1, 0, 0, 3]
    none = written(tmp_path, measures=measures(np.pad(CONFUSION, ((0, 0), (0, 1)))))
    assert "no class" not in none


def test_the_page_is_well_formed_and_asks_for_nothing(tmp_path):
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


def test_names_are_no_markup(tmp_path):
    content = full_page(tmp_path, title="</title><script>bad()</script>")
    scripts = [attributes for tag, attributes in Tags(content).tags if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "confusion"}, {}]
    assert "<b>0</b>" not in content and "<i>one scale" not in content
    assert f"{NAMES[1]} 50.0 %" in text_of(content)
    assert "secret" not in content  # the command of a training may tell what a page should not


def test_file_names_that_are_no_text_do_not_stop_the_page(tmp_path):
    assert "\\udcff" in written(tmp_path, images=[example("\udcff.png")])


def test_classes_are_bars_in_their_colours_best_first(tmp_path):
    content = written(tmp_path, measures=measures([[8, 2, 0], [0, 8, 0], [0, 0, 0]]))
    bars = re.findall(r"<li><span>(.*?)</span>.*?width:([\d.]+)%;background:(#\w+)", content)
    # sky 8 of 10, the second 8 of 10; the last occurs nowhere.
    assert [bar[1:] for bar in bars] == [
        ("80.0", "#fa0000"),
        ("80.0", "#00c800"),
        ("0.0", "#000096"),
    ]
    swapped = written(tmp_path, measures=measures([[1, 7, 2], [0, 8, 0], [0, 0, 8]]))
    assert re.findall(r"background:(#\w+)", swapped)[:3] == ["#000096", "#00c800", "#fa0000"]


def test_confusion_matrix_is_normalised_by_rows_and_reordered(tmp_path):
    in_order, by_worst = pictures(written(tmp_path))[:2]
    cells = np.asarray(in_order)
    assert cells.shape == (3, 3, 4)
    # Roots of 3/4, 0, 1/4; 2/4, 2/4, 0; a class without labels is empty.
    expected = 217 * np.sqrt([[0.75, 0, 0.25], [0.5, 0.5, 0], [0, 0, 0]])
    np.testing.assert_allclose(cells[..., 3], expected, atol=0.5)
    assert (cells[0, 0, :3] == cells[1, 1, :3]).all() and (cells[0, 0, :3] != cells[0, 2, :3]).any()
    # IoU 1/2, 1/2 and 0: the last comes first.
    np.testing.assert_array_equal(np.asarray(by_worst), cells[[2, 0, 1]][:, [2, 0, 1]])


def test_most_wrong_pixels_are_listed(tmp_path):
    rows = re.findall(r"<tr><td>(.*?)</tr>", written(tmp_path))
    texts = [text_of(row) for row in rows]
    assert f"{NAMES[1]} sky 50.0 % 2 " in texts
    assert "sky car 25.0 % 1 " in texts


def test_150_classes_all_have_their_names_and_cells(tmp_path):
    names = [f"class number {index}" for index in range(150)]
    confusion = np.random.default_rng(0).integers(0, 50, (150, 150))
    content = written(tmp_path, measures=measures(confusion, names), palette=None)
    assert np.asarray(pictures(content)[0]).shape == (150, 150, 4)
    for name in names:  # a bar, a row of the table, rows and columns of two matrices
        assert content.count(f">{name}<") >= 6
    assert len(content) < 2**20


def test_worst_and_best_pictures_are_shown_once(tmp_path):
    examples = [example(f"picture {k}", wrong=k) for k in range(12)]
    content = written(tmp_path, images=examples[::-1], worst=3, best=2)
    shown = re.findall(r"<figcaption><b>([\d.]+) %</b> picture (\d+)<", content)
    assert [int(name) for _, name in shown] == [11, 10, 9, 0, 1]
    # Of 30 columns 11 are called car: IoU 19/30 of sky and 0 of car.
    assert shown[0][0] == f"{100 * 19 / 60:.1f}" and shown[3][0] == "100.0"
    assert len(pictures(content, "jpeg")) == 5
    few = written(tmp_path, images=examples[:2], worst=3, best=2)
    assert re.findall(r"<figcaption><b>[\d.]+ %</b> picture (\d+)<", few) == ["1", "0"]


def test_a_given_mean_iou_is_the_order(tmp_path):
    first, second = example("first"), example("second", wrong=9)
    first = Example("first", first.image, first.truth, first.prediction, 0.125)
    content = written(tmp_path, images=[second, first], worst=1, best=1)
    assert re.findall(r"<figcaption><b>([\d.]+ %)</b> (\w+)<", content)[0] == ("12.5 %", "first")


def test_masks_have_the_exact_colours_of_the_legend(tmp_path):
    content = written(tmp_path, images=[example(wrong=3)])
    truth, prediction, wrong = (np.asarray(p.convert("RGBA")) for p in pictures(content)[2:5])
    assert truth[0, 0].tolist() == [*VOID_COLOR, 255]
    assert truth[5, 5].tolist() == [*PALETTE[0], 255]
    assert prediction[5, :3].tolist() == [[*PALETTE[2], 255]] * 3
    assert (wrong[1:, :3, 3] == 255).all() and not wrong[0, :, 3].any()
    assert not wrong[:, 3:, 3].any()
    legend = re.findall(r'<i style="background:(#\w+)"></i>(.*?)</li>', content)
    assert legend == [
        ("#fa0000", "sky"),
        ("#000096", "car"),
        ("#282828", "not labelled"),
        ("#e03131", "wrong pixels"),
    ]


def test_large_pictures_are_reduced(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1600, 3), np.uint8)
    mask = np.zeros((1200, 1600), np.uint8)
    content = written(tmp_path, images=[Example("a", noise, mask, mask)])
    assert [picture.size for picture in pictures(content, "jpeg")] == [(480, 360)]
    assert [picture.size for picture in pictures(content)[2:]] == [(480, 360)] * 3
    assert len(content) < 400_000


def test_groups_are_told_with_their_figures_and_an_example(tmp_path):
    groups = ErrorGroups(3)
    examples = [example("small"), example("gap", wrong=20, size=(100, 100))]
    for each in examples:
        groups.update(each.truth, each.prediction)
    content = written(tmp_path, images=examples, groups=groups)
    result = groups.result()
    assert result.pixels["broken"] == 99 * 20  # 99 rows are labelled
    text = text_of(content)
    assert "Inconspicuous: large things broken up: 100.0 %" in text
    assert "Mismatched relationship: 0.0 %" in text
    assert "1\N{NARROW NO-BREAK SPACE}980 of " in text
    assert "classes that lose most pixels: sky (1\N{NARROW NO-BREAK SPACE}980)." in text
    section = content[content.index("large things broken up: 100") :]
    assert "<b>40.0 %</b> gap<" in section  # IoU 0.8 of sky and 0 of car
    marked = np.asarray(pictures(section)[2].convert("RGBA"))
    colour = re.search(r"background:#(\w+)\"></i>Inconspicuous: large", content)[1]
    assert bytes(marked[50, 10]).hex() == colour + "ff" and marked[50, 50, 3] == 0


def test_every_group_has_words():
    from keras_psp.evaluation.report.example import _GROUPS

    assert sorted(_GROUPS) == sorted(GROUPS)


def test_curves_of_a_run(tmp_path):
    content = written(tmp_path, run=run_folder(tmp_path))
    text = text_of(content)
    for words in ("Loss by step", "Mean IoU by step", "Learning rate by step"):
        assert words in text
    for words in ("name camvid", "bin_sizes 1, 2", "keras 3.13", "time 2026-01-02"):
        assert words in text
    rate = content[content.index("<b>Learning rate</b>") :]
    points = [point.split(",") for point in re.search(r'points="(.*?)"', rate)[1].split()]
    x, y = np.array(points, float).T
    np.testing.assert_allclose(np.diff(x), 75, atol=0.1)  # 4 steps on 300 units
    assert y[0] == y[1] == 8 and y[2] == y[3] == 88  # half the rate, half the height of 160


def test_settings_are_told_without_brackets(tmp_path):
    settings = {"scales": (0.5, 1), "crop": None, "model": {"git": {"commit": "abc", "by": []}}}
    text = text_of(written(tmp_path, settings=settings))
    for words in ("scales 0.5, 1 ", "crop none ", " model git commit abc, by none "):
        assert words in text


def test_long_curves_keep_their_extremes(tmp_path):
    folder = run_folder(tmp_path)
    rows = [f"{step},1,{2 if step == 7777 else 1},0.1,0.01,1" for step in range(1, 20001)]
    header = "step,epoch,loss,mean_iou,learning_rate,images_per_second"
    (folder / "steps.csv").write_text("\n".join([header, *rows]) + "\n")
    content = written(tmp_path, run=folder)
    assert len(content) < 100_000
    faint = re.search(r'<polyline class="faint" points="(.*?)"', content)[1].split()
    heights = [float(point.split(",")[1]) for point in faint]
    assert len(faint) <= 500 and min(heights) == 8 and sorted(heights)[1] > 20


def test_a_run_that_just_began_has_no_curves(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "log.csv").write_text("epoch,step\n")
    assert "Training" not in text_of(written(tmp_path, run=folder))


def test_a_failed_page_leaves_the_old_one(tmp_path, monkeypatch):
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
        ({"palette": PALETTE[:2]}, "palette has 2 colours but there are 3 class names"),
        ({"groups": ErrorGroups(4)}, "groups are of 4 classes and measures of 3; give both"),
        ({"groups": ErrorGroups(3, 0)}, "groups have ignore_class=0 and the page 255; give the"),
        ({"worst": -1}, "worst=-1 and best=3 must be at least 0"),
    ],
)
def test_inputs_that_do_not_fit_are_named(tmp_path, arguments, message):
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
def test_pictures_that_do_not_fit_are_named(tmp_path, field, value, message):
    fields = {**vars(example()), field: value}
    with pytest.raises(ValueError, match=message):
        written(tmp_path, images=[Example(**fields)])


def test_a_folder_without_a_training_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no log\.csv; give the output folder of a"):
        written(tmp_path, run=tmp_path)


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs Debian's chromium")
@pytest.mark.parametrize("width", [375, 1280])
def test_no_window_is_too_narrow_for_the_page(tmp_path, width):
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
    found = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", outer.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    widths = json.loads(re.search("<title>(.*?)</title>", found)[1])
    assert len(widths) == 2 and max(widths) <= width
