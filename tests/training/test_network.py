import numpy as np
import pytest

from keras_psp import SGD
from keras_psp.data import BandStatistics, GeneratedScenes
from keras_psp.optimizers import AdamW
from keras_psp.training import recipe, train
from keras_psp.training.network import build, schedule


def test_pyramid_and_stages_are_those_of_the_recipe():
    source = GeneratedScenes(image_size=(48, 48))
    fields = {"pooling": "max", "reduction": None, "num_stages": 2, "bin_sizes": (1, 3)}
    model, _ = build(recipe("scenes", **fields), source, 10)
    pyramid = model.get_layer("pyramid_pooling")
    assert pyramid.pooling == "max" and pyramid.bin_sizes == (1, 3)
    # 128 channels of the second stage, and all of them again for each level.
    assert pyramid.fusion.kernel.shape[2] == 128 * 3
    assert model.backbone.num_stages == 2
    reduced, _ = build(recipe("scenes", **{**fields, "reduction": "auto"}), source, 10)
    assert reduced.get_layer("pyramid_pooling").fusion.kernel.shape[2] == 128 * 2


def test_a_depth_without_imagenet_weights_is_refused_first(tmp_path):
    run = tmp_path / "run"
    with pytest.raises(ValueError, match="not 269; pass the path of a checkpoint, or None"):
        train("ade20k_resnet269", weights="imagenet", data=GeneratedScenes(), output=run)
    assert not run.exists()


def test_crops_too_small_for_how_a_backbone_rounds_are_refused():
    fields = {"backbone": "mobilenet_v2", "stem_filters": None, "output_stride": 8}
    chosen = recipe("scenes", **fields, crop_size=(48, 46))
    with pytest.raises(ValueError, match=r"crop_size is \(48, 46\); its sides must be at least 47"):
        build(chosen, GeneratedScenes(image_size=(48, 48)), 10)


def test_the_loss_is_that_of_the_recipe():
    source = GeneratedScenes(image_size=(48, 48))
    small = {"num_stages": 2, "stem_filters": (8,), "bin_sizes": (1,)}
    fields = {"loss": "0.5*dice+boundary", "label_smoothing": 0.1, **small}
    weights = [1.0] * source.num_classes
    loss = build(recipe("scenes", **fields), source, 10, weights)[0]._loss_function
    assert loss.weights == [0.5, 1.0]
    dice, boundary = loss.parts()
    assert (dice.name, boundary.name) == ("dice", "boundary")
    assert boundary.label_smoothing == 0.1
    for part in loss.parts():
        assert (part.ignore_class, part.class_weights) == (source.ignore_class, weights)


def test_optimizer_and_schedule_are_those_of_the_recipe():
    source = GeneratedScenes(image_size=(48, 48))
    small = {"num_stages": 2, "stem_filters": (8,), "bin_sizes": (1,), "head_multiplier": 3.0}
    model, _ = build(recipe("scenes", **small), source, 10)
    assert type(model.optimizer) is SGD
    fields = {"optimizer": "adamw", "learning_rate": 1e-3, "weight_decay": 0.05, **small}
    fields["layer_decay"] = 0.8
    model, _ = build(recipe("scenes", **fields), source, 10)
    optimizer = model.optimizer
    assert type(optimizer) is AdamW
    assert (optimizer.grouped_weight_decay, optimizer.head_multiplier) == (0.05, 3.0)
    assert optimizer.layer_decay == 0.8


def test_cosine_falls_to_zero_after_the_warmup():
    chosen = recipe("scenes", schedule="cosine", learning_rate=0.1, warmup_steps=4, epochs=2)
    rates = [float(schedule(chosen, 10)(step)) for step in (0, 2, 4, 12, 20)]
    np.testing.assert_allclose(rates, [0, 0.05, 0.1, 0.05, 0], atol=1e-7)
    without = schedule(recipe("scenes", schedule="cosine", warmup_steps=0, epochs=2), 10)
    np.testing.assert_allclose([float(without(step)) for step in (0, 10)], [0.02, 0.01], atol=1e-7)
    with pytest.raises(ValueError, match="warmup_steps is 4; it must be an integer from 0 to 3"):
        schedule(chosen, 2)


def test_a_backbone_by_name_has_the_stride_of_the_recipe():
    source = GeneratedScenes(image_size=(48, 48))
    fields = {"backbone": "mobilenet_v3_small", "output_stride": 16, "stem_filters": None}
    model, _ = build(recipe("scenes", **fields, bin_sizes=(1, 2)), source, 10)
    assert model.backbone.features.name == "MobileNetV3Small"
    assert model.backbone.output_stride == 16


def test_a_training_from_a_calibrated_network_starts_at_temperature_1(tmp_path):
    source = GeneratedScenes(image_size=(48, 48))
    small = {"num_stages": 2, "stem_filters": (8,), "bin_sizes": (1,)}
    model, _ = build(recipe("scenes", **small), source, 10)
    model.temperature = 2.0
    model.save(tmp_path / "calibrated.keras")
    fields = {**small, "weights": str(tmp_path / "calibrated.keras")}
    again, _ = build(recipe("scenes", **fields), source, 10)
    assert again.temperature == 1
    kernels = (m.get_layer("classifier").kernel for m in (model, again))
    np.testing.assert_array_equal(*map(np.asarray, kernels))


def test_a_network_trained_on_bands_keeps_its_normalization(tmp_path):
    source = GeneratedScenes(image_size=(48, 48))
    source.channels, source.image_dtype = 4, "uint16"
    small = {"num_stages": 2, "stem_filters": (8,), "bin_sizes": (1,)}
    statistics = [
        BandStatistics((mean,) * 4, (std,) * 4, "uint16", 100)
        for mean, std in ((3000.0, 500.0), (2900.0, 450.0))
    ]
    model, _ = build(recipe("scenes", **small), source, 10, bands=statistics[0])
    first = model.get_layer("normalization")
    np.testing.assert_allclose((first.mean, first.std), (statistics[0].mean, statistics[0].std))
    model.save(tmp_path / "bands.keras")
    fields = {**small, "weights": str(tmp_path / "bands.keras")}
    again, _ = build(recipe("scenes", **fields), source, 10, bands=statistics[1])
    layer = again.get_layer("normalization")
    assert (layer.mean, layer.std) == (first.mean, first.std)


def test_the_precision_is_that_of_the_recipe_and_not_of_its_weights(tmp_path):
    source = GeneratedScenes(image_size=(48, 48))
    small = {"num_stages": 2, "stem_filters": (8,), "bin_sizes": (1,)}
    half, _ = build(recipe("scenes", **small, dtype="mixed_bfloat16"), source, 10)
    assert half.backbone.compute_dtype == "bfloat16"
    half.save(tmp_path / "half.keras")
    fields = {**small, "weights": str(tmp_path / "half.keras")}
    model, _ = build(recipe("scenes", **fields), source, 10)
    layers = [layer for layer in model._flatten_layers() if layer is not model]
    assert {layer.compute_dtype for layer in layers} == {"float32"}
