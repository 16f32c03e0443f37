import json
import os
import pickle
import re

import h5py
import keras
import numpy as np
import pytest
from support.networks import tiny_backbone

import keras_psp
from keras_psp import PSPNet
from keras_psp.weights import WeightsFileError, preset_folder, saving
from keras_psp.weights.opening import open_model
from keras_psp.weights.preset_folder import CONFIG, METADATA

IMAGE = np.random.default_rng(0).integers(0, 256, (1, 61, 57, 3)).astype("float32")
SETTINGS = {
    "class_names": ["sky", "a|b", "größer"],
    "palette": [[1, 2, 3], [4, 5, 6], [255, 0, 9]],
    "mean": (1.0, 2.0, 3.0),
    "std": (4.0, 5.0, 6.0),
    "channel_order": "bgr",
    "align_corners": False,
    "activation": "softmax",
    "input_shape": (61, 57, 3),
    "dropout": 0.3,
}


def small_pspnet(**arguments):
    """A PSPNet of three megabytes."""
    backbone = tiny_backbone(num_stages=2, name="backbone")
    network = {"backbone": backbone, "bin_sizes": (1, 2), "aux_weight": 0, "fusion_filters": 8}
    return PSPNet(3, **{**network, **arguments})


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A preset that tests copy."""
    folder = tmp_path_factory.mktemp("saved") / "preset"
    small_pspnet().save_to_preset(folder)
    return folder


@pytest.fixture
def preset(saved, tmp_path):
    """A copy of a preset, which tests may change."""
    folder = tmp_path / "preset"
    folder.mkdir()
    for file in saved.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def relist(folder, **changes):
    """Writes checksums of the present files, as someone would who tampers with all of them."""
    metadata = json.loads((folder / METADATA).read_text())
    files = {file: preset_folder.file_entry(folder / file) for file in metadata["files"]}
    (folder / METADATA).write_text(json.dumps({**metadata, "files": files, **changes}))


def change_config(folder, change):
    config = json.loads((folder / CONFIG).read_text())
    change(config)
    (folder / CONFIG).write_text(json.dumps(config))
    relist(folder)


@pytest.mark.parametrize("kind", ["h5", "safetensors"])
def test_a_preset_opens_with_the_same_weights_and_settings(tmp_path, kind):
    if kind == "safetensors":
        pytest.importorskip("safetensors", reason="safetensors is optional")
    model = small_pspnet(**SETTINGS)
    model.save_to_preset(tmp_path / "preset", license="MIT", weights_format=kind)
    names = {CONFIG, METADATA, "README.md", preset_folder.WEIGHTS[kind]}
    assert {file.name for file in (tmp_path / "preset").iterdir()} == names
    opened = PSPNet.from_preset(tmp_path / "preset")
    np.testing.assert_array_equal(opened(IMAGE), model(IMAGE))
    before, now = model.get_config(), opened.get_config()
    assert {key: now[key] for key in SETTINGS} == {key: before[key] for key in SETTINGS}
    for way in (open_model(tmp_path / "preset"), PSPNet(weights=str(tmp_path / "preset"))):
        np.testing.assert_array_equal(way(IMAGE), model(IMAGE))
    assert PSPNet(num_classes=7, weights=tmp_path / "preset").num_classes == 7


def test_weights_of_every_precision_survive(tmp_path):
    for kind in ("h5", "safetensors"):
        for dtype in ("bfloat16", "mixed_float16"):
            model = small_pspnet(dtype=dtype, backbone=tiny_backbone(num_stages=2))
            model.save_to_preset(tmp_path / kind, weights_format=kind)
            opened = PSPNet.from_preset(tmp_path / kind)
            assert opened.get_config()["dtype"] == dtype
            for ours, theirs in zip(model.weights, opened.weights, strict=True):
                ours, theirs = (keras.ops.cast(w, "float32") for w in (ours, theirs))
                np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "efficientnet_lite0", "convnext_tiny"])
def test_presets_have_backbones_of_keras(tmp_path, name):
    model = PSPNet(3, backbone=name, output_stride=32, aux_weight=0, fusion_filters=8)
    model.save_to_preset(tmp_path / name, weights_format="safetensors")
    image = np.zeros((1, 224, 224, 3), "float32")
    np.testing.assert_array_equal(PSPNet.from_preset(tmp_path / name)(image), model(image))


def test_a_preset_is_replaced_once_the_new_one_is_complete(preset, tmp_path, monkeypatch):
    before = {file.name: file.read_bytes() for file in preset.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(saving, "save_variables", lambda *_: (_ for _ in ()).throw(OSError("full")))
        with pytest.raises(OSError, match="full"):
            small_pspnet().save_to_preset(preset)
    assert {file.name: file.read_bytes() for file in preset.iterdir()} == before
    assert os.listdir(tmp_path) == ["preset"]
    small_pspnet(class_names=["a", "b", "c"]).save_to_preset(preset, weights_format="safetensors")
    assert PSPNet.from_preset(preset).class_names == ["a", "b", "c"]
    assert not (preset / "model.weights.h5").exists()
    draft = tmp_path / ".preset-abc_1234"  # of a killed process
    draft.mkdir()
    small_pspnet().save_to_preset(preset)
    assert os.listdir(tmp_path) == ["preset"]


def test_only_presets_and_empty_folders_are_written_to(preset, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    for folder, message in (
        ("mine", "contains thesis.txt, which"),
        ("mine/thesis.txt", "is a file"),
    ):
        with pytest.raises(ValueError, match=message):
            small_pspnet().save_to_preset(tmp_path / folder)
    (preset / ".DS_Store").touch()  # of macOS' Finder
    small_pspnet().save_to_preset(preset)
    assert not (preset / ".DS_Store").exists()
    # A clone of the preset's repository, and a preset of another library.
    (preset / ".git").mkdir()
    other = tmp_path / "other"
    other.mkdir()
    (other / METADATA).write_text('{"keras_hub_version": "0.32"}')
    (other / CONFIG).write_text('{"class_name": "ResNetBackbone"}')
    for folder, message in ((preset, r"contains \.git, which would be lost"), (other, CONFIG)):
        before = sorted(folder.iterdir())
        with pytest.raises(ValueError, match=message):
            small_pspnet().save_to_preset(folder)
        assert sorted(folder.iterdir()) == before
    with pytest.raises(ValueError, match="is 'hf://user/name', an address; give a local path"):
        small_pspnet().save_to_preset("hf://user/name")


@keras.saving.register_keras_serializable("test_saving")
class Doubled(keras.layers.Layer):
    def call(self, x):
        return 2 * x


def test_what_nobody_could_open_is_refused_when_it_is_saved(tmp_path):
    images = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(8, 3, 4, "same")(images)
    x = keras.layers.Conv2D(8, 3, 2, "same")(Doubled()(x))
    model = small_pspnet(backbone=keras.Model(images, x), mean=(0, 0, 0), std=(1, 1, 1))
    with pytest.raises(ValueError, match=r"it names .*Doubled.* Save it as a .keras"):
        model.save_to_preset(tmp_path / "preset")
    assert not (tmp_path / "preset").exists()


@pytest.mark.parametrize("file", [CONFIG, "model.weights.h5"])
def test_a_tampered_file_is_refused(preset, file):
    content = bytearray((preset / file).read_bytes())
    content[len(content) // 2] ^= 1
    (preset / file).write_bytes(content)
    message = rf"{file} has the SHA-256 .* in metadata.json: it is damaged, or was changed"
    with pytest.raises(WeightsFileError, match=message):
        PSPNet.from_preset(preset)
    (preset / file).unlink()
    if file != CONFIG:  # without one, the folder isn't taken for a preset
        with pytest.raises(WeightsFileError, match=f"lacks {file}, which its metadata.json lists"):
            PSPNet.from_preset(preset)


def test_the_card_may_be_edited(preset):
    (preset / "README.md").write_text("# Mine")
    assert PSPNet.from_preset(preset).num_classes == 3


def an_object(module, class_name, config=None, **more):
    config = {"name": "x"} if config is None else config
    return {"module": module, "class_name": class_name, "config": config, **more}


HOSTILE = {
    "a lambda": (an_object("builtins", "__lambda__"), "names builtins.__lambda__"),
    "a Lambda layer": (an_object("keras.layers", "Lambda"), "names keras.layers.Lambda"),
    "a function": (an_object("keras.utils", "function", "get_file"), "keras.utils.function"),
    "Keras' downloads": (an_object("keras.utils", "get_file"), "names keras.utils.get_file"),
    "a saved model": (an_object("keras.layers", "TFSMLayer"), "names keras.layers.TFSMLayer"),
    "a file reader": (an_object("keras.layers", "StringLookup"), "keras.layers.StringLookup"),
    "another module": (an_object("os", "system", "touch x"), r"names os.system"),
    "another package": (an_object("keras_hub.models", "Backbone"), "keras_hub.models.Backbone"),
    "a registered object": (
        an_object("keras.layers", "Conv2D", registered_name="other>Thing"),
        "names keras.layers.Conv2D",
    ),
    "a PSPNet inside": (
        an_object("keras_psp", "PSPNet", registered_name="keras_psp>PSPNet"),
        "names keras_psp.PSPNet",
    ),
    "no module": ({"class_name": "Conv2D", "config": {}}, "names Conv2D"),
    "a type": ({"class_name": "__typespec__", "module": "os", "spec_name": "x"}, "__typespec__"),
    "a compiled layer": (
        an_object("keras.layers", "Conv2D", compile_config={"loss": "mse"}),
        "has a compile_config",
    ),
    "a number as name": ({"class_name": 3, "module": "keras"}, "something that isn't text"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("where", ["backbone", "deep"])
def test_a_config_names_layers_of_images_only(preset, monkeypatch, name, where):
    value, message = HOSTILE[name]

    def change(config):
        value_there = value if where == "backbone" else {"a": [{"b": [value]}]}
        config["config"]["backbone"]["config"]["depth"] = value_there

    change_config(preset, change)
    monkeypatch.setattr(PSPNet, "from_config", lambda *_: pytest.fail("something was built"))
    with pytest.raises(WeightsFileError, match=f"config.json: it .*{message}"):
        PSPNet.from_preset(preset)


def test_a_config_of_something_else_or_another_version_is_refused(preset):
    change_config(preset, lambda config: config["config"].update(temper=3))
    with pytest.raises(WeightsFileError, match=r"doesn't make a network \(.*temper.*written by"):
        PSPNet.from_preset(preset)
    # A name could be that of a preset of keras-hub, wherever it is.
    change_config(preset, lambda config: config["config"].update(backbone="keras_hub:hf://a/b"))
    with pytest.raises(WeightsFileError, match="it doesn't describe its backbone"):
        PSPNet.from_preset(preset)
    change_config(preset, lambda config: config.update(config=[]))
    with pytest.raises(WeightsFileError, match="it has no arguments of PSPNet"):
        PSPNet.from_preset(preset)
    change_config(preset, lambda config: config.update(registered_name="keras_psp>MeanIoU"))
    with pytest.raises(WeightsFileError, match="it doesn't describe a PSPNet"):
        PSPNet.from_preset(preset)
    (preset / CONFIG).write_text("[" * 100_000)
    relist(preset)
    with pytest.raises(WeightsFileError, match=r"config.json is damaged"):
        PSPNet.from_preset(preset)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2, "keras_psp_version": "9.0"}, "of format 2, written by keras_psp 9.0; this"),
        ({"files": None}, "has no list of files"),
        ({"files": {"../model.weights.h5": {}}}, r"lists ../model.weights.h5, which isn't a file"),
        ({"files": {"/etc/passwd": {}}}, r"lists /etc/passwd, which isn't a file of a preset"),
        ({"files": {"pytorch_model.bin": {}}}, r"lists pytorch_model.bin"),
        ({"files": {CONFIG: {}}}, "must list config.json and one of model.weights.h5 and"),
        ({"files": {CONFIG: {}, "model.weights.h5": {}}}, "has no checksum of config.json"),
        ({"facts": {"image_size": [10**9, 1]}}, r"metadata.json is wrong .*image_size"),
        ({"facts": 3}, "metadata.json is wrong"),
        ({"license": "a\nb"}, "metadata.json is wrong"),
    ],
    ids=str,
)
def test_metadata_of_another_form_is_refused(preset, changes, message):
    metadata = json.loads((preset / METADATA).read_text())
    (preset / METADATA).write_text(json.dumps({**metadata, **changes}))
    with pytest.raises(WeightsFileError, match=message):
        PSPNet.from_preset(preset)


OTHERS = [
    ({METADATA: {"keras_hub_version": "0.2"}, CONFIG: {"class_name": "ResNetBackbone"}},
     r"one of keras-hub 0.2 \(ResNetBackbone\)"),
    ({CONFIG: {"model_type": "bert"}}, "a bert model of transformers"),
    ({CONFIG: {"architecture": "resnet50"}}, "a resnet50 model of timm"),
    ({METADATA: {"keras_version": "3.1"}, CONFIG: {"class_name": "Functional"}},
     "a saved Functional of Keras 3.1"),
    ({METADATA: {"a": 1}}, "something else, with metadata.json of another form"),
    ({"recipe.json": {}}, "the folder of a training run, which PSPNet"),
    ({"a.pth": {}, "b": {}, "c": {}, "d": {}}, r"a folder of a.pth, b, c, \.\.\."),
    ({}, "an empty folder"),
]  # fmt: skip


@pytest.mark.parametrize(("files", "found"), OTHERS, ids=[found for _, found in OTHERS])
def test_what_is_found_in_place_of_a_preset_is_named(tmp_path, files, found):
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(WeightsFileError, match=f"isn't a preset of keras_psp but {found}"):
        PSPNet.from_preset(tmp_path)


def outside_link(path):
    with h5py.File(path, "a") as file:
        file["more"] = h5py.ExternalLink("/etc/passwd", "x")


def soft_link(path):
    with h5py.File(path, "a") as file:
        file["more"] = h5py.SoftLink("/layers")


def outside_data(path):
    with h5py.File(path, "a") as file:
        file.create_dataset("more", (3,), "u1", external=[("/etc/passwd", 0, 3)])


def virtual_data(path):
    layout = h5py.VirtualLayout((3,), "u1")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (3,))
    with h5py.File(path, "a") as file:
        file.create_virtual_dataset("more", layout)


def endless(path):
    with h5py.File(path, "a") as file:
        file["cycle/inside"] = file["/"]


def bomb(path):
    with h5py.File(path, "a") as file:
        file.create_dataset("more", (1 << 40,), "u1", chunks=(1 << 20,), compression="gzip")


def a_pickle(path):
    path.write_bytes(pickle.dumps({"a": os.system}))


def another_network(path):
    small_pspnet(fusion_filters=16).save_weights(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (outside_link, "refers to other files or groups"),
        (soft_link, "refers to other files or groups"),
        (outside_data, "refers to data in other files"),
        (virtual_data, "refers to data in other files"),
        (endless, "more data than the weights|more groups|damaged or truncated"),
        (bomb, "more data than the weights"),
        (a_pickle, "damaged or truncated"),
        (another_network, "its weights aren't those of config.json"),
    ],
)
def test_weights_that_refer_to_other_files_or_do_not_fit_are_refused(preset, change, message):
    change(preset / "model.weights.h5")
    relist(preset)
    with pytest.raises(WeightsFileError, match=f"model.weights.h5: .*({message})"):
        PSPNet.from_preset(preset)


def test_tensors_that_are_missing_unknown_or_of_another_shape_are_refused(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy", reason="safetensors is optional")
    folder, path = tmp_path / "preset", tmp_path / "preset" / "model.safetensors"
    small_pspnet().save_to_preset(folder, weights_format="safetensors")
    tensors = numpy.load_file(path)
    bias = tensors.pop("classifier/bias")
    for changed, message in (
        (tensors, "it lacks classifier/bias; nothing was loaded"),
        ({**tensors, "classifier/bias": bias, "a": bias}, "it has in addition a; nothing"),
        ({**tensors, "classifier/bias": bias[:2]}, r"classifier/bias has shape \(2,\); the netw"),
        ({**tensors, "classifier/bias": bias * np.nan}, "hold|NaN or infinite"),
    ):
        numpy.save_file(changed, path)
        relist(folder)
        with pytest.raises(WeightsFileError, match=message):
            PSPNet.from_preset(folder)


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    model = small_pspnet()
    model.get_layer("classifier").bias.assign([np.nan] * 3)
    with pytest.raises(ValueError, match="NaN or infinite"):
        model.save_to_preset(tmp_path / "preset")


def test_metadata_has_what_is_known_and_the_size_of_training_images_is_used(tmp_path, capsys):
    facts = {"dataset": "CamVid", "mean_iou": 0.5, "image_size": (61, 57)}
    small_pspnet().save_to_preset(tmp_path / "preset", license=" MIT ", facts=facts)
    metadata = json.loads((tmp_path / "preset" / METADATA).read_text())
    assert metadata["license"] == "MIT" and metadata["facts"] == {**facts, "image_size": [61, 57]}
    assert metadata["keras_version"] == keras.version()
    result = keras_psp.predict(np.uint8(IMAGE[0]), tmp_path / "preset")
    assert result.classes.shape == (61, 57)
    assert "base_size=61, as in training" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"facts": {"iou": 1}}, "facts has 'iou', which is unknown; choose from dataset, split"),
        ({"facts": {"mean_iou": 71.2}}, re.escape("facts['mean_iou'] is 71.2")),
        ({"facts": {"dataset": 3}}, re.escape("facts['dataset'] is 3; it must be a string")),
        ({"facts": {"crop_size": 3}}, re.escape("facts['crop_size']")),
        ({"license": "a\nb"}, "give its name, e.g. 'apache-2.0'"),
        ({"license": " "}, "give its name"),
        ({"weights_format": "pickle"}, "weights_format"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_before_anything_is_written(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        small_pspnet().save_to_preset(tmp_path / "preset", **options)
    assert not (tmp_path / "preset").exists()
