import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_psp.layers import BilinearResize
from keras_psp.layers.resampling import (
    adaptive_max_pool,
    apply_columns,
    apply_rows,
    interpolation_matrix,
    pooling_matrix,
    resize_bilinear,
    spatial_size,
)

lengths = st.integers(1, 70)


def adaptive_average_pool(x, bins):
    height, width = spatial_size(x)
    return apply_columns(pooling_matrix(width, bins), apply_rows(pooling_matrix(height, bins), x))


def test_align_corners_aligns_corner_centers():
    # Outputs 0, 1, 2 of 3 are at inputs 0, 0.5, 1 of 2.
    actual = interpolation_matrix(2, 3, align_corners=True)
    np.testing.assert_allclose(actual, [[1, 0], [0.5, 0.5], [0, 1]])


def test_without_align_corners_outer_borders_align():
    # Outputs 0..3 of 4 are at inputs -0.25, 0.25, 0.75, 1.25 of 2.
    actual = interpolation_matrix(2, 4, align_corners=False)
    np.testing.assert_allclose(actual, [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])


def test_shift_fills_with_zeros():
    plain = interpolation_matrix(3, 5, align_corners=True)
    np.testing.assert_allclose(
        interpolation_matrix(3, 5, align_corners=True, shift=1),
        np.vstack([plain[1:], 0 * plain[:1]]),
    )


@settings(deadline=None, max_examples=50)
@given(size=lengths, target=lengths, align_corners=st.booleans(), shift=st.sampled_from((-1, 0, 1)))
def test_dynamic_sizes_give_the_static_matrix(size, target, align_corners, shift):
    static = interpolation_matrix(size, target, align_corners=align_corners, shift=shift)
    dynamic = interpolation_matrix(
        tf.constant(size), tf.constant(target), align_corners=align_corners, shift=shift
    )
    np.testing.assert_allclose(dynamic, static, atol=1e-6)
    if shift == 0:
        np.testing.assert_allclose(static.sum(axis=1), 1)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("sizes", [((6, 6), (60, 60)), ((7, 5), (61, 33)), ((9, 4), (3, 4))])
def test_resizing_equals_tensorflows(sizes, align_corners):
    (height, width), target = sizes
    x = np.random.default_rng(0).normal(size=(2, height, width, 3)).astype("float32")
    expected = tf.raw_ops.ResizeBilinear(
        images=x, size=target, align_corners=align_corners, half_pixel_centers=not align_corners
    )
    actual = resize_bilinear(x, target, align_corners=align_corners)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_adaptive_pool_has_torch_bin_edges():
    x = np.arange(7.0, dtype="float32").reshape(1, 7, 1, 1)
    # torch: bins of 7 into 3 are [0, 3), [2, 5), [4, 7)
    np.testing.assert_allclose(pooling_matrix(7, 3) @ x[0, :, 0, 0], [1, 3, 5], atol=1e-6)
    columns = ops.convert_to_numpy(adaptive_max_pool(ops.tile(x, (1, 1, 3, 1)), 3))
    np.testing.assert_allclose(columns[0, :, 0, 0], [2, 4, 6])


@settings(deadline=None, max_examples=30)
@given(height=lengths, width=lengths, bins=st.sampled_from((1, 2, 3, 6)))
def test_pooling_equals_loops_over_bins(height, width, bins):
    x = np.random.default_rng(height * 71 + width).normal(size=(1, height, width, 2))
    x = x.astype("float32")

    def cells(reduce):
        def edges(i, n):
            return slice(i * n // bins, -(-(i + 1) * n // bins))

        return np.array(
            [
                [reduce(x[0, edges(i, height), edges(j, width)], axis=(0, 1)) for j in range(bins)]
                for i in range(bins)
            ]
        )

    np.testing.assert_allclose(adaptive_average_pool(x, bins)[0], cells(np.mean), atol=1e-5)
    np.testing.assert_allclose(adaptive_max_pool(x, bins)[0], cells(np.max))


def test_pooling_with_dynamic_sizes():
    x = np.random.default_rng(0).normal(size=(2, 13, 17, 3)).astype("float32")
    unknown = tf.TensorSpec((None, None, None, 3))
    for pool in (adaptive_average_pool, adaptive_max_pool):
        dynamic = tf.function(lambda x, pool=pool: pool(x, 6), input_signature=[unknown])
        np.testing.assert_allclose(dynamic(x), pool(x, 6), atol=1e-6)


def test_resize_layer_takes_the_size_of_its_reference():
    layer = BilinearResize(align_corners=False)
    assert layer.compute_output_shape(((1, 2, 2, 5), (1, 9, 11, 3))) == (1, 9, 11, 5)
    assert layer([np.ones((1, 2, 2, 5)), np.ones((1, 9, 11, 3))]).shape == (1, 9, 11, 5)
    assert BilinearResize.from_config(layer.get_config()).align_corners is False


@pytest.mark.parametrize("align_corners", [True, False])
def test_equals_torch(align_corners):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x = np.random.default_rng(1).normal(size=(2, 3, 13, 9)).astype("float32")
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(x), size=(47, 30), mode="bilinear", align_corners=align_corners
    )
    ours = x.transpose(0, 2, 3, 1)
    actual = ops.convert_to_numpy(resize_bilinear(ours, (47, 30), align_corners=align_corners))
    np.testing.assert_allclose(actual.transpose(0, 3, 1, 2), expected.numpy(), atol=1e-5)
    for bins in (1, 2, 3, 6):
        for pool, theirs in (
            (adaptive_average_pool, torch.nn.functional.adaptive_avg_pool2d),
            (adaptive_max_pool, torch.nn.functional.adaptive_max_pool2d),
        ):
            actual = ops.convert_to_numpy(pool(ours, bins)).transpose(0, 3, 1, 2)
            np.testing.assert_allclose(actual, theirs(torch.from_numpy(x), bins), atol=1e-6)
