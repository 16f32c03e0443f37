"""The graph that every export computes: images in; classes, logits or probabilities out."""

import dataclasses
import math
import operator
from collections.abc import Callable
from typing import Any, Literal, get_args

import keras
import numpy as np

from keras_psp.arguments import checked_choice, checked_integer, checked_pair
from keras_psp.layers.chunks import upsampled_classes
from keras_psp.layers.folding import foldable_layers, folded_into
from keras_psp.layers.resampling import spatial_size
from keras_psp.models.arrays import image_scale
from keras_psp.models.bands import image_statistics
from keras_psp.models.checks import check_images
from keras_psp.models.outputs import low_resolution_outputs
from keras_psp.models.pspnet import PSPNet

Output = Literal["classes", "logits", "probabilities"]
InputType = Literal["uint8", "float32"]

FOR_BYTES = (
    "PSPNet(weights=model, mean=..., std=...) with both multiplied by 255, which gives the same "
    "results for images of 0..255"
)
"""What to export instead of a network whose images are 0..1."""

MAX_PIXELS = 2**24
"""Largest image sent as bytes, 4096x4096. A ResNet-50 takes 0.4 GB per megapixel on the CPU."""

MAX_SIDE = 2**14
"""Longest side. The matrix that upsamples it grows with its square: 134 MB at 16,384 pixels."""


MAX_BATCH_PIXELS = 2**28
"""Most pixels per call. As float32 RGB they take 3 GB, about what 32-bit sizes can count."""


@dataclasses.dataclass(frozen=True)
class Signature:
    """Input and output of an exported graph.

    The input, "image", is (batch, height, width, channels), e.g. RGB 0..255. The output has the
    name `output`.

    Attributes:
        image_size: (height, width), or None for any, which is slower in TFLite, ONNX and OpenVINO.
        batch_size: images per call, or None for any number.
        input_dtype: "uint8" or "float32".
        output: "classes": (batch, height, width), the class of each pixel, uint8 (uint16 for more
            than 256 classes); "logits" or "probabilities": (batch, height, width, classes),
            float32, with the network's `temperature`.
        channels: number of bands of the images.

    Raises:
        ValueError: if an attribute is invalid.

    Example:
        >>> Signature(image_size=(473, 473), batch_size=1).shape
        (1, 473, 473, 3)
    """

    image_size: tuple[int, int] | None = None
    batch_size: int | None = None
    input_dtype: InputType = "uint8"
    output: Output = "classes"
    channels: int = 3

    def __post_init__(self):
        if self.image_size is not None:
            size, needed = (
                self.image_size,
                "two positive integers, (height, width), or None for any size",
            )
            size = checked_pair(
                "image_size", size, size, operator.index, lambda *sides: min(sides) > 0, needed
            )
            if max(size) > MAX_SIDE:
                raise ValueError(
                    f"image_size is {size}; exports take at most {MAX_SIDE:,} pixels per side."
                )
            object.__setattr__(self, "image_size", size)
        if self.batch_size is not None:
            batch_size = checked_integer("batch_size", self.batch_size, least=1)
            object.__setattr__(self, "batch_size", batch_size)
        pixels = (self.batch_size or 1) * math.prod(self.image_size or (1, 1))
        if pixels > MAX_BATCH_PIXELS:
            raise ValueError(
                f"batch_size={self.batch_size} and image_size={self.image_size} are {pixels:,} "
                f"pixels per call; exports take at most {MAX_BATCH_PIXELS:,}."
            )
        checked_choice("input_dtype", self.input_dtype, get_args(InputType))
        checked_choice("output", self.output, get_args(Output))

    @property
    def shape(self) -> tuple[int | None, int | None, int | None, int]:
        """Shape of the images, (batch, height, width, channels)."""
        return (self.batch_size, *(self.image_size or (None, None)), self.channels)

    def output_dtype(self, num_classes: int) -> str:
        """NumPy name of the output's dtype."""
        return class_dtype(num_classes) if self.output == "classes" else "float32"


def class_dtype(num_classes: int) -> str:
    """The smallest integer type that holds every class."""
    return "uint8" if num_classes <= 256 else "uint16"


def check_network(model: PSPNet, signature: Signature) -> None:
    """Refuses a network that isn't a `PSPNet`, can't take the input or has non-finite weights."""
    if not isinstance(model, PSPNet):
        raise TypeError(f"model is a {type(model).__name__}; give a keras_psp.PSPNet.")
    if signature.image_size is not None:
        check_images(model, keras.KerasTensor(signature.shape))
    _check_input_dtype(model, signature)
    for variable in model.weights:
        # A class map would not show them: NaN has an argmax, too.
        if not np.isfinite(np.asarray(keras.ops.convert_to_numpy(variable), "float32")).all():
            raise ValueError(
                f"the network's {variable.path} contains NaN or infinite values; export the "
                "weights of an earlier step."
            )


def takes_photos(model: PSPNet) -> bool:
    """Whether a network's images are RGB from 0 to 255, as in JPEG and PNG files."""
    return model.input_channels == 3 and image_scale(model) != 1


def _check_input_dtype(model, signature):
    """Refuses uint8 if mean and standard deviation show that images aren't 0..255."""
    if signature.input_dtype != "uint8" or takes_photos(model):
        return
    if model.input_channels == 3:
        raise ValueError(
            "this network's mean and std are those of images of 0..1; give input_dtype='float32', "
            f"or export {FOR_BYTES}."
        )
    mean, std = image_statistics(model)
    band = int((mean + std).argmax())
    if mean.min() < 0 or mean[band] > 255 or max(*mean, *std) <= 1:
        raise ValueError(
            f"band {band + 1} of this network's images has mean {mean[band]:g} and standard "
            f"deviation {std[band]:g}, so they aren't 0 to 255; give input_dtype='float32'."
        )


def channels_of_network(model: Any) -> int:
    """Number of channels of a network's images; 3 for objects that `check_network` refuses."""
    return getattr(model, "input_channels", 3)


def float32_model(model: PSPNet) -> PSPNet:
    """The model itself, or rebuilt in float32 if it computes in half precision.

    A mixed-precision model converts without an error to files that do not run.
    """
    if model.backbone.compute_dtype == "float32":
        return model
    config = model.get_config()
    config["dtype"] = "float32"
    config["backbone"]["config"]["dtype"] = "float32"
    rebuilt = type(model).from_config(config)
    rebuilt.set_weights(model.get_weights())
    return rebuilt


def folded_variables(model: PSPNet) -> dict[int, tuple]:
    """Kernels and biases with their BatchNorm folded in, for `folded_into`."""
    import tensorflow as tf

    return {
        id(layer): tuple(tf.Variable(array, trainable=False) for array in layer.folded_weights())
        for layer in foldable_layers(model)
        if "auxiliary_head" not in layer.path
    }


def inference_function(
    model: PSPNet, *, in_blocks: bool = True, winograd: bool = False
) -> Callable[..., dict[str, Any]]:
    """Returns the network as a TensorFlow function, optimized for inference.

    It maps images (batch, height, width, input_channels), the output's name and, for class maps in
    blocks, optionally another size (height, width) of the result to {name: tensor}. Casting and
    normalization are included, the auxiliary head and dropout aren't, and every BatchNorm of
    keras_psp's layers is folded into its convolution. `in_blocks` computes class maps from a few
    rows of scores at a time, which saves memory but needs a loop. `winograd` computes large 3x3
    convolutions of maps of known size with fewer multiplications.
    """
    import tensorflow as tf

    from keras_psp.layers.winograd import winograd_convolution

    model = float32_model(model)
    folded = folded_variables(model)

    def network(image, output, size=None):
        replaced = winograd_convolution if winograd else None
        with folded_into(folded, replaced), low_resolution_outputs():
            logits = model(tf.cast(image, "float32"), training=False)
        if output == "classes" and in_blocks:
            size = size or spatial_size(image)
            classes = upsampled_classes(logits, size, align_corners=model.align_corners)
            return {"classes": tf.cast(classes, class_dtype(model.num_classes))}
        if output != "classes" and model.temperature != 1:
            logits = logits / model.temperature
        return output_of(model.get_layer("upsampling")([logits, image]), output)

    return network


def refuses_small_images(function: Callable[..., Any], least: int) -> Callable[..., Any]:
    """Restricts a TensorFlow function to images with at least `least` pixels per side.

    Images are (batch, height, width, channels). Unlike `tf.debugging`, the check consists of
    operations that every format has: two sides can't be broadcast to three numbers.
    """
    import tensorflow as tf

    def checked(image):
        image = tf.cast(image, "float32")  # first, as TensorRT needs it
        shape = tf.shape(image)
        too_small = tf.cast(tf.reduce_min(shape[1:3]) < least, "int32")
        name = f"image_needs_{least}_pixels_per_side"
        sides = tf.maximum(shape[1:3], tf.range(2 + too_small), name=name)
        return function(tf.reshape(image, tf.concat([shape[:1], sides, shape[3:]], 0)))

    return checked


def output_of(logits: Any, output: Output) -> dict[str, Any]:
    """{output's name: tensor} from logits at the image's size, in operations that TFLite has."""
    import tensorflow as tf

    if output == "classes":
        # keras.ops.argmax becomes bit operations, which TFLite lacks.
        classes = tf.argmax(logits, axis=-1, output_type="int32")
        return {"classes": tf.cast(classes, class_dtype(logits.shape[-1]))}
    return {output: tf.nn.softmax(logits) if output == "probabilities" else logits}
