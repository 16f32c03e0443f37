"""PSPNet as a functional Keras model (paper, figure 3; semseg/model/pspnet.py)."""

import contextlib
import contextvars
import functools
import inspect
import math
import os
import threading
import types
import weakref
from collections.abc import Sequence
from typing import Literal

import keras
import numpy as np
from keras import ops

from keras_psp.imagenet import IMAGENET_MEAN, IMAGENET_STD
from keras_psp.layers.auxiliary import AuxiliaryHead, classifier
from keras_psp.layers.backbone import DilatedBackbone
from keras_psp.layers.chunks import upsampled_classes
from keras_psp.layers.normalization import ImageNormalization, full_precision
from keras_psp.layers.pyramid import PyramidPoolingModule
from keras_psp.layers.resampling import BilinearResize, resize_bilinear, spatial_size
from keras_psp.layers.resnet import BLOCKS, DilatedResNet
from keras_psp.losses.crossentropy import UpsampledCrossentropy
from keras_psp.metrics.mean_iou import MeanIoU
from keras_psp.models.accumulation import accumulated_step
from keras_psp.models.machines import local_values, on_several_machines, stepwise_function
from keras_psp.optimizers.sgd import SGD

# What a call without training returns: "logits", "low_resolution" or "classes". Replicas
# are threads that take turns in the middle of a step, so an attribute would not do.
_RETURNS = contextvars.ContextVar("returns", default="logits")
# The model whose `__call__` leads to the running `call`.
_CALLED = contextvars.ContextVar("called", default=None)
# Of a model's `predict`, whose function changes with what it returns. Not attributes: a lock
# can't be copied or saved.
_LOCKS: "weakref.WeakKeyDictionary[keras.Model, threading.RLock]" = weakref.WeakKeyDictionary()
_NEW_LOCK = threading.Lock()


def _lock_of(model):
    with _NEW_LOCK:
        return _LOCKS.setdefault(model, threading.RLock())


def _open_weights(weights, given):
    """Trained weights come from the edge of the package, which puts its opener here."""
    raise RuntimeError(f"weights={weights!r}: import keras_psp, not its parts alone.")


def weights_opener(opener):
    """Set what `PSPNet(weights=...)` asks: opener(weights, given arguments) -> source.

    The source has `arguments`, for what the user didn't give, and `load(model)`.
    """
    global _open_weights
    _open_weights = opener


class PresetName(str):
    """A name that can't be a file's."""


def _with_weights(init):
    """Let `weights` decide the arguments that aren't given, and load them."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def initialize(self, *args, weights=None, **kwargs):
        if weights is None:
            init(self, *args, **kwargs)
            return
        given = dict(signature.bind(self, *args, **kwargs).arguments)
        given.pop("self")
        source = _open_weights(weights, given)
        init(self, **source.arguments)
        source.load(self)

    # Keras reads the arguments of a model's __init__ without looking into wrappers.
    initialize.__signature__ = signature
    return initialize


@keras.saving.register_keras_serializable("keras_psp")
class PSPNet(keras.Model):
    """Pyramid Scene Parsing Network (Zhao et al., CVPR 2017).

    Takes RGB images 0..255 of any size and gives logits of that size. Training takes one
    integer mask per image:

        model = PSPNet(num_classes=150)
        model.compile(metrics=[MeanIoU(150)])
        model.fit(images, masks)

    Args:
        num_classes: number of classes, at least 2.
        backbone: "resnet18", "resnet34", "resnet50", "resnet101", "resnet152" or
            "resnet269", a `DilatedResNet` (other stem, output stride, ...), any model of
            keras.applications or keras-hub, or a `DilatedBackbone` around one.
        bin_sizes, pooling, reduction, dropout: see `PyramidPoolingModule`;
            bin_sizes=() is the dilated FCN baseline.
        fusion_filters: channels after the fusion convolution, "auto" is a quarter of the
            backbone's (512 for resnet50 and deeper).
        fusion_kernel_size, normalize_global: see `PyramidPoolingModule`.
        classifier_kernel_size: 1, or 3 as in segmentation_models.pytorch.
        aux_weight: weight of the auxiliary loss, 0.4 in the paper; 0 leaves the
            auxiliary head out.
        aux_filters: channels of the auxiliary head, "auto" is a quarter of its input's.
        align_corners: how the pyramid and the logits are upsampled: True in semseg and
            Caffe, False in mmsegmentation.
        mean, std, channel_order: see `ImageNormalization`; "auto" is the backbone's own,
            for a ResNet ImageNet's in RGB.
        activation: None for logits, "softmax" for probabilities as output.
        input_shape: (height, width, 3); None where any size may come.
        class_names, palette: one name and one (red, green, blue) a class; kept with the
            model for tables and pictures.
        weights: None for random ones; "imagenet" or another name or file of an ImageNet
            ResNet for the backbone; the name of a preset, a file or a `PSPNet` for all
            that fits, whose arguments are taken where none are given. What starts anew
            (the classifier of other classes) is said on stderr.
        dtype: precision as in Keras layers, "mixed_bfloat16" for instance; logits,
            loss and normalisation stay float32. Default: the backbone's, if that is a
            layer, else Keras' global one.

    Input:  (batch, height, width, 3), 0..255.
    Output: (batch, height, width, num_classes) float32. With training=True: a dict of
        the stride-8 logits, "logits" and, with an auxiliary head, "auxiliary"; the loss
        upsamples them. As a layer of another model: logits of the images' size always,
        and no auxiliary loss.

    `keras.models.clone_model` makes a plain Functional of any subclass; use
    `PSPNet.from_config(model.get_config())`.

    Raises:
        ValueError: for arguments that make no PSPNet, and on calls for images that are
            not RGB or too small for the largest bin.
    """

    @_with_weights
    def __init__(
        self,
        num_classes: int = 150,
        *,
        backbone: str | DilatedResNet | DilatedBackbone | keras.Model = "resnet50",
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
        activation: Literal["softmax"] | None = None,
        input_shape: tuple[int | None, int | None, int] = (None, None, 3),
        class_names: Sequence[str] | None = None,
        palette: Sequence[Sequence[int]] | None = None,
        weights: "str | os.PathLike | PSPNet | None" = None,
        dtype: str | keras.DTypePolicy | None = None,
        name: str = "pspnet",
    ):
        del weights  # taken by the decorator
        if not isinstance(num_classes, int | np.integer) or num_classes < 2:
            raise ValueError(
                f"num_classes={num_classes!r}; a mask needs an integer of at least 2 classes."
            )
        if activation not in (None, "softmax"):
            raise ValueError(f"activation={activation!r} is unknown; choose None or 'softmax'.")
        for kind, values in (("class_names", class_names), ("palette", palette)):
            if values is not None and len(values) != num_classes:
                raise ValueError(
                    f"{kind} has {len(values)} entries for num_classes={num_classes}; give one "
                    "a class."
                )
        if aux_weight < 0:
            raise ValueError(f"aux_weight={aux_weight} is negative; 0 drops the auxiliary head.")
        if dtype is None and isinstance(backbone, DilatedResNet | DilatedBackbone):
            dtype = backbone.dtype_policy
        policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
        encoder = _backbone(backbone, policy)
        norm = {key: getattr(encoder, key) for key in ("epsilon", "momentum", "synchronized")}

        normalization = _normalization(encoder, mean, std, channel_order)

        images = keras.Input(tuple(input_shape), name="image")
        x = ImageNormalization(**normalization, dtype=policy, name="normalization")(images)
        auxiliary, features = encoder(x)
        x = PyramidPoolingModule(
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
        )(features)
        logits = classifier(
            num_classes, policy=policy, name="classifier", kernel_size=classifier_kernel_size
        )(x)
        logits = BilinearResize(
            align_corners=align_corners, dtype=full_precision(policy), name="upsampling"
        )([logits, images])
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
        # What a caller gets is one map; the auxiliary head is seen in training only.
        self.output_names = ["logits"]

        self.num_classes = int(num_classes)
        self.bin_sizes = tuple(bin_sizes)
        self.pooling = pooling
        self.reduction = reduction
        self.fusion_filters = fusion_filters
        self.fusion_kernel_size = fusion_kernel_size
        self.normalize_global = normalize_global
        self.classifier_kernel_size = classifier_kernel_size
        self.dropout_rate = dropout
        self.aux_weight = aux_weight
        self.aux_filters = aux_filters
        self.align_corners = align_corners
        self.activation = activation
        self.class_names = None if class_names is None else [str(name) for name in class_names]
        self.palette = None if palette is None else [[int(n) for n in rgb] for rgb in palette]
        self._policy = policy
        # What `predict_step` returns, and the traced functions that return something else.
        self._predicts = "logits"
        self._functions = types.SimpleNamespace()

    @classmethod
    def from_preset(cls, name: str, **arguments) -> "PSPNet":
        """A trained PSPNet by its name; every layer trainable.

        A published file is fetched and converted once, and one comes with this package; see
        `keras_psp.list_presets()`.

        Args:
            name: of the preset, as "pspnet_r50-d8_512x512_160k_ade20k".
            arguments: of `PSPNet`, in place of the preset's own; another num_classes
                gives a new classifier.
        """
        return cls(weights=PresetName(name), **arguments)

    @property
    def backbone(self) -> DilatedResNet | DilatedBackbone:
        """The layer that makes the features."""
        return self.get_layer("backbone")

    @property
    def input_spec(self):
        """None: `__call__` checks the images itself, in words."""
        return None

    def __call__(self, images, *args, **kwargs):
        # Here and not in `call`, whose errors Keras wraps in a page of arguments.
        self._check_images(images)
        token = _CALLED.set(self)
        try:
            # Not the bare super(), which AutoGraph can't follow and warns of.
            return super(PSPNet, self).__call__(images, *args, **kwargs)  # noqa: UP008
        finally:
            _CALLED.reset(token)

    def call(self, images, training=None, mask=None):
        images = ops.convert_to_tensor(images)
        x = self.get_layer("normalization")(images)
        auxiliary, features = self.backbone(x, training=training)
        x = self.get_layer("pyramid_pooling")(features, training=training)
        logits = self.get_layer("classifier")(x)
        # Inside another model the heads would mean nothing to that model's loss.
        # (Keras' JAX trainer calls `call` itself; asking for the context there would
        # make one that nobody ends.)
        outermost = _CALLED.get() is not self or self._get_call_context().entry_layer is self
        if training and outermost:
            outputs = {"logits": logits}
            if self.aux_weight > 0:
                head = self.get_layer("auxiliary_head")
                outputs["auxiliary"] = head(auxiliary, training=training)
            return outputs
        returns = _RETURNS.get() if outermost else "logits"
        if returns == "low_resolution":
            return logits
        if returns == "classes":
            return upsampled_classes(logits, spatial_size(images), align_corners=self.align_corners)
        logits = self.get_layer("upsampling")([logits, images])
        return ops.softmax(logits, axis=-1) if self.activation == "softmax" else logits

    def compute_output_spec(self, images, training=None, mask=None):
        shape = (*images.shape[:-1], self.num_classes)
        return keras.KerasTensor(shape, dtype=full_precision(self._policy))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.num_classes)

    def _check_images(self, images):
        """Refuse images that are not RGB or too small, saying which would do."""
        if not hasattr(images, "shape") and not isinstance(images, list):
            raise ValueError(
                f"images are a {type(images).__name__}; PSPNet takes one array or tensor, "
                "(batch, height, width, 3)."
            )
        shape = tuple(np.shape(images) if isinstance(images, list) else images.shape)
        if len(shape) != 4 or shape[-1] != 3:
            raise ValueError(
                f"images have shape {shape}; PSPNet takes RGB batches (batch, height, width, 3). "
                + _channel_remedy(shape)
            )
        stride = getattr(self.backbone, "output_stride", 8)
        largest = max(self.bin_sizes, default=1)
        if any(n is not None and math.ceil(n / stride) < largest for n in shape[1:3]):
            raise ValueError(
                f"images of {shape[1]}x{shape[2]} give a feature map smaller than the largest "
                f"of bin_sizes={self.bin_sizes}; use images of at least "
                f"{stride * (largest - 1) + 1} pixels a side, or smaller bins."
            )

    # Training.

    def compile(
        self, optimizer=None, loss=None, metrics=None, *, gradient_accumulation_steps=1, **kwargs
    ):
        """As `keras.Model.compile`, with the paper's choices as defaults.

        Args:
            optimizer: default `keras_psp.SGD()`.
            loss: default `UpsampledCrossentropy(ignore_class=255)`. Stock losses get
                logits upsampled to the mask; they need `from_logits=True`.
            metrics: any; a `keras_psp.MeanIoU` gets class ids, made without holding the
                full-size logits, others the full-size logits.
            gradient_accumulation_steps: parts in which a batch is computed, one after the
                other, for the memory of one; their gradients are averaged (each part's loss
                is the mean over its own pixels). One batch is one step still, of the
                schedule as of the data, also under a strategy. (That of Keras' optimizers
                counts every part as a step and fails there.)
        """
        parts = gradient_accumulation_steps
        if isinstance(parts, bool) or not isinstance(parts, int | np.integer) or parts < 1:
            raise ValueError(
                f"gradient_accumulation_steps={parts!r} must be an integer of at least 1."
            )
        optimizer = SGD() if optimizer is None else keras.optimizers.get(optimizer)
        scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        if self._policy.name == "mixed_float16" and kwargs.get("auto_scale_loss", True):
            # Keras does so for a global policy only; float16 gradients vanish without.
            optimizer = optimizer if scaled else keras.optimizers.LossScaleOptimizer(optimizer)
        if kwargs.get("loss_weights") is not None:
            raise ValueError(
                f"loss_weights={kwargs['loss_weights']!r}: PSPNet has one loss; the auxiliary "
                "head's share is PSPNet(aux_weight=...)."
            )
        if isinstance(loss, dict | list | tuple):
            raise ValueError(f"loss={loss!r}: PSPNet has one output; give one loss.")
        if self._outside_scope():
            raise ValueError(
                "the model was made outside the tf.distribute strategy in whose scope it is "
                "compiled; make and compile it inside `with strategy.scope():`."
            )
        loss = UpsampledCrossentropy() if loss is None else loss
        if isinstance(loss, str):
            loss = keras.losses.get(loss)
        if isinstance(loss, UpsampledCrossentropy):
            if loss.align_corners not in (None, self.align_corners):
                raise ValueError(
                    f"the loss has align_corners={loss.align_corners} but the model "
                    f"align_corners={self.align_corners}; leave the loss' at None."
                )
            # A copy, as the caller's may go into another model too.
            config = {**loss.get_config(), "align_corners": self.align_corners}
            loss = type(loss).from_config(config)
        elif not getattr(loss, "from_logits", callable(loss) and not _is_stock_function(loss)):
            raise ValueError(
                f"loss={loss!r} expects probabilities but PSPNet trains on logits; use "
                "keras_psp.UpsampledCrossentropy() or "
                "keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)."
            )
        ignored = getattr(loss, "ignore_class", None)
        if ignored is not None and 0 <= ignored < self.num_classes:
            raise ValueError(
                f"the loss ignores label {ignored}, which is one of the {self.num_classes} "
                "classes; give the loss another ignore_class, -1 for instance."
            )
        weights = getattr(loss, "class_weights", None)
        if weights is not None and len(weights) != self.num_classes:
            raise ValueError(
                f"the loss has {len(weights)} class_weights but the model {self.num_classes} "
                "classes; give one a class."
            )
        every_metric = keras.tree.flatten([metrics, kwargs.get("weighted_metrics")])
        for metric in every_metric:
            if isinstance(metric, MeanIoU) and metric.num_classes != self.num_classes:
                raise ValueError(
                    f"MeanIoU({metric.num_classes}) cannot count a model of "
                    f"{self.num_classes} classes; use MeanIoU({self.num_classes})."
                )
        # The same object serves the auxiliary head.
        self._loss_function = loss if isinstance(loss, keras.losses.Loss) else _FunctionLoss(loss)
        self._metrics_take_classes = all(
            getattr(metric, "accepts_class_ids", False)
            for metric in every_metric
            if metric is not None
        )
        self._functions = types.SimpleNamespace()
        self._parts = int(parts)
        super().compile(optimizer=optimizer, loss=loss, metrics=metrics, **kwargs)

    def _outside_scope(self):
        """Whether this model belongs to another `tf.distribute` strategy than the current."""
        if keras.backend.backend() != "tensorflow":
            return False
        import tensorflow as tf

        return tf.distribute.has_strategy() and (
            self._distribute_strategy is not tf.distribute.get_strategy()
        )

    def get_compile_config(self):
        config = super().get_compile_config()
        return {**config, "gradient_accumulation_steps": self._parts} if config else config

    def compile_from_config(self, config):
        config = keras.saving.deserialize_keras_object(config)
        self.compile(**config)
        if getattr(self, "optimizer", None) is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        logits, auxiliary = y_pred, None
        if isinstance(y_pred, dict):
            logits, auxiliary = y_pred["logits"], y_pred.get("auxiliary")
        if training:
            _check_sizes(x, y)
        fused = isinstance(self._loss_function, UpsampledCrossentropy)
        if fused and not training:
            loss = self._loss_function.value(y, logits, sample_weight)
            return loss + sum(self.losses)
        if not fused:
            logits = self._at_mask_size(logits, y)
        loss = super().compute_loss(x, y, logits, sample_weight, training)
        if auxiliary is not None:
            if not fused:
                auxiliary = self._at_mask_size(auxiliary, y)
            loss = loss + self.aux_weight * self._loss_function(y, auxiliary, sample_weight)
        return loss

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        logits = y_pred["logits"] if isinstance(y_pred, dict) else y_pred
        if self._compile_metrics is not None:
            if self._metrics_take_classes:
                size = spatial_size(y)
                logits = upsampled_classes(logits, size, align_corners=self.align_corners)
            else:
                logits = self._at_mask_size(logits, y)
        return super().compute_metrics(x, y, logits, sample_weight)

    def _at_mask_size(self, logits, mask):
        return resize_bilinear(logits, spatial_size(mask), align_corners=self.align_corners)

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        verbose="auto",
        callbacks=None,
        validation_split=0.0,
        validation_data=None,
        shuffle=True,
        class_weight=None,
        **kwargs,
    ):
        """As `keras.Model.fit`; arrays are checked first, and a loss that is no number stops it.

        Raises:
            ValueError: before training, for masks whose size differs from their images'
                or that hold a label that is neither a class nor ignored.
            FloatingPointError: within ten steps of a loss that is NaN or infinite.
        """
        if class_weight is not None:
            raise ValueError(
                f"class_weight={class_weight!r}: Keras weighs whole examples by it, not pixels; "
                "give UpsampledCrossentropy(class_weights=...), or sample_weight, one "
                "(height, width) map an image."
            )
        self._check_arrays(x, y, same_size=True)
        if isinstance(validation_data, tuple):
            self._check_arrays(*validation_data[:2])
        if not hasattr(x, "shape") and not isinstance(x, keras.utils.PyDataset):
            # Keras shuffles arrays; what comes in batches has an order of its own, and
            # the default True only makes Keras warn.
            shuffle = False
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = [*keras.tree.flatten(callbacks or []), StopOnInvalidLoss(self)]
        return super().fit(
            x,
            y,
            batch_size=batch_size,
            epochs=epochs,
            verbose=verbose,
            callbacks=callbacks,
            validation_split=validation_split,
            validation_data=validation_data,
            shuffle=shuffle,
            **kwargs,
        )

    def evaluate(self, x=None, y=None, *args, **kwargs):
        """As `keras.Model.evaluate`, at the masks' size, which may differ from the images'.

        The logits at full size are never held together, unless a metric asks for them.
        """
        self._check_arrays(x, y)
        return super().evaluate(x, y, *args, **kwargs)

    # One step, in the thread of its replica: Keras' JAX backend passes (state, data).

    def train_step(self, *args):
        if self._parts > 1:
            return accumulated_step(self, args, self._parts)
        return super().train_step(*args)

    def test_step(self, *args):
        with returning("low_resolution"):
            return super().test_step(*args)

    def predict_step(self, *args):
        with returning(self._predicts):
            return super().predict_step(*args)

    # Keras' own two of these fail where a strategy spans several machines, and the first also
    # where replicas have pictures of different sizes.

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        if self._distribute_strategy is None:
            return
        if iterator is not None:
            for _, _, batches in iterator:
                data_batch = local_values(self._distribute_strategy, next(batches))
                break
        with self._distribute_strategy.scope():
            self._symbolic_build(data_batch=data_batch)

    def _make_function(self, step_function, *args, **kwargs):
        if self._several_machines() is not None:
            return stepwise_function(self, step_function)
        return super()._make_function(step_function, *args, **kwargs)

    def _several_machines(self):
        """The model's strategy, if it is one of several machines."""
        if keras.backend.backend() != "tensorflow":
            return None
        strategy = self.distribute_strategy
        return strategy if on_several_machines(strategy) else None

    def quantize(self, *args, **kwargs):
        self._functions = types.SimpleNamespace()
        return super().quantize(*args, **kwargs)

    def predict(self, x, *args, **kwargs):
        """As `keras.Model.predict`; arrays are checked first."""
        if hasattr(x, "shape"):
            self._check_images(x)
        with _lock_of(self):
            return super().predict(x, *args, **kwargs)

    def predict_classes(
        self,
        images,
        *,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        steps: int | None = None,
    ) -> np.ndarray:
        """Class of every pixel, without holding all classes at full size.

        Args:
            images: whatever `predict` takes, RGB 0..255.
            batch_size, verbose, steps: as in `predict`.

        Returns:
            (n, height, width) int32.
        """
        with self._predicting("classes"):
            return self.predict(images, batch_size=batch_size, verbose=verbose, steps=steps)

    def predict_low_resolution(self, images) -> np.ndarray:
        """Logits before they are upsampled, of one batch.

        Args:
            images: (batch, height, width, 3), RGB 0..255.

        Returns:
            (batch, ceil(height / stride), ceil(width / stride), num_classes) float32 or float64.
        """
        self._check_images(images)
        with self._predicting("low_resolution"):
            found = self.predict_on_batch(images)
        return np.asarray(found, full_precision(self._policy))

    @contextlib.contextmanager
    def _predicting(self, what):
        """Let `predict` return something else, by a traced function of its own."""
        with _lock_of(self):
            usual, before = self.predict_function, self._predicts  # type: ignore[has-type]
            self.predict_function, self._predicts = getattr(self._functions, what, None), what
            try:
                yield
            finally:
                setattr(self._functions, what, self.predict_function)
                self.predict_function, self._predicts = usual, before

    def _check_arrays(self, images, masks, *, same_size=False):
        """Check arrays before long work; other sources are checked where they are made."""
        if not (hasattr(images, "shape") and hasattr(masks, "shape")):
            return
        self._check_images(images)
        shape, mask_shape = tuple(images.shape), tuple(masks.shape)
        if shape[0] != mask_shape[0]:
            raise ValueError(f"{shape[0]} images but {mask_shape[0]} masks; give one each.")
        if same_size:
            _check_sizes(images, masks)
        if not self.compiled:
            return
        ignored = getattr(self._loss_function, "ignore_class", None)
        for index, mask in enumerate(masks):
            mask = ops.convert_to_numpy(mask)
            bad = (mask < 0) | (mask >= self.num_classes)
            if ignored is not None:
                bad &= mask != ignored
            if bad.any():
                raise ValueError(
                    f"mask {index} holds the label {mask[bad].flat[0]}, which is neither one of "
                    f"the {self.num_classes} classes (0..{self.num_classes - 1}) nor the "
                    f"ignored label ({ignored}); relabel the mask, raise num_classes, or name "
                    "it as the loss' ignore_class."
                )

    # Saving.

    def get_config(self):
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
            "input_shape": self.input_shape[1:],
            "class_names": self.class_names,
            "palette": self.palette,
            "dtype": self._policy.name,
            "name": self.name,
            "frozen": [layer.path for layer in self._inner_layers() if not layer.trainable],
        }

    def _inner_layers(self):
        """All layers at every depth that have a path, a layer before those inside it."""
        return [layer for layer in self._flatten_layers(include_self=False) if layer.path]

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        config.pop("weights", None)  # never in a file of ours: it would open others
        if isinstance(config.get("backbone"), dict):
            config["backbone"] = keras.saving.deserialize_keras_object(
                config["backbone"], custom_objects=custom_objects
            )
        frozen = config.pop("frozen", ())
        model = cls(**config)
        for layer in model._inner_layers() if frozen else ():
            layer.trainable = layer.path not in frozen
        return model


class StopOnInvalidLoss(keras.callbacks.Callback):
    """Raises FloatingPointError when the loss is NaN or infinite, with the likely causes."""

    # Reading the loss waits for the step, so not after every one.
    EVERY = 10

    def __init__(self, network):
        super().__init__()
        self._network = network
        self._next = 0

    def on_epoch_begin(self, epoch, logs=None):
        self._next = 0

    def on_train_batch_end(self, batch, logs=None):
        if batch >= self._next:  # steps_per_execution may leap over any one number
            self._next = batch + self.EVERY
            self._check(logs, f"step {batch + 1}")

    def on_epoch_end(self, epoch, logs=None):
        self._check(logs, f"epoch {epoch + 1}")

    def _check(self, logs, where):
        loss = (logs or {}).get("loss")
        if loss is None or math.isfinite(float(loss)):
            return
        ignored = getattr(self._network._loss_function, "ignore_class", None)
        raise FloatingPointError(
            f"the loss is {float(loss)} by {where}: either a mask holds a label outside "
            f"0..{self._network.num_classes - 1} other than the ignored {ignored}, or training "
            "diverged (lower the learning rate or add warmup_steps); the weights are unusable, "
            "go back to the last saved ones."
        )


def _backbone(backbone, policy):
    """A layer named "backbone", which optimizers know it by."""
    names = [f"resnet{depth}" for depth in BLOCKS]
    if isinstance(backbone, str) and backbone in names:
        return DilatedResNet(int(backbone.removeprefix("resnet")), dtype=policy, name="backbone")
    if isinstance(backbone, keras.Model):
        return DilatedBackbone(backbone, dtype=policy, name="backbone")
    if not isinstance(backbone, DilatedResNet | DilatedBackbone):
        raise ValueError(
            f"backbone={backbone!r} is unknown; choose one of {', '.join(names)}, or pass a "
            "keras_psp.DilatedResNet, a keras_psp.DilatedBackbone or a model of "
            "keras.applications."
        )
    if backbone.name == "backbone" and backbone.dtype_policy.name == policy.name:
        return backbone
    if isinstance(backbone, DilatedBackbone):
        config = {**backbone.get_config(), "name": "backbone", "dtype": policy.name}
        return DilatedBackbone(**{**config, "model": backbone.features})  # keeps its weights
    if backbone.built:
        raise ValueError(
            f"the backbone with weights is named {backbone.name!r} and computes in "
            f"{backbone.dtype_policy.name}; make it with name='backbone' and "
            f"dtype={policy.name!r}."
        )
    config = {**backbone.get_config(), "name": "backbone", "dtype": policy.name}
    return type(backbone).from_config(config)


def _normalization(encoder, mean, std, channel_order):
    """Arguments of `ImageNormalization`, the backbone's own where "auto"."""
    own = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD, "channel_order": "rgb"}
    if isinstance(encoder, DilatedBackbone):
        own = encoder.normalization or {"channel_order": "rgb"}
    given = {"mean": mean, "std": std, "channel_order": channel_order}
    chosen = {
        key: own.get(key) if isinstance(value, str) and value == "auto" else value
        for key, value in given.items()
    }
    if chosen["mean"] is None or chosen["std"] is None:
        raise ValueError(
            f"how {encoder.features.name} wants its images isn't known; pass mean=, std= (on the "
            "scale 0..255) and channel_order= as it was trained."
        )
    return chosen


def _channel_remedy(shape):
    if len(shape) == 3:
        return "Add the batch: images[None]."
    channels = shape[-1] if shape else None
    return {
        1: "Repeat the grey channel: np.repeat(images, 3, axis=-1).",
        4: "Drop the alpha channel: images[..., :3].",
    }.get(channels, "Convert the images to RGB.")


def _check_sizes(images, masks):
    """Refuse training masks that are not their images' size."""
    size, mask_size = tuple(images.shape[1:3]), tuple(masks.shape[1:3])
    known = all(n is not None for n in (*size, *mask_size))
    if known and size != mask_size:
        raise ValueError(
            f"masks are {mask_size[0]}x{mask_size[1]} but their images {size[0]}x{size[1]}; "
            "resize the masks (nearest neighbour) or the images so that they match."
        )
    if not known and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.debugging.assert_equal(
            tf.shape(images)[1:3],
            tf.shape(masks)[1:3],
            "masks differ in size from their images; resize the masks (nearest neighbour) or "
            "the images so that they match.",
        )


@contextlib.contextmanager
def returning(what):
    token = _RETURNS.set(what)
    try:
        yield
    finally:
        _RETURNS.reset(token)


class _FunctionLoss(keras.losses.Loss):
    """A plain function of labels and logits, reduced and weighted like a `Loss`."""

    def __init__(self, function):
        super().__init__(name="loss")
        self._function = function

    def call(self, y_true, y_pred):
        return self._function(y_true, y_pred)


def _is_stock_function(loss):
    return getattr(loss, "__module__", "").startswith("keras.")
