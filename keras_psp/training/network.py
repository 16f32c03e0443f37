"""Builds and compiles the network of a recipe."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_psp.arguments import checked_integer
from keras_psp.data import BandStatistics
from keras_psp.data.bands import channels_of
from keras_psp.layers.resnet import DilatedResNet
from keras_psp.losses import get as loss_by_name
from keras_psp.metrics import MeanIoU
from keras_psp.models import PSPNet
from keras_psp.models.bands import normalize_bands
from keras_psp.models.checks import check_weights, smallest_side
from keras_psp.optimizers import SGD, AdamW
from keras_psp.schedules import PolyLearningRate
from keras_psp.training.recipes import Recipe
from keras_psp.weights.opening import open_weights
from keras_psp.weights.transfer import NetworkWeights


def schedule(
    recipe: Recipe, steps_per_epoch: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Returns the learning-rate schedule of a recipe."""
    steps, rate = recipe.epochs * steps_per_epoch, recipe.learning_rate
    warmup = checked_integer("warmup_steps", recipe.warmup_steps, least=0, most=steps - 1)
    if recipe.schedule == "poly":
        return PolyLearningRate(rate, steps, power=recipe.power, warmup_steps=warmup)
    cosine = keras.optimizers.schedules.CosineDecay
    if not warmup:
        return cosine(rate, steps)
    return cosine(0.0, steps - warmup, warmup_target=rate, warmup_steps=warmup)


def build(
    recipe: Recipe,
    source: Any,
    steps_per_epoch: int,
    class_weights: Sequence[float] | None = None,
    bands: BandStatistics | None = None,
    *,
    loss: Any = None,
    optimizer: Callable[..., keras.optimizers.Optimizer] | None = None,
) -> tuple[PSPNet, MeanIoU]:
    """Builds and compiles the model of a recipe, and returns it with its `MeanIoU` metric.

    `bands` are the statistics by which images with bands other than RGB are normalized, unless
    the recipe's weights are those of a network that was trained on such bands. `loss` and
    `optimizer`, a function of the schedule, replace the recipe's.
    """
    model, initial = _network(recipe, source)
    # The recipe doesn't know how backbones other than ResNets round the sizes of their maps.
    if np.min(recipe.crop_size) < (least := smallest_side(model)):
        raise ValueError(
            f"crop_size is {recipe.crop_size}; its sides must be at least {least} for "
            f"backbone={recipe.backbone!r} at output_stride={recipe.output_stride}."
        )
    # A network that was trained on other bands keeps the normalization that it learned with.
    trained_on_bands = isinstance(initial, NetworkWeights) and initial.model.input_channels != 3
    if bands is not None and not trained_on_bands:
        normalize_bands(model, bands.mean, bands.std)
    if recipe.frozen_batch_norm:
        for layer in model.backbone._flatten_layers():
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False
    average = {"use_ema": True, "ema_momentum": recipe.ema} if recipe.ema else {}
    options: dict[str, Any] = {
        "weight_decay": recipe.weight_decay,
        "head_multiplier": recipe.head_multiplier,
        "layer_decay": recipe.layer_decay,
        **average,
    }
    rate = schedule(recipe, steps_per_epoch)
    if optimizer is not None:
        own = optimizer(rate)
    elif recipe.optimizer == "adamw":
        own = AdamW(rate, **options)
    else:
        own = SGD(rate, momentum=recipe.momentum, **options)
    if loss is None:
        loss = loss_by_name(
            recipe.loss,
            ignore_class=source.ignore_class,
            class_weights=class_weights,
            hard_pixels=recipe.hard_pixels,
            hard_threshold=recipe.hard_threshold,
            label_smoothing=recipe.label_smoothing,
        )
    metric = MeanIoU(source.num_classes, ignore_class=source.ignore_class)
    model.compile(
        own,
        loss,
        metrics=[metric],
        gradient_accumulation_steps=recipe.gradient_accumulation_steps,
        jit_compile=recipe.jit_compile,
    )
    # Creates momenta and moving averages, so that a checkpoint can be restored into them.
    model.optimizer.build(model.trainable_variables)
    return model, metric


def _network(recipe, source):
    """Returns the network, and the opened weights that it starts from."""
    arguments: dict[str, Any] = {
        "num_classes": source.num_classes,
        "class_names": list(source.class_names),
        "palette": np.asarray(source.palette).tolist(),
        "temperature": 1.0,  # not that of the weights, which are about to change
        "dtype": recipe.dtype,
        "backbone": recipe.backbone,
        **({} if channels_of(source) == 3 else {"input_channels": channels_of(source)}),
        **{n: getattr(recipe, n) for n in ("bin_sizes", "pooling", "dropout", "aux_weight")},
    }
    if recipe.reduction != "auto":
        arguments["reduction"] = recipe.reduction
    options: dict[str, Any] = {"output_stride": recipe.output_stride}
    if recipe.has_resnet:
        options |= {"synchronized": recipe.synchronized_batch_norm, "remat": recipe.remat}
        if recipe.num_stages < 4:  # otherwise those of the weights
            options["num_stages"] = recipe.num_stages
    else:
        arguments |= options
    if recipe.weights is None:
        if recipe.has_resnet:
            if recipe.stem_filters is not None:
                options["stem_filters"] = recipe.stem_filters
            depth = int(recipe.backbone.removeprefix("resnet"))
            arguments["backbone"] = DilatedResNet(
                depth, **options, dtype=recipe.dtype, name="backbone"
            )
        return PSPNet(**arguments), None
    initial = open_weights(recipe.weights, arguments)
    arguments = initial.arguments
    if recipe.has_resnet:
        arguments["backbone"] = _resnet(recipe, arguments["backbone"], options)
    model = PSPNet(**arguments)
    initial.load(model)
    check_weights(model, f"weights={recipe.weights!r}")
    return model, initial


def _resnet(recipe, opened, options):
    """Returns the ResNet of opened weights, which determine its kind, with the recipe's options."""
    if not isinstance(opened, DilatedResNet):
        raise ValueError(
            f"weights={recipe.weights!r} don't fit {recipe.backbone}; choose other weights."
        )
    if recipe.stem_filters not in (None, opened.stem_filters):
        raise ValueError(
            f"weights={recipe.weights!r} have stem_filters={opened.stem_filters}, not "
            f"{recipe.stem_filters}; omit stem_filters."
        )
    return DilatedResNet(**{**opened.get_config(), **options, "dtype": recipe.dtype})
