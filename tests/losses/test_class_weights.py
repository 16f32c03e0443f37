import numpy as np
import pytest

from keras_psp.losses import UpsampledCrossentropy, median_frequency_weights


def test_median_frequency_by_hand():
    # Frequencies: 6 of 20 pixels, 13 of 20, and 1 of the 10 in the one image that has it.
    weights = median_frequency_weights([[4, 6, 0], [2, 7, 1]])
    np.testing.assert_allclose(weights, [0.3 / 0.3, 0.3 / 0.65, 0.3 / 0.1])


def test_class_without_pixels_has_weight_0_and_is_not_in_the_median():
    weights = median_frequency_weights([[2, 0, 8, 0], [5, 0, 5, 0]])
    np.testing.assert_allclose(weights, [0.5 / 0.35, 0, 0.5 / 0.65, 0])
    assert UpsampledCrossentropy(class_weights=weights).class_weights == weights.tolist()


@pytest.mark.parametrize("counts", [[3, 4], [[1, -1]], [[0, 0]], [[np.nan, 1]]])
def test_invalid_counts_raise(counts):
    with pytest.raises(ValueError, match="one row per image with the pixels of each"):
        median_frequency_weights(counts)
