"""Any convolutional Keras model as a dilated backbone."""

import math
import re
from collections.abc import Mapping
from typing import Any, Literal

import keras

from keras_psp.arguments import checked_choice, checked_string, checked_tuple
from keras_psp.imagenet import CAFFE_NORMALIZATION, IMAGENET_MEAN, IMAGENET_STD, per_channel
from keras_psp.layers.convolution import (
    freeze_inner,
    norm_options,
    store_norm_options,
    synchronizes,
)
from keras_psp.layers.dilated_block import DilatedBlock, inner_layers
from keras_psp.layers.normalization import BatchNormalization, ImageNormalization
from keras_psp.layers.per_channel import PerChannelConv2D, is_per_channel

_SIGNED = {"mean": (127.5,) * 3, "std": (127.5,) * 3, "channel_order": "rgb"}
_TORCH = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD, "channel_order": "rgb"}
_UNCHANGED = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "channel_order": "rgb"}
# Preprocessing by model name of the keras.applications models that have no preprocessing layer
# (`preprocess_input` of each module). keras-hub keeps it in a preprocessor outside its
# backbones, which have names like "res_net_backbone".
_NORMALIZATIONS = {
    r"resnet(50|101|152)": CAFFE_NORMALIZATION,
    r"resnet(50|101|152)v2": _SIGNED,
    r"vgg(16|19)": CAFFE_NORMALIZATION,
    r"densenet(121|169|201)": _TORCH,
    r"mobilenet(v2)?_[\d.]+_(\d+|None)": _SIGNED,
    r"efficientnet_lite\d": {"mean": (127.0,) * 3, "std": (128.0,) * 3, "channel_order": "rgb"},
    r"xception|inception_v3|inception_resnet_v2|nasnet_(mobile|large)|NASNet": _SIGNED,
}
WINDOWS = (
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
    keras.layers.MaxPooling2D,
    keras.layers.AveragePooling2D,
)
"""Layers whose outputs depend on a window of positions."""
_PER_CHANNEL = (
    keras.layers.BatchNormalization,
    keras.layers.Activation,
    keras.layers.ReLU,
)
_UNDILATED = (keras.layers.Conv2DTranspose, keras.layers.UpSampling2D)


@keras.saving.register_keras_serializable("keras_psp")
class DilatedBackbone(keras.layers.Layer):
    """Computes feature maps with a Keras model whose last strides are replaced by dilation.

    Works for most convolutional models of keras.applications and keras-hub and for any functional
    model built from convolutions, even in layers that apply several in turn. A strided
    convolution or pooling past the output stride gets stride 1, and every convolution after it
    has its dilation doubled, so that the weights see the same neighborhoods as before (like
    torchvision's `replace_stride_with_dilation`).
    Pooling can't be dilated: if a second pooling loses its stride (DenseNet at output stride 8),
    it averages pixels that are closer together than in the original model.

    Args:
        model: a functional `keras.Model` from images to a feature map. The layer copies it
            with its weights and leaves the original unchanged.
        feature_layers: names of two layers, the one for the auxiliary head and the last one.
            Default: the input of the last strided block, and the model's output without a
            final 1x1 convolution that widens it for the classifier, e.g. 320 channels instead
            of 1280 for MobileNetV2 (as in mmsegmentation) and EfficientNetB0.
        output_stride: ratio of input size to feature map size: 8, 16 or 32.
        normalization: `mean`, `std` and `channel_order` of the `ImageNormalization` before the
            model, if it isn't known by the model's name.
        epsilon, momentum: BatchNorm options for the heads of a PSPNet on this backbone, see
            `ConvNorm`; those of the backbone itself don't change.
        synchronized: see `ConvNorm`; for the heads and the backbone.

    Attributes:
        normalization: arguments of the `ImageNormalization` that `keras_psp.PSPNet` applies
            before the backbone, or None if they are unknown.

    Input:  (batch, height, width, channels), as `model` expects it.
    Output: (auxiliary, features), each (batch, h, w, channels); for the features,
        h = ceil(height / output_stride), plus or minus one for models that pad unevenly. The
        auxiliary map may be larger: by default, it has stride 16 at output stride 32.

    Raises:
        ValueError: if the model isn't functional, has no layer of a given name, or has strides
            that can't become dilation (NASNet; Inception at 8 and 16).

    Example:
        model = keras.applications.MobileNetV3Small(include_top=False, weights=None)
        auxiliary, features = DilatedBackbone(model)(keras.random.uniform((1, 224, 224, 3)))
        features.shape  # (1, 28, 28, 96)
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        feature_layers: tuple[str, str] | None = None,
        output_stride: int = 8,
        normalization: Mapping[str, Any] | None = None,
        epsilon: float = 1e-5,
        momentum: float = 0.9,
        synchronized: bool | Literal["auto"] = "auto",
        **kwargs: Any,
    ):
        super().__init__(**{"name": "backbone", **kwargs})
        if isinstance(model, dict):  # from a saved file
            model = keras.saving.deserialize_keras_object(model)
        model = _checked_model(model)
        output_stride = checked_choice("output_stride", output_stride, (8, 16, 32))
        plan = _Plan(model, output_stride)
        if feature_layers is None:
            feature_layers = plan.default_features()
        self.feature_layers = checked_tuple(
            "feature_layers", feature_layers, checked_string, length=2
        )
        for name in self.feature_layers:
            plan.check_feature(name)
        self.output_stride = output_stride
        store_norm_options(self, epsilon, momentum, synchronized)
        self.normalization = backbone_normalization(model)
        if normalization is not None:
            checked = ImageNormalization(**normalization)
            names = ("mean", "std", "channel_order")
            self.normalization = {name: getattr(checked, name) for name in names}
        # Optimizers look for this layer's name in the paths of the variables.
        with keras.name_scope(self.name):
            self.features = plan.dilated(
                self.feature_layers, self.dtype_policy, synchronizes(self.synchronized)
            )
        _check_stride(self.features, output_stride)
        if model.built:
            _copy_weights(model, self.features)
        freeze_inner(self)

    def build(self, input_shape: tuple) -> None:
        self.built = True

    def call(self, x: Any, training: bool | None = None) -> tuple[Any, Any]:
        return tuple(self.features(x, training=training))

    def compute_output_spec(self, x: Any, training: bool | None = None) -> tuple[Any, Any]:
        return tuple(self.features.compute_output_spec(x))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "model": keras.saving.serialize_keras_object(self.features),
            "feature_layers": self.feature_layers,
            "output_stride": self.output_stride,
            "normalization": self.normalization and dict(self.normalization),
            **norm_options(self),
        }


def _checked_model(model):
    """Returns the model as a functional model of images."""
    if isinstance(model, keras.Sequential) and model.built:
        model = keras.Model(model.inputs, model.outputs, name=model.name)
    if not isinstance(model, keras.Model) or not hasattr(model, "_nodes_by_depth"):
        raise ValueError(
            f"model={model!r} must be a functional keras.Model, e.g. "
            "keras.applications.MobileNetV3Small(include_top=False)."
        )
    shape = model.input_shape
    if len(model.inputs) != 1 or len(shape) != 4 or shape[-1] is None:
        raise ValueError(
            f"{model.name} has input shape {shape}; a backbone takes images, e.g. RGB: "
            "(None, None, None, 3)."
        )
    return model


class _Plan:
    """The changes to each layer of a functional model that give it an output stride."""

    def __init__(self, model, output_stride):
        self.model = model
        self.names = []
        self._last = model.outputs[0]._keras_history.operation
        self._output_stride = output_stride
        self._changes = {}  # id of a layer -> configuration entries to replace
        self._last_strided = None  # the layer before the last strided one
        state = {}  # id of a tensor -> stride and dilation there
        maker = {}  # id of a tensor -> the layer it comes from
        for depth in sorted(model._nodes_by_depth, reverse=True):
            for node in model._nodes_by_depth[depth]:
                layer, after = node.operation, (1, 1)
                if not node.is_input:
                    self.names.append(layer.name)
                    sources = [id(tensor) for tensor in node.arguments.keras_tensors]
                    stride, dilation = max(state[source] for source in sources)
                    after = self._visit(layer, stride, dilation, maker[sources[0]])
                for tensor in node.outputs:
                    state[id(tensor)], maker[id(tensor)] = after, layer

    def _visit(self, layer, stride, dilation, before, entry=None):
        """Records the changes of a layer and returns the (stride, dilation) after it.

        `before` is the layer before it, `entry` the one before the Sequential that contains it.
        """
        if isinstance(layer, keras.Sequential):  # ConvNeXt's stem and downsampling
            for inner in layer.layers:
                entry = entry or before
                stride, dilation = self._visit(inner, stride, dilation, before, entry)
                before = inner
            return stride, dilation
        if isinstance(layer, keras.Model):
            raise ValueError(
                f"{self.model.name} contains the model {layer.name!r}; pass that model itself."
            )
        if not isinstance(layer, WINDOWS):
            if any(isinstance(inner, WINDOWS) for inner in inner_layers(layer)):
                return self._visit_block(layer, stride, dilation, before)
            if dilation > 1 and isinstance(layer, _UNDILATED):
                raise ValueError(
                    f"{layer.name} of {self.model.name} is a {type(layer).__name__}, which can't "
                    "be dilated; choose a larger output_stride, or a feature layer before it."
                )
            return stride, dilation
        changes, padding, after = self._adapted(layer, stride, dilation, before)
        if max(layer.strides) > 1:
            start = _maker(before) if isinstance(before, keras.layers.ZeroPadding2D) else before
            if isinstance(layer, keras.layers.DepthwiseConv2D):
                start = _before_widening(start)
            self._last_strided = entry or start
        if padding:
            self._note(before, padding)
        self._note(layer, changes)
        return after

    def _visit_block(self, block, stride, dilation, before):
        """Records the changes inside a layer that applies others one after another."""
        inner, changes = inner_layers(block), {}
        start, previous = stride * dilation, None
        for index, layer in enumerate(inner):
            if isinstance(layer, WINDOWS):
                own, padding, (stride, dilation) = self._adapted(layer, stride, dilation, previous)
                if padding:
                    changes[index - 1] = padding
                changes[index] = own
            previous = layer
        factor = stride * dilation // start
        if factor > 1:
            self._last_strided = before
        changes = {str(index): change for index, change in changes.items() if change}
        if changes and _downsampling(block) != factor:
            raise ValueError(
                f"{block.name} of {self.model.name}, a {type(block).__name__}, isn't a chain of "
                "convolutions, so its strides can't become dilation; choose a larger "
                "output_stride, or another model."
            )
        self._note(block, changes)
        return stride, dilation

    def _adapted(self, layer, stride, dilation, before):
        """The changes to a convolution or pooling, and to the padding before it.

        Returns them with the (stride, dilation) after the layer.
        """
        factor = max(layer.strides)
        pooling = not hasattr(layer, "dilation_rate")
        size = max(layer.pool_size if pooling else layer.kernel_size)
        undone = factor > 1 and stride * factor > self._output_stride
        if not undone and (dilation == 1 or size == 1 or pooling):
            return {}, {}, (stride * factor, dilation)
        changes, padding = {}, {}
        if not pooling and size > 1:
            changes["dilation_rate"] = dilation * max(layer.dilation_rate)
        if undone:
            changes["strides"] = 1
        if layer.padding == "valid" and size > 1:
            # The zeros before a valid convolution were chosen for its stride.
            changes["padding"] = "same"
            if isinstance(before, keras.layers.ZeroPadding2D):
                padding["padding"] = 0
        after = (stride, dilation * factor) if undone else (stride * factor, dilation)
        return changes, padding, after

    def _note(self, layer, changes):
        if self._changes.setdefault(id(layer), changes) != changes:
            raise ValueError(
                f"{layer.name} of {self.model.name} is used at two strides and only one of them "
                f"is past output_stride={self._output_stride}; choose a larger output_stride."
            )

    def default_features(self) -> tuple[str, str]:
        features = _before_widening(self._last)
        before = self._last_strided
        if before is None or isinstance(before, keras.layers.InputLayer):
            before = features
        return (before.name, features.name)

    def check_feature(self, name: str) -> None:
        if name not in self.names:
            near = [other for other in self.names if name.split("_")[0] in other][:5]
            raise ValueError(
                f"feature_layers: {self.model.name} has no layer {name!r}; it has, for instance, "
                f"{', '.join(near or self.names[-5:])}."
            )
        if self.names.count(name) > 1 and name != self._last.name:
            raise ValueError(
                f"feature_layers: {self.model.name} calls {name!r} more than once; name a "
                "layer that it calls once."
            )

    def dilated(
        self, names: tuple[str, ...], policy: keras.DTypePolicy, synchronized: bool
    ) -> keras.Model:
        """A copy of the model up to the named layers, with the changes applied."""

        def copy(layer):
            if isinstance(layer, keras.Sequential):
                return keras.Sequential([copy(inner) for inner in layer.layers], name=layer.name)
            changes = self._changes.get(id(layer), {})
            if any(isinstance(inner, WINDOWS) for inner in inner_layers(layer)):
                return _dilated_block(layer, changes, policy, synchronized)
            config = {**layer.get_config(), **changes}
            own = getattr(layer, "dtype_policy", None)
            exact = isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization)
            if own is not None and not exact and not getattr(own, "quantization_mode", None):
                config["dtype"] = policy.name
            kind = type(layer)
            if kind is keras.layers.BatchNormalization:
                kind = BatchNormalization
                config["synchronized"] = synchronized or config.get("synchronized", False)
            if is_per_channel(layer):
                kind = PerChannelConv2D
            return kind.from_config(config)

        model = self.model
        operations = {operation.name: operation for operation in model.operations}
        last = self._last.name
        outputs = [model.outputs[0] if name == last else operations[name].output for name in names]
        part = keras.Model(model.inputs, outputs, name=model.name)
        inputs = [keras.Input((None, None, model.input_shape[-1]), name="normalized")]
        try:
            return keras.models.clone_model(part, input_tensors=inputs, clone_function=copy)
        except (ValueError, TypeError) as error:  # branches of different sizes, for instance
            first = str(error).strip().split("\n")[0]
            raise ValueError(
                f"{model.name} can't be dilated to output_stride={self._output_stride} ({first}); "
                "choose a larger output_stride."
            ) from error


def _dilated_block(layer, changes, policy, synchronized):
    """Copies a layer that is made of others, with changes to these."""
    block, earlier = layer, {}
    if isinstance(layer, DilatedBlock):
        block, earlier = layer.block, layer.changes
    changes = {n: {**earlier.get(n, {}), **changes.get(n, {})} for n in {**earlier, **changes}}
    copy = type(block).from_config({**block.get_config(), "dtype": policy.name})
    for inner in inner_layers(copy):
        inner.dtype_policy = policy
        if isinstance(inner, keras.layers.BatchNormalization):
            inner.synchronized = synchronized or inner.synchronized
    return DilatedBlock(copy, changes=changes, name=layer.name, dtype=policy)


def _downsampling(block):
    """Factor by which a layer reduces its input's sides; None if it returns no feature map."""
    channels = block._inbound_nodes[0].arguments.keras_tensors[0].shape[-1]
    output = block.compute_output_spec(keras.KerasTensor((1, 128, 128, channels)))
    shape = getattr(output, "shape", ())
    return round(128 / shape[1]) if len(shape) == 4 else None


def _before_widening(layer):
    """The layer before a 1x1 convolution that widens the features for `layer`, or `layer` itself.

    Inverted residuals start with such a convolution, and MobileNet and EfficientNet end with one.
    """
    conv = layer
    while isinstance(conv, _PER_CHANNEL):
        conv = _maker(conv)
    if isinstance(conv, keras.layers.Conv2D) and max(conv.kernel_size) == 1:
        before = _maker(conv)
        if conv.filters > before.output.shape[-1]:
            return before
    return layer


def _maker(layer):
    """The layer before a layer that is called once."""
    return layer._inbound_nodes[0].arguments.keras_tensors[0]._keras_history.operation


def backbone_normalization(model: keras.Model) -> dict[str, Any] | None:
    """Returns the normalization of 0..255 images that a model expects; None if unknown."""
    inside = (keras.layers.Rescaling, keras.layers.Normalization)
    if any(isinstance(layer, inside) for layer in model.layers[:4]):
        known: dict[str, Any] | None = _UNCHANGED
    else:
        matches = (v for name, v in _NORMALIZATIONS.items() if re.fullmatch(name, model.name))
        known = next(matches, None)
    return normalization_of(known, model.input_shape[-1]) if known else None


def normalization_of(rgb: Mapping[str, Any], channels: int) -> dict[str, Any]:
    """Arguments of `ImageNormalization` for any number of channels, from those for RGB.

    Images other than RGB are never in BGR order; see `keras_psp.imagenet.per_channel` and
    `keras_psp.models.bands.adapted_kernel`.
    """
    if channels == 3:
        return dict(rgb)
    step = -1 if rgb["channel_order"] == "bgr" else 1
    values = {name: per_channel(rgb[name][::step], channels) for name in ("mean", "std")}
    return {**values, "channel_order": "rgb"}


def _check_stride(features, output_stride):
    size = 8 * output_stride
    image = keras.KerasTensor((1, size, size, features.input_shape[-1]))
    auxiliary, last = features.compute_output_spec(image)
    for tensor, name in zip((auxiliary, last), features.output_names, strict=True):
        if len(tensor.shape) != 4:
            raise ValueError(
                f"feature layer {name!r} has output shape {tensor.shape}; it must be a feature "
                "map, (batch, height, width, channels)."
            )
    if max(abs(n - math.ceil(size / output_stride)) for n in last.shape[1:3]) > 1:
        raise ValueError(
            f"{features.name} has {last.shape[1]}x{last.shape[2]} features for {size}x{size} "
            f"pixels, not {size // output_stride} as output_stride={output_stride} requires. "
            "Either a layer has strides that can't become dilation or the feature layer comes "
            "before that stride; choose another output_stride or feature layer."
        )


def _copy_weights(source, target):
    by_name = {layer.name: layer for layer in source.layers}
    for layer in target.layers:
        if layer.weights:
            layer.set_weights(by_name[layer.name].get_weights())
