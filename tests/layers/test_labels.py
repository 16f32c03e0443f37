import numpy as np
import pytest
import tensorflow as tf

from keras_psp.layers.labels import NOT_A_LABEL, integer_labels


def test_labels_are_int32_of_three_axes():
    for masks in (np.full((1, 2, 3), 7.0), np.full((1, 2, 3, 1), 7, "uint8")):
        labels = integer_labels(masks)
        assert labels.dtype == "int32"
        np.testing.assert_array_equal(labels, np.full((1, 2, 3), 7))


@pytest.mark.parametrize("value", [0.5, np.nan])
def test_a_value_that_is_no_whole_number_raises(value):
    masks = np.zeros((1, 2, 3))
    masks[0, 1, 1] = value
    with pytest.raises(ValueError, match=f"y_true has the value {value}; labels must be whole"):
        integer_labels(masks)


def test_in_a_graph_it_is_no_label():
    labels = tf.function(integer_labels)(tf.constant([[[0.0, 0.5, np.nan, 2.0]]]))
    np.testing.assert_array_equal(labels, [[[0, NOT_A_LABEL, NOT_A_LABEL, 2]]])
