import io

import numpy as np
import pytest
import rich.console

import keras_psp
from keras_psp.explanation import ContextSummary, context_summary, level_means


@pytest.fixture(scope="module")
def pairs(model, image):
    """Images, and masks that are right in most places and ignored in a corner."""
    images = [image, image[:, ::-1], image[::-1]]
    masks = [keras_psp.predict(x, model).classes.copy() for x in images]
    for mask in masks:
        mask[:20] = 0
        mask[-9:, -9:] = 255
    return list(zip(images, masks, strict=True))


@pytest.mark.parametrize("reference", ["image", "data", "means"])
def test_counts_are_those_of_the_images(model, pairs, reference):
    images = np.stack([image for image, _ in pairs])
    means = "image" if reference == "image" else level_means(images, model)
    given = means if reference == "means" else reference
    summary = context_summary(pairs, model, reference=given, progress=False)
    expected = np.zeros((3, 5), int)
    by_level = np.zeros((5, 2), int)
    for image, mask in pairs:
        explanation = keras_psp.explain(image, model, reference=means)
        context = explanation.context()
        for index in range(5):
            labeled = mask == index
            right = labeled & (explanation.classes == index)
            dependent = right & (context.classes != index)
            expected[:, index] += labeled.sum(), right.sum(), dependent.sum()
            for number, bins in enumerate((1, 2)):
                by_level[index, number] += (dependent & (context.level == bins)).sum()
    found = np.stack([summary.labeled, summary.correct, summary.dependent])
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(summary.by_level, by_level)
    assert summary.images == 3 and summary.dependent.sum() > 0
    assert "3 images" in summary.reference or reference == "image"


def test_levels_and_limit(model, pairs):
    summary = context_summary(pairs, model, reference="image", levels=[2], limit=1, progress=False)
    assert (summary.levels, summary.images) == ((2,), 1)
    assert summary.by_level.shape == (5, 1)
    np.testing.assert_array_equal(summary.by_level[:, 0], summary.dependent)


def test_classes_are_ordered_by_their_dependence(capsys):
    counts = np.array([[9, 8, 2], [50, 40, 30], [7, 0, 0], [3, 3, 3]]).T
    summary = ContextSummary(
        ("sky", "boat", "car", "[b]ird"), (1,), "their mean", 4, *counts, counts[2][:, None]
    )
    np.testing.assert_allclose(summary.share, [0.25, 0.75, np.nan, 1.0])
    assert summary.order == [3, 1, 0, 2]
    file = io.StringIO()
    summary.print(console=rich.console.Console(file=file, width=120))
    rows = [line for line in file.getvalue().splitlines() if "│" in line]
    assert [row.split("│")[1].strip() for row in rows] == ["[b]ird", "boat", "sky", "car"]
    assert "75.0%" in rows[1] and rows[3].count("-") == 2
    assert "4 images; the levels are replaced by their mean." in file.getvalue()


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
