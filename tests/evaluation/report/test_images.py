import re

import numpy as np
from support.report_pages import (
    PALETTE,
    embedded_images,
    example,
    written,
)

from keras_psp.evaluation.report import Example
from keras_psp.palette import VOID_COLOR


def test_worst_and_best_images_are_shown_once(tmp_path):
    examples = [example(f"image {k}", wrong=k) for k in range(12)]
    content = written(tmp_path, images=examples[::-1], worst=3, best=2)
    shown = re.findall(r"<figcaption><b>([\d.]+) %</b> image (\d+)<", content)
    assert [int(name) for _, name in shown] == [11, 10, 9, 0, 1]
    # Of 30 columns 11 are called car: IoU 19/30 of sky and 0 of car.
    assert shown[0][0] == f"{100 * 19 / 60:.1f}" and shown[3][0] == "100.0"
    assert len(embedded_images(content, "jpeg")) == 5
    few = written(tmp_path, images=examples[:2], worst=3, best=2)
    assert re.findall(r"<figcaption><b>[\d.]+ %</b> image (\d+)<", few) == ["1", "0"]


def test_given_mean_iou_decides_the_order(tmp_path):
    first, second = example("first"), example("second", wrong=9)
    first = Example("first", first.image, first.truth, first.prediction, 0.125)
    content = written(tmp_path, images=[second, first], worst=1, best=1)
    assert re.findall(r"<figcaption><b>([\d.]+ %)</b> (\w+)<", content)[0] == ("12.5 %", "first")


def test_masks_have_the_exact_colors_of_the_legend(tmp_path):
    content = written(tmp_path, images=[example(wrong=3)])
    truth, prediction, wrong = (
        np.asarray(p.convert("RGBA")) for p in embedded_images(content)[2:5]
    )
    assert truth[0, 0].tolist() == [*VOID_COLOR, 255]
    assert truth[5, 5].tolist() == [*PALETTE[0], 255]
    assert prediction[5, :3].tolist() == [[*PALETTE[2], 255]] * 3
    assert (wrong[1:, :3, 3] == 255).all() and not wrong[0, :, 3].any()
    assert not wrong[:, 3:, 3].any()
    legend = re.findall(r'<i style="background:(#\w+)"></i>(.*?)</li>', content)
    assert legend == [
        ("#fa0000", "sky"),
        ("#000096", "car"),
        ("#282828", "not labeled"),
        ("#e03131", "wrong pixels"),
    ]


def test_large_images_are_reduced(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1600, 3), np.uint8)
    mask = np.zeros((1200, 1600), np.uint8)
    content = written(tmp_path, images=[Example("a", noise, mask, mask)])
    assert [image.size for image in embedded_images(content, "jpeg")] == [(480, 360)]
    assert [image.size for image in embedded_images(content)[2:]] == [(480, 360)] * 3
    assert len(content) < 400_000
