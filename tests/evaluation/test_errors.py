import numpy as np
import pytest
from scipy import ndimage

from keras_psp import MeanIoU
from keras_psp.data.scenes import classes, scene
from keras_psp.evaluation.errors import (
    GROUPS,
    NO_ERROR,
    SIZE_EDGES,
    ErrorGroups,
    connected_components,
)

WATER, ROAD, BOAT, CAR, LAND = range(5)


def image(*patches, ground=0, size=(100, 100)):
    """A mask of one class with patches of (rows, columns, class)."""
    mask = np.full(size, ground)
    for rows, columns, label in patches:
        mask[slice(*rows), slice(*columns)] = label
    return mask


def counted(*pairs, num_classes=5, **arguments):
    groups = ErrorGroups(num_classes, **arguments)
    for truth, prediction in pairs:
        groups.update(truth, prediction)
    return groups


def pixels(groups):
    """Pixels of the groups that are not empty."""
    return {name: count for name, count in groups.result().pixels.items() if count}


def rivers_and_streets(count, thing=BOAT):
    """Images of boats on water and as many of cars on roads; the first is predicted wrong."""
    place = (40, 60), (40, 60)
    river = image((*place, BOAT), ground=WATER)
    street = image((*place, CAR), ground=ROAD)
    wrong = image((*place, thing), ground=WATER)
    return [(river, wrong)] + [(river, river)] * (count - 1) + [(street, street)] * count


def test_a_car_on_a_river_is_a_mismatched_relationship():
    # 8 of 16 images have water, 8 have cars: 4 with both are expected by chance, there are none.
    groups = counted(*rivers_and_streets(8, CAR))
    assert pixels(groups) == {"mismatched": 400}
    result = groups.result()
    assert result.mismatches == [(BOAT, CAR, 400)]
    assert result.by_class[GROUPS.index("mismatched")].tolist() == [0, 0, 400, 0, 0]
    assert {tuple(pair) for pair in np.argwhere(result.apart).tolist()} == {
        (WATER, ROAD),
        (ROAD, WATER),
        (WATER, CAR),
        (CAR, WATER),
        (BOAT, ROAD),
        (ROAD, BOAT),
        (BOAT, CAR),
        (CAR, BOAT),
    }


def test_too_few_images_give_no_mismatch():
    # 3.5 images with both are expected by chance, fewer than 4.
    assert pixels(counted(*rivers_and_streets(7, CAR))) == {"other": 400}


def test_classes_that_co_occur_are_not_kept_apart():
    ferry = image(((0, 20), (0, 20), CAR), ((40, 60), (40, 60), BOAT), ground=WATER)
    # 9 with water, 9 with cars, 17 in all: 4.76 are expected, a quarter is 1.19. One ferry is
    # fewer; two ferries (10, 10, 18: 5.56, 1.39) are more.
    assert pixels(counted(*rivers_and_streets(8, CAR), (ferry, ferry))) == {"mismatched": 400}
    twice = [(ferry, ferry)] * 2
    assert pixels(counted(*rivers_and_streets(8, CAR), *twice)) == {"other": 400}


def test_class_of_the_pixel_itself_does_not_make_a_mismatch():
    # Each class fills whole images, so only the pixel's own class is kept apart.
    first, second = image(ground=0), image(ground=1)
    half = image(((0, 50), (0, 100), 1), ground=0)
    groups = counted((first, half), *[(first, first)] * 7, *[(second, second)] * 8)
    assert groups.result().apart[0, 1]
    assert pixels(groups) == {"broken": 5000}


def test_classes_confused_in_both_directions_are_a_confusion_category():
    first, second = image(ground=0), image(ground=1)
    # 600 and 500 of 10000 pixels each are predicted as the other: at least 5 % both ways.
    pairs = [
        (first, image(((0, 20), (0, 30), 1), ground=0)),
        (second, image(((0, 20), (0, 25), 0), ground=1)),
    ]
    groups = counted(*pairs)
    assert pixels(groups) == {"confused": 1100}
    assert groups.result().pairs == [(0, 1, 600, 500, True)]
    one_way = counted(pairs[0], (second, image(((0, 20), (0, 24), 0), ground=1)))
    assert pixels(one_way) == {"broken": 1080}
    assert one_way.result().pairs == [(0, 1, 600, 480, False)]


def test_confusion_is_relative_to_the_rarer_class():
    truth = image(((40, 60), (40, 60), 1), ground=0)  # 400 of one class, 9600 of the other
    prediction = image(((40, 60), (45, 60), 1), ((0, 5), (0, 5), 1), ground=0)
    # 100 of 400 and 25 of 9600 are wrong, both at least 5 % of 400; 2 of the 5 columns are at
    # the border of the small class.
    groups = counted((truth, prediction))
    reach = 2  # 0.0075 of the diagonal of 141 pixels is 1.06
    border = 20 * 5 - (20 - 2 * reach) * (5 - reach)
    assert pixels(groups) == {"border": border, "confused": 125 - border}


def test_missed_small_thing_is_inconspicuous():
    truth = image(((10, 15), (10, 15), 1), ((50, 55), (50, 55), 1), ground=0)
    mostly = image(((10, 15), (10, 15), 1), ((50, 55), (50, 53), 1), ground=0)
    # The first of two things of 25 pixels is correct; of the second 15 (found) or 10 (missed).
    assert pixels(counted((truth, mostly))) == {"border": 10}
    missed = image(((10, 15), (10, 15), 1), ((50, 55), (50, 52), 1), ground=0)
    groups = counted((truth, missed))
    assert pixels(groups) == {"missed": 15}
    assert groups.result().inconspicuous == 15
    # 25 of 10000 pixels are less than 0.003 of the image, but not less than 0.002.
    # Then 14 are within 2 of the surroundings; the one in the middle is not.
    assert pixels(counted((truth, missed), small=0.002)) == {"border": 14, "other": 1}


def test_gap_in_a_large_thing_is_inconspicuous():
    truth = image(ground=0)
    prediction = image(((40, 60), (40, 60), 1), ground=0)
    groups = counted((truth, prediction))
    assert pixels(groups) == {"broken": 400} and groups.result().inconspicuous == 400
    # 900 pixels are less than a tenth of the image: all but the border is "other".
    smaller = image(((0, 100), (0, 9), 2), ground=0)
    half = image(((0, 50), (0, 9), 2), ground=0)
    assert pixels(counted((smaller, half))) == {"border": 50 * 2, "other": 50 * 7}
    # A large thing that is mostly wrong is not broken up.
    most = image(((0, 100), (0, 60), 1), ground=0)
    assert pixels(counted((truth, most))) == {"other": 6000}


def test_slightly_shifted_edge_is_a_border():
    truth = image(((0, 100), (50, 100), 1), ground=0)
    assert pixels(counted((truth, np.roll(truth, 2)))) == {"border": 200, "broken": 200}
    within = image(((0, 100), (48, 100), 1), ground=0)
    assert pixels(counted((truth, within))) == {"border": 200}
    beyond = image(((0, 100), (47, 100), 1), ground=0)
    assert pixels(counted((truth, beyond))) == {"border": 200, "broken": 100}
    # In an image of twice the side the reach is 3, as 0.0075 * 282.8 = 2.1.
    large = image(((0, 200), (100, 200), 1), ground=0, size=(200, 200))
    off = image(((0, 200), (96, 200), 1), ground=0, size=(200, 200))
    assert pixels(counted((large, off))) == {"border": 600, "broken": 200}


def test_unlabeled_pixels_do_not_count():
    truth = image(((0, 50), (0, 100), 255), ground=0)
    groups = counted((truth, image(ground=1)))
    result = groups.result()
    assert (result.labeled, result.wrong, result.pixels["other"]) == (5000, 5000, 5000)
    nothing = counted((image(ground=255), image(ground=1))).result()
    assert nothing.wrong == 0 and all(np.isnan(share) for share in nothing.shares.values())
    assert counted((truth, truth), ignore_class=None, num_classes=256).result().labeled == 10000


def test_prediction_outside_the_classes_is_wrong():
    for value in (-1, 5, 255):
        prediction = image(((40, 60), (40, 60), value), ground=0)
        assert pixels(counted((image(ground=0), prediction))) == {"broken": 400}


def test_recall_by_size_of_things():
    truth = image(((10, 15), (10, 15), 1), ((50, 55), (50, 55), 1), ground=0)
    prediction = image(((10, 15), (10, 15), 1), ((50, 55), (50, 52), 1), ground=0)
    result = counted((truth, prediction)).result()
    # Two things of 25 pixels, 0.001 to 0.003 of 10000, and the rest of 9950, above 0.3.
    assert len(SIZE_EDGES) + 1 == result.sizes.shape[-1] == 7
    assert result.sizes[:, 1].tolist() == [
        [0, 2, 0, 0, 0, 0, 0],
        [0, 1, 0, 0, 0, 0, 0],
        [0, 50, 0, 0, 0, 0, 0],
        [0, 35, 0, 0, 0, 0, 0],
    ]
    things, shares = result.recall_by_size()
    np.testing.assert_array_equal(things, [np.nan, 0.5, *[np.nan] * 4, 1])
    np.testing.assert_array_equal(shares, [np.nan, 0.7, *[np.nan] * 4, 1])


def test_context_free_mistakes_on_generated_scenes_are_grouped():
    # A network without context guesses the class of hulls and towers. The scenes choose hulls by
    # the surface and towers by the skyline, so the correct groups are known.
    groups = ErrorGroups(len(classes.CLASS_NAMES), classes.IGNORE_CLASS)
    coin = np.random.default_rng(0)
    expected = np.zeros(2, int)
    for seed in range(120):
        _, truth = scene(seed, image_size=(64, 64))
        prediction = np.where(truth == classes.IGNORE_CLASS, 0, truth)
        if coin.random() < 0.5:
            hull = {classes.BOAT: classes.CAR, classes.CAR: classes.BOAT}
            for own, other in hull.items():
                prediction[truth == own] = other
                expected[0] += np.count_nonzero(truth == own)
        if coin.random() < 0.5:
            tower = {classes.BUILDING: classes.SKYSCRAPER, classes.SKYSCRAPER: classes.BUILDING}
            for own, other in tower.items():
                prediction[truth == own] = other
                expected[1] += np.count_nonzero(truth == own)
        groups.update(truth, prediction)
    result = groups.result()
    assert result.apart[classes.WATER, classes.CAR] and result.apart[classes.ROAD, classes.BOAT]
    assert {(a, b) for a, b, _ in result.mismatches} == {
        (classes.BOAT, classes.CAR),
        (classes.CAR, classes.BOAT),
    }
    assert result.pixels["mismatched"] == expected[0] > 0
    scraps = result.by_class[GROUPS.index("missed")].sum()  # towers behind trees
    assert result.pixels["confused"] + scraps == expected[1] > 0
    assert scraps < 0.02 * expected[1]
    assert result.wrong == expected.sum()


def random_images(count=12):
    rng = np.random.default_rng(1)
    for _ in range(count):
        truth = np.kron(rng.choice([0, 1, 2, 3, 4, 255], (6, 8)), np.ones((9, 7), int))
        truth[rng.random(truth.shape) < 0.02] = 3
        noise = np.kron(rng.random((18, 14)) < 0.3, np.ones((3, 4), bool))
        prediction = np.where(truth == 255, 0, truth)
        prediction[noise] = np.kron(rng.integers(0, 6, (18, 14)), np.ones((3, 4), int))[noise]
        yield truth, prediction


def test_groups_are_disjoint_and_add_up_to_all_errors():
    groups, metric = counted(*random_images(), small=0.01, chance=1), MeanIoU(5)
    for truth, prediction in random_images():
        metric.update_state(truth[None], prediction[None])
    result = groups.result()
    assert sum(result.pixels.values()) == result.wrong
    assert result.by_class.sum(axis=1).tolist() == list(result.pixels.values())
    assert 1 - result.wrong / result.labeled == pytest.approx(metric.pixel_accuracy())
    assert sum(result.shares.values()) == pytest.approx(1)
    matrix = metric.confusion_matrix()
    assert {(p.first, p.second): p.first_as_second for p in result.pairs} == {
        (a, b): matrix[a, b] for a in range(5) for b in range(a + 1, 5)
    }


def test_maps_of_all_images_have_the_counts_of_the_result():
    groups = counted(*random_images(), small=0.01, chance=1)
    total = np.zeros(256, int)
    for truth, prediction in random_images():
        group_map = groups.map(truth, prediction)
        assert group_map.dtype == np.uint8 and group_map.shape == truth.shape
        correct = (truth == 255) | (truth == prediction)
        np.testing.assert_array_equal(group_map == NO_ERROR, correct)
        total += np.bincount(group_map.ravel(), minlength=256)
    assert total[: len(GROUPS)].tolist() == list(groups.result().pixels.values())


def assert_equal_groups(one, other):
    first, second = one.arrays(), other.arrays()
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])
        assert array.dtype == second[name].dtype
    a, b = one.result(), other.result()
    assert a.pixels == b.pixels and a.pairs == b.pairs and a.mismatches == b.mismatches


def test_addition_combines_two_processes(tmp_path):
    pairs = list(random_images())
    whole = counted(*pairs)
    first, second = counted(*pairs[:5]), counted(*pairs[5:])
    np.savez(tmp_path / "second.npz", **second.arrays())
    with np.load(tmp_path / "second.npz") as arrays:
        assert_equal_groups(first + ErrorGroups.from_arrays(arrays), whole)
    assert_equal_groups(first + ErrorGroups(5), first)
    first.update(*pairs[5])  # the sum has not changed its parts, which can be updated
    assert_equal_groups(first + counted(*pairs[6:]), whole)


def test_arrays_keep_the_absence_of_an_ignore_class():
    groups = counted((image(ground=0), image(ground=1)), ignore_class=None, small=0.01)
    assert_equal_groups(ErrorGroups.from_arrays(groups.arrays()), groups)
    assert ErrorGroups.from_arrays(groups.arrays()).ignore_class is None
    assert ErrorGroups.from_arrays(groups.arrays()).settings == groups.settings


def test_result_without_images_is_empty():
    result = ErrorGroups(3).result()
    assert (result.images, result.labeled, result.wrong) == (0, 0, 0)
    assert result.pairs == [] and result.mismatches == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2), (23, 17), (40, 64)])
def test_connected_components_match_scipy(shape):
    rng = np.random.default_rng(0)
    for num_classes in (1, 2, 3, 9):
        mask = rng.integers(-1, num_classes, shape)
        ours = connected_components(mask)
        assert set(np.unique(ours)) == set(range(ours.max() + 1))
        for label in np.unique(mask):
            theirs, count = ndimage.label(mask == label, np.ones((3, 3)))
            pairs = np.unique(np.stack([ours, theirs])[:, mask == label], axis=1)
            assert pairs.shape[1] == count == len(np.unique(pairs[0]))


def test_spiral_is_one_component():
    mask = np.zeros((41, 41), int)
    top, left, bottom, right = 0, 0, 40, 40
    while top < bottom:
        mask[top, left : right + 1] = mask[top : bottom + 1, right] = 1
        mask[bottom, left + 2 : right + 1] = mask[top + 2 : bottom + 1, left + 2] = 1
        top, left, bottom, right = top + 2, left + 2, bottom - 2, right - 2
    components = connected_components(mask)
    assert len(np.unique(components[mask == 1])) == ndimage.label(mask, np.ones((3, 3)))[1]


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        (np.zeros((2, 2)), np.zeros((2, 2), int), r"truth has shape .* and dtype float64; it must"),
        (np.zeros((2, 2), int), np.zeros((1, 2, 2), int), r"prediction has shape \(1, 2, 2\)"),
        (np.zeros((0, 2), int), np.zeros((0, 2), int), r"truth has shape \(0, 2\)"),
        (
            np.zeros((2, 2), int),
            np.zeros((2, 3), int),
            r"prediction has shape \(2, 3\) and truth \(2, 2\); both must",
        ),
        (np.full((2, 2), 5), np.zeros((2, 2), int), "value 5, but there are 5 classes and ign"),
        (np.full((2, 2), -1), np.zeros((2, 2), int), "value -1, but .* raise num_classes or"),
    ],
)
def test_invalid_masks_raise(truth, prediction, message):
    groups = ErrorGroups(5)
    for method in (groups.update, groups.map):
        with pytest.raises(ValueError, match=message):
            method(truth, prediction)


def test_label_minus_one_without_an_ignore_class_raises():
    with pytest.raises(ValueError, match="value -1, but there are 5 classes and ignore_class is N"):
        ErrorGroups(5, None).update(np.full((2, 2), -1), np.zeros((2, 2), int))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 1}, "num_classes is 1; it must be an integer >= 2"),
        ({"num_classes": 2, "small": 1.5}, "small=1.5 must be a fraction from 0 to 1"),
        ({"num_classes": 2, "border": -0.1}, "border=-0.1 must be a fraction from 0 to 1"),
        ({"num_classes": 2, "chance": -1}, "chance=-1 must be at least 0"),
    ],
)
def test_invalid_arguments_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        ErrorGroups(**arguments)


def test_addition_needs_the_same_arguments():
    with pytest.raises(
        ValueError, match=r"num_classes is 5 on one side of .* and 6 on the other; add only"
    ):
        ErrorGroups(5) + ErrorGroups(6)
    with pytest.raises(
        ValueError, match=r"small is 0\.003 on one side of \+ and 0\.1 on the other"
    ):
        ErrorGroups(5) + ErrorGroups(5, small=0.1)
    with pytest.raises(TypeError, match="unsupported operand"):
        ErrorGroups(5) + 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"wrong": np.zeros((3, 4))},
            r"invalid arrays of ErrorGroups \(wrong has shape \(3, 4\)\)",
        ),
        ({"sizes": np.zeros((4, 4, 7))}, r"sizes has shape \(4, 4, 7\)"),
        ({"settings": np.zeros(2)}, "invalid arrays of ErrorGroups .*give the result of `arrays"),
        ({"confusion": None}, "invalid arrays of ErrorGroups"),
    ],
)
def test_invalid_arrays_raise(changes, message):
    with pytest.raises(ValueError, match=message):
        ErrorGroups.from_arrays({**ErrorGroups(5).arrays(), **changes})
    with pytest.raises(ValueError, match="invalid arrays of ErrorGroups"):
        ErrorGroups.from_arrays({})
