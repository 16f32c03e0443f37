"""PSPNet as a functional Keras model (paper, figure 3; semseg/model/pspnet.py)."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import keras
from keras import ops

from keras_psp.arguments import (
    checked_choice,
    checked_count,
    checked_integer,
    checked_number,
    checked_string,
)
from keras_psp.imagenet import HUB
from keras_psp.layers.auxiliary import AuxiliaryHead, classifier
from keras_psp.layers.backbone import DilatedBackbone
from keras_psp.layers.convolution import norm_options
from keras_psp.layers.normalization import ImageNormalization, full_precision
from keras_psp.layers.pyramid import PyramidPoolingModule
from keras_psp.layers.resampling import BilinearResize
from keras_psp.layers.resnet import DilatedResNet, Remat
from keras_psp.models.backbones import backbone_layer, normalization_arguments
from keras_psp.models.checks import (
    check_images,
    checked_class_names,
    checked_colors,
    checked_input_shape,
    checked_policy,
)
from keras_psp.models.inference import InferenceMixin
from keras_psp.models.outputs import is_outermost, returns_low_resolution
from keras_psp.models.pretrained import PresetName, save_to_preset, with_weights
from keras_psp.models.training import TrainingMixin


@keras.saving.register_keras_serializable("keras_psp")
class PSPNet(TrainingMixin, InferenceMixin, keras.Model):
    """Pyramid Scene Parsing Network (Zhao et al., CVPR 2017).

    Takes images of any size, by default RGB 0..255, and returns logits of the same size. Training
    takes one integer mask per image.

    Args:
        num_classes: number of classes, at least 2.
        backbone: a name in `keras_psp.imagenet.BACKBONES`, e.g. "resnet50" (or 18, 34, 101, 152,
            269), "efficientnet_lite0" or, from keras.applications, "mobilenet_v3_small";
            "keras_hub:" and the name, folder or handle of a keras-hub preset, e.g.
            "keras_hub:resnet_50_imagenet"; a `DilatedResNet`, e.g. with another stem; any
            functional model; or a `DilatedBackbone` around one.
        output_stride: ratio of image size to feature map size: 8, 16 or 32. None uses that of a
            given `DilatedResNet` or `DilatedBackbone`, and 8 for other backbones.
        bin_sizes, pooling, reduction, dropout: see `PyramidPoolingModule`;
            bin_sizes=() is the dilated FCN baseline.
        fusion_filters: channels after the fusion convolution; "auto" is a quarter of the
            backbone's channels (512 for resnet50 and deeper), at least 128.
        fusion_kernel_size, normalize_global: see `PyramidPoolingModule`.
        classifier_kernel_size: 1, or 3 as in segmentation_models.pytorch.
        aux_weight: weight of the auxiliary loss, 0.4 in the paper; 0 omits the auxiliary head.
        aux_filters: channels of the auxiliary head; "auto" is a quarter of its input channels,
            at least 64.
        align_corners: how the pyramid and the logits are upsampled: True in semseg and
            Caffe, False in mmsegmentation.
        mean, std, channel_order: see `ImageNormalization`; "auto" uses the backbone's own, which
            for a ResNet is ImageNet's in RGB. Channels after the third, or all if there are only
            one or two, get the average of the three colors' values.
        remat: what training recomputes instead of storing, see `DilatedResNet`; None uses the
            backbone's own, "activations" for a ResNet given by name.
        activation: None for logits, "softmax" for probabilities as output.
        temperature: positive number by which the logits are divided in inference, so that the
            softmax is as confident as the network is accurate, see
            `keras_psp.evaluation.calibrate`. Class maps, training, losses and metrics don't
            depend on it.
        input_channels: number of bands of the images: 1 for gray, 4 for RGB with near infrared,
            ... Weights for RGB are adapted in the first convolution, see
            `keras_psp.models.bands`.
        input_shape: (height, width, input_channels), with None for sides that vary; None allows
            any size.
        class_names, palette: one name and one (red, green, blue) per class; saved with the
            model, for tables and images.
        weights: None for random weights. For the backbone: "imagenet" (for keras-hub, the
            preset's own) or another name or a file of ImageNet weights. For all layers that fit:
            a preset as in `from_preset`, a file, the folder of a training run, or a `PSPNet`.
            Arguments that aren't given are taken from the weights. Newly initialized layers,
            e.g. the classifier for other classes, are listed on stderr.
        dtype: precision as in Keras layers, e.g. "mixed_bfloat16"; logits, loss and normalization
            are float32 or higher. Default: that of the backbone if it is a `DilatedResNet` or
            `DilatedBackbone`, else Keras' global policy.

    Input:  (batch, height, width, input_channels), RGB 0..255 or in the units of mean and std.
    Output: (batch, height, width, num_classes) float32. With training=True: a dict of logits
        before upsampling, "logits" and, with an auxiliary head, "auxiliary"; the loss upsamples
        them. As a layer of another model: always logits of the images' size, without an
        auxiliary loss.

    Example:
        model = keras_psp.PSPNet(num_classes=150)
        model.compile(metrics=[keras_psp.MeanIoU(150)])
        model.fit(images, masks)

    `keras.models.clone_model` turns any subclass into a plain Functional model, here with both
    heads as outputs, and raises an error for a compiled PSPNet; use
    `PSPNet.from_config(model.get_config())` instead.

    Raises:
        ValueError: if the arguments are invalid; in calls, if the images have another number of
            channels or are too small for the largest bin.
    """

    @with_weights
    def __init__(
        self,
        num_classes: int = 150,
        *,
        backbone: str | DilatedResNet | DilatedBackbone | keras.Model = "resnet50",
        output_stride: Literal[8, 16, 32] | None = None,
        bin_sizes: Sequence[int] = (1, 2, 3, 6),
        pooling: Literal["average", "max"] = "average",
        reduction: int | Literal["auto"] | None = "auto",
        fusion_filters: int | Literal["auto"] = "auto",
        fusion_kernel_size: Literal[1, 3] = 3,
        normalize_global: bool = True,
        classifier_kernel_size: int = 1,
        dropout: float = 0.1,
        aux_weight: float = 0.4,
        aux_filters: int | Literal["auto"] = "auto",
        align_corners: bool = True,
        mean: Sequence[float] | Literal["auto"] = "auto",
        std: Sequence[float] | Literal["auto"] = "auto",
        channel_order: Literal["rgb", "bgr", "auto"] = "auto",
        remat: Remat | None = None,
        activation: Literal["softmax"] | None = None,
        temperature: float = 1.0,
        input_channels: int = 3,
        input_shape: tuple[int | None, int | None, int] | None = None,
        class_names: Sequence[str] | None = None,
        palette: Sequence[Sequence[int]] | None = None,
        weights: "str | os.PathLike | PSPNet | None" = None,
        dtype: str | keras.DTypePolicy | None = None,
        name: str = "pspnet",
    ):
        # Checks; the layers check what they have under the same name. `weights` is the decorator's.
        del weights
        num_classes = checked_integer("num_classes", num_classes, least=2)
        fusion_filters = checked_count("fusion_filters", fusion_filters, "auto")
        aux_filters = checked_count("aux_filters", aux_filters, "auto")
        checked_choice("fusion_kernel_size", fusion_kernel_size, (1, 3))
        kernel_size = checked_choice("classifier_kernel_size", classifier_kernel_size, (1, 3, 5, 7))
        aux_weight = checked_number("aux_weight", aux_weight, least=0)
        activation = checked_choice("activation", activation, (None, "softmax"))
        temperature = checked_number("temperature", temperature, above=0)
        input_channels = checked_integer("input_channels", input_channels, least=1)
        input_shape = checked_input_shape(input_shape, input_channels)
        class_names = checked_class_names(class_names, num_classes)
        palette = checked_colors(palette, num_classes)
        name = checked_string("name", name)
        if dtype is None and isinstance(backbone, DilatedResNet | DilatedBackbone):
            dtype = backbone.dtype_policy
        policy = checked_policy(keras.config.dtype_policy() if dtype is None else dtype)

        # Layers.
        encoder = backbone_layer(backbone, policy, remat, output_stride, input_channels)
        norm = norm_options(encoder)
        normalization = normalization_arguments(encoder, mean, std, channel_order, input_channels)
        images = keras.Input(input_shape, name="image")
        x = ImageNormalization(**normalization, dtype=policy, name="normalization")(images)
        auxiliary, features = encoder(x)
        pyramid = PyramidPoolingModule(
            bin_sizes,
            pooling=pooling,
            reduction=reduction,
            filters=fusion_filters,
            kernel_size=fusion_kernel_size,
            normalize_global=normalize_global,
            align_corners=align_corners,
            dropout=dropout,
            dtype=policy,
            name="pyramid_pooling",
            **norm,
        )
        low_resolution_logits = classifier(
            num_classes, policy=policy, name="classifier", kernel_size=kernel_size
        )(pyramid(features))
        logits = BilinearResize(
            align_corners=pyramid.align_corners, dtype=full_precision(policy), name="upsampling"
        )([low_resolution_logits, images])
        outputs = [logits]
        if aux_weight > 0:
            head = AuxiliaryHead(
                num_classes,
                filters=aux_filters,
                dropout=dropout,
                dtype=policy,
                name="auxiliary_head",
                **norm,
            )
            outputs.append(head(auxiliary))
        super().__init__(inputs=images, outputs=outputs, name=name)
        # Callers get one map; the auxiliary head is seen in training only.
        self.output_names = ["logits"]

        # Configuration.
        self.num_classes = num_classes
        self.bin_sizes = pyramid.bin_sizes
        self.pooling = pyramid.pooling
        self.reduction = pyramid.reduction
        self.fusion_filters = fusion_filters
        self.fusion_kernel_size = pyramid.kernel_size
        self.normalize_global = pyramid.normalize_global
        self.classifier_kernel_size = kernel_size
        self.dropout_rate = pyramid.dropout_rate
        self.aux_weight = aux_weight
        self.aux_filters = aux_filters
        self.align_corners = pyramid.align_corners
        self.activation = activation
        self.temperature = temperature
        self.class_names = class_names
        self.palette = palette
        self.input_channels = input_channels
        self._policy = policy
        self._make_views(images, features, low_resolution_logits)
        check_images(self, images)

    def call(self, images: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Runs the forward pass; `keras_psp.models.outputs` lists what it returns."""
        images = ops.convert_to_tensor(images)
        x = self.get_layer("normalization")(images)
        auxiliary, features = self.backbone(x, training=training)
        x = self.get_layer("pyramid_pooling")(features, training=training)
        logits = self.get_layer("classifier")(x)
        # Inside another model, the heads would mean nothing to that model's loss.
        if is_outermost(self):
            if training:
                outputs = {"logits": logits}
                if self.aux_weight > 0:
                    head = self.get_layer("auxiliary_head")
                    outputs["auxiliary"] = head(auxiliary, training=training)
                return outputs
            if returns_low_resolution():
                return logits
        logits = self.get_layer("upsampling")([logits, images])
        if self.temperature != 1 and not training:
            logits = logits / self.temperature
        return ops.softmax(logits, axis=-1) if self.activation == "softmax" else logits

    def compute_output_spec(
        self, images: Any, training: bool | None = None, mask: Any = None
    ) -> keras.KerasTensor:
        """Spec of the logits at the images' size, although training returns a dict."""
        shape = (*images.shape[:-1], self.num_classes)
        return keras.KerasTensor(shape, dtype=full_precision(self._policy))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """(batch, height, width, num_classes)."""
        return (*input_shape[:-1], self.num_classes)

    @property
    def backbone(self) -> DilatedResNet | DilatedBackbone:
        """The layer that computes the features."""
        return self.get_layer("backbone")

    @classmethod
    def from_preset(cls, name: str | os.PathLike, **arguments: Any) -> "PSPNet":
        """Opens a trained PSPNet by its name, folder or address; every layer is trainable.

        `keras_psp.list_presets()` lists the names. Published checkpoints are downloaded and
        converted once; one preset is bundled with this package. Presets written by
        `save_to_preset` are opened from their folder or a hub; they are verified, and no code in
        them is run.

        Args:
            name: name of a preset, e.g. "pspnet_r50-d8_512x512_160k_ade20k"; its folder; or its
                address: "hf://user/name", "hf://user/name@revision",
                "kaggle://user/model/keras/variation" or "kaggle://.../variation/version".
            arguments: arguments of `PSPNet` that replace the preset's own; with another
                num_classes, the classifier is newly initialized.

        Raises:
            ValueError: if there is no such preset, or if its files are damaged, were changed, or
                come from another library or a later version.
            ImportError: if a hub's library isn't installed; the message names the extra.
            FileNotFoundError, PermissionError, ConnectionError: if the hub has no such
                repository, asks for a login, or can't be reached.
        """
        return cls(weights=PresetName(os.fspath(name)), **arguments)

    def save_to_preset(
        self,
        folder: str | os.PathLike,
        *,
        license: str | None = None,
        facts: Mapping[str, Any] | None = None,
        weights_format: Literal["h5", "safetensors"] = "h5",
    ) -> None:
        """Saves the model as a preset: a folder to open with `from_preset` or upload to a hub.

        It contains config.json; metadata.json, with the SHA-256 of the files; the weights; and
        README.md, a model card generated from the model and the facts. An existing preset is
        replaced once the new one is complete, unless its folder has other files as well. The
        layout is that of keras-hub.

        Args:
            folder: the folder to write: new, empty, or an existing preset of this package.
            license: name of the weights' license, e.g. "apache-2.0".
            facts: facts for the card, any of: dataset, split, mean_iou (0 to 1),
                training_images, epochs, crop_size, image_size (height and width), weights (the
                initial ones), recipe, command; `keras_psp.training.run_facts` reads them from a
                training run.
            weights_format: "h5" for model.weights.h5, "safetensors" for model.safetensors.

        Raises:
            ValueError: if a fact is unknown or wrong, the folder contains something else, or
                the backbone has layers that can't be opened without their code.
            OSError: if the folder can't be written.

        Example:
            model.save_to_preset("mine", license="apache-2.0", facts={"dataset": "CamVid"})
            same = keras_psp.PSPNet.from_preset("mine")
        """
        save_to_preset(self, folder, license=license, facts=facts, weights_format=weights_format)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, and the paths of frozen layers."""
        normalization = self.get_layer("normalization").get_config()
        return {
            "num_classes": self.num_classes,
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "bin_sizes": self.bin_sizes,
            "pooling": self.pooling,
            "reduction": self.reduction,
            "fusion_filters": self.fusion_filters,
            "fusion_kernel_size": self.fusion_kernel_size,
            "normalize_global": self.normalize_global,
            "classifier_kernel_size": self.classifier_kernel_size,
            "dropout": self.dropout_rate,
            "aux_weight": self.aux_weight,
            "aux_filters": self.aux_filters,
            "align_corners": self.align_corners,
            "mean": normalization["mean"],
            "std": normalization["std"],
            "channel_order": normalization["channel_order"],
            "activation": self.activation,
            **({} if self.input_channels == 3 else {"input_channels": self.input_channels}),
            "temperature": self.temperature,
            "input_shape": self.input_shape[1:],
            "class_names": self.class_names,
            "palette": self.palette,
            "dtype": self._policy.name,
            "name": self.name,
            "frozen": [layer.path for layer in self._inner_layers() if not layer.trainable],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "PSPNet":
        """Creates the model from `get_config`, with new weights and the same frozen layers."""
        config = dict(config)
        # Never in a file of ours: these would open other files, or fetch them.
        config.pop("weights", None)
        backbone = config.get("backbone")
        if isinstance(backbone, str) and backbone.startswith(HUB):
            raise ValueError(
                f"a saved network can't open a preset as its backbone, here {backbone!r}; don't "
                "use it unless you know who made it."
            )
        if isinstance(backbone, dict):
            config["backbone"] = keras.saving.deserialize_keras_object(
                backbone, custom_objects=custom_objects
            )
        frozen = config.pop("frozen", ())
        model = cls(**config)
        for layer in model._inner_layers() if frozen else ():
            layer.trainable = layer.path not in frozen
        return model

    def _inner_layers(self):
        """All layers at every depth that have a path, each before those inside it."""
        return [layer for layer in self._flatten_layers(include_self=False) if layer.path]
