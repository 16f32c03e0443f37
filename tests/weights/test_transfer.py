from pathlib import Path

import keras
import numpy as np
import pytest
from support import checkpoints, writers
from support.networks import tiny_backbone, tiny_pspnet

from keras_psp import DilatedBackbone, DilatedResNet, PSPNet
from keras_psp.weights import WeightsFileError, read_checkpoint

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
IMAGE = np.random.default_rng(0).integers(0, 256, (1, 65, 57, 3)).astype("float32")


def small(**arguments):
    return tiny_pspnet(3, backbone=tiny_backbone(), **arguments)


# --- A whole network ------------------------------------------------------------


def test_another_number_of_classes_gets_new_classifiers(tmp_path, capsys):
    trained = small(class_names=["a", "b", "c"], align_corners=False, bin_sizes=(1, 2))
    trained.save(tmp_path / "trained.keras")
    for weights in (trained, tmp_path / "trained.keras", str(tmp_path / "trained.keras")):
        model = PSPNet(num_classes=7, weights=weights)
        assert (model.num_classes, model.align_corners, model.bin_sizes) == (7, False, (1, 2))
        assert model.class_names is None
        printed = capsys.readouterr().err
        assert (
            "except classifier, auxiliary_head/classifier, which are newly initialized" in printed
        )
        for new, old in zip(model.backbone.weights, trained.backbone.weights, strict=True):
            np.testing.assert_array_equal(new, old)
        np.testing.assert_array_equal(
            model.get_layer("auxiliary_head").conv.conv.kernel,
            trained.get_layer("auxiliary_head").conv.conv.kernel,
        )
        assert model.predict(IMAGE, verbose=0).shape == (1, 65, 57, 7)


def test_the_same_number_of_classes_copies_all_weights(capsys):
    trained = small(class_names=["a", "b", "c"])
    model = PSPNet(weights=trained, dropout=0.5)
    assert capsys.readouterr().err == ""
    assert (model.class_names, model.dropout_rate) == (["a", "b", "c"], 0.5)
    np.testing.assert_array_equal(model(IMAGE), trained(IMAGE))


def test_the_auxiliary_head_can_be_dropped_and_added(capsys):
    trained = small()
    assert PSPNet(weights=trained, aux_weight=0).aux_weight == 0
    bare = small(aux_weight=0)
    model = PSPNet(weights=bare, aux_weight=0.4)
    assert "newly initialized" in capsys.readouterr().err
    np.testing.assert_array_equal(model(IMAGE), bare(IMAGE))


def test_arguments_that_change_the_networks_shape_are_refused():
    with pytest.raises(ValueError, match=r"pyramid_pooling/level.*leave out the arguments"):
        PSPNet(weights=small(), reduction=16)
    with pytest.raises(ValueError, match=r"trained with bin_sizes=\(1, 2, 3, 6\), not \(6, 3, 2"):
        PSPNet(weights=small(), bin_sizes=(6, 3, 2, 1))
    with pytest.raises(ValueError, match="bin_sizes is 6; it must be a sequence of values"):
        PSPNet(weights=small(), bin_sizes=6)
    with pytest.raises(ValueError, match="input_channels is '4'; it must be an integer >= 1"):
        PSPNet(weights=small(), input_channels="4")
    with pytest.raises(
        ValueError, match="have the backbone resnet18, not resnet50; omit backbone, or"
    ):
        PSPNet(weights=small(), backbone="resnet50")


@pytest.mark.parametrize(
    ("trained", "given", "message"),
    [
        # All weights of a shallow ResNet have a counterpart in a deep one.
        ((34, {}), (18, {}), r"need DilatedResNet\(depth=34\), not 18"),
        # The stride doesn't change a shape.
        ((50, {"stride_in_1x1": True}), (50, {}), r"need DilatedResNet\(stride_in_1x1=True\)"),
        ((18, {"use_bias": True}), (18, {}), "have backbone/.*/bias, and the network doesn't"),
    ],
)
def test_a_backbone_that_would_compute_something_else_is_refused(trained, given, message):
    def resnet(depth, options):
        return DilatedResNet(depth, stem_filters=(8,), **options)

    options = {"bin_sizes": (1,), "reduction": 8, "fusion_filters": 8, "aux_weight": 0}
    network = PSPNet(3, backbone=resnet(*trained), **options)
    with pytest.raises(ValueError, match=message):
        PSPNet(weights=network, backbone=resnet(*given))


def test_a_network_on_any_backbone_is_copied(tmp_path):
    mobile = keras.applications.MobileNetV3Small(
        include_top=False, weights=None, input_shape=(None, None, 3)
    )
    trained = PSPNet(3, backbone=mobile, bin_sizes=(1, 2))
    trained.save(tmp_path / "mobile.keras")
    model = PSPNet(3, weights=tmp_path / "mobile.keras")
    assert isinstance(model.backbone, DilatedBackbone)
    np.testing.assert_allclose(model(IMAGE), trained(IMAGE), rtol=1e-5, atol=1e-12)


def test_a_backbone_passed_by_the_user_gets_all_weights():
    mobile = keras.applications.MobileNetV2(
        include_top=False, weights=None, input_shape=(None, None, 3)
    )
    trained = PSPNet(3, backbone=mobile, bin_sizes=(1, 2))
    checkpoints.randomize(trained.backbone.features)
    other = keras.applications.MobileNetV2(
        include_top=False, weights=None, input_shape=(None, None, 3)
    )
    model = PSPNet(3, backbone=DilatedBackbone(other, output_stride=16), weights=trained)
    for new, old in zip(model.backbone.weights, trained.backbone.weights, strict=True):
        np.testing.assert_array_equal(new, old)


def test_a_network_on_any_backbone_continues_at_a_smaller_stride():
    def mobile():
        return keras.applications.MobileNetV3Small(include_top=False, weights=None)

    options = {"bin_sizes": (1, 2), "aux_weight": 0}
    trained = PSPNet(3, backbone=mobile(), output_stride=16, **options)
    checkpoints.randomize(trained.backbone.features)
    expected = PSPNet(3, backbone=mobile(), output_stride=8, weights=trained)
    for backbone in (None, "mobilenet_v3_small"):
        model = PSPNet(3, backbone=backbone, output_stride=8, weights=trained)
        assert model.backbone.output_stride == 8
        np.testing.assert_array_equal(model(IMAGE), expected(IMAGE))
    with pytest.raises(ValueError, match="have output stride 16, which can only become smaller"):
        PSPNet(3, output_stride=32, weights=trained)


@pytest.mark.parametrize("half", ["encoder", "decoder"])
def test_either_half_of_a_csail_network_loads_the_other(half, tmp_path):
    encoder = checkpoints.csail_encoder()
    writers.write_torch(tmp_path / "encoder_epoch_20.pth", encoder)
    writers.write_torch(tmp_path / "decoder_epoch_20.pth", checkpoints.csail_decoder())
    model = PSPNet(weights=tmp_path / f"{half}_epoch_20.pth")
    expected = encoder["conv1.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(model.backbone.stem[0].conv.kernel, expected)


def test_precision_is_the_users_or_keras_default(tmp_path):
    trained = small(dtype="float32")
    assert PSPNet(weights=trained, dtype="mixed_bfloat16").backbone.compute_dtype == "bfloat16"
    writers.write_torch(tmp_path / "a.pth", checkpoints.mmsegmentation(18, 3))
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = PSPNet(weights=tmp_path / "a.pth")
        assert model.backbone.compute_dtype == "bfloat16"
        assert PSPNet(weights=trained).backbone.compute_dtype == "float32"
    finally:
        keras.config.set_dtype_policy("float32")


def test_frozen_layers_are_trainable_in_the_new_network():
    trained = small()
    trained.backbone.trainable = False
    model = PSPNet(weights=trained)
    assert model.backbone.trainable and len(model.trainable_variables) > 60


def test_a_model_with_weights_saves_and_loads_without_the_file(tmp_path):
    writers.write_torch(tmp_path / "a.pth", checkpoints.mmsegmentation(18, 3))
    model = PSPNet(weights=tmp_path / "a.pth")
    model.save(tmp_path / "own.keras")
    (tmp_path / "a.pth").unlink()
    again = keras.models.load_model(tmp_path / "own.keras")
    np.testing.assert_array_equal(model(IMAGE), again(IMAGE))


# --- A backbone -----------------------------------------------------------------


@pytest.mark.parametrize("depth", [18, 50])
def test_torchvision_files_load(tmp_path, depth):
    fc = {"fc.weight": np.ones((1000, 8), "f4"), "fc.bias": np.ones(1000, "f4")}
    tensors = checkpoints.plain_stem() | checkpoints.residual(depth, 64) | fc
    writers.write_torch(tmp_path / f"resnet{depth}.pth", tensors)
    model = PSPNet(3, backbone=f"resnet{depth}", weights=tmp_path / f"resnet{depth}.pth")
    backbone = model.backbone
    assert (backbone.stem_filters, backbone.stride_in_1x1) == ((64,), False)
    expected = tensors["layer3.1.conv2.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(backbone.stages[2][1].convs[1].conv.kernel, expected)


def test_a_backbone_with_fewer_stages_loads_those(tmp_path):
    tensors = checkpoints.plain_stem() | checkpoints.residual(18, 64)
    writers.write_torch(tmp_path / "a.pth", tensors)
    backbone = DilatedResNet(18, stem_filters=(64,), num_stages=3)
    model = PSPNet(3, backbone=backbone, weights=tmp_path / "a.pth")
    expected = tensors["layer3.1.bn2.running_var"]
    np.testing.assert_array_equal(
        model.backbone.stages[2][1].convs[1].norm.moving_variance, expected
    )
    tensors.pop("layer3.1.bn2.running_var")
    writers.write_torch(tmp_path / "a.pth", tensors)
    with pytest.raises(WeightsFileError, match=r"a.pth: as an ImageNet ResNet .* lacks layer3"):
        PSPNet(3, backbone=DilatedResNet(18, stem_filters=(64,)), weights=tmp_path / "a.pth")


def test_deep_stem_imagenet_files_of_semseg_and_mmsegmentation_load(tmp_path):
    semseg = checkpoints.deep_stem((64, 64, 128), [(f"conv{n}", f"bn{n}") for n in (1, 2, 3)])
    semseg |= checkpoints.residual(50, 128)
    writers.write_torch(tmp_path / "resnet50_v2.pth", semseg)
    assert PSPNet(3, weights=tmp_path / "resnet50_v2.pth").backbone.stem_filters == (64, 64, 128)
    places = [(f"stem.{n}", f"stem.{n + 1}") for n in (0, 3, 6)]
    v1c = checkpoints.deep_stem((32, 32, 64), places) | checkpoints.residual(18, 64)
    writers.write_torch(tmp_path / "resnet18_v1c-b5776b93.pth", {"state_dict": v1c})
    model = PSPNet(3, backbone="resnet18", weights=tmp_path / "resnet18_v1c-b5776b93.pth")
    assert (model.backbone.contract_dilation, model.backbone.dilate_second) == (True, False)


def test_a_backbone_that_does_not_fit_the_weights_is_refused(tmp_path):
    tensors = checkpoints.plain_stem() | checkpoints.residual(18, 64)
    path = tmp_path / "resnet18.pth"
    writers.write_torch(path, tensors)
    with pytest.raises(ValueError, match=r"need DilatedResNet\(stem_filters=\(64,\)\), not \(64, "):
        PSPNet(3, backbone=DilatedResNet(18), weights=path)
    with pytest.raises(ValueError, match="are for resnet18, not for backbone='resnet50'"):
        PSPNet(3, backbone="resnet50", weights=path)
    with pytest.raises(ValueError, match="exist for depths 18, 50, 101, not 34"):
        PSPNet(3, backbone="resnet34", weights="imagenet_mmsegmentation")
    with pytest.raises(ValueError, match="other backbones load their own"):
        PSPNet(3, backbone=keras.applications.VGG16(weights=None), weights="imagenet")


@pytest.mark.skipif(not DATA.exists(), reason=f"real weights are not at {DATA}")
def test_weights_of_the_first_stages_leave_the_last_newly_initialized(capsys):
    path = DATA / "weights" / "resnet50_imagenet_conv1_conv4.npz"
    model = PSPNet(11, weights=path)
    assert "weights up to conv4; later stages are newly initialized" in capsys.readouterr().err
    assert model.backbone.num_stages == 4
    assert model.get_layer("normalization").get_config()["channel_order"] == "bgr"
    expected = read_checkpoint(path).tensors["conv3_block2_2_conv/kernel"]
    np.testing.assert_array_equal(model.backbone.stages[1][1].convs[1].conv.kernel, expected)


def test_an_rgb_network_is_adapted_to_four_bands():
    trained = tiny_pspnet(3)
    model = PSPNet(weights=trained, input_channels=4)
    stem = trained.backbone.stem[0].conv.kernel
    np.testing.assert_allclose(
        model.backbone.stem[0].conv.kernel[:, :, :3], 0.75 * np.asarray(stem), rtol=1e-6
    )
    np.testing.assert_array_equal(
        model.get_layer("classifier").kernel, trained.get_layer("classifier").kernel
    )
    assert model.input_shape == (None, None, None, 4)
    assert PSPNet(weights=model).input_channels == 4
    with pytest.raises(ValueError, match="are for 4 channels, not 5; only those for RGB are"):
        PSPNet(weights=model, input_channels=5)
