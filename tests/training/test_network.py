import pytest

from keras_psp.data import GeneratedScenes
from keras_psp.training import recipe, train
from keras_psp.training.network import build


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
    with pytest.raises(ValueError, match="not 269; pass the path of a checkpoint, or None"):
        train("ade20k_resnet269", data=GeneratedScenes(), output=tmp_path / "run")
    assert not (tmp_path / "run").exists()
