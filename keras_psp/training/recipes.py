"""Recipes: the settings of whole training runs, among them the published ones.

A recipe is a frozen dataclass; `dataclasses.replace(recipe, crop_size=321)` is the whole
configuration language.
"""

import ast
import dataclasses
import functools
import os
import typing
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_psp.arguments import (
    LARGEST_SIDE,
    checked_choice,
    checked_class_weights,
    checked_count,
    checked_integer,
    checked_mining,
    checked_number,
    checked_smoothing,
    checked_tuple,
    parsed_loss,
)
from keras_psp.imagenet import BACKBONE_NAMES, BACKBONES, IMAGENET_MEAN, has_keras_model

_Check = Callable[[str, Any], Any]


def _each(check: _Check) -> _Check:
    return lambda name, values: checked_tuple(name, values, check)


def _one_of(*choices: Any) -> _Check:
    return functools.partial(checked_choice, choices=choices)


def _backbone(name, value):
    if value not in BACKBONES and not has_keras_model(value):
        raise ValueError(f"{name} is {value!r}; choose one of {BACKBONE_NAMES}.")


_positive = functools.partial(checked_integer, least=1)
_not_negative = functools.partial(checked_number, least=0)
_share = functools.partial(checked_number, least=0, below=1)
_between = functools.partial(checked_number, above=0, below=1)
# What the values must be, besides their types.
_CHECKS: dict[str, _Check] = {
    "backbone": _backbone,
    "output_stride": _one_of(8, 16, 32),
    "stem_filters": _each(_positive),
    "num_stages": _one_of(2, 3, 4),
    "aux_weight": _not_negative,
    "dropout": _share,
    "bin_sizes": _each(_positive),
    "pooling": _one_of("average", "max"),
    "epochs": _positive,
    "batch_size": _positive,
    "image_size": _each(_positive),
    "scale": _each(functools.partial(checked_number, above=0)),
    "rotate": functools.partial(checked_number, least=0, most=180),
    "fill": _each(functools.partial(checked_number, least=0, most=255)),
    "color": functools.partial(checked_number, least=0, most=2),
    "max_class_share": functools.partial(checked_number, above=0, most=1),
    "rare_classes": functools.partial(checked_number, least=0, most=1),
    "cutout": functools.partial(checked_number, least=0, most=1),
    "class_mix": functools.partial(checked_number, least=0, most=1),
    "optimizer": _one_of("sgd", "adamw"),
    "schedule": _one_of("poly", "cosine"),
    "learning_rate": functools.partial(checked_number, above=0),
    "power": _not_negative,
    "warmup_steps": functools.partial(checked_integer, least=0),
    "momentum": _share,
    "weight_decay": _not_negative,
    "head_multiplier": _not_negative,
    "layer_decay": functools.partial(checked_number, above=0, most=1),
    "loss": parsed_loss,
    "hard_pixels": _positive,
    "hard_threshold": _between,
    "ema": _between,
    "gradient_accumulation_steps": _positive,
    "synchronized_batch_norm": _one_of("auto", True, False),
    "dtype": _one_of("float32", "mixed_bfloat16", "mixed_float16"),
    "remat": _one_of("none", "activations", "blocks"),
    "jit_compile": _one_of("auto", True, False),
    "seed": functools.partial(checked_integer, least=0, most=2**32 - 1),
    "validation_epochs": functools.partial(checked_integer, least=0),
    "checkpoint_steps": _positive,
}


def _help(default: Any, help: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": help})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of a whole training.

    The defaults are those of semseg/config/ade20k/ade20k_pspnet50.yaml. The `help` in a field's
    metadata explains it; `keras-psp train --help` prints all of them.

    Example:
        small = Recipe(dataset="camvid", backbone="resnet18", crop_size=(353, 473), epochs=30)
        run = keras_psp.train(small, data="CamVid", output="runs/camvid")

    Raises:
        ValueError: If the type or value of a field is invalid.
    """

    name: str = _help("custom", "name in `RECIPES`")
    origin: str = _help("", "where the values were published")
    dataset: str = _help("folder", "name for `keras_psp.data.load`")
    classes: str | None = _help(
        None, "which classes, for a data set that has a choice: voc2012 for coco"
    )
    train_split: str = _help("train", "split for training, or several: 2*train+train_extra")
    val_split: str = _help("val", "split for validation")
    backbone: str = _help(
        "resnet50",
        "resnet18 to resnet269, efficientnet_lite0, mobilenet_v3_small, keras_hub:PRESET, ...",
    )
    output_stride: int = _help(8, "8, 16 or 32")
    stem_filters: tuple[int, ...] | None = _help(
        None, "channels of the stem: 64 64 128 in semseg, 64 for one 7x7; none: the weights' own"
    )
    num_stages: int = _help(4, "residual stages, 2 to 4; fewer see less of the scene")
    weights: str | None = _help("imagenet", "see `PSPNet(weights=...)`; none for random weights")
    aux_weight: float = _help(0.4, "weight of the auxiliary loss")
    dropout: float = _help(0.1, "share of channels dropped before the classifiers")
    bin_sizes: tuple[int, ...] = _help((1, 2, 3, 6), "pyramid bins; no value: the dilated FCN")
    pooling: str = _help("average", "average or max")
    reduction: int | str | None = _help("auto", "channels per level, auto, or none for all")
    epochs: int = _help(100, "passes over the training split")
    batch_size: int = _help(16, "examples per step, on all devices of all machines together")
    crop_size: int | tuple[int, int] = _help(473, "pixels: height and width, or one number")
    image_size: tuple[int, int] | None = _help(None, "height and width to resize images to first")
    scale: tuple[float, float] = _help((0.5, 2.0), "smallest and largest random scale")
    rotate: float = _help(10.0, "largest random rotation in degrees")
    mirror: bool = _help(True, "mirror half of the crops")
    blur: bool = _help(True, "blur half of the crops")
    color: float = _help(
        0.0, "strength of random brightness, contrast, saturation and hue; 1 in mmsegmentation"
    )
    max_class_share: float | None = _help(
        None, "largest share of a crop that one class may cover; 0.75 in mmsegmentation"
    )
    rare_classes: float = _help(
        0.0, "share of the crops that are drawn for a class, each class equally often"
    )
    cutout: float = _help(0.0, "share of the crops with a random rectangle filled and ignored")
    class_mix: float = _help(
        0.0, "share of the crops into which half of the classes of another are pasted"
    )
    fill: tuple[float, float, float] = _help(IMAGENET_MEAN, "RGB outside the image")
    optimizer: str = _help("sgd", "sgd or adamw")
    learning_rate: float = _help(0.01, "initial learning rate")
    schedule: str = _help("poly", "how the learning rate falls to 0: poly or cosine")
    power: float = _help(0.9, "power of the poly schedule")
    warmup_steps: int = _help(0, "steps in which the learning rate rises; the paper has none")
    momentum: float = _help(0.9, "momentum of sgd")
    weight_decay: float = _help(1e-4, "weight decay; 0.01 is usual for adamw")
    head_multiplier: float = _help(10.0, "factor of the learning rate outside the backbone")
    layer_decay: float | None = _help(
        None, "factor of the learning rate from each part of the backbone to the one before it"
    )
    loss: str = _help(
        "crossentropy",
        "crossentropy, boundary, focal, dice, tversky, lovasz, or a sum: 0.5*dice+crossentropy",
    )
    class_weights: tuple[float, ...] | str | None = _help(
        None, "one per class, or median_frequency"
    )
    hard_pixels: int | None = _help(None, "hardest pixels per image to keep in the loss (OHEM)")
    hard_threshold: float | None = _help(
        None, "also keep pixels whose label has a lower probability; 0.7 in mmsegmentation"
    )
    label_smoothing: float = _help(0.0, "share of the target spread evenly over all classes")
    ema: float | None = _help(None, "momentum of averaged weights, which are evaluated and saved")
    gradient_accumulation_steps: int = _help(1, "parts each batch is computed in, to save memory")
    synchronized_batch_norm: bool | str = _help(
        "auto", "share BatchNorm statistics among devices; auto: if there are several"
    )
    frozen_batch_norm: bool = _help(False, "keep the backbone's BatchNorm as loaded")
    dtype: str = _help("float32", "float32, mixed_bfloat16 or mixed_float16")
    remat: str = _help(
        "activations", "what is recomputed to save memory: none, activations or blocks"
    )
    jit_compile: bool | str = _help("auto", "true, false, or auto as in Keras")
    seed: int = _help(0, "seed of weights, order, augmentation and dropout")
    validation_epochs: int = _help(1, "epochs between validations; 0 for none")
    checkpoint_steps: int = _help(500, "steps between checkpoints, besides each epoch's end")

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = _plain(getattr(self, field.name))
            object.__setattr__(self, field.name, value)
            if not fits(value, field.type):
                raise ValueError(f"{field.name}={value!r} must be {_in_words(field.type)}.")
            if field.name in _CHECKS and value is not None:
                _CHECKS[field.name](field.name, value)
        checked_count("reduction", self.reduction, "auto", None)
        if self.class_weights != "median_frequency":
            checked_class_weights(self.class_weights)
        checked_mining(self.hard_pixels, self.hard_threshold)
        checked_smoothing(self.label_smoothing, self.hard_pixels)
        options = {name: getattr(self, name) for name in ("hard_pixels", "label_smoothing")}
        parsed_loss("loss", self.loss, **options)
        self._check_sizes()
        self._check_backbone()
        if self.optimizer == "adamw" and self.learning_rate >= 0.01:
            raise ValueError(
                f"learning_rate is {self.learning_rate}, which suits sgd; optimizer='adamw' needs "
                "a much smaller one, e.g. 0.0001."
            )

    @property
    def has_resnet(self) -> bool:
        """Whether the backbone is a `DilatedResNet`."""
        return not has_keras_model(self.backbone)

    def _check_backbone(self):
        if self.has_resnet:
            return
        for name, values in {
            "stem_filters": (None,),
            "num_stages": (4,),
            "remat": ("activations", "none"),
            "synchronized_batch_norm": ("auto",),
        }.items():
            if getattr(self, name) not in values:
                raise ValueError(
                    f"{name} is {getattr(self, name)}, which only ResNets have; omit it for "
                    f"backbone={self.backbone!r}."
                )

    def _check_sizes(self):
        smallest, largest = self.scale
        if smallest > largest:
            raise ValueError(f"scale is {self.scale}; give the smallest scale first.")
        if self.stem_filters is not None and len(self.stem_filters) not in (1, 3):
            raise ValueError(f"stem_filters is {self.stem_filters}; give one or three numbers.")
        if len(set(self.bin_sizes)) < len(self.bin_sizes):
            raise ValueError(f"bin_sizes is {self.bin_sizes}; give each number once.")
        sides = self.crop_size if isinstance(self.crop_size, tuple) else (self.crop_size,)
        least = self.output_stride * (max(self.bin_sizes, default=1) - 1) + 1
        if not all(least <= side <= LARGEST_SIDE for side in sides):
            raise ValueError(
                f"crop_size is {self.crop_size}; its sides must be from {least} (for bin_sizes of "
                f"{self.bin_sizes} at output_stride {self.output_stride}) to {LARGEST_SIDE}."
            )

    def to_dict(self) -> dict[str, Any]:
        """Returns all fields, JSON-serializable."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Recipe":
        """Returns the recipe whose `to_dict` returned these fields."""
        return with_fields(cls(), fields)


def _plain(value):
    """Replaces NumPy's types, lists (from JSON) and path objects by plain values."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return tuple(map(_plain, value))
    return value


_WORDS = {int: "an integer", float: "a number", bool: "true or false", str: "a name"}


def _in_words(kind):
    """The type of a field in words, e.g. "two integers or none"."""
    members = typing.get_args(kind)
    if typing.get_origin(kind) is tuple:
        number = "several" if members[-1] is Ellipsis else {2: "two", 3: "three"}[len(members)]
        return f"{number} {_in_words(members[0]).split()[-1]}s"
    return " or ".join(map(_in_words, members)) or _WORDS.get(kind, "none")


def fits(value: Any, kind: Any) -> bool:
    """Returns whether a value has the type of a field; an int is a float as well."""
    origin, parameters = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        if parameters[-1] is Ellipsis and isinstance(value, tuple):
            parameters = parameters[:1] * len(value)
        same_length = isinstance(value, tuple) and len(value) == len(parameters)
        return same_length and all(map(fits, value, parameters))
    if parameters:  # a union
        return any(fits(value, parameter) for parameter in parameters)
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, int | float if kind is float else kind)


def parse_field(name: str, words: Sequence[str]) -> Any:
    """Parses the value of a field from the command line; `Recipe` checks its type.

    Words are "none", "true", "false", numbers or other text; several are a tuple.
    """
    kinds = {field.name: field.type for field in dataclasses.fields(Recipe)}
    values = tuple(_parse_word(word) for word in words)
    return values[0] if len(values) == 1 and not fits(values, kinds.get(name)) else values


def _parse_word(word):
    constant = word.capitalize() if word.lower() in ("none", "true", "false") else word
    try:
        value = ast.literal_eval(constant)
    except (ValueError, SyntaxError):
        return word
    return value if value is None or isinstance(value, int | float) else word


def _published():
    """Returns the recipes by name: each published setting at each depth, and our own."""
    semseg = "github.com/hszhao/semseg, config/{0}/{0}_pspnet50.yaml"
    paper = "PSPNet, CVPR 2017, section 5"
    settings = {
        # semseg: 100, 50 and 200 epochs of batches of 16.
        "ade20k": Recipe(dataset="ade20k", origin=semseg.format("ade20k")),
        "voc2012": Recipe(dataset="voc2012", origin=semseg.format("voc2012"), epochs=50),
        "cityscapes": Recipe(
            dataset="cityscapes", origin=semseg.format("cityscapes"), epochs=200, crop_size=713
        ),
        # The paper: 150K, 30K and 90K iterations of 16, as whole epochs of 20,210, 10,582
        # and 2,975 examples (the paper's Cityscapes crop is in its released prototxt).
        "ade20k_paper": Recipe(dataset="ade20k", origin=paper, epochs=119),
        "voc2012_paper": Recipe(dataset="voc2012", origin=paper, epochs=46),
        "cityscapes_paper": Recipe(dataset="cityscapes", origin=paper, epochs=485, crop_size=713),
    }
    recipes = dict(settings)
    for name, recipe in settings.items():
        for depth in (50, 101, 152, 269):
            origin = recipe.origin.replace("pspnet50", f"pspnet{depth}" if depth < 152 else "*")
            recipes[f"{name}_resnet{depth}"] = dataclasses.replace(
                recipe,
                backbone=f"resnet{depth}",
                origin=origin,
                weights=None if depth == 269 else recipe.weights,  # nobody published any
            )
    # Rows of the paper's tables 5 and 6 with more data. It doesn't say how long these run,
    # so each has the iterations of its other row.
    recipes["cityscapes_coarse_paper"] = dataclasses.replace(
        settings["cityscapes_paper"], train_split="train+train_extra", epochs=63
    )
    recipes["coco_voc2012_paper"] = dataclasses.replace(
        settings["voc2012_paper"], dataset="coco", classes="voc2012", epochs=4
    )
    # mmsegmentation, which neither rotates nor blurs and has one learning rate.
    mmsegmentation = Recipe(
        origin="github.com/open-mmlab/mmsegmentation, configs/pspnet/pspnet_r50-d8_{}.py",
        rotate=0.0,
        blur=False,
        color=1.0,
        max_class_share=0.75,
        head_multiplier=1.0,
    )
    for name, config, changes in (
        # 40K iterations of 16 of 4,998 examples.
        ("pascal_context", "480x480_40k_pascal_context", {"learning_rate": 0.004, "epochs": 128}),
        (
            "pascal_context_59",
            "480x480_40k_pascal_context_59",
            {"learning_rate": 0.004, "epochs": 128},
        ),
        # 80K iterations of 16 of 118,287 examples.
        ("coco_stuff", "512x512_4x4_80k_coco-stuff164k", {"crop_size": 512, "epochs": 11}),
    ):
        origin = mmsegmentation.origin.format(config)
        fields = {"dataset": name, "origin": origin, "crop_size": 480, **changes}
        recipes[name] = dataclasses.replace(mmsegmentation, **fields)
    # 256x256 pixels; there is no split for validation.
    recipes["lmo"] = Recipe(dataset="lmo", origin="keras_psp", crop_size=233, val_split="test")
    # The images of SegNet's copy are 360x480. These settings are not published elsewhere.
    recipes["camvid"] = Recipe(
        dataset="camvid",
        origin="keras_psp",
        crop_size=(353, 473),
        epochs=200,
        checkpoint_steps=100,
        validation_epochs=5,
    )
    # For phones, and for two CPU cores; chosen by benchmarks/camvid_study.py.
    recipes["camvid_lite0"] = dataclasses.replace(
        recipes["camvid"],
        backbone="efficientnet_lite0",
        output_stride=16,
        image_size=(540, 720),
        batch_size=4,
        epochs=24,
        learning_rate=0.02,
        warmup_steps=45,
        color=1.0,
        loss="dice+crossentropy",
        validation_epochs=10,
    )
    # For your own data, whichever tool it comes from.
    for name in ("folder", "list", "labelme", "coco_instances", "cvat", "supervisely", "roboflow"):
        recipes[name] = Recipe(dataset=name, origin="keras_psp", checkpoint_steps=100)
    # Takes minutes on two CPU cores and downloads nothing.
    recipes["scenes"] = Recipe(
        dataset="scenes",
        origin="keras_psp",
        backbone="resnet18",
        weights=None,
        output_stride=16,
        stem_filters=(64,),
        crop_size=96,
        scale=(0.75, 1.5),
        rotate=0.0,
        blur=False,
        epochs=8,
        batch_size=8,
        learning_rate=0.02,
        warmup_steps=20,
        head_multiplier=1.0,
    )
    # For the bundled network; takes less than an hour on two CPU cores.
    recipes["bundled"] = dataclasses.replace(
        recipes["scenes"],
        output_stride=8,
        crop_size=128,
        scale=(0.5, 2.0),
        epochs=6,
        warmup_steps=100,
        validation_epochs=2,
    )
    return {name: dataclasses.replace(recipe, name=name) for name, recipe in recipes.items()}


RECIPES: dict[str, Recipe] = _published()
"""Recipes by name: "ade20k", "voc2012_resnet101", "camvid" etc."""

NAMES = ", ".join(name for name in RECIPES if "_resnet" not in name)
NAMES += ", or a published one with its depth, e.g. ade20k_resnet101"


def recipe(name: str, **fields: Any) -> Recipe:
    """Returns a recipe by name, with some fields replaced.

    Example:
        recipe("camvid", backbone="resnet18", epochs=30)

    Args:
        name: A name in `RECIPES`: "ade20k", "voc2012_resnet101", "camvid" etc.
        fields: Fields of `Recipe` to replace.

    Raises:
        ValueError: If the name, a field or a value is invalid.
    """
    if name not in RECIPES:
        raise ValueError(f"recipe {name!r} is unknown; choose one of {NAMES}.")
    return with_fields(RECIPES[name], fields)


def with_fields(recipe: Recipe, fields: dict[str, Any]) -> Recipe:
    """Returns a recipe with some fields replaced; raises ValueError if there is no such field."""
    known = {field.name for field in dataclasses.fields(Recipe)}
    wrong = sorted(set(fields) - known)
    if wrong:
        raise ValueError(f"a recipe has no field {wrong[0]!r}; it has {', '.join(sorted(known))}.")
    return dataclasses.replace(recipe, **fields)
