"""Any convolutional Keras model as a dilated backbone."""

import math
import re

import keras

from keras_psp.imagenet import CAFFE_NORMALIZATION, IMAGENET_MEAN, IMAGENET_STD
from keras_psp.layers.convolution import freeze_inner

_SIGNED = {"mean": (127.5,) * 3, "std": (127.5,) * 3, "channel_order": "rgb"}
_TORCH = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD, "channel_order": "rgb"}
_UNCHANGED = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "channel_order": "rgb"}
# How keras.applications' models without a preprocessing layer want their images
# (preprocess_input of each module), by the model's name. Those of keras-hub, whose names
# are like "res_net_backbone", tell it in their preprocessor only.
_NORMALIZATIONS = {
    r"resnet(50|101|152)": CAFFE_NORMALIZATION,
    r"resnet(50|101|152)v2": _SIGNED,
    r"vgg(16|19)": CAFFE_NORMALIZATION,
    r"densenet(121|169|201)": _TORCH,
    r"mobilenet(v2)?_[\d.]+_(\d+|None)": _SIGNED,
    r"xception|inception_v3|inception_resnet_v2|nasnet_(mobile|large)|NASNet": _SIGNED,
}
_WINDOWS = (
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
    keras.layers.MaxPooling2D,
    keras.layers.AveragePooling2D,
)
_UNDILATED = (keras.layers.Conv2DTranspose, keras.layers.UpSampling2D)


@keras.saving.register_keras_serializable("keras_psp")
class DilatedBackbone(keras.layers.Layer):
    """Feature maps of a Keras model whose last strides became dilation.

    For most models of keras.applications and keras-hub and any functional model of
    convolutions: a strided convolution or pooling past the output stride gets stride 1,
    and every convolution after it twice the dilation, so that the weights see the
    same neighbourhoods as before (as in torchvision's `replace_stride_with_dilation`).
    Poolings can't be dilated: where a second one loses its stride (DenseNet at 8) it
    averages nearer neighbours than it did.

        backbone = DilatedBackbone(keras.applications.MobileNetV3Small(include_top=False))
        model = PSPNet(num_classes=21, backbone=backbone)

    Args:
        model: a functional `keras.Model` from images to a feature map. It is copied, its
            weights too, and not changed.
        feature_layers: names of the layer for the auxiliary head and of the last one.
            Default: the input of the last layer that strides, and the model's output.
        output_stride: input size over the last map's size: 8, 16 or 32.
        epsilon, momentum, synchronized: of BatchNorm in the heads of a PSPNet on this
            backbone, see `ConvNorm`; the backbone's own stay as they are.

    Input:  (batch, height, width, 3), as the model takes it. `normalization` holds what
        `keras_psp.PSPNet` does to images 0..255 before, None if it isn't known.
    Output: (auxiliary, features), each (batch, h, w, channels);
        h = ceil(height / output_stride), give or take one for models that pad unevenly.

    Raises:
        ValueError: for a model that isn't functional, a layer name it lacks, or strides
            that can't become dilation (NASNet's, Inception's at 8 and 16).
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        feature_layers: tuple[str, str] | None = None,
        output_stride: int = 8,
        epsilon: float = 1e-5,
        momentum: float = 0.9,
        synchronized: bool | str = "auto",
        **kwargs,
    ):
        super().__init__(**{"name": "backbone", **kwargs})
        if isinstance(model, dict):  # from a saved file
            model = keras.saving.deserialize_keras_object(model)
        model = _checked_model(model)
        if output_stride not in (8, 16, 32):
            raise ValueError(f"output_stride={output_stride!r}; choose 8, 16 or 32.")
        plan = _Plan(model, output_stride)
        self.feature_layers = tuple(feature_layers or plan.default_features())
        if len(self.feature_layers) != 2:
            raise ValueError(
                f"feature_layers={feature_layers!r}: name two layers, the auxiliary head's "
                "and the last."
            )
        for name in self.feature_layers:
            plan.check_feature(name)
        self.output_stride = output_stride
        self.epsilon = epsilon
        self.momentum = momentum
        self.synchronized = synchronized
        self.normalization = _normalization(model)
        # The variables' paths begin with this layer's name, which optimizers look for.
        with keras.name_scope(self.name):
            self.features = plan.dilated(self.feature_layers, self.dtype_policy)
        _check_stride(self.features, output_stride)
        if model.built:
            _copy_weights(model, self.features)
        freeze_inner(self)

    def build(self, input_shape):
        self.built = True

    def call(self, x, training=None):
        auxiliary, features = self.features(x, training=training)
        return auxiliary, features

    def compute_output_spec(self, x, training=None):
        auxiliary, features = self.features.compute_output_spec(x)
        return auxiliary, features

    def get_config(self):
        return {
            **super().get_config(),
            "model": keras.saving.serialize_keras_object(self.features),
            "feature_layers": self.feature_layers,
            "output_stride": self.output_stride,
            "epsilon": self.epsilon,
            "momentum": self.momentum,
            "synchronized": self.synchronized,
        }


def _checked_model(model):
    """The model as a functional one of RGB images."""
    if isinstance(model, keras.Sequential) and model.built:
        model = keras.Model(model.inputs, model.outputs, name=model.name)
    if not isinstance(model, keras.Model) or not hasattr(model, "_nodes_by_depth"):
        raise ValueError(
            f"model={model!r} is no functional keras.Model; give one as "
            "keras.applications.MobileNetV3Small(include_top=False)."
        )
    shape = model.input_shape
    if len(model.inputs) != 1 or len(shape) != 4 or shape[-1] != 3:
        raise ValueError(
            f"{model.name} takes {shape}; a backbone takes RGB images, (None, None, None, 3)."
        )
    return model


class _Plan:
    """What each layer of a functional model must become for an output stride."""

    def __init__(self, model, output_stride):
        self.model = model
        self.names = []
        self._output_stride = output_stride
        self._changes = {}  # id of a layer -> configuration entries to replace
        self._visited = {}  # id of a layer -> its changes at its first call
        self._last_strided = None  # the layer before the last one that strides
        state = {}
        maker = {}
        for depth in sorted(model._nodes_by_depth, reverse=True):
            for node in model._nodes_by_depth[depth]:
                layer = node.operation
                if node.is_input:
                    for tensor in node.outputs:
                        state[id(tensor)], maker[id(tensor)] = (1, 1), layer
                    continue
                self.names.append(layer.name)
                sources = list(node.arguments.keras_tensors)
                stride, dilation = max(state[id(tensor)] for tensor in sources)
                before = maker[id(sources[0])]
                after = self._visit(layer, stride, dilation, before)
                for tensor in node.outputs:
                    state[id(tensor)], maker[id(tensor)] = after, layer

    def _visit(self, layer, stride, dilation, before, entry=None):
        """(stride, dilation) after a layer; its changes are noted.

        Args:
            layer, stride, dilation: the layer, and what holds before it.
            before: the layer before it.
            entry: the one before the Sequential that holds it.
        """
        if isinstance(layer, keras.Sequential):  # ConvNeXt's stem and downsampling
            for inner in layer.layers:
                entry = entry or before
                stride, dilation = self._visit(inner, stride, dilation, before, entry)
                before = inner
            return stride, dilation
        if isinstance(layer, keras.Model):
            raise ValueError(
                f"{self.model.name} has the model {layer.name!r} inside; give that one itself."
            )
        if not isinstance(layer, _WINDOWS):
            if dilation > 1 and isinstance(layer, _UNDILATED):
                raise ValueError(
                    f"{layer.name} of {self.model.name} is a {type(layer).__name__}, which can't "
                    "be dilated; choose a larger output_stride, or a feature layer before it."
                )
            return stride, dilation
        factor = max(layer.strides)
        pooling = not hasattr(layer, "dilation_rate")
        size = max(layer.pool_size if pooling else layer.kernel_size)
        padded = isinstance(before, keras.layers.ZeroPadding2D)
        if factor > 1:
            self._last_strided = entry or (_maker(before) if padded else before)
        undone = factor > 1 and stride * factor > self._output_stride
        if not undone and (dilation == 1 or size == 1 or pooling):
            self._note(layer, {})
            return stride * factor, dilation
        changes = {}
        if not pooling and size > 1:
            changes["dilation_rate"] = dilation * max(layer.dilation_rate)
        if undone:
            changes["strides"] = 1
        if layer.padding == "valid" and size > 1:
            # The zeros before a valid convolution were counted for its stride.
            changes["padding"] = "same"
            if padded:
                self._note(before, {"padding": 0})
        self._note(layer, changes)
        return (stride, dilation * factor) if undone else (stride * factor, dilation)

    def _note(self, layer, changes):
        if self._visited.setdefault(id(layer), changes) != changes:
            raise ValueError(
                f"{layer.name} of {self.model.name} is used at two strides, of which only one "
                f"is past output_stride={self._output_stride}; choose a larger one."
            )
        self._changes[id(layer)] = changes

    def default_features(self):
        last = self.model.outputs[0]._keras_history.operation
        before = self._last_strided
        if before is None or isinstance(before, keras.layers.InputLayer):
            before = last
        return (before.name, last.name)

    def check_feature(self, name):
        if name not in self.names:
            near = [other for other in self.names if name.split("_")[0] in other][:5]
            raise ValueError(
                f"feature_layers: {self.model.name} has no layer {name!r}; its last ones are "
                f"{', '.join(near or self.names[-5:])}."
            )
        if self.names.count(name) > 1 and name != self.default_features()[1]:
            raise ValueError(
                f"feature_layers: {self.model.name} calls {name!r} more than once; name a "
                "layer that it calls once."
            )

    def dilated(self, names, policy):
        """A copy of the model up to the named layers, with the changes made."""

        def copy(layer):
            if isinstance(layer, keras.Sequential):
                return keras.Sequential([copy(inner) for inner in layer.layers], name=layer.name)
            config = layer.get_config()
            config.update(self._changes.get(id(layer), {}))
            own = getattr(layer, "dtype_policy", None)
            exact = isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization)
            if own is not None and not exact and not getattr(own, "quantization_mode", None):
                config["dtype"] = policy.name
            return type(layer).from_config(config)

        model = self.model
        last = model.outputs[0]._keras_history.operation.name
        outputs = [
            model.outputs[0] if name == last else _layer(model, name).output for name in names
        ]
        part = keras.Model(model.inputs, outputs, name=model.name)
        inputs = [keras.Input((None, None, 3), name="normalized")]
        try:
            return keras.models.clone_model(part, input_tensors=inputs, clone_function=copy)
        except (ValueError, TypeError) as error:  # branches of different sizes, for instance
            first = str(error).strip().split("\n")[0]
            raise ValueError(
                f"{model.name} can't be dilated to output_stride={self._output_stride} ({first}); "
                "choose a larger output_stride."
            ) from error


def _maker(layer):
    """The layer before one that is called once."""
    return layer._inbound_nodes[0].arguments.keras_tensors[0]._keras_history.operation


def _layer(model, name):
    """A layer or operation by its name."""
    return next((op for op in model.operations if op.name == name), None)


def _normalization(model):
    """What the model wants done to images 0..255; None if that isn't known."""
    inside = (keras.layers.Rescaling, keras.layers.Normalization)
    if any(isinstance(layer, inside) for layer in model.layers[:4]):
        return _UNCHANGED
    matches = (v for name, v in _NORMALIZATIONS.items() if re.fullmatch(name, model.name))
    return next(matches, None)


def _check_stride(features, output_stride):
    size = 8 * output_stride
    image = keras.KerasTensor((1, size, size, 3))
    auxiliary, last = features.compute_output_spec(image)
    for tensor, name in zip((auxiliary, last), features.output_names, strict=True):
        if len(tensor.shape) != 4:
            raise ValueError(f"feature layer {name!r} gives {tensor.shape}, which is no map.")
    if max(abs(n - math.ceil(size / output_stride)) for n in last.shape[1:3]) > 1:
        raise ValueError(
            f"{features.name} gives {last.shape[1]}x{last.shape[2]} features of {size}x{size} "
            f"pixels, not the {size // output_stride} of output_stride={output_stride}: one of "
            "its layers strides in a way that can't become dilation, or the feature layer lies "
            "before that stride; choose another output_stride or feature layer."
        )


def _copy_weights(source, target):
    by_name = {layer.name: layer for layer in source.layers}
    for layer in target.layers:
        if layer.weights:
            layer.set_weights(by_name[layer.name].get_weights())
