"""Devices of the data pipelines."""

import contextlib


def leave_gpus_to_the_backend() -> None:
    """Hides the GPUs from TensorFlow if Keras computes with JAX or PyTorch.

    TensorFlow only reads images then, but its first operation would take the memory of all GPUs.
    """
    import keras

    if keras.backend.backend() == "tensorflow":
        return
    import tensorflow as tf

    with contextlib.suppress(RuntimeError):  # it has begun already
        tf.config.set_visible_devices([], "GPU")
