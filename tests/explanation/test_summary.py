import io

import numpy as np
import pytest
import rich.console

import keras_psp
from keras_psp.explanation import ContextSummary, context_summary, level_means


@pytest.fixture(scope="module")
def pairs(model, image):
    """Images, and masks ignored in a corner; one half has the classes without the pyramid."""
    images = [image, image[:, ::-1], image[::-1]]
    explanations = [keras_psp.explain(x, model) for x in images]
    masks = [explanation.classes.copy() for explanation in explanations]
    for mask, explanation in zip(masks, explanations, strict=True):
        mask[:, 60:] = explanation.context().classes[:, 60:]
        mask[:20] = 0
        mask[-9:, -9:] = 255
    return list(zip(images, masks, strict=True))


@pytest.mark.parametrize("reference", ["image", "data", "means"])
def test_counts_are_those_of_the_images(model, pairs, reference):
    images = np.stack([image for image, _ in pairs])
    means = "image" if reference == "image" else level_means(images, model)
    given = means if reference == "means" else reference
    summary = context_summary(pairs, model, reference=given, progress=False)
    expected = np.zeros((4, 5), int)
    predicted = [[], []]
    by_level = np.zeros((5, 2), int)
    for image, mask in pairs:
        explanation = keras_psp.explain(image, model, reference=means)
        context = explanation.context()
        for index in range(5):
            labeled = mask == index
            right = labeled & (explanation.classes == index)
            dependent = right & (context.classes != index)
            misled = labeled & ~right & (context.classes == index)
            counts = [x.sum() for x in (labeled, right, dependent, misled)]
            expected[:, index] += counts
            for number, bins in enumerate((1, 2)):
                by_level[index, number] += (dependent & (context.level == bins)).sum()
        predicted[0].append((mask, explanation.classes))
        predicted[1].append((mask, context.classes))
    found = np.stack([summary.labeled, summary.correct, summary.dependent, summary.misled])
    np.testing.assert_array_equal(found, expected)
    for value, parts in zip((summary.mean_iou, summary.mean_iou_without), predicted, strict=True):
        metric = keras_psp.MeanIoU(5)
        for labels, classes in parts:
            metric.update_state(labels[None], classes[None])
        assert value == pytest.approx(float(metric.result()), abs=1e-6)
    np.testing.assert_array_equal(summary.by_level, by_level)
    assert summary.images == 3 and summary.dependent.sum() > 0 and summary.misled.sum() > 0
    assert "3 images" in summary.reference or reference == "image"


def test_ignored_pixels_are_not_counted(model, image):
    class Source:
        """One image whose label 2 is both a class and ignored, as a background may be."""

        class_names, num_classes = tuple("abcde"), 5
        palette = np.zeros((5, 3), np.uint8)
        ignore_class, splits = 2, ("val",)

        def count(self, split):
            return 1

        def example(self, split, index):
            return image, keras_psp.explain(image, model).classes

    summary = context_summary(Source(), model, reference="image", progress=False)
    explanation = keras_psp.explain(image, model)
    decided = explanation.classes[explanation.context().decided]
    assert set(decided) > {2}
    expected = np.bincount(decided[decided != 2], minlength=5)
    np.testing.assert_array_equal(summary.dependent, expected)
    assert summary.by_level.sum() == expected.sum()
    assert not summary.misled.any()


def test_levels_and_limit(model, pairs):
    summary = context_summary(pairs, model, reference="image", levels=[2], limit=1, progress=False)
    assert (summary.levels, summary.images) == ((2,), 1)
    assert summary.by_level.shape == (5, 1)
    np.testing.assert_array_equal(summary.by_level[:, 0], summary.dependent)


def test_classes_are_ordered_by_their_dependence(capsys):
    confusion = np.array([[8, 1, 0, 0], [10, 40, 0, 0], [7, 0, 0, 0], [0, 0, 0, 3]])
    without = np.array([[6, 3, 0, 0], [36, 14, 0, 0], [7, 0, 0, 0], [3, 0, 0, 0]])
    dependent = np.array([2, 30, 0, 3])
    summary = ContextSummary(
        ("sky", "boat", "car", "[b]ird"),
        *((1,), "their mean", 4, confusion, without, dependent, dependent[:, None]),
    )
    assert summary.misled.tolist() == [0, 4, 0, 0]
    np.testing.assert_allclose(summary.share, [0.25, 0.75, np.nan, 1.0])
    assert summary.order == [3, 1, 0, 2]
    file = io.StringIO()
    summary.print(console=rich.console.Console(file=file, width=120))
    rows = [line for line in file.getvalue().splitlines() if "│" in line]
    assert [row.split("│")[1].strip() for row in rows] == ["[b]ird", "boat", "sky", "car"]
    assert "75.0%" in rows[1] and rows[3].count("-") == 2
    assert "4 images; the levels are replaced by their mean." in file.getvalue()
    assert "Mean IoU 52.30%, without the levels 9.33%." in file.getvalue()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reference": "set"}, "reference is 'set'; it must be \"image\""),
        ({"limit": 0}, "limit is 0; it must be an integer >= 1"),
        ({"flip": True}, "flip=True and crop=None average"),
        ({"levels": [7]}, "levels has 7; choose from"),
    ],
)
def test_invalid_arguments_are_refused(model, pairs, arguments, message):
    with pytest.raises(ValueError, match=message):
        context_summary(pairs, model, progress=False, **arguments)


def test_no_images_are_refused(model):
    with pytest.raises(ValueError, match=r"is empty; give|has no images; give"):
        context_summary([], model, progress=False)
