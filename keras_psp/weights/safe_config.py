"""Which Keras objects a preset's config.json may name: layers of image networks, and our own.

Keras' safe mode refuses lambdas, but it imports any class of keras, keras_hub, keras_cv and
keras_nlp that a file names, and some of Keras' own layers read files (StringLookup, TFSMLayer).
So each object is looked up in the lists below before the first one is created.
"""

from typing import Any

import keras

from keras_psp.weights.files.errors import WeightsFileError, printable

# Layers that compute from their input and weights alone.
_LAYERS = """
    Activation Add Average AveragePooling2D BatchNormalization CenterCrop Concatenate Conv2D
    Conv2DTranspose Cropping2D Dense DepthwiseConv2D Dropout ELU Flatten GlobalAveragePooling2D
    GlobalMaxPooling2D GroupNormalization Identity InputLayer LayerNormalization LeakyReLU
    MaxPooling2D Maximum Minimum Multiply Normalization PReLU Permute ReLU Rescaling Reshape
    Resizing SeparableConv2D Softmax SpatialDropout2D Subtract UnitNormalization UpSampling2D
    ZeroPadding2D
"""
_INITIALIZERS = """
    Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity LecunNormal LecunUniform Ones
    Orthogonal RandomNormal RandomUniform TruncatedNormal VarianceScaling Zeros
"""
_ALLOWED: set[tuple[str | None, str]] = {
    *(("keras.layers", name) for name in _LAYERS.split()),
    *(("keras.initializers", name) for name in _INITIALIZERS.split()),
    *(("keras.regularizers", name) for name in ("L1", "L1L2", "L2")),
    *(("keras.constraints", name) for name in ("MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm")),
    *(("keras", name) for name in ("DTypePolicy", "Sequential")),
    ("keras", "Model"),
    ("keras.models", "Sequential"),
    ("keras.src.models.functional", "Functional"),
    ("keras.src.applications.convnext", "LayerScale"),
    *(("keras.src.ops.numpy", name) for name in ("Add", "Multiply", "Subtract")),
}


def check_config(config: Any) -> None:
    """Raises WeightsFileError unless a configuration is a PSPNet's and names allowed objects only.

    Args:
        config: what `keras.saving.serialize_keras_object` returned for a network, read from JSON.
    """
    if not isinstance(config, dict) or config.get("registered_name") != "keras_psp>PSPNet":
        raise WeightsFileError("it doesn't describe a PSPNet of keras_psp.")
    if not isinstance(config.get("config"), dict):
        raise WeightsFileError("it has no arguments of PSPNet.")
    # A name, which `PSPNet` takes as well, could open a preset of keras-hub from anywhere.
    if not isinstance(config["config"].get("backbone"), dict):
        raise WeightsFileError("it doesn't describe its backbone.")
    _check(config["config"])


def _is_our_layer(registered):
    """Whether a registered name is that of a layer of this package; models are left out."""
    kind = keras.saving.get_registered_object(registered) if registered else None
    return (
        isinstance(kind, type)
        and issubclass(kind, keras.layers.Layer)
        and not issubclass(kind, keras.Model)
        and registered == f"keras_psp>{kind.__name__}"
        and kind.__module__.startswith("keras_psp.")
    )


def _check(value):
    if isinstance(value, list | tuple):
        for item in value:
            _check(item)
    elif isinstance(value, dict):
        if {"class_name", "module", "registered_name"} & value.keys():
            _check_object(value)
        for item in value.values():
            _check(item)


def _check_object(value):
    module, name = value.get("module"), value.get("class_name")
    registered = value.get("registered_name")
    if not all(isinstance(text, str | None) for text in (module, name, registered)):
        raise WeightsFileError("it names an object by something that isn't text.")
    if name == "__keras_tensor__" and module is None and registered is None:
        return
    if value.get("compile_config"):
        raise WeightsFileError(f"it has a compile_config of {printable(name)}; leave it out.")
    # Keras looks for a registered name first.
    keras_own = (module, name) in _ALLOWED and registered in (None, name)
    if not keras_own and not _is_our_layer(registered):
        path = f"{registered}" if module is None else f"{module}.{name}"
        raise WeightsFileError(
            f"it names {printable(path if path != 'None' else name)}, which isn't a layer that "
            "a preset may have (those of Keras for images, and keras_psp's); nothing was loaded."
        )
