import numpy as np
import pytest

from keras_psp.layers import ImageNormalization


def test_mean_and_std():
    layer = ImageNormalization(mean=(10, 20, 30), std=(1, 2, 4))
    np.testing.assert_allclose(layer(np.full((1, 1, 1, 3), 50, "uint8"))[0, 0, 0], [40, 15, 5])


def test_bgr_reverses_the_channels_first():
    layer = ImageNormalization(mean=(3, 2, 1), std=(1, 1, 1), channel_order="bgr")
    np.testing.assert_allclose(layer(np.array([[[[1.0, 2.0, 3.0]]]]))[0, 0, 0], [0, 0, 0])


def test_stays_float32_in_half_precision():
    layer = ImageNormalization(mean=(0.5, 0.5, 0.5), std=(1, 1, 1), dtype="mixed_bfloat16")
    np.testing.assert_allclose(layer(np.full((1, 1, 1, 3), 201.0, "float32"))[0, 0, 0], 200.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mean": (1, 2)}, r"mean is \(1, 2\); it must be a sequence of 3 values"),
        ({"mean": (0, float("nan"), 0)}, r"mean\[1\] is nan; it must be a finite number"),
        ({"std": (1, 1, 0)}, r"std\[2\] is 0; it must be a finite number > 0"),
        ({"channel_order": "gbr"}, "channel_order is 'gbr'; choose one of 'rgb', 'bgr'"),
    ],
)
def test_invalid_arguments_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        ImageNormalization(**arguments)
