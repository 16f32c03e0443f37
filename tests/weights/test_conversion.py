import json
import zipfile

import keras
import numpy as np
import pytest
from support import checkpoints, writers
from support.networks import tiny_backbone, tiny_pspnet

from keras_psp import PSPNet
from keras_psp.models import hub
from keras_psp.weights import WeightsFileError, convert

IMAGE = np.random.default_rng(0).integers(0, 256, (1, 57, 65, 3)).astype("float32")


def predicts(model, size=(57, 65)):
    logits = model.predict(IMAGE, verbose=0)
    assert logits.shape == (1, *size, model.num_classes)
    assert np.isfinite(logits).all() and logits.std() > 0
    return logits


def test_mmsegmentation_metadata_sets_what_shapes_do_not_show(tmp_path, capsys):
    config = "model = dict(backbone=dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)),\n"
    config += "decode_head=dict(type='PSPHead', align_corners=True))"
    meta = {
        "config": config,
        "CLASSES": ["road", "tree", "car"],
        "PALETTE": [[1, 2, 3], [4, 5, 6], [7, 8, 9]],
    }
    tensors = checkpoints.mmsegmentation(18, 3)
    writers.write_torch(tmp_path / "a.pth", {"meta": meta, "state_dict": tensors})
    model = convert(tmp_path / "a.pth")
    assert model.class_names == ["road", "tree", "car"]
    assert model.palette == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert model.align_corners is True
    assert model.aux_weight == 0.4
    backbone = model.backbone
    assert (backbone.depth, backbone.stem_filters) == (18, (32, 32, 64))
    assert (backbone.contract_dilation, backbone.dilate_second) == (True, False)
    summary = capsys.readouterr().err
    assert "a PSPNet of mmsegmentation (ResNetV1c), ResNet-18" in summary
    assert "3 classes, with auxiliary head, align_corners=True" in summary
    predicts(model)
    np.testing.assert_array_equal(
        backbone.stem[0].conv.kernel, tensors["backbone.stem.0.weight"].transpose(2, 3, 1, 0)
    )
    norm = model.get_layer("pyramid_pooling").reductions[3].norm
    np.testing.assert_array_equal(
        norm.moving_variance, tensors["decode_head.psp_modules.3.1.bn.running_var"]
    )


def test_mmsegmentation_at_stride_32_keeps_its_dilations(tmp_path):
    config = "backbone=dict(dilations=(1, 1, 2, 4), strides=(1, 2, 2, 2))"
    tensors = checkpoints.mmsegmentation(18, 3, plain=True)
    writers.write_torch(tmp_path / "a.pth", {"meta": {"config": config}, "state_dict": tensors})
    backbone = convert(tmp_path / "a.pth", verbose=False).backbone
    assert (backbone.output_stride, backbone.dilations) == (32, (1, 1, 2, 4))
    assert backbone.stem_filters == (64,)


def test_unusual_mmsegmentation_configurations_are_respected(tmp_path):
    config = """
model = dict(
    data_preprocessor=dict(mean=[1, 2.5, 3], std=[4, 5, 6], bgr_to_rgb=False),
    backbone=dict(style='caffe', contract_dilation=False, strides=(1, 2, 2, 1)),
    decode_head=dict(pool_scales=(1, 2, 4, 8), align_corners=True))"""
    labels = {"classes": ("a", "b", "c"), "palette": [[0, 0, 0], [1, 1, 1], [2, 2, 2]]}
    content = {
        "meta": {"cfg": config, "dataset_meta": labels},
        "state_dict": checkpoints.mmsegmentation(18, 3),
    }
    writers.write_torch(tmp_path / "a.pth", content)
    model = convert(tmp_path / "a.pth", verbose=False)
    backbone = model.backbone
    assert (backbone.stride_in_1x1, backbone.contract_dilation) == (True, False)
    assert (backbone.output_stride, backbone.dilations) == (16, None)
    assert (model.bin_sizes, model.align_corners) == ((1, 2, 4, 8), True)
    normalization = model.get_layer("normalization").get_config()
    assert tuple(normalization["mean"]) == (1, 2.5, 3) and tuple(normalization["std"]) == (4, 5, 6)
    assert normalization["channel_order"] == "bgr"
    assert model.class_names == ["a", "b", "c"] and model.palette[2] == [2, 2, 2]


def test_the_epsilon_of_an_mmsegmentation_configuration_is_used(tmp_path):
    tensors = checkpoints.mmsegmentation(18, 3)
    norm = "norm_cfg=dict(eps=0.001, requires_grad=True, type='SyncBN')"
    for config in (f"backbone=dict({norm}), decode_head=dict({norm})", f"backbone=dict({norm})"):
        meta = {"cfg": f"optimizer=dict(eps=1e-08), {config}"}
        writers.write_torch(tmp_path / "a.pth", {"meta": meta, "state_dict": tensors})
        model = convert(tmp_path / "a.pth", verbose=False)
        norms = [x for x in model._flatten_layers() if hasattr(x, "moving_variance")]
        assert {norm.epsilon for norm in norms} == {0.001}
    other = "decode_head=dict(norm_cfg=dict(requires_grad=True, type='SyncBN'))"
    meta = {"cfg": f"backbone=dict({norm}), {other}"}
    writers.write_torch(tmp_path / "a.pth", {"meta": meta, "state_dict": tensors})
    with pytest.raises(WeightsFileError, match=r"BatchNorms with eps=1e-05 and 0\.001; all must"):
        convert(tmp_path / "a.pth")


def test_invalid_mmsegmentation_metadata_is_ignored_or_refused(tmp_path):
    tensors = checkpoints.mmsegmentation(18, 3)
    meta = {"CLASSES": "abc", "PALETTE": [1, 2, 3], "config": "strides=(1), align_corners=maybe"}
    writers.write_torch(tmp_path / "a.pth", {"meta": meta, "state_dict": tensors})
    model = convert(tmp_path / "a.pth", verbose=False)
    assert (model.class_names, model.palette, model.align_corners) == (None, None, False)
    meta = {"config": "strides=(1, 2, 'x', 1)"}
    writers.write_torch(tmp_path / "a.pth", {"meta": meta, "state_dict": tensors})
    with pytest.raises(
        WeightsFileError, match=r"a\.pth: its configuration has strides=\(1, 2, 'x', 1\), which"
    ):
        convert(tmp_path / "a.pth")


@pytest.mark.parametrize("legacy", [False, True])
def test_semseg_checkpoints_of_data_parallel_convert(tmp_path, legacy):
    tensors = checkpoints.semseg()
    wrapped = {f"module.{name}": value for name, value in tensors.items()}
    content = {"epoch": 100, "state_dict": wrapped, "optimizer": {"momentum": [0.9]}}
    writers.write_torch(tmp_path / "a.pth", content, legacy=legacy)
    model = convert(tmp_path / "a.pth", verbose=False)
    assert model.align_corners is True
    backbone = model.backbone
    assert (backbone.depth, backbone.stem_filters) == (50, (64, 64, 128))
    assert backbone.contract_dilation is False
    kernel = model.get_layer("pyramid_pooling").fusion.kernel
    np.testing.assert_array_equal(kernel, tensors["cls.0.weight"].transpose(2, 3, 1, 0))


def test_csail_networks_consist_of_two_files(tmp_path):
    writers.write_torch(tmp_path / "encoder_epoch_20.pth", checkpoints.csail_encoder())
    with pytest.raises(FileNotFoundError, match=r"half of a network; put decoder_epoch_20\.pth"):
        convert(tmp_path / "encoder_epoch_20.pth")
    writers.write_torch(tmp_path / "decoder_epoch_20.pth", checkpoints.csail_decoder())
    logits = []
    for path in (
        tmp_path,
        tmp_path / "encoder_epoch_20.pth",
        [tmp_path / "decoder_epoch_20.pth", tmp_path / "encoder_epoch_20.pth"],
    ):
        model = convert(path, verbose=False)
        logits.append(predicts(model))
    assert model.backbone.contract_dilation and model.align_corners is False
    np.testing.assert_array_equal(logits[0], logits[1])
    np.testing.assert_array_equal(logits[0], logits[2])


@pytest.mark.parametrize(("features", "stride"), [(128, 8), (256, 16), (512, 32)])
def test_segmentation_models_pytorch_has_a_different_architecture(tmp_path, features, stride):
    tensors = checkpoints.smp(features=features)
    writers.write_torch(tmp_path / "a.pth", tensors)
    model = convert(tmp_path / "a.pth", verbose=False)
    assert model.backbone.output_stride == stride
    assert (model.fusion_kernel_size, model.classifier_kernel_size) == (1, 3)
    pyramid = model.get_layer("pyramid_pooling")
    assert pyramid.reductions[0].norm is None and model.aux_weight == 0
    # There the levels come before the features.
    theirs = tensors["decoder.conv.0.weight"].transpose(2, 3, 1, 0)
    ours = np.asarray(pyramid.fusion.kernel)
    np.testing.assert_array_equal(ours[:, :, :features], theirs[:, :, features:])
    np.testing.assert_array_equal(ours[:, :, features:], theirs[:, :, :features])
    if stride == 8:  # 57 pixels at 16 and 32 are fewer than the bins
        predicts(model)


def lightning(path, **modules):
    """A checkpoint of a LightningModule that has these modules, with its hyperparameters."""
    tensors = {}
    for module, parts in modules.items():
        tensors |= {f"{module}.{name}": tensor for name, tensor in parts.items()}
    # As in examples/camvid_segmentation_multiclass.ipynb of segmentation_models.pytorch.
    tensors["mean"] = np.array([0.485, 0.456, 0.406], "float32").reshape(1, 3, 1, 1)
    tensors["std"] = np.array([0.229, 0.224, 0.225], "float32").reshape(1, 3, 1, 1)
    settings = writers.Call("lightning.fabric.utilities.data", "AttributeDict", {"arch": "PSPNet"})
    content = {"pytorch-lightning_version": "2.5.0", "hyper_parameters": settings}
    writers.write_torch(path, {"state_dict": tensors, **content})


def test_a_network_in_a_lightning_module_is_read_alone(tmp_path, capsys):
    tensors = checkpoints.smp()
    lightning(tmp_path / "a.ckpt", model=tensors, loss_fn={"weight": np.ones(5, "float32")})
    writers.write_torch(tmp_path / "a.pth", tensors)
    logits = predicts(convert(tmp_path / "a.ckpt", verbose=False))
    reported = capsys.readouterr().err
    assert "a.ckpt: its module normalizes images, mean=[0.485, 0.456, 0.406] and std" in reported
    np.testing.assert_array_equal(logits, predicts(convert(tmp_path / "a.pth", verbose=False)))
    own = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    model = convert(tmp_path / "a.ckpt", verbose=False, **own)
    assert model.get_layer("normalization").mean == own["mean"]


def test_several_networks_in_a_module_are_refused(tmp_path):
    lightning(tmp_path / "a.ckpt", student=checkpoints.smp(), teacher=checkpoints.smp())
    with pytest.raises(WeightsFileError, match="contains several networks, student, teacher; save"):
        convert(tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    ("project", "heads"),
    [
        (checkpoints.smp, ["segmentation_head.0"]),
        (checkpoints.mmsegmentation, ["decode_head.conv_seg", "auxiliary_head.conv_seg"]),
    ],
)
def test_one_output_becomes_two_classes(tmp_path, project, heads):
    tensors = project(18, num_classes=1)
    writers.write_torch(tmp_path / "a.pth", tensors)
    one = predicts(convert(tmp_path / "a.pth", verbose=False))
    for name in (f"{head}.{kind}" for head in heads for kind in ("weight", "bias")):
        tensors[name] = np.concatenate([tensors[name]] * 2)
    writers.write_torch(tmp_path / "b.pth", tensors)
    both = predicts(convert(tmp_path / "b.pth", verbose=False))
    np.testing.assert_array_equal(one[..., 0], 0)  # softmax(0, x) is sigmoid(x)
    np.testing.assert_array_equal(one[..., 1], both[..., 1])


def test_gluoncv_files_convert_and_old_ones_have_bins_up_to_four(tmp_path):
    tensors = checkpoints.gluoncv()
    writers.write_mxnet(tmp_path / "psp_resnet50_ade-3f220f53.params", tensors)
    model = convert(tmp_path / "psp_resnet50_ade-3f220f53.params", verbose=False)
    assert model.bin_sizes == (1, 2, 3, 6)
    np.testing.assert_array_equal(model.backbone.stem[2].norm.gamma, tensors["bn1.gamma"])
    writers.write_mxnet(tmp_path / "psp_resnet50_ade-0c42cb73.params", tensors)
    old = convert(tmp_path / "psp_resnet50_ade-0c42cb73.params", verbose=False)
    assert old.bin_sizes == (1, 2, 3, 4)


@pytest.mark.parametrize("auxiliary", [False, True])
def test_caffe_concatenates_its_levels_in_reverse(tmp_path, auxiliary):
    tensors = checkpoints.caffe(auxiliary=auxiliary)
    writers.write_caffe(tmp_path / "pspnet50_ADE20K.caffemodel", tensors)
    model = convert(tmp_path / "pspnet50_ADE20K.caffemodel", verbose=False)
    assert model.backbone.stride_in_1x1 is True
    assert (model.aux_weight > 0) == auxiliary
    normalization = model.get_layer("normalization").get_config()
    assert normalization["channel_order"] == "bgr"
    assert tuple(normalization["mean"]) == (103.939, 116.779, 123.68)
    theirs = tensors["conv5_4/0"].transpose(2, 3, 1, 0)
    ours = np.asarray(model.get_layer("pyramid_pooling").fusion.kernel)
    np.testing.assert_array_equal(ours[:, :, :2048], theirs[:, :, :2048])
    # Ours: bins 1, 2, 3, 6; theirs: 6, 3, 2, 1.
    for ours_at, theirs_at in ((0, 3), (1, 2), (2, 1), (3, 0)):
        np.testing.assert_array_equal(
            ours[:, :, 2048 + 512 * ours_at : 2560 + 512 * ours_at],
            theirs[:, :, 2048 + 512 * theirs_at : 2560 + 512 * theirs_at],
        )


def test_options_override_the_file(tmp_path):
    writers.write_torch(tmp_path / "a.pth", checkpoints.mmsegmentation(18, 3))
    model = convert(tmp_path / "a.pth", verbose=False, align_corners=True, output_stride=16)
    assert model.align_corners is True
    assert model.backbone.output_stride == 16


# --- Tensors that do not fit ----------------------------------------------------


def changed(tmp_path, change):
    tensors = checkpoints.mmsegmentation(18, 3)
    change(tensors)
    writers.write_torch(tmp_path / "a.pth", tensors)
    return tmp_path / "a.pth"


@pytest.mark.parametrize(
    "key",
    [
        "backbone.layer2.1.conv1.weight",
        "backbone.layer4.1.bn2.running_var",
        "backbone.stem.3.weight",
        "decode_head.psp_modules.2.1.conv.weight",
        "decode_head.psp_modules.0.1.conv.weight",
        "decode_head.bottleneck.conv.weight",
        "decode_head.conv_seg.weight",
        "decode_head.conv_seg.bias",
        "auxiliary_head.convs.0.conv.weight",
        "auxiliary_head.conv_seg.bias",
    ],
)
def test_a_missing_tensor_is_reported(tmp_path, key):
    path = changed(tmp_path, lambda tensors: tensors.pop(key))
    with pytest.raises(WeightsFileError) as caught:
        convert(path)
    assert key in str(caught.value) and str(path) in str(caught.value)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    tensors = checkpoints.semseg(50, 3)
    tensors["cls.4.bias"][1] = np.nan
    writers.write_torch(tmp_path / "a.pth", {"state_dict": tensors})
    model = tiny_pspnet(3)
    model.get_layer("classifier").bias.assign([0, np.inf, 0])
    model.save(tmp_path / "b.keras")
    for name in ("a.pth", "b.keras"):
        message = rf"classifier/bias holds weights that are NaN or infinite: .*{name} comes from"
        with pytest.raises(WeightsFileError, match=message):
            convert(tmp_path / name, verbose=False)


def test_a_renamed_tensor_is_reported_as_missing_and_unexpected(tmp_path):
    key = "backbone.layer3.0.downsample.1.weight"
    path = changed(tmp_path, lambda tensors: tensors.update({key + "x": tensors.pop(key)}))
    with pytest.raises(WeightsFileError, match=f"lacks {key}; has unexpected {key}x. Nothing was"):
        convert(path)


def test_a_tensor_of_another_shape_is_reported(tmp_path):
    def reshape(tensors):
        tensors["backbone.layer3.0.conv1.weight"] = checkpoints.kernel(256, 129, 3, 3)
        tensors["decode_head.bottleneck.bn.weight"] = np.ones(127, "float32")

    with pytest.raises(WeightsFileError) as caught:
        convert(changed(tmp_path, reshape))
    assert "backbone.layer3.0.conv1.weight (256, 129, 3, 3), which should be" in str(caught.value)
    assert "decode_head.bottleneck.bn.weight (127,)" in str(caught.value)


def test_weights_of_other_networks_are_refused(tmp_path):
    writers.write_torch(tmp_path / "a.pth", {"encoder.block.weight": np.ones((2, 2), "float32")})
    with pytest.raises(
        WeightsFileError, match=r"1 tensors \(encoder.block.weight ...\) aren't those"
    ):
        convert(tmp_path / "a.pth")
    backbone = checkpoints.plain_stem() | checkpoints.residual(18, 64)
    writers.write_torch(tmp_path / "b.pth", backbone)
    with pytest.raises(
        WeightsFileError, match=r"not a PSPNet; use it as the backbone of one with PSPNet\(num_"
    ):
        convert(tmp_path / "b.pth")


# --- Files of keras_psp ---------------------------------------------------------


def test_keras_psp_files_open_with_and_without_options(tmp_path, capsys):
    model = tiny_pspnet(3, backbone=tiny_backbone(), class_names=["a", "b", "c"])
    model.save(tmp_path / "a.keras")
    again = convert(tmp_path / "a.keras")
    assert "a PSPNet of keras_psp, ResNet-18" in capsys.readouterr().err
    assert again.class_names == ["a", "b", "c"]
    np.testing.assert_array_equal(predicts(model), predicts(again))
    changed = convert(tmp_path / "a.keras", verbose=False, output_stride=16, dropout=0.3)
    assert (changed.backbone.output_stride, changed.dropout_rate) == (16, 0.3)
    with pytest.raises(ValueError, match="backbone= can't be chosen"):
        convert(tmp_path / "a.keras", backbone="resnet50")


def test_a_network_with_other_options_is_trainable(tmp_path):
    model = tiny_pspnet(3, bin_sizes=(1,), aux_weight=0)
    all_variables = len(model.trainable_variables)
    model.backbone.trainable = False
    model.save(tmp_path / "a.keras")
    for options in ({"dropout": 0.3}, {"output_stride": 16}):
        changed = convert(tmp_path / "a.keras", verbose=False, **options)
        assert len(changed.trainable_variables) == all_variables


def test_a_keras_file_cannot_open_other_files(tmp_path, monkeypatch):
    config = tiny_pspnet(3, backbone=tiny_backbone()).get_config()
    assert PSPNet.from_config({**config, "weights": "/nowhere.pth"}).num_classes == 3
    model = tiny_pspnet(3)
    model.save(tmp_path / "a.keras")
    with zipfile.ZipFile(tmp_path / "a.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    config["config"]["backbone"] = "keras_hub:hf://user/name"
    parts["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    monkeypatch.setattr(hub, "_keras_hub", lambda: pytest.fail("opened"))
    with pytest.raises(WeightsFileError, match="can't open a preset as its backbone, here"):
        convert(tmp_path / "a.keras")


def test_folders_that_need_no_conversion_are_named(tmp_path):
    network = tiny_pspnet(3, aux_weight=0)
    network.save_to_preset(tmp_path / "preset")
    (tmp_path / "run").mkdir()
    network.save(tmp_path / "run" / "best.keras")
    for folder in ("preset", "run"):
        with pytest.raises(WeightsFileError, match="needs no conversion; open it with keras_psp"):
            convert(tmp_path / folder)


def test_keras_files_of_other_models_are_refused(tmp_path):
    inputs = keras.Input((4,))
    keras.Model(inputs, keras.layers.Dense(2)(inputs)).save(tmp_path / "a.keras")
    with pytest.raises(WeightsFileError, match="contains a Functional, not a PSPNet"):
        convert(tmp_path / "a.keras")
    lambdas = keras.Model(inputs, keras.layers.Lambda(lambda x: x)(inputs))
    lambdas.save(tmp_path / "b.keras")
    with pytest.raises(WeightsFileError, match="Keras can't open it"):
        convert(tmp_path / "b.keras")
    content = (tmp_path / "a.keras").read_bytes()
    (tmp_path / "c.keras").write_bytes(content[: len(content) // 2])
    with pytest.raises(WeightsFileError, match="truncated"):
        convert(tmp_path / "c.keras")
