import keras
import numpy as np
from support.networks import tiny_backbone, tiny_pspnet

from keras_psp.layers.folding import fold, foldable_layers, folded_into


def with_statistics(model):
    rng = np.random.default_rng(0)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    return model


def test_fold_equals_convolution_then_batch_norm():
    norm = keras.layers.BatchNormalization(epsilon=1e-5)
    norm.build((None, 2))
    norm.set_weights(list(np.array([[2.0, 3.0], [0.5, 0.25], [1.0, -1.0], [4.0, 9.0]])))
    kernel = np.arange(6.0).reshape(1, 1, 3, 2)
    folded, bias = fold(kernel, np.array([0.1, 0.2]), norm)
    x = np.array([1.0, -2.0, 0.5])
    expected = norm((x @ kernel[0, 0] + [0.1, 0.2])[None])[0]
    np.testing.assert_allclose(x @ folded[0, 0] + bias, expected, rtol=1e-6)


def test_network_with_folded_weights_gives_equal_logits():
    model = with_statistics(tiny_pspnet(backbone=tiny_backbone()))
    images = np.random.default_rng(0).uniform(0, 255, (1, 49, 57, 3)).astype("float32")
    expected = keras.ops.convert_to_numpy(model(images))
    folded = {
        id(layer): tuple(keras.ops.convert_to_tensor(array) for array in layer.folded_weights())
        for layer in foldable_layers(model)
    }
    zeros = {key: (0 * kernel, bias) for key, (kernel, bias) in folded.items()}
    with folded_into(folded):
        actual = keras.ops.convert_to_numpy(model(images))
    np.testing.assert_allclose(actual, expected, atol=1e-5 * np.ptp(expected))
    with folded_into(zeros):  # the folded weights are used
        # Nothing of the image is left. Resizing a constant rounds on some processors.
        features = keras.ops.convert_to_numpy(model.backbone(images)[1])
        assert np.ptp(features, axis=(0, 1, 2)).max() == 0
        of_image, of_negative = (
            keras.ops.convert_to_numpy(model(x)) for x in (images, 255 - images)
        )
        np.testing.assert_array_equal(of_image, of_negative)
