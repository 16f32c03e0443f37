import dataclasses
import json
import pathlib

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
            assert dataclasses.replace(deep, backbone="resnet50", name=name, origin="") == (
                dataclasses.replace(chosen, origin="")
            )


@pytest.mark.parametrize(
    ("name", "examples", "iterations"),
    [("ade20k", 20_210, 150_000), ("voc2012", 10_582, 30_000), ("cityscapes", 2_975, 90_000)],
)
def test_epochs_match_the_papers_iterations(name, examples, iterations):
    chosen = recipe(f"{name}_paper")
    steps = chosen.epochs * (examples // chosen.batch_size)
    assert abs(steps / iterations - 1) < 0.02


def test_every_recipe_can_be_restored_from_json():
    for each in RECIPES.values():
        assert Recipe.from_dict(json.loads(json.dumps(each.to_dict()))) == each


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epochs": 0}, "epochs=0 must be greater than 0"),
        ({"epochs": 1.5}, "epochs=1.5 must be int"),
        ({"mirror": 1}, "mirror=1 must be bool"),
        ({"scale": (1.0,)}, "scale=.* must be tuple"),
        ({"backbone": "vgg16"}, "backbone='vgg16' is unknown; choose one of resnet18"),
        ({"ema": 1.0}, "ema=1.0 must be between 0 and 1"),
        ({"pooling": "mean"}, "pooling='mean' is unknown; choose one of average, max"),
        ({"num_stages": 1}, "num_stages=1 is unknown; choose one of 2, 3, 4"),
        ({"class_weights": "median"}, "class_weights='median' is unknown; give one number"),
        ({"crop": 321}, "a recipe has no field 'crop'; it has .*crop_size"),
    ],
)
def test_invalid_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        recipe("camvid", **fields)


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
