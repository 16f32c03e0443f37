"""Sums of losses, and losses by name; test_upsampled.py has what all losses share."""

import keras
import numpy as np
import pytest
from support.losses import example

from keras_psp import losses
from keras_psp.arguments import LOSSES


@pytest.mark.parametrize("name", LOSSES)
def test_every_name_is_a_loss(name):
    loss = losses.get(name, ignore_class=7, class_weights=[1, 2])
    assert (loss.name, loss.ignore_class, loss.class_weights) == (name, 7, [1.0, 2.0])


def test_sums_by_name_add_the_weighted_losses():
    logits, masks = example()
    parts = {name: float(losses.get(name)(masks, logits)) for name in ("dice", "boundary")}
    sum_ = losses.get(" 0.5*dice + boundary")
    expected = 0.5 * parts["dice"] + parts["boundary"]
    assert float(sum_(masks, logits)) == pytest.approx(expected)
    assert float(losses.get("3*dice")(masks, logits)) == pytest.approx(3 * parts["dice"])


def test_the_crossentropy_by_name_is_the_same_loss():
    loss = losses.get("crossentropy", hard_pixels=9, hard_threshold=0.5)
    assert type(loss) is losses.UpsampledCrossentropy
    expected = losses.UpsampledCrossentropy(hard_pixels=9, hard_threshold=0.5)
    assert loss.get_config() == expected.get_config()


def test_options_go_to_the_crossentropies():
    loss = losses.get("dice+crossentropy", hard_pixels=9)
    assert [getattr(part, "hard_pixels", None) for part in loss.parts()] == [None, 9]
    assert losses.get("boundary", label_smoothing=0.1).label_smoothing == 0.1


def test_the_sum_mines_in_training_only():
    logits, masks = example()
    mined = losses.get("dice+crossentropy", hard_pixels=9)
    plain = losses.get("dice+crossentropy")
    assert float(mined(masks, logits)) != pytest.approx(float(plain(masks, logits)))
    np.testing.assert_allclose(mined.value(masks, logits), plain.value(masks, logits))


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("dics", {}, "loss is 'dics': the loss 'dics' is unknown; choose from crossentropy, bound"),
        ("dice+foo", {}, "the loss 'foo' is unknown"),
        ("dice+", {}, "the loss '' is unknown"),
        ("dice*2", {}, "the loss '2' is unknown"),
        ("x*dice", {}, "the factor 'x' of dice must be a positive number"),
        ("0*dice", {}, "the factor '0' of dice must be a positive number"),
        ("-1*dice", {}, "the factor '-1' of dice must be a positive number"),
        ("inf*dice", {}, "the factor 'inf' of dice must be a positive number"),
        ("dice+2*dice", {}, "give each loss once"),
        (3, {}, "loss is 3; it must be a string"),
        ("dice", {"hard_pixels": 9}, "hard_pixels=9 is an option of crossentropy and boundary"),
        ("dice", {"hard_threshold": 0.7}, "hard_threshold=0.7 needs hard_pixels"),
        ("focal", {"label_smoothing": 0.1}, "label_smoothing=0.1 is an option of crossentropy"),
    ],
)
def test_invalid_names_raise(text, options, message):
    with pytest.raises(ValueError, match=message):
        losses.get(text, **options)


@pytest.mark.parametrize(
    ("parts", "weights", "message"),
    [
        ([], None, "losses is empty"),
        ([keras.losses.Dice()], None, r"losses\[0\] is .*; only losses of keras_psp.losses"),
        ([losses.UpsampledDice()], [1, 2], "weights is .* sequence of 1 values"),
        ([losses.UpsampledDice()], [0], r"weights\[0\] is 0; it must be a finite number > 0"),
        (
            [losses.UpsampledDice(), losses.UpsampledLovasz(ignore_class=0)],
            None,
            "the losses have the ignore_class 255, 0",
        ),
    ],
)
def test_invalid_sums_raise(parts, weights, message):
    with pytest.raises(ValueError, match=message):
        losses.UpsampledSum(parts, weights)
