"""The Lovász-softmax loss; test_upsampled.py has what all losses share."""

import numpy as np
import pytest
from support.losses import example

from keras_psp.losses import UpsampledLovasz


def test_by_hand():
    # Two classes; probabilities of class 1: 0.9, 0.4 (labels 1), 0.2 (label 0), 0.7 (ignored).
    chances = np.array([[0.9, 0.4, 0.2, 0.7]])
    logits = np.stack([0 * chances, np.log(chances / (1 - chances))], -1)[None]
    masks = np.array([[[1, 1, 0, 255]]])
    # Errors of both classes, descending: 0.6, 0.2 (the pixel of label 0), 0.1.
    # Class 1, 1 - IoU: 1/2 after one pixel (IoU 1/2), 2/3 after two (1/3), 1 after three.
    first = 0.6 / 2 + 0.2 * (2 / 3 - 1 / 2) + 0.1 / 3
    # Class 0: 1/2 after one (IoU 1/2), 1 after two (0), 1 after three.
    second = 0.6 / 2 + 0.2 / 2
    assert float(UpsampledLovasz()(masks, logits)) == pytest.approx((first + second) / 2)
    weighted = UpsampledLovasz(class_weights=[1, 3])(masks, logits)
    assert float(weighted) == pytest.approx((3 * first + second) / 4)


def test_certain_predictions_give_one_minus_iou():
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 3, (2, 9, 11))
    predicted = np.where(
        rng.uniform(size=masks.shape) < 0.3, rng.integers(0, 3, masks.shape), masks
    )
    logits = 200.0 * np.eye(3)[predicted]
    ious = [
        np.sum((masks == k) & (predicted == k)) / np.sum((masks == k) | (predicted == k))
        for k in range(3)
    ]
    assert float(UpsampledLovasz()(masks, logits)) == pytest.approx(1 - np.mean(ious))


def test_per_image_is_the_mean_over_images():
    logits, masks = example()
    alone = [float(UpsampledLovasz()(masks[i : i + 1], logits[i : i + 1])) for i in range(3)]
    actual = UpsampledLovasz(per_image=True)(masks, logits)
    assert float(actual) == pytest.approx(np.mean(alone))


def test_invalid_options_raise():
    with pytest.raises(ValueError, match="per_image is 'yes'; it must be True or False"):
        UpsampledLovasz(per_image="yes")
