import math

import numpy as np
from PIL import Image

from keras_psp.visual.curve import smoothed, training_curve


class Table:
    """Columns by name, as in the tables of a training run."""

    def __init__(self, **columns):
        self.columns = columns

    def column(self, name):
        return self.columns[name]


def test_smoothing_is_an_exponential_mean_that_skips_nan():
    # A fiftieth of 100 values is 2: each mean is half the last mean and half the new value.
    values = [4.0, 0.0, math.nan, 1.0, *[1.0] * 96]
    np.testing.assert_allclose(smoothed(values)[:4], [4.0, 2.0, 2.0, 1.5])


def test_a_short_curve_is_not_smoothed():
    assert smoothed([3.0, 1.0, 2.0]) == [3.0, 1.0, 2.0]


def test_training_curve_is_an_image_and_no_draft_is_left(tmp_path):
    steps = Table(step=[1, 2, 3], loss=[9.0, math.nan, 1.0], learning_rate=[0.1, 0.05, 0.0])
    epochs = Table(step=[3], mean_iou=[0.5], val_loss=[2.0], val_mean_iou=[math.nan])
    training_curve(steps, epochs, path=tmp_path / "curve.png")
    with Image.open(tmp_path / "curve.png") as image:
        assert image.size == (1100, 770)
    assert [path.name for path in tmp_path.iterdir()] == ["curve.png"]
