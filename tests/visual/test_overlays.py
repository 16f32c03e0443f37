import numpy as np
import pytest
from PIL import Image, ImageDraw

from keras_psp.palette import VOID_COLOR
from keras_psp.visual import (
    colorize,
    comparison,
    default_palette,
    overlay,
    overlay_with_legend,
)

PALETTE = [[250, 0, 0], [0, 200, 0], [0, 0, 150]]
NAMES = ("sky", "road", "car")


def example(height=30, width=40):
    image = np.full((height, width, 3), 77, np.uint8)
    truth = np.zeros((height, width), np.uint8)
    truth[:, width // 2 :] = 1
    return image, truth, np.ones_like(truth)


def comparison_of(count=1, *, height=30, width=40, **arguments):
    image, truth, prediction = example(height, width)
    return comparison(
        [image] * count,
        [truth] * count,
        [prediction] * count,
        NAMES,
        PALETTE,
        **arguments,
    )


@pytest.fixture
def drawn(monkeypatch):
    """The bounding boxes of the drawn texts, by text."""
    boxes = {}
    original = ImageDraw.ImageDraw.text

    def text(self, position, words, fill, font):
        boxes[words] = (*self.textbbox(position, words, font=font), self.im.size)
        return original(self, position, words, fill, font)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return boxes


def test_colorize_by_hand():
    mask = np.array([[0, 2], [255, 1]])
    assert colorize(mask, PALETTE).tolist() == [
        [[250, 0, 0], [0, 0, 150]],
        [list(VOID_COLOR), [0, 200, 0]],
    ]
    assert colorize(mask, PALETTE, ignore_class=255).dtype == np.uint8


def test_ignore_class_may_be_one_of_the_classes():
    assert colorize(np.array([[1]]), PALETTE, ignore_class=1)[0, 0].tolist() == list(VOID_COLOR)


def test_overlay_by_hand():
    image = np.full((1, 2, 3), 100, np.uint8)
    mask = np.array([[1, 255]])
    # 0.25 of (0, 200, 0) and 0.75 of 100; the ignored pixel is unchanged.
    assert overlay(image, mask, PALETTE, alpha=0.25).tolist() == [[[75, 125, 75], [100, 100, 100]]]
    np.testing.assert_array_equal(overlay(image, mask, PALETTE, alpha=0), image)


def test_overlay_takes_float_images():
    image = np.array([[[-3.0, 100.4, 300.0]]], np.float32)
    assert overlay(image, np.array([[255]]), PALETTE).tolist() == [[[0, 100, 255]]]


def test_small_images_are_enlarged_to_readable_columns_in_exact_colors():
    drawing = np.asarray(comparison_of())
    height, width = drawing.shape[:2]
    assert width >= 3 * 240
    # Half of the truth and all of the prediction: 1.5 columns of class 1.
    road = (drawing == [0, 200, 0]).all(-1)
    sky = (drawing == [250, 0, 0]).all(-1)
    column = 240 * 180
    assert 1.5 * column <= road.sum() < 1.5 * column + 2000  # and the swatch
    assert 0.5 * column <= sky.sum() < 0.5 * column + 2000
    assert height < 180 + 100


def test_one_row_per_example():
    one, three = comparison_of(1), comparison_of(3)
    assert three.height - one.height == 2 * (180 + 10)
    assert three.width == one.width


def test_large_images_keep_their_size():
    assert comparison_of(height=300, width=400).width == 10 + 3 * 410


def test_examples_may_differ_in_size():
    small, large = example(10, 12), example(50, 300)
    drawing = comparison(*zip(small, large, strict=True), NAMES, PALETTE)
    assert drawing.width == 10 + 3 * 310


def test_several_models_make_several_columns(drawn):
    image, truth, prediction = example()
    titles = ("image", "truth", "first", "second")
    comparison([image], [truth], [[prediction], [truth]], NAMES, PALETTE, titles=titles)
    lefts = [drawn[title][0] for title in titles]
    assert lefts == sorted(lefts)
    assert len(set(lefts)) == 4


def test_one_model_may_be_an_array_or_a_list():
    image, truth, prediction = (part[None] for part in example())
    alone = comparison(image, truth, prediction, NAMES, PALETTE)
    listed = comparison(image, truth, [prediction], NAMES, PALETTE)
    np.testing.assert_array_equal(np.asarray(alone), np.asarray(listed))


def test_legend_has_only_the_classes_that_occur(drawn):
    comparison_of()
    assert set(drawn) == {"image", "truth", "prediction", "sky", "road"}


def test_legend_explains_dark_gray(drawn):
    image, truth, prediction = example()
    truth[0, 0] = 255
    comparison([image], [truth], [prediction], NAMES, PALETTE)
    assert "not labeled" in drawn


@pytest.mark.parametrize("width", [10, 240, 900])
@pytest.mark.parametrize("length", [3, 30, 200])
def test_texts_never_overlap_or_leave_the_image(drawn, width, length):
    names = [f"{index:03}".ljust(length, "w") for index in range(40)]
    mask = np.arange(40).reshape(4, 10).repeat(width // 10, axis=1)
    image = np.zeros((*mask.shape, 3), np.uint8)
    titles = ("image", "ground truth " * (length // 12 + 1), "prediction")
    comparison([image], [mask], [mask], names, default_palette(40), titles=titles)
    assert len(drawn) == 43
    assert_apart(drawn)


def assert_apart(drawn):
    boxes = list(drawn.values())
    for left, top, right, bottom, (total_width, total_height) in boxes:
        assert 0 <= left < right <= total_width
        assert 0 <= top < bottom <= total_height
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
            assert apart


def test_outlines_by_hand():
    image = np.full((1, 8, 3), 100, np.uint8)
    mask = np.array([[0, 0, 0, 0, 1, 1, 1, 1]])
    # The border runs right of the fourth pixel: one pixel on each side is opaque.
    tinted = overlay(image, mask, PALETTE, outline=1)[0].tolist()
    red, green = [175, 50, 50], [50, 150, 50]
    line = [255, 255, 255]
    assert tinted == [red, red, [250, 0, 0], line, [0, 200, 0], green, green, green]


def test_outlines_run_along_rows_and_around_ignored_pixels():
    image = np.full((8, 1, 3), 100, np.uint8)
    mask = np.array([[0, 0, 0, 0, 255, 255, 255, 255]]).T
    tinted = overlay(image, mask, PALETTE, outline=1)[:, 0].tolist()
    assert tinted[2:5] == [[250, 0, 0], [255] * 3, list(VOID_COLOR)]
    assert tinted[6] == [100] * 3


def test_overlay_of_a_large_image_equals_that_of_its_rows():
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (700, 9, 3)), rng.integers(0, 3, (700, 9))
    whole = overlay(image, mask, PALETTE)
    parts = [overlay(image[i : i + 1], mask[i : i + 1], PALETTE) for i in range(700)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


def test_overlay_with_legend_lists_shares_largest_first(drawn):
    image = np.full((100, 300, 3), 77, np.uint8)
    mask = np.full((100, 300), 2)
    mask[:25] = 0
    mask[0, :9] = 255
    drawing = overlay_with_legend(image, mask, NAMES, PALETTE)
    assert list(drawn) == ["car  75.0 %", "sky  25.0 %", "not labeled  <0.1 %"]
    assert_apart(drawn)
    pixels = np.asarray(drawing)
    assert pixels[60, 100].tolist() == [38, 38, 114]  # half of (0, 0, 150) and 77, to even
    # The swatch next to each text has the color of its class.
    for text, color in zip(drawn, ([0, 0, 150], [250, 0, 0], VOID_COLOR), strict=True):
        left, top, _, bottom, _ = drawn[text]
        assert pixels[int(top + bottom) // 2, int(left) - 12].tolist() == list(color)


@pytest.mark.parametrize("width", [8, 240, 3000])
@pytest.mark.parametrize("length", [3, 60])
def test_texts_of_the_shares_never_overlap(drawn, width, length):
    names = [f"{index:03}".ljust(length, "w") for index in range(40)]
    mask = np.arange(40).reshape(5, 8).repeat(width // 8, axis=1)
    image = np.zeros((*mask.shape, 3), np.uint8)
    drawing = overlay_with_legend(image, mask, names, default_palette(40))
    assert len(drawn) == 40
    assert_apart(drawn)
    assert drawing.height < 1200  # wide rather than tall


def test_overlay_with_legend_is_saved(tmp_path):
    image, truth, _ = example()
    drawing = overlay_with_legend(image, truth, NAMES, PALETTE, path=tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as saved:
        np.testing.assert_array_equal(np.asarray(saved), np.asarray(drawing))
    with pytest.raises(ValueError, match="3 colors but there are 1 class names"):
        overlay_with_legend(image, truth, NAMES[:1], PALETTE)


def test_saved_image_equals_the_returned_one_and_no_other_file_is_left(tmp_path):
    path = tmp_path / "new" / "comparison.png"
    drawing = comparison_of(path=path)
    with Image.open(path) as saved:
        np.testing.assert_array_equal(np.asarray(saved), np.asarray(drawing))
    assert [entry.name for entry in path.parent.iterdir()] == ["comparison.png"]


def test_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "comparison.png"
    path.write_bytes(b"old")

    def save(self, target, form=None):
        with open(target, "wb") as file:
            file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(Image.Image, "save", save)
    with pytest.raises(OSError, match="No space left"):
        comparison_of(path=path)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["comparison.png"]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.array([[3]]), "value 3, but the palette has 3 colors and ignore_class is"),
        (np.array([[-1]]), "value -1"),
        (np.zeros((2, 2, 3), int), r"shape \(2, 2, 3\).*take the argmax of scores first"),
        (np.zeros((2, 2)), "dtype float64"),
    ],
)
def test_invalid_masks_are_refused(mask, message):
    with pytest.raises(ValueError, match=message):
        colorize(mask, PALETTE)


@pytest.mark.parametrize("alpha", [-0.1, 1.5])
def test_alpha_out_of_range_is_refused(alpha):
    with pytest.raises(ValueError, match=f"alpha is {alpha}; it must be from 0 to 1"):
        overlay(np.zeros((1, 1, 3), np.uint8), np.array([[0]]), PALETTE, alpha=alpha)


def test_overlay_of_different_sizes_is_refused():
    with pytest.raises(ValueError, match="mask is 3x2 but the image is 5x4"):
        overlay(np.zeros((4, 5, 3), np.uint8), np.zeros((2, 3), int), PALETTE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": []}, "images is empty"),
        ({"images": [np.zeros((4, 4))]}, r"image has shape \(4, 4\)"),
        ({"truths": []}, "0 masks for 'truth' but 1 images"),
        ({"predictions": [np.zeros((4, 4), int)] * 2}, "2 masks for 'prediction'"),
        ({"titles": ("image", "truth")}, r"2 titles for image, truth and 1 model"),
        ({"class_names": ("sky",)}, "3 colors but there are 1 class names"),
    ],
)
def test_invalid_comparisons_are_refused(changes, message):
    image, truth, prediction = example()
    arguments = {
        "images": [image],
        "truths": [truth],
        "predictions": [prediction],
        "class_names": NAMES,
        "palette": PALETTE,
        **changes,
    }
    with pytest.raises(ValueError, match=message):
        comparison(**arguments)
