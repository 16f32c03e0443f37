import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support import label_tools

from keras_psp.data.labels import drawing

MASKS = st.tuples(st.integers(1, 20), st.integers(1, 20)).flatmap(lambda size: arrays(bool, size))


@given(MASKS)
def test_run_lengths_give_back_the_mask(mask):
    counts = label_tools.column_runs(mask)
    np.testing.assert_array_equal(drawing.coco_runs(counts, mask.shape), mask)
    text = label_tools.compressed(counts)
    np.testing.assert_array_equal(drawing.coco_runs(text, mask.shape), mask)
    np.testing.assert_array_equal(drawing.runs(label_tools.row_runs(mask), mask.shape), mask)


@given(MASKS)
def test_compressed_run_lengths_are_those_of_pycocotools(mask):
    masks = pytest.importorskip("pycocotools.mask")
    text = masks.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    np.testing.assert_array_equal(drawing.coco_runs(text, mask.shape), mask)


@given(st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=12))
def test_damaged_run_lengths_are_value_errors(text):
    with contextlib.suppress(ValueError):
        assert drawing.coco_runs(text, (3, 4)).shape == (3, 4)


POINTS = st.lists(st.tuples(st.integers(0, 39), st.integers(0, 29)), min_size=3, max_size=12)


@given(POINTS)
def test_filled_polygons_are_those_of_opencv(points):
    cv2 = pytest.importorskip("cv2")
    expected = np.zeros((30, 40), np.uint8)
    cv2.fillPoly(expected, [np.array(points, np.int32)], 1)
    mask = drawing.filled_polygon(np.array(points, float), (30, 40))
    np.testing.assert_array_equal(mask, expected)


@given(st.lists(st.tuples(st.integers(-60, 90), st.integers(-60, 90)), min_size=3, max_size=8))
def test_filled_polygons_are_cut_at_the_borders(points):
    corners = np.array(points, float)
    large = drawing.filled_polygon(corners + 60, (151, 151))
    mask = drawing.filled_polygon(corners, (30, 40))
    np.testing.assert_array_equal(mask, large[60:90, 60:100])


@given(st.integers(-9, 14), st.integers(-9, 14))
def test_parts_are_placed_and_cut(left, top):
    part = np.random.default_rng(0).random((7, 8)) < 0.5
    large = np.zeros((40, 40), bool)
    large[10 + top : 17 + top, 10 + left : 18 + left] = part
    np.testing.assert_array_equal(drawing.placed(part, left, top, (12, 13)), large[10:22, 10:23])


def test_an_ellipse_includes_half_a_pixel():
    mask = drawing.ellipse((10, 6), (5, 3), 0, (13, 21))
    assert mask[6, 5:16].all() and mask[3:10, 10].all() and mask.sum() == mask[::-1, ::-1].sum()
    assert not mask[6, 4] and not mask[2, 10]
    np.testing.assert_array_equal(
        drawing.ellipse((10, 10), (3, 5), 90, (21, 21)).T,
        drawing.ellipse((10, 10), (3, 5), 0, (21, 21)),
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1, 2], [3]], "that aren't pairs of numbers"),
        ([[1, 2, 3]] * 4, "that aren't pairs of numbers"),
        (None, "that aren't pairs of numbers"),
        ([[1, 2]] * 2, r"has 2 point\(s\), but needs at least 3"),
        ([[1, 2]] * 2 + [[float("inf"), 1]], "infinite or far outside"),
        ([[1, 2]] * 2 + [[2e6, 1]], "infinite or far outside"),
    ],
)
def test_wrong_points_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        drawing.checked_points(values, 3)


@pytest.mark.parametrize("text", [None, 3, "", "????", "aGVsbG8=", "eJzLSM3JyQcABiwCFQ=="])
def test_damaged_bitmaps_are_refused(text):
    with pytest.raises(ValueError, match="has a bitmap that can't be read"):
        drawing.mask_from_base64(text)
