"""Settings of trainings, as plain data: one for each that was published.

A recipe is a frozen dataclass; `dataclasses.replace(recipe, crop_size=321)` is the whole
configuration language.
"""

import dataclasses
import os
import typing
from collections.abc import Sequence
from dataclasses import dataclass

from keras_psp.imagenet import IMAGENET_MEAN
from keras_psp.layers.resnet import BLOCKS


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A whole training. The defaults are those of semseg/config/ade20k/ade20k_pspnet50.yaml.

    Attributes:
        name: what it is called in `RECIPES`.
        origin: where the values were published.
        dataset: name for `keras_psp.data.load`.
        train_split, val_split: splits trained on and judged.
        backbone: "resnet18" to "resnet269".
        output_stride: 8 or 16.
        stem_filters: channels of the stem's convolutions, (64, 64, 128) in semseg, (64,) for
            one of 7x7; None where the weights decide, or semseg's without any.
        num_stages: residual stages, 2 to 4; the whole network has 4. Fewer see less of the scene.
        weights: start of the backbone or of all of it, see `PSPNet(weights=...)`; None for
            random weights.
        aux_weight: of the auxiliary loss.
        dropout: share of channels dropped before the classifiers.
        bin_sizes: of the pyramid; () is the dilated FCN.
        pooling: "average" or "max".
        reduction: channels of each level, "auto" or None for all of them; see
            `PyramidPoolingModule`.
        epochs: passes over the training split.
        batch_size: examples a step, on all devices of all machines together.
        crop_size: pixels, (height, width) or one number for both.
        image_size: (height, width) to which every picture is brought first, or None.
        scale: smallest and largest factor of random scaling.
        rotate: largest random rotation, degrees.
        mirror, blur: half of the time.
        fill: RGB outside of the picture.
        learning_rate, power: of the poly schedule, per step.
        warmup_steps: of the poly schedule; none in the paper.
        momentum, weight_decay: of `SGD`.
        head_multiplier: learning rate outside of the backbone, times this.
        class_weights: None, one factor a class, or "median_frequency" of the training
            split's labels (Eigen and Fergus 2015).
        hard_pixels, hard_threshold: online hard example mining, see `UpsampledCrossentropy`.
        ema: momentum of a moving average of the weights, which is then judged and kept;
            None for none.
        gradient_accumulation_steps: parts in which a batch is computed, see `PSPNet.compile`.
        synchronized_batch_norm: over all devices; "auto" where there are several.
        frozen_batch_norm: leave statistics, scales and shifts of the backbone as loaded.
        dtype: "float32", "mixed_bfloat16" or "mixed_float16".
        jit_compile: True, False, or "auto" as in Keras.
        seed: of weights, order, augmentation and dropout.
        validation_epochs: judge the validation split every so many epochs; 0 never.
        checkpoint_steps: steps between checkpoints within an epoch; each epoch ends with one.
    """

    name: str = "custom"
    origin: str = ""
    dataset: str = "folder"
    train_split: str = "train"
    val_split: str = "val"
    backbone: str = "resnet50"
    output_stride: int = 8
    stem_filters: tuple[int, ...] | None = None
    num_stages: int = 4
    weights: str | None = "imagenet"
    aux_weight: float = 0.4
    dropout: float = 0.1
    bin_sizes: tuple[int, ...] = (1, 2, 3, 6)
    pooling: str = "average"
    reduction: int | str | None = "auto"
    epochs: int = 100
    batch_size: int = 16
    crop_size: int | tuple[int, int] = 473
    image_size: tuple[int, int] | None = None
    scale: tuple[float, float] = (0.5, 2.0)
    rotate: float = 10.0
    mirror: bool = True
    blur: bool = True
    fill: tuple[float, float, float] = IMAGENET_MEAN
    learning_rate: float = 0.01
    power: float = 0.9
    warmup_steps: int = 0
    momentum: float = 0.9
    weight_decay: float = 1e-4
    head_multiplier: float = 10.0
    class_weights: tuple[float, ...] | str | None = None
    hard_pixels: int | None = None
    hard_threshold: float | None = None
    ema: float | None = None
    gradient_accumulation_steps: int = 1
    synchronized_batch_norm: bool | str = "auto"
    frozen_batch_norm: bool = False
    dtype: str = "float32"
    jit_compile: bool | str = "auto"
    seed: int = 0
    validation_epochs: int = 1
    checkpoint_steps: int = 500

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, os.PathLike):
                object.__setattr__(self, field.name, value := os.fspath(value))
            if isinstance(value, list):  # from JSON
                object.__setattr__(self, field.name, value := tuple(value))
            if not fits(value, field.type):
                raise ValueError(f"{field.name}={value!r} must be {_words(field.type)}.")
        positive = (
            "epochs",
            "batch_size",
            "checkpoint_steps",
            "gradient_accumulation_steps",
            "learning_rate",
        )
        for name in positive:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)!r} must be greater than 0.")
        if self.validation_epochs < 0:
            raise ValueError(f"validation_epochs={self.validation_epochs}; 0 means never.")
        if self.backbone not in (names := [f"resnet{depth}" for depth in BLOCKS]):
            raise ValueError(
                f"backbone={self.backbone!r} is unknown; choose one of {', '.join(names)}."
            )
        if self.pooling not in ("average", "max"):
            raise ValueError(f"pooling={self.pooling!r} is unknown; choose 'average' or 'max'.")
        if self.num_stages not in (2, 3, 4):
            raise ValueError(f"num_stages={self.num_stages}; choose 2, 3 or 4.")
        dtypes = ("float32", "mixed_bfloat16", "mixed_float16")
        if self.dtype not in dtypes:
            raise ValueError(f"dtype={self.dtype!r} is unknown; choose one of {', '.join(dtypes)}.")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"ema={self.ema} must lie between 0 and 1, 0.999 for instance.")
        if isinstance(self.class_weights, str) and self.class_weights != "median_frequency":
            raise ValueError(
                f"class_weights={self.class_weights!r} is unknown; give one number a class, "
                "'median_frequency', or None."
            )

    def to_dict(self) -> dict:
        """All fields, as JSON takes them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict) -> "Recipe":
        """The recipe of `to_dict`."""
        return with_fields(cls(), fields)


def fits(value, kind):
    """Whether a value is of a field's type; an int is a float as well."""
    if kind is None or kind is type(None):
        return value is None
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if len(inner) == 2 and inner[1] is Ellipsis:
            return all(fits(item, inner[0]) for item in value)
        return len(value) == len(inner) and all(map(fits, value, inner))
    if inner:  # a union
        return any(fits(value, one) for one in inner)
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def typed(name: str, words: Sequence[str]):
    """What a user typed as a field's value, on a command line; `Recipe` checks its type.

    Args:
        name: of the field.
        words: "none", "true", "false", numbers or texts; several are a tuple.
    """
    kind = {field.name: field.type for field in dataclasses.fields(Recipe)}.get(name)
    values = tuple(_value(word) for word in words)
    return values[0] if len(values) == 1 and not fits(values, kind) else values


def _value(word):
    named = {"none": None, "true": True, "false": False}
    if word.lower() in named:
        return named[word.lower()]
    for number in (int, float):
        try:
            return number(word)
        except ValueError:
            continue
    return word


def _words(kind):
    text = kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)
    return text.replace("|", "or")


_DEPTHS = (50, 101, 152, 269)


def _published():
    """One recipe per setting and depth, and one per data set for the usual depth."""
    semseg = "github.com/hszhao/semseg, config/{0}/{0}_pspnet50.yaml"
    paper = "PSPNet, CVPR 2017, section 5"
    settings = {
        # Of semseg: 100, 50 and 200 epochs of batches of 16.
        "ade20k": Recipe(dataset="ade20k", origin=semseg.format("ade20k")),
        "voc2012": Recipe(dataset="voc2012", origin=semseg.format("voc2012"), epochs=50),
        "cityscapes": Recipe(
            dataset="cityscapes", origin=semseg.format("cityscapes"), epochs=200, crop_size=713
        ),
        # Of the paper: 150K, 30K and 90K iterations of 16, as whole epochs of 20,210, 10,582
        # and 2,975 examples (the paper's Cityscapes crop is in its released prototxt).
        "ade20k_paper": Recipe(dataset="ade20k", origin=paper, epochs=119),
        "voc2012_paper": Recipe(dataset="voc2012", origin=paper, epochs=46),
        "cityscapes_paper": Recipe(dataset="cityscapes", origin=paper, epochs=485, crop_size=713),
    }
    found = {}
    for name, recipe in settings.items():
        found[name] = dataclasses.replace(recipe, name=name)
        for depth in _DEPTHS:
            deep = f"{name}_resnet{depth}"
            origin = recipe.origin.replace("pspnet50", f"pspnet{depth}" if depth < 152 else "*")
            found[deep] = dataclasses.replace(
                recipe, name=deep, backbone=f"resnet{depth}", origin=origin
            )
    # The pictures of SegNet's copy are 360x480; nobody published these settings.
    found["camvid"] = Recipe(
        name="camvid",
        origin="keras_psp",
        dataset="camvid",
        crop_size=(353, 473),
        epochs=200,
        checkpoint_steps=100,
        validation_epochs=5,
    )
    # What a folder of one's own starts from.
    found["folder"] = Recipe(
        name="folder", origin="keras_psp", dataset="folder", epochs=100, checkpoint_steps=100
    )
    # Minutes on two CPU cores, with nothing to download.
    found["scenes"] = Recipe(
        name="scenes",
        origin="keras_psp",
        dataset="scenes",
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
    # Of the network that comes with the package: under an hour on two CPU cores.
    found["bundled"] = dataclasses.replace(
        found["scenes"],
        name="bundled",
        output_stride=8,
        crop_size=128,
        scale=(0.5, 2.0),
        epochs=6,
        warmup_steps=100,
        validation_epochs=2,
    )
    return found


RECIPES: dict[str, Recipe] = _published()
"""The settings by name: of each data set, and of each depth as `ade20k_resnet101`."""


def recipe(name: str, **fields) -> Recipe:
    """A recipe by its name, with other values in the fields that are given.

    Args:
        name: one of `RECIPES`: "ade20k", "voc2012_resnet101", "camvid" ...
        fields: of `Recipe`.

    Raises:
        ValueError: for a name, field or value that doesn't exist.
    """
    if name not in RECIPES:
        short = [n for n in RECIPES if "_resnet" not in n]
        raise ValueError(
            f"recipe {name!r} is unknown; choose one of {', '.join(short)}, or one of the "
            f"published with its depth, as ade20k_resnet101."
        )
    return with_fields(RECIPES[name], fields)


def with_fields(recipe: Recipe, fields: dict) -> Recipe:
    """A recipe with other values in some fields.

    Raises:
        ValueError: for a field that doesn't exist.
    """
    known = {field.name for field in dataclasses.fields(Recipe)}
    wrong = sorted(set(fields) - known)
    if wrong:
        raise ValueError(f"a recipe has no field {wrong[0]!r}; it has {', '.join(sorted(known))}.")
    return dataclasses.replace(recipe, **fields)
