import pickle

import numpy as np
import pytest

from keras_psp.evaluation.boundary import BoundaryIoU


def boundary(mask, reach):
    """Pixels of a mask within `reach` of a pixel outside it or of the image's edge."""
    height, width = mask.shape
    edge = np.zeros_like(mask)
    for y in range(height):
        for x in range(width):
            around = [
                (y + i, x + j) for i in range(-reach, reach + 1) for j in range(-reach, reach + 1)
            ]
            edge[y, x] = mask[y, x] and any(
                not (0 <= i < height and 0 <= j < width and mask[i, j]) for i, j in around
            )
    return edge


def blocks(random, classes, height, width):
    """A map of rectangles, so that masks have an interior."""
    values = np.zeros((height, width), int)
    for value in random.permutation(np.repeat(classes, 2)):
        y, x = random.integers(0, height), random.integers(0, width)
        values[y : y + random.integers(4, 20), x : x + random.integers(4, 20)] = value
    return values


@pytest.mark.parametrize("ratio", [0.001, 0.04, 0.1])
def test_counts_match_the_definition(ratio):
    random = np.random.default_rng(0)
    measure = BoundaryIoU(4, dilation_ratio=ratio)
    intersections, unions = np.zeros((2, 4))
    for height, width in ((30, 41), (41, 30), (3, 50)):
        truth = blocks(random, [0, 1, 2, 255], height, width)
        prediction = np.roll(truth, 2, axis=1)
        prediction[: height // 2, : width // 3] = 2
        prediction[0, 0] = 9  # no class
        measure.update(truth.astype(np.uint8), prediction)
        reach = max(1, round(ratio * (height**2 + width**2) ** 0.5))
        for value in range(4):
            first = boundary(truth == value, reach)
            second = boundary((prediction == value) & (truth != 255), reach)
            intersections[value] += (first & second).sum()
            unions[value] += (first | second).sum()
    np.testing.assert_array_equal(measure.intersections, intersections)
    np.testing.assert_array_equal(measure.unions, unions)
    expected = intersections[:3] / unions[:3]
    np.testing.assert_allclose(measure.per_class(), [*expected, np.nan])
    assert measure.result() == pytest.approx(expected.mean())


def test_boundary_iou_matches_values_computed_by_hand():
    # A 6x6 square and the same moved by one; the boundaries are one pixel wide: 20 pixels.
    truth, prediction = np.zeros((2, 12, 12), np.uint8)
    truth[3:9, 3:9] = prediction[3:9, 4:10] = 1
    measure = BoundaryIoU(2, dilation_ratio=0.05)  # 1 pixel, for a diagonal of 17
    measure.update(truth, prediction)
    # In common: 5 pixels each of the top and bottom rows.
    assert measure.intersections[1] == 10
    assert measure.unions[1] == 20 + 20 - 10
    assert measure.per_class()[1] == pytest.approx(1 / 3)


def test_small_errors_weigh_more_than_in_iou():
    truth = np.zeros((100, 100), np.uint8)
    truth[20:80, 20:80] = 1
    prediction = np.zeros_like(truth)
    prediction[22:78, 22:78] = 1
    measure = BoundaryIoU(2)
    measure.update(truth, prediction)
    assert measure.per_class()[1] < 0.3 < 56**2 / 60**2


def test_ignored_pixels_do_not_tell_maps_apart():
    random = np.random.default_rng(1)
    truth = blocks(random, [0, 1, 2], 30, 40)
    void = blocks(random, [0, 1], 30, 40) == 1
    prediction = np.where(void, 2, truth)
    measure = BoundaryIoU(3)
    measure.update(np.where(void, 255, truth), prediction)
    assert measure.result() == 1


def test_ignored_pixels_of_256_classes_are_none_of_them():
    mask = np.full((20, 20), 255, np.uint8)
    mask[:10] = 7
    tally = BoundaryIoU(256, ignore_class=255)
    tally.update(mask, mask)
    assert set(np.flatnonzero(tally.unions)) == {7}


def test_addition_sums_the_counts():
    random = np.random.default_rng(2)
    maps = [blocks(random, [0, 1, 2], 20, 20) for _ in range(4)]
    whole, first, second = (BoundaryIoU(3) for _ in range(3))
    for part, pair in ((first, maps[:2]), (second, maps[2:])):
        part.update(*pair)
        whole.update(*pair)
    total = pickle.loads(pickle.dumps(first)) + second
    np.testing.assert_array_equal(total.per_class(), whole.per_class())
    with pytest.raises(ValueError, match=r"dilation_ratio is 0.02 on one side of \+ and 0.1"):
        first + BoundaryIoU(3, dilation_ratio=0.1)
    with pytest.raises(TypeError):
        first + 1


def test_result_is_nan_without_images():
    assert np.isnan(BoundaryIoU(2).result())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: BoundaryIoU(0), "num_classes=0; at least 1 class"),
        (lambda: BoundaryIoU(2, dilation_ratio=0), "dilation_ratio=0; it must be above 0"),
        (
            lambda: BoundaryIoU(2).update(np.zeros((2, 2)), np.zeros((2, 2), int)),
            "truth has shape .* and dtype float64; it must be",
        ),
        (
            lambda: BoundaryIoU(2).update(np.zeros((2, 2), int), np.zeros(4, int)),
            r"prediction has shape \(4,\)",
        ),
        (
            lambda: BoundaryIoU(2).update(np.zeros((2, 2), int), np.zeros((2, 3), int)),
            r"prediction has shape \(2, 3\) and truth \(2, 2\); both must have",
        ),
    ],
)
def test_invalid_arguments_raise(call, message):
    with pytest.raises(ValueError, match=message):
        call()
