import dataclasses
import json
import pathlib

import numpy as np
import pytest

from keras_psp.training import RECIPES, Recipe, recipe
from keras_psp.training.recipes import parse_field


def test_published_settings():
    # semseg/config/{ade20k,voc2012,cityscapes}/*_pspnet50.yaml
    for name, epochs, crop in (
        ("ade20k", 100, 473),
        ("voc2012", 50, 473),
        ("cityscapes", 200, 713),
    ):
        chosen = recipe(name)
        assert (chosen.epochs, chosen.crop_size, chosen.backbone) == (epochs, crop, "resnet50")
        assert (chosen.learning_rate, chosen.power, chosen.head_multiplier) == (0.01, 0.9, 10.0)
        assert (chosen.momentum, chosen.weight_decay, chosen.batch_size) == (0.9, 1e-4, 16)
        assert (chosen.scale, chosen.rotate, chosen.aux_weight) == ((0.5, 2.0), 10.0, 0.4)
        for depth in (50, 101, 152, 269):
            deep = recipe(f"{name}_resnet{depth}")
            assert deep.weights == (None if depth == 269 else "imagenet")
            same = {"backbone": "resnet50", "name": name, "origin": "", "weights": "imagenet"}
            assert dataclasses.replace(deep, **same) == dataclasses.replace(chosen, origin="")


@pytest.mark.parametrize(
    ("name", "examples", "iterations"),
    [("ade20k", 20_210, 150_000), ("voc2012", 10_582, 30_000), ("cityscapes", 2_975, 90_000)],
)
def test_epochs_match_the_papers_iterations(name, examples, iterations):
    chosen = recipe(f"{name}_paper")
    steps = chosen.epochs * (examples // chosen.batch_size)
    assert abs(steps / iterations - 1) < 0.02


@pytest.mark.parametrize(
    ("name", "examples", "iterations"),
    [
        ("cityscapes_coarse_paper", 2_975 + 19_998, 90_000),
        ("coco_voc2012_paper", 118_287, 30_000),
        # mmsegmentation/configs/pspnet/pspnet_r50-d8_*
        ("pascal_context", 4_998, 40_000),
        ("pascal_context_59", 4_998, 40_000),
        ("coco_stuff", 118_287, 80_000),
    ],
)
def test_epochs_of_larger_sets_match_iterations(name, examples, iterations):
    chosen = recipe(name)
    steps = chosen.epochs * (examples // chosen.batch_size)
    assert abs(steps / iterations - 1) < 0.02


def test_every_recipe_can_be_restored_from_json():
    for each in RECIPES.values():
        assert Recipe.from_dict(json.loads(json.dumps(each.to_dict()))) == each


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epochs": 0}, "epochs is 0; it must be an integer >= 1"),
        ({"epochs": 1.5}, "epochs=1.5 must be an integer"),
        ({"mirror": 1}, "mirror=1 must be true or false"),
        ({"scale": (1.0,)}, "scale=.* must be two numbers"),
        (
            {"backbone": "vgg17"},
            "backbone is 'vgg17'; choose one of resnet18, .* or keras_hub:PRESET",
        ),
        (
            {"backbone": "vgg16", "num_stages": 2},
            "num_stages is 2, which only ResNets have; omit it for backbone='vgg16'",
        ),
        ({"optimizer": "adam"}, "optimizer is 'adam'; choose one of 'sgd', 'adamw'"),
        ({"optimizer": "adamw"}, "learning_rate is 0.01, which suits sgd; optimizer='adamw' needs"),
        ({"color": -1}, "color is -1; it must be a finite number >= 0 and <= 2"),
        ({"cutout": 2}, "cutout is 2; it must be a finite number >= 0 and <= 1"),
        ({"class_mix": -1}, "class_mix is -1; it must be a finite number >= 0 and <= 1"),
        ({"layer_decay": 0}, "layer_decay is 0; it must be a finite number > 0 and <= 1"),
        ({"ema": 1.0}, "ema is 1.0; it must be a finite number > 0 and < 1"),
        ({"pooling": "mean"}, "pooling is 'mean'; choose one of 'average', 'max'"),
        ({"num_stages": 1}, "num_stages is 1; choose one of 2, 3, 4"),
        ({"class_weights": "median"}, "class_weights is 'median'; it must be a sequence"),
        ({"class_weights": (1.0, float("nan"))}, r"class_weights\[1\] is nan"),
        ({"learning_rate": float("nan")}, "learning_rate is nan; it must be a finite number > 0"),
        ({"weight_decay": -1e-4}, "weight_decay is -0.0001; it must be a finite number >= 0"),
        ({"momentum": 1.0}, "momentum is 1.0"),
        ({"warmup_steps": -1}, "warmup_steps is -1; it must be an integer >= 0"),
        ({"seed": -1}, "seed is -1; it must be an integer from 0 to 4294967295"),
        ({"jit_compile": "maybe"}, "jit_compile is 'maybe'; choose one of 'auto', True, False"),
        ({"scale": (2.0, 0.5)}, "scale is .*; give the smallest scale first"),
        ({"fill": (0.0, 0.0, 256.0)}, r"fill\[2\] is 256.0; .* >= 0 and <= 255"),
        ({"rotate": -1.0}, "rotate is -1.0"),
        ({"crop_size": 1}, r"crop_size is 1; its sides must be from 41 .* to 16384"),
        ({"crop_size": 100_000}, "crop_size is 100000; its sides must be from 41"),
        ({"image_size": (0, 480)}, r"image_size\[0\] is 0"),
        ({"bin_sizes": (1, 1)}, "bin_sizes is .*; give each number once"),
        ({"reduction": 0}, "reduction is 0; it must be an integer >= 1"),
        ({"hard_threshold": 0.7}, "hard_threshold=0.7 needs hard_pixels"),
        ({"loss": "dice+foo"}, "loss is 'dice.foo': the loss 'foo' is unknown; choose from cross"),
        ({"loss": "dice", "hard_pixels": 9}, "hard_pixels=9 is an option of crossentropy and bou"),
        ({"loss": "focal", "label_smoothing": 0.1}, "label_smoothing=0.1 is an option of cross"),
        ({"label_smoothing": 0.1, "hard_pixels": 9}, "label_smoothing=0.1 can't be combined"),
        ({"stem_filters": (64, 64)}, "stem_filters is .*; give one or three numbers"),
        ({"crop": 321}, "a recipe has no field 'crop'; it has .*crop_size"),
    ],
)
def test_invalid_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        recipe("camvid", **fields)


def test_numpy_values_are_values():
    chosen = recipe("camvid", epochs=np.int64(3), scale=np.array([0.5, 1.5]), ema=np.float32(0.5))
    assert (chosen.epochs, chosen.scale, chosen.ema) == (3, (0.5, 1.5), 0.5)
    assert Recipe.from_dict(json.loads(json.dumps(chosen.to_dict()))) == chosen


def test_an_unknown_recipe_is_refused():
    with pytest.raises(ValueError, match="recipe 'kitti' is unknown; choose one of ade20k"):
        recipe("kitti")


@pytest.mark.parametrize(
    ("name", "words", "value"),
    [
        ("crop_size", ["321"], 321),
        ("crop_size", ["321", "473"], (321, 473)),
        ("bin_sizes", ["6"], (6,)),
        ("bin_sizes", [], ()),
        ("weights", ["none"], None),
        ("weights", ["imagenet"], "imagenet"),
        ("scale", ["0.5", "2"], (0.5, 2)),
        ("mirror", ["False"], False),
        ("ema", ["0.999"], 0.999),
    ],
)
def test_values_on_the_command_line(name, words, value):
    assert parse_field(name, words) == value
    recipe("camvid", **{name: value})


def test_a_path_is_stored_as_text():
    path = pathlib.Path("a") / "b.keras"
    assert recipe("scenes", weights=path).weights == str(path)


def test_every_field_has_a_help_text():
    for field in dataclasses.fields(Recipe):
        assert field.metadata["help"]
