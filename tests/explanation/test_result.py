import numpy as np
import pytest
from PIL import Image

import keras_psp
from keras_psp.data.scenes import scene
from keras_psp.explanation import level_means


@pytest.fixture(scope="module")
def explanation(model, image):
    return keras_psp.explain(image, model)


def test_the_parts_of_a_pixel_are_those_of_the_maps(explanation):
    pixel = explanation.pixel(100, 30, "boat", "car")
    maps = explanation.parts("boat", "car")
    assert tuple(pixel.parts) == explanation.part_names == ("features", "1x1", "2x2", "constant")
    np.testing.assert_allclose(list(pixel.parts.values()), maps[:, 30, 100], atol=1e-5)
    assert pixel.total == pytest.approx(explanation.logits("boat", "car")[30, 100], abs=1e-5)
    assert str(pixel).startswith("boat minus car at 100 30: features ")
    assert str(explanation.pixel(0, 0, 1)).startswith("sea at 0 0: ")


def test_a_pixels_own_classes_are_the_two_with_the_largest_logits(explanation):
    logits = np.stack([explanation.logits(index)[40, 60] for index in range(5)])
    pixel = explanation.pixel(60, 40)
    best = np.argsort(-logits)[:2]
    assert [pixel.target, pixel.other] == [explanation.class_names[index] for index in best]
    assert pixel.total == pytest.approx(logits[best[0]] - logits[best[1]], abs=1e-4)


def test_the_parts_of_many_pixels_are_those_of_each(explanation):
    x, y = np.array([0, 120, 60, 33, 7]), np.array([0, 89, 40, 41, 80])
    target, other = np.array([1, 2, 4, 4, 0]), np.array([2, 1, 0, 3, 3])
    parts = explanation.parts_at(x, y, target, other)
    for number, arguments in enumerate(zip(x, y, target, other, strict=True)):
        pixel = explanation.pixel(*arguments)
        np.testing.assert_allclose(parts[:, number], list(pixel.parts.values()), atol=2e-5)


def test_the_next_class_has_the_largest_logit_but_for_the_pixels_own(explanation):
    logits = np.stack([explanation.logits(index) for index in range(5)])
    y, x = (axis.ravel() for axis in np.mgrid[0:90:9, 0:121:7])
    at = logits[:, y, x]
    at[explanation.classes[y, x], np.arange(len(x))] = -np.inf
    np.testing.assert_array_equal(explanation.next_classes(x, y), at.argmax(axis=0))


def test_the_deciding_level_is_the_one_that_alone_changes_the_margin_most(model, explanation):
    context = explanation.context()
    assert context.decided.any() and context.levels == (1, 2)
    np.testing.assert_array_equal(context.decided, context.classes != explanation.classes)
    np.testing.assert_array_equal(context.decided, context.level > 0)
    # All logits at full size, and the two levels one after the other.
    parts, means = explanation._parts, explanation._parts.means()
    rows, columns = explanation._view.matrices(parts.size)

    def margin(logits):
        full = np.einsum("yh,xw,hwc->yxc", rows, columns, logits)
        first = np.take_along_axis(full, explanation.classes[..., None].astype(int), -1)
        second = np.take_along_axis(full, context.classes[..., None].astype(int), -1)
        return (first - second)[..., 0]

    before = margin(parts.logits)
    loss = np.stack([before - margin(parts.logits_without({n: means[n]})) for n in range(2)])
    clear = context.decided & (np.abs(loss[0] - loss[1]) > 1e-4)
    expected = np.array([1, 2])[loss.argmax(0)]
    np.testing.assert_array_equal(context.level[clear], expected[clear])
    assert context.share == pytest.approx(sum(context.shares.values()))


def test_a_level_of_one_bin_is_its_own_mean(explanation):
    context = explanation.context(levels=[1])
    assert context.share < 0.001 and context.levels == (1,)
    assert context.reference.endswith("which leaves the level of one bin as it is")
    two = explanation.context(levels=[2])
    np.testing.assert_array_equal(two.classes, explanation.context().classes)


def test_without_a_pyramid_no_pixel_is_decided_by_context(image):
    from support.networks import tiny_predictor

    explanation = keras_psp.explain(image, tiny_predictor(bin_sizes=()))
    assert explanation.part_names == ("features", "constant")
    assert explanation.context().share == 0
    assert "by level: there is none" in str(explanation.context())
    explanation.figure()


def test_the_whole_image_makes_the_hull_a_boat(tmp_path):
    # What the scenes are made for: without the pyramid, the bundled network sees a car.
    scenes = keras_psp.data.GeneratedScenes(counts={"val": 16})
    means = level_means(scenes.arrays("val")[0])
    image, mask = scene(26, image_size=(180, 240), surface="water", skyline="village")
    explanation = keras_psp.explain(image, reference=means)
    names, context = explanation.class_names, explanation.context()
    hull = (mask == names.index("boat")) & (explanation.classes == names.index("boat"))
    car = context.classes[hull] == names.index("car")
    assert np.mean(car) > 0.5
    assert np.mean(context.level[hull][car] == 1) > 0.9
    features, *levels, constant = explanation.parts("boat", "car")
    assert np.mean(levels, axis=0)[hull].mean() > 0 > features[hull].mean()
    pixel = explanation.telling_pixel("boat", "car")
    assert explanation.classes[pixel.y, pixel.x] == names.index("boat")
    assert pixel.parts["1x1"] > pixel.total > 0


def test_the_telling_pixel_is_decided_by_context(explanation):
    context, pixel = explanation.context(), explanation.telling_pixel()
    assert context.decided[pixel.y, pixel.x]
    without = explanation.class_names[context.classes[pixel.y, pixel.x]]
    assert pixel.other == without
    assert pixel.target == explanation.class_names[explanation.classes[pixel.y, pixel.x]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e: e.parts("bot"), "class 'bot' is unknown; the network has sky, sea, boat, car"),
        (lambda e: e.parts(5), "class is 5; it must be an integer from 0 to 4"),
        (lambda e: e.logits("sky", "se"), "class 'se' is unknown"),
        (lambda e: e.pixel(121, 0), "x is 121; it must be an integer from 0 to 120"),
        (lambda e: e.pixel(0, -1), "y is -1; it must be an integer from 0 to 89"),
        (lambda e: e.pixel(0, 0, other="sky"), "other is 'sky', but target is None; give both"),
        (lambda e: e.context(levels=[3]), r"levels has 3; choose from the network's .*\(1, 2\)"),
    ],
)
def test_unknown_classes_levels_and_pixels_are_refused(explanation, call, message):
    with pytest.raises(ValueError, match=message):
        call(explanation)


def test_the_figure_is_saved_once(explanation, tmp_path):
    path = explanation.save(tmp_path / "why.png", "boat", "car", pixel=(3, 5))
    with Image.open(path) as figure:
        assert min(figure.size) > 500
    with pytest.raises(FileExistsError, match=r"why.png exists; choose another, or force=True"):
        explanation.save(path)
    explanation.save(path, "sea", force=True)
