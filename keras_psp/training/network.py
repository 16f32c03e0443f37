"""The network of a recipe, compiled."""

from typing import Any

import keras

from keras_psp.layers.resnet import DilatedResNet
from keras_psp.losses import UpsampledCrossentropy
from keras_psp.metrics import MeanIoU
from keras_psp.models import PSPNet
from keras_psp.optimizers import SGD
from keras_psp.schedules import PolyLearningRate
from keras_psp.training.recipes import Recipe


def schedule(recipe: Recipe, steps_per_epoch: int) -> PolyLearningRate:
    """The learning rate of a recipe, by step."""
    return PolyLearningRate(
        recipe.learning_rate,
        recipe.epochs * steps_per_epoch,
        power=recipe.power,
        warmup_steps=recipe.warmup_steps,
    )


def check_weights(recipe: Recipe) -> None:
    """Whether there are ImageNet weights of its depth: said before all files are read.

    Raises:
        ValueError: there are none.
    """
    from keras_psp.weights.imagenet import IMAGENET, imagenet_source

    if recipe.weights in IMAGENET:
        imagenet_source(recipe.weights, int(recipe.backbone.removeprefix("resnet")))


def build(recipe: Recipe, source, steps_per_epoch: int, class_weights=None):
    """The compiled model of a recipe, and its `MeanIoU`.

    Args:
        recipe: all but the data.
        source: of the class names, colours and the ignored class.
        steps_per_epoch: for the schedule.
        class_weights: one factor a class, or None.
    """
    model = _network(recipe, source)
    if recipe.frozen_batch_norm:
        for layer in model.backbone._flatten_layers():
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False
    average: dict[str, Any] = {}
    if recipe.ema is not None:
        average = {"use_ema": True, "ema_momentum": recipe.ema}
    optimizer = SGD(
        schedule(recipe, steps_per_epoch),
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        head_multiplier=recipe.head_multiplier,
        **average,
    )
    loss = UpsampledCrossentropy(
        ignore_class=source.ignore_class,
        class_weights=class_weights,
        hard_pixels=recipe.hard_pixels,
        hard_threshold=recipe.hard_threshold,
    )
    metric = MeanIoU(source.num_classes, ignore_class=source.ignore_class)
    model.compile(
        optimizer,
        loss,
        metrics=[metric],
        gradient_accumulation_steps=recipe.gradient_accumulation_steps,
        jit_compile=recipe.jit_compile,
    )
    # The moving average and momenta, so that a checkpoint can be read before the first step.
    model.optimizer.build(model.trainable_variables)
    return model, metric


def _network(recipe, source):
    dtype = None if recipe.dtype == "float32" else recipe.dtype
    arguments: dict[str, Any] = {
        "num_classes": source.num_classes,
        "bin_sizes": recipe.bin_sizes,
        "pooling": recipe.pooling,
        "dropout": recipe.dropout,
        "aux_weight": recipe.aux_weight,
        "class_names": list(source.class_names),
        "palette": [[int(value) for value in colour] for colour in source.palette],
        "dtype": dtype,
    }
    if recipe.reduction != "auto":
        arguments["reduction"] = recipe.reduction
    options: dict[str, Any] = {
        "output_stride": recipe.output_stride,
        "synchronized": recipe.synchronized_batch_norm,
    }
    if recipe.num_stages < 4:  # else as many as the weights have
        options["num_stages"] = recipe.num_stages
    if recipe.weights is None:
        if recipe.stem_filters is not None:
            options["stem_filters"] = recipe.stem_filters
        depth = int(recipe.backbone.removeprefix("resnet"))
        backbone = DilatedResNet(depth, **options, dtype=dtype, name="backbone")
        return PSPNet(**arguments, backbone=backbone)
    from keras_psp.weights.opening import open_weights

    # The weights decide what kind of ResNet it is.
    started = open_weights(recipe.weights, {**arguments, "backbone": recipe.backbone})
    arguments = started.arguments
    backbone = arguments["backbone"]
    if not isinstance(backbone, DilatedResNet):
        raise ValueError(f"weights={recipe.weights!r} have no ResNet; a recipe trains ResNets.")
    if recipe.stem_filters not in (None, backbone.stem_filters):
        raise ValueError(
            f"weights={recipe.weights!r} have stem_filters={backbone.stem_filters}, not "
            f"{recipe.stem_filters}; leave stem_filters to the weights."
        )
    config = {**backbone.get_config(), **options}
    model = PSPNet(**{**arguments, "backbone": DilatedResNet(**config)})
    started.load(model)
    return model
