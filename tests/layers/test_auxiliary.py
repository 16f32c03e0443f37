import numpy as np

from keras_psp.layers import AuxiliaryHead


def test_head_equals_its_parts_in_sequence():
    x = np.random.default_rng(0).normal(size=(2, 9, 7, 16)).astype("float32")
    head = AuxiliaryHead(5, filters=4)
    logits = head(x)
    assert logits.shape == (2, 9, 7, 5)
    hidden = np.asarray(head.conv(x))
    expected = hidden @ head.classifier.kernel.numpy()[0, 0] + head.classifier.bias.numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_filters_are_a_quarter_of_the_channels_but_at_least_64():
    for channels, filters in ((1024, 256), (256, 64), (96, 64)):
        head = AuxiliaryHead(5)
        head.build((None, None, None, channels))
        assert head.conv.conv.filters == filters


def test_logits_are_float32_in_half_precision():
    x = np.ones((1, 9, 7, 16), "float32")
    assert AuxiliaryHead(5, dtype="mixed_float16")(x).dtype == "float32"


def test_config_round_trip():
    head = AuxiliaryHead(5, filters=8, dropout=0.3)
    assert AuxiliaryHead.from_config(head.get_config()).get_config() == head.get_config()
