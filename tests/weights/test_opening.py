import keras
import pytest
from support.networks import tiny_backbone, tiny_predictor

from keras_psp import PSPNet
from keras_psp.weights.locating import DEFAULT_MODEL, locate_model
from keras_psp.weights.opening import digest, open_model

NAMES = ("sky", "road", "car")
PALETTE = ((250, 0, 0), (0, 200, 0), (0, 0, 150))


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    return tiny_predictor(class_names=NAMES, palette=PALETTE)


def test_similar_names_are_suggested_for_unknown_ones():
    with pytest.raises(ValueError, match="nearest are pspnet_r50-d8_512x512_160k_ade20k"):
        PSPNet(weights="pspnet_r50-d8_512x512_160k_ade")
    with pytest.raises(ValueError, match="weights='' is empty"):
        PSPNet(weights="")
    with pytest.raises(ValueError, match=r"there is no preset 'a\.pth'"):
        PSPNet.from_preset("a.pth")
    with pytest.raises(FileNotFoundError, match=r"'folder/net\.pth': there is no such file"):
        PSPNet(weights="folder/net.pth")


def test_models_by_file_and_folder_are_opened_once(model, tmp_path):
    model.save(tmp_path / "last.keras")
    opened = open_model(tmp_path)
    assert digest(opened) == digest(model) != digest(tiny_predictor())
    assert opened.class_names == list(NAMES)
    assert open_model(tmp_path / "last.keras") is opened
    tiny_predictor().save(tmp_path / "best.keras")
    assert digest(open_model(tmp_path)) != digest(model)


def test_weights_may_be_the_folder_of_a_run(model, tmp_path):
    model.save(tmp_path / "last.keras")
    assert digest(PSPNet(weights=tmp_path)) == digest(model)
    best = tiny_predictor()
    best.save(tmp_path / "best.keras")
    assert digest(PSPNet(weights=str(tmp_path))) == digest(best)


def test_a_presets_name_is_never_a_folder_of_that_name(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model.save_to_preset(DEFAULT_MODEL)
    assert locate_model(DEFAULT_MODEL) == DEFAULT_MODEL
    assert open_model(DEFAULT_MODEL).num_classes == 14
    for folder in (f"./{DEFAULT_MODEL}", tmp_path / DEFAULT_MODEL):
        assert digest(open_model(folder)) == digest(model)


def test_a_preset_is_opened_again_for_another_precision():
    assert open_model(DEFAULT_MODEL).get_config()["dtype"] == "float32"
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        assert open_model(DEFAULT_MODEL).get_config()["dtype"] == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(
    "changes",
    [
        {"align_corners": False},
        {"pooling": "max"},
        {"mean": (1, 2, 3)},
        {"std": (50, 60, 70)},
        {"channel_order": "bgr"},
        {"palette": PALETTE[::-1]},
    ],
)
def test_digests_differ_if_settings_differ(model, changes):
    copy = PSPNet.from_config({**model.get_config(), **changes})
    copy.set_weights(model.get_weights())
    assert digest(copy) != digest(model)


@pytest.mark.parametrize(
    ("stride", "dtype"), [(8, "float32"), (16, "float32"), (8, "mixed_bfloat16")]
)
def test_digests_differ_if_stride_or_dtype_differs(model, stride, dtype):
    backbone = tiny_backbone(output_stride=stride)
    copy = tiny_predictor(backbone=backbone, class_names=NAMES, palette=PALETTE, dtype=dtype)
    copy.set_weights(model.get_weights())
    assert (digest(copy) == digest(model)) == (stride == 8 and dtype == "float32")


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_the_digest_does_not_depend_on_name_file_or_freezing(dtype, tmp_path):
    first = tiny_predictor(dtype=dtype, name="first")
    second = tiny_predictor(dtype=dtype, name="second")
    second.set_weights(first.get_weights())
    second.backbone.trainable = False
    assert digest(first) == digest(second)
    second.save(tmp_path / "second.keras")
    assert digest(keras.saving.load_model(tmp_path / "second.keras")) == digest(first)
