import checkpoints
import keras
import pytest
import writers

from keras_psp.cli import main


def test_presets(capsys):
    assert main(["presets", "--dataset", "loveda"]) == 0
    assert "pspnet_r18-d8_512x512_80k_loveda" in capsys.readouterr().out.replace("\n", "")
    assert main(["presets", "--dataset", "kitti"]) == 1
    assert capsys.readouterr().err.startswith("keras-psp: dataset='kitti' has no preset")


def test_convert(tmp_path, capsys):
    path = tmp_path / "iter_80000.pth"
    writers.write_torch(path, checkpoints.mmsegmentation(18, 3))
    assert main(["convert", str(path), "--align-corners", "true"]) == 0
    out, err = capsys.readouterr()
    assert out.strip() == str(tmp_path / "iter_80000.keras")
    assert "a PSPNet of mmsegmentation" in err
    model = keras.models.load_model(tmp_path / "iter_80000.keras")
    assert (model.num_classes, model.align_corners) == (3, True)
    # What is there is replaced only where that is asked for.
    assert main(["convert", str(path)]) == 1
    assert "exists; give another --output, or --force" in capsys.readouterr().err
    assert main(["convert", str(path), "--force"]) == 0
    folder = tmp_path / "kept.keras"
    folder.mkdir()
    assert main(["convert", str(path), "--output", str(folder), "--force"]) == 1
    assert "is a folder" in capsys.readouterr().err and folder.is_dir()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["convert", "none.pth"], "none.pth doesn't exist"),
        (["convert", "a.pth", "--output", "a.h5"], "the name must end in .keras"),
        (["convert", "a.keras"], "is the file to convert; give another name"),
        (["fetch", "pspnet"], "there is no preset 'pspnet'"),
    ],
)
def test_errors_are_one_sentence(arguments, message, capsys):
    assert main(arguments) == 1
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err
