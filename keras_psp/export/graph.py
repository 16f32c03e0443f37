"""What every export computes: raw images in, class map, logits or probabilities out."""

import dataclasses
import operator
from collections.abc import Callable
from typing import Any, Literal

import keras
import numpy as np

from keras_psp.export.inference import float32_model
from keras_psp.layers.chunks import upsampled_classes
from keras_psp.layers.folding import foldable_layers, folded_into
from keras_psp.layers.resampling import spatial_size
from keras_psp.models.pspnet import PSPNet, returning

Output = Literal["classes", "logits", "probabilities"]
InputType = Literal["uint8", "float32"]


@dataclasses.dataclass(frozen=True)
class Signature:
    """What goes into an exported graph and what comes out.

    Attributes:
        image_size: (height, width), or None for any.
        batch_size: images at a time, or None for any number.
        input_dtype: "uint8" or "float32", of RGB images 0..255.
        output: "classes", the class of every pixel of the image, uint8 (uint16 for more than
            256 classes); "logits" or "probabilities", float32, at the image's size.

    Raises:
        ValueError: for what is none of these.
    """

    image_size: tuple[int, int] | None = None
    batch_size: int | None = None
    input_dtype: InputType = "uint8"
    output: Output = "classes"

    def __post_init__(self):
        if self.image_size is not None:
            try:
                height, width = (operator.index(side) for side in self.image_size)
            except (TypeError, ValueError):
                raise ValueError(
                    f"image_size is {self.image_size!r}; it must be two integers, (height, width), "
                    "or None for any size."
                ) from None
            object.__setattr__(self, "image_size", (height, width))
        if self.batch_size is not None and (
            isinstance(self.batch_size, bool)
            or not isinstance(self.batch_size, int | np.integer)
            or self.batch_size < 1
        ):
            raise ValueError(
                f"batch_size={self.batch_size!r} must be a positive integer, or None for any."
            )
        if self.input_dtype not in ("uint8", "float32"):
            raise ValueError(
                f"input_dtype={self.input_dtype!r} is unknown; choose 'uint8' or 'float32'."
            )
        if self.output not in ("classes", "logits", "probabilities"):
            raise ValueError(
                f"output={self.output!r} is unknown; choose 'classes', 'logits' or 'probabilities'."
            )

    @property
    def shape(self) -> tuple[int | None, int | None, int | None, int]:
        """Of the images, (batch, height, width, 3)."""
        return (self.batch_size, *(self.image_size or (None, None)), 3)


def class_dtype(num_classes: int) -> str:
    """The smallest integers that hold every class."""
    return "uint8" if num_classes <= 256 else "uint16"


def check_network(model: PSPNet, signature: Signature) -> None:
    """Refuse what makes no export, before anything long begins.

    Raises:
        TypeError: the model is no `PSPNet`.
        ValueError: a size that the network can't take, or weights that are no finite numbers.
    """
    if not isinstance(model, PSPNet):
        raise TypeError(f"model is a {type(model).__name__}; exports are of a keras_psp.PSPNet.")
    if signature.image_size is not None:
        model._check_images(_Shaped(signature.shape))
    for variable in model.weights:
        # A class map shows nothing of it: every number is a class.
        if not np.isfinite(np.asarray(keras.ops.convert_to_numpy(variable), "float32")).all():
            raise ValueError(
                f"the network's {variable.path} holds numbers that are NaN or infinite; export "
                "the weights of an earlier step."
            )


@dataclasses.dataclass(frozen=True)
class _Shaped:
    shape: tuple[int | None, ...]


def folded_variables(model: PSPNet) -> dict[int, tuple]:
    """For `folded_into`: the network's kernels and biases with their BatchNorm in them."""
    import tensorflow as tf

    return {
        id(layer): tuple(tf.Variable(array, trainable=False) for array in layer.folded_weights())
        for layer in foldable_layers(model)
        if "auxiliary_head" not in layer.path
    }


def inference_function(
    model: PSPNet, signature: Signature, *, in_blocks: bool = True
) -> Callable[[Any], dict[str, Any]]:
    """The network as a TensorFlow function of "image", made for inference.

    No auxiliary head, no dropout, every BatchNorm of ours folded into its convolution;
    casting and normalisation inside.

    Args:
        model: a `PSPNet` on Keras' TensorFlow backend, of any precision.
        signature: what goes in and comes out.
        in_blocks: class maps are made of a few rows of scores at a time, for a small memory;
            False makes them at once, without a loop (which TFLite's delegates don't take).

    Returns:
        a function to trace, from a tensor of `signature.shape` to {output's name: tensor}; what
        it was traced with tells the variables that it needs.
    """
    check_network(model, signature)
    network = folded_network(model, in_blocks=in_blocks)
    return lambda image: network(image, signature.output)


def folded_network(model: PSPNet, *, in_blocks: bool = True) -> Callable[..., dict[str, Any]]:
    """The network of `inference_function`, for several signatures over the same weights.

    Args:
        model, in_blocks: see there.

    Returns:
        a function to trace, from images of any size, the output's name and, for class maps in
        blocks, another size (height, width) of the result, to {name: tensor}.
    """
    import tensorflow as tf

    model = float32_model(model)
    folded = folded_variables(model)

    def network(image, output, size=None):
        with folded_into(folded), returning("low_resolution"):
            logits = model(tf.cast(image, "float32"), training=False)
        if output == "classes" and in_blocks:
            size = size or spatial_size(image)
            classes = upsampled_classes(logits, size, align_corners=model.align_corners)
            return {"classes": tf.cast(classes, class_dtype(model.num_classes))}
        logits = model.get_layer("upsampling")([logits, image])
        if output == "classes":
            # keras.ops.argmax becomes bit operations that TFLite lacks.
            classes = tf.argmax(logits, axis=-1, output_type="int32")
            return {"classes": tf.cast(classes, class_dtype(model.num_classes))}
        if output == "probabilities":
            logits = tf.nn.softmax(logits)
        return {output: logits}

    return network
