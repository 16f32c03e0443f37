"""TFLite (LiteRT) flatbuffers."""

import numpy as np

from keras_psp.export.inference import float32_model, require_tensorflow_backend, written_aside


def tflite(model, path, *, image_size):
    """Write a float32 TFLite file for one image of a fixed size.

    Args:
        model: a `PSPNet`, on Keras' TensorFlow backend.
        path: file to write; an existing one is replaced once the new one is whole.
        image_size: (height, width).

    Input "image": (1, height, width, 3) float32, RGB 0..255. Output "logits":
    (1, height, width, num_classes) float32. Only TFLite's own operations are used.
    """
    require_tensorflow_backend("A TFLite file")
    import tensorflow as tf

    model = float32_model(model)
    spec = tf.TensorSpec((1, *image_size, 3), "float32", name="image")

    @tf.function(input_signature=[spec])
    def serve(image):
        return {"logits": model(image, training=False)}

    concrete = serve.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], model)
    # An operation TFLite lacks is then an error here instead of on the phone.
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    content = converter.convert()
    with written_aside(path) as aside:
        aside.write_bytes(content)


def open_tflite(path, *, num_threads=None):
    """A function from images (batch, height, width, 3) to logits, one image at a time."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        import tensorflow as tf

        Interpreter = tf.lite.Interpreter  # until TensorFlow drops it for ai-edge-litert

    interpreter = Interpreter(model_path=str(path), num_threads=num_threads)
    runner = interpreter.get_signature_runner()

    def predict(images):
        return np.concatenate(
            [runner(image=np.asarray(image, "float32")[None])["logits"] for image in images]
        )

    return predict
