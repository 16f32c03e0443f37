"""Report pages with known content, and readers of their HTML."""

import base64
import html.parser
import io
import json
import re

import numpy as np
from PIL import Image

from keras_psp.evaluation import ErrorGroups, Measures
from keras_psp.evaluation.report import Example, report_page

NAMES = ("sky", "<script>alert('x')</script> & \"co\"", "car")
PALETTE = np.array([[250, 0, 0], [0, 200, 0], [0, 0, 150]])
# Recall 3/4, 2/4 and nothing; IoU 3/6, 2/4 and 0 of one predicted pixel.
CONFUSION = np.array([[3, 0, 1], [2, 2, 0], [0, 0, 0]])


def measures(confusion=CONFUSION, names=NAMES, **options):
    return Measures(np.asarray(confusion), names, **options)


def example(name="a", wrong=0, size=(20, 30)):
    """All sky but for a row that isn't labeled; `wrong` columns called car."""
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
    examples = [example(f"image <b>{k}</b>", wrong=k) for k in range(12)]
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


def embedded_images(content, kind="png"):
    """The embedded images in the order of the page."""
    uris = re.findall(rf"data:image/{kind};base64,([A-Za-z0-9+/=]+)", content)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in uris]


def text_of(content):
    body = re.sub(r"<(script|style)\b.*?</\1>", "", content, flags=re.S)
    return re.sub(r"[ \n]+", " ", html.unescape(re.sub(r"<[^>]+>", " ", body)))
