import json

import keras
import numpy as np
import pytest
from PIL import Image
from support.networks import tiny_predictor

import keras_psp
from keras_psp.cli import main
from keras_psp.prediction import Segmenter


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a training run, with images."""
    folder = tmp_path_factory.mktemp("run")
    keras.utils.set_random_seed(1)
    names = ("sky", "road", "car")
    model = tiny_predictor(class_names=names)
    model.save(folder / "best.keras")
    (folder / "photos").mkdir()
    for number in range(2):
        image = np.random.default_rng(number).integers(0, 256, (24, 32, 3), np.uint8)
        Image.fromarray(image).save(folder / "photos" / f"{number}.png")
    return folder


def command(run, output, *more):
    return ["predict", str(run / "photos"), "--model", str(run), "--output", str(output), *more]


def test_predict_resumes_and_reports_damaged_images(run, tmp_path, capsys):
    assert main(command(run, tmp_path / "out")) == 0
    out, err = capsys.readouterr()
    assert out == f"2 done: {tmp_path / 'out' / 'predictions.csv'}\n"
    assert "Predicting" in err
    assert (tmp_path / "out" / "0_overlay.png").exists()
    (tmp_path / "broken.jpg").write_bytes(b"")
    more = [*command(run, tmp_path / "out", "--quiet"), "--scales", "1"]
    more.insert(2, str(tmp_path / "broken.jpg"))
    assert main(more) == 3
    out, err = capsys.readouterr()
    assert out.startswith("0 done, 2 done before, 1 failed: ")
    assert err == f"keras-psp: {tmp_path / 'broken.jpg'}: is empty; copy or download it again.\n"
    assert main(command(run, tmp_path / "out", "--quiet", "--flip")) == 1
    assert "without --flip, not with it; choose another output" in capsys.readouterr().err
    assert main(command(run, tmp_path / "out", "--quiet", "--flip", "--force")) == 0


def test_missing_videos_and_images_are_reported(run, tmp_path, capsys):
    pytest.importorskip("av", reason="PyAV is not installed")
    more = command(run, tmp_path / "out", "--quiet")
    more[2:2] = [str(tmp_path / "no.mp4"), str(tmp_path / "no.jpg")]
    assert main(more) == 3
    out, err = capsys.readouterr()
    assert out.startswith("2 done, 2 failed: ")
    for name in ("no.mp4", "no.jpg"):
        assert f"keras-psp: {tmp_path / name}: there is no such file" in err


def test_protocol_options_give_the_segmenters_classes(run, tmp_path, capsys):
    windows = ("--crop", "17", "--overlap", "0.5", "--quiet")
    assert main(command(run, tmp_path / "six", "--multi-scale", *windows)) == 0
    settings = json.loads((tmp_path / "six" / "predictions.json").read_text())
    assert (settings["scales"], settings["flip"]) == ([0.5, 0.75, 1, 1.25, 1.5, 1.75], True)
    assert (settings["crop"], settings["overlap"]) == (17, 0.5)
    # The same with the Segmenter, pixel by pixel.
    with Image.open(tmp_path / "six" / "0_classes.png") as image:
        classes = np.asarray(image)
    model = keras.saving.load_model(run / "best.keras")
    scales = (0.5, 0.75, 1, 1.25, 1.5, 1.75)
    segmenter = Segmenter(model, scales=scales, flip=True, crop=17, overlap=0.5)
    with Image.open(run / "photos" / "0.png") as image:
        (expected,) = segmenter.classes([np.asarray(image)])
    np.testing.assert_array_equal(classes, expected)
    assert main(command(run, tmp_path / "no", "--multi-scale", "--scales", "1", "2")) == 1
    assert "--multi-scale sets the six scales and flip; leave" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_other_options(run, tmp_path, capsys):
    more = ("--probabilities", "--format", "jpg", "--alpha", "0.3", "--quiet")
    assert main(command(run, tmp_path, *more)) == 0
    assert {"0_overlay.jpg", "1_probabilities.npz"} < {path.name for path in tmp_path.iterdir()}
    assert main(command(run, tmp_path / "new", "--max-megapixels", "0.0001", "--quiet")) == 1
    assert "has 32x24 pixels, more than max_pixels=100;" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none/*.jpg", "--output", "out"], "none/*.jpg: no file matches this pattern"),
        (["a.jpg", "--output", "out"], "a.jpg: there is no such file"),
        (["a.jpg", "--output", "out", "--model", "pspnet"], "there is no preset 'pspnet'"),
    ],
)
def test_errors_are_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["predict", *arguments]) == 1
    err = capsys.readouterr().err
    assert err.startswith("keras-psp: ") and message in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_results_are_written_beside_the_first_image_by_default(run, tmp_path, capsys):
    import shutil

    shutil.copytree(run / "photos", tmp_path / "photos")
    photos = [str(tmp_path / "photos" / "0.png"), str(tmp_path / "photos" / "1.png")]
    assert main(["predict", *photos, "--model", str(run), "--quiet"]) == 0
    assert (tmp_path / "photos" / "predictions" / "0_overlay.png").is_file()
    # A folder's results are next to it, so that they aren't images of it the next time.
    assert main(["predict", str(tmp_path / "photos"), "--model", str(run), "--quiet"]) == 0
    assert (tmp_path / "predictions" / "predictions.csv").is_file()


@pytest.mark.parametrize("number", ["7", "-0.1", "nan"])
def test_an_opacity_is_from_0_to_1(number, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["predict", "a.jpg", "--alpha", number])
    assert f"{number} isn't from 0 to 1" in capsys.readouterr().err


@pytest.mark.parametrize("number", ["inf", "nan", "0", "-1"])
def test_megapixels_are_a_finite_number(number, tmp_path, capsys):
    output = str(tmp_path / "out")
    with pytest.raises(SystemExit) as stopped:
        main(["predict", "a.jpg", "--output", output, "--max-megapixels", number])
    assert stopped.value.code == 2
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .endswith(f"{number} isn't a number of megapixels between 0 and 1e6")
    )


def test_the_status_is_1_if_no_image_was_predicted(run, tmp_path, capsys):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"")
    more = command(run, tmp_path / "out", "--quiet")
    more[1:2] = [str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg")]
    assert main(more) == 1
    out, err = capsys.readouterr()
    assert out.startswith("0 done, 2 failed: ")
    assert err.splitlines()[-1].endswith("b.jpg: is empty; copy or download it again.")


def test_the_default_model_is_the_bundled_one(run, tmp_path, capsys):
    photo, output = tmp_path / "photo.png", tmp_path / "out"
    pixels = np.random.default_rng(3).integers(0, 256, (90, 120, 3), np.uint8)
    Image.fromarray(pixels).resize((480, 360)).save(photo)
    common = ["predict", str(photo), "--output", str(output), "--quiet"]
    assert main(common) == 0
    settings = json.loads((output / "predictions.json").read_text())
    name = "pspnet_r18-d8_128x128_scenes"
    assert (settings["model"], settings["base_size"]) == (name, 192)
    bundled = keras_psp.PSPNet.from_preset(name)
    (expected,) = Segmenter(bundled, base_size=192).classes([np.asarray(Image.open(photo))])
    np.testing.assert_array_equal(np.asarray(Image.open(output / "photo_classes.png")), expected)
    assert main([*common, "--model", name]) == 0
    assert "1 done before" in capsys.readouterr().out
    # The message about another network has its name, not the digest of its weights.
    assert main([*common, "--model", str(run), "--base-size", "192"]) == 1
    err = capsys.readouterr().err
    assert f"with --model {name}, not '{run}'" in err
    # At the image's own size; another image is too flat for the model's size.
    assert main([*common, "--base-size", "0", "--force"]) == 0
    settings = json.loads((output / "predictions.json").read_text())
    assert settings["base_size"] is None
    Image.fromarray(pixels[:20]).resize((900, 120)).save(photo)
    assert main([*common, "--force"]) == 1
    assert "base_size is 192, a larger one may help." in capsys.readouterr().err
