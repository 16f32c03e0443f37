"""Any convolutional Keras model as a dilated backbone."""

import math
import re

import keras

from keras_psp.imagenet import IMAGENET_MEAN, IMAGENET_STD
from keras_psp.layers.convolution import freeze_inner

_CAFFE = {"mean": (103.939, 116.779, 123.68), "std": (1.0, 1.0, 1.0), "channel_order": "bgr"}
_SIGNED = {"mean": (127.5,) * 3, "std": (127.5,) * 3, "channel_order": "rgb"}
_TORCH = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD, "channel_order": "rgb"}
_UNCHANGED = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "channel_order": "rgb"}
# How keras.applications' models without a preprocessing layer want their images
# (preprocess_input of each module), by the model's name. Those of keras-hub, whose names
# are like "res_net_backbone", tell it in their preprocessor only.
_NORMALIZATIONS = {
    r"resnet(50|101|152)": _CAFFE,
    r"resnet(50|101|152)v2": _SIGNED,
    r"vgg(16|19)": _CAFFE,
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


@keras.saving.register_keras_serializable("keras_psp")
class DilatedBackbone(keras.layers.Layer):
    """Feature maps of a Keras model whose last strides became dilation.

    For the models of keras.applications and keras-hub and any functional model of
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
            that can't become dilation; the layer is named.
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
        if not isinstance(model, keras.Model) or not hasattr(model, "_nodes_by_depth"):
            raise ValueError(
                f"model={model!r} is no functional keras.Model; give one as "
                "keras.applications.MobileNetV3Small(include_top=False)."
            )
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
            if name not in plan.names:
                near = [other for other in plan.names if name.split("_")[0] in other][:5]
                raise ValueError(
                    f"feature_layers: {model.name} has no layer {name!r}; its last ones are "
                    f"{', '.join(near or plan.names[-5:])}."
                )
        self.output_stride = output_stride
        self.epsilon = epsilon
        self.momentum = momentum
        self.synchronized = synchronized
        self.normalization = _normalization(model)
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


class _Plan:
    """What each layer of a functional model must become for an output stride."""

    def __init__(self, model, output_stride):
        self.model = model
        self.changes = {}  # layer name -> config entries to replace
        self.names = []
        self._last_strided = None  # the layer before the last one that strides
        state = {id(tensor): (1, 1) for tensor in model.inputs}
        maker = {id(tensor): "" for tensor in model.inputs}
        for depth in sorted(model._nodes_by_depth, reverse=True):
            for node in model._nodes_by_depth[depth]:
                layer = node.operation
                if node.is_input:
                    for tensor in node.outputs:
                        state[id(tensor)], maker[id(tensor)] = (1, 1), layer.name
                    continue
                self.names.append(layer.name)
                sources = list(node.arguments.keras_tensors)
                stride, dilation = max(state[id(tensor)] for tensor in sources)
                before = maker[id(sources[0])]
                stride, dilation = self._visit(layer, stride, dilation, before, output_stride)
                for tensor in node.outputs:
                    state[id(tensor)], maker[id(tensor)] = (stride, dilation), layer.name

    def _visit(self, layer, stride, dilation, before, output_stride):
        if isinstance(layer, keras.Sequential):  # ConvNeXt's stem and downsampling
            for inner in layer.layers:
                stride, dilation = self._visit(inner, stride, dilation, before, output_stride)
            return stride, dilation
        if not isinstance(layer, _WINDOWS):
            return stride, dilation
        factor = max(layer.strides)
        pooling = not hasattr(layer, "dilation_rate")
        size = max(layer.pool_size if pooling else layer.kernel_size)
        if factor > 1:
            padded = isinstance(_layer(self.model, before), keras.layers.ZeroPadding2D)
            self._last_strided = self._before(before) if padded else before
        undone = factor > 1 and stride * factor > output_stride
        if not undone and (dilation == 1 or size == 1 or pooling):
            return stride * factor, dilation
        changes = {}
        if not pooling and size > 1:
            changes["dilation_rate"] = dilation * max(layer.dilation_rate)
        if undone:
            changes["strides"] = 1
        if layer.padding == "valid" and size > 1:
            # The zeros before a valid convolution were counted for its stride.
            changes["padding"] = "same"
            if isinstance(_layer(self.model, before), keras.layers.ZeroPadding2D):
                self.changes[before] = {"padding": 0}
        self.changes[layer.name] = changes
        return (stride, dilation * factor) if undone else (stride * factor, dilation)

    def _before(self, name):
        node = _layer(self.model, name)._inbound_nodes[0]
        return node.arguments.keras_tensors[0]._keras_history.operation.name

    def default_features(self):
        last = self.model.outputs[0]._keras_history.operation.name
        return (self._last_strided or last, last)

    def dilated(self, names, policy):
        """A copy of the model up to the named layers, with the changes made."""

        def copy(layer):
            if isinstance(layer, keras.Sequential):
                return keras.Sequential([copy(inner) for inner in layer.layers], name=layer.name)
            config = layer.get_config()
            config.update(self.changes.get(layer.name, {}))
            exact = keras.layers.Rescaling | keras.layers.Normalization
            if isinstance(layer, keras.layers.Layer) and not isinstance(layer, exact):
                config["dtype"] = policy.name
            return type(layer).from_config(config)

        model = self.model
        outputs = [_layer(model, name).output for name in names]
        part = keras.Model(model.inputs, outputs, name=model.name)
        inputs = [keras.Input((None, None, 3), name="normalized")]
        return keras.models.clone_model(part, input_tensors=inputs, clone_function=copy)


def _layer(model, name):
    """A layer or operation by its name; None for the input."""
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
