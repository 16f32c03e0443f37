"""The device that the backend computes on."""

import keras


def on_accelerator() -> bool:
    """Whether the backend computes on a GPU or TPU by default."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        # Visible ones: this doesn't start the devices, which a strategy may still set up.
        return any(device.device_type != "CPU" for device in tf.config.get_visible_devices())
    if backend == "jax":
        import jax

        return jax.default_backend() != "cpu"
    return keras.ops.zeros(()).device.type != "cpu"
