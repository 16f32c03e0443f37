import numpy as np
import pytest

from keras_psp.palette import default_palette
from keras_psp.visual.explanation import draw_explanation


def draw(bins=(1, 2, 3, 6), size=(60, 80), values=None, num_classes=3, other="car"):
    rng = np.random.default_rng(0)
    classes = rng.integers(0, num_classes, size)
    values = [1.0] * (2 + len(bins)) if values is None else values
    return draw_explanation(
        rng.integers(0, 256, (*size, 3)).astype("uint8"),
        classes,
        classes,
        np.where(classes == 0, max(bins, default=0), 0),
        rng.normal(size=(2 + len(bins), *size)).astype("float32"),
        ("features", *(f"{b}x{b}" for b in bins), "constant"),
        class_names=[f"class {i}" for i in range(num_classes)],
        palette=default_palette(num_classes),
        bin_sizes=bins,
        pixel=(3, 4),
        values=values,
        target="boat",
        other=other,
        reference="their mean over the image",
    )


def lower_part(page):
    pixels = np.asarray(page)
    return pixels[int(0.75 * len(pixels)) :, : pixels.shape[1] // 2].reshape(-1, 3).tolist()


@pytest.mark.parametrize("bins", [(), (1,), (1, 2, 3, 6), (1, 2, 3, 4, 5, 6, 7)])
@pytest.mark.parametrize("size", [(60, 80), (200, 30), (30, 200)])
def test_any_number_of_levels_and_any_proportions_fit_the_page(bins, size):
    page = draw(bins, size)
    assert page.mode == "RGB" and page.width == 1650
    assert 600 < page.height < 2000


def test_bars_for_the_class_are_red_and_those_against_it_blue():
    red, blue = [178, 24, 43], [33, 102, 172]
    positive = lower_part(draw(values=[1.0] * 6))
    negative = lower_part(draw(values=[-1.0] * 6))
    assert positive.count(red) > 5000 and blue not in positive
    assert negative.count(blue) > 5000 and red not in negative


def test_many_classes_and_a_single_one_are_drawn():
    draw(num_classes=150, other=None)
    draw(num_classes=1, values=[0.0] * 6)
