import keras
import numpy as np
import pytest
import tensorflow as tf
from support.networks import tiny_pspnet

from keras_psp import SGD, MeanIoU


def run(strategy, weights=None):
    """Losses of 5 steps of `fit`, and the confusion matrix of an evaluation."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 41, 49, 3)).astype("float32")
    masks = rng.integers(0, 3, (20, 41, 49)).astype("uint8")
    # Unequal numbers of ignored pixels: a mean of the replicas' means would differ.
    masks[::4, :30] = 255
    data = tf.data.Dataset.from_tensor_slices((images, masks)).batch(4, drop_remainder=True)
    losses = []

    class Record(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            losses.append(float(logs["loss"]) * (batch + 1))

    with strategy.scope():
        model = tiny_pspnet(3, dropout=0.0)
        if weights is not None:
            model.set_weights(weights)
        weights = model.get_weights()
        model.compile(SGD(0.01), metrics=[MeanIoU(3)])
    model.fit(data, callbacks=[Record()], verbose=0)
    model.evaluate(data, verbose=0)
    matrix = model.metrics[-1].metrics[0].confusion_matrix()
    return weights, np.diff(losses, prepend=0), matrix, model.backbone.stem[0].norm.synchronized


@pytest.mark.slow  # compiles for two devices
def test_two_devices_train_as_one():
    weights, expected, matrix, synchronized = run(tf.distribute.get_strategy())
    assert not synchronized
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    _, found, mirrored_matrix, synchronized = run(strategy, weights)
    assert synchronized
    assert len(found) == 5
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    assert mirrored_matrix.sum() == matrix.sum()
    assert np.abs(mirrored_matrix - matrix).sum() < 0.02 * matrix.sum()
