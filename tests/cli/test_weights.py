import keras
from support import checkpoints, writers

from keras_psp.cli import main


def test_presets(capsys):
    assert main(["presets", "--dataset", "loveda"]) == 0
    assert "pspnet_r18-d8_512x512_80k_loveda" in capsys.readouterr().out.replace("\n", "")
    assert main(["presets", "--dataset", "kitti"]) == 1
    assert capsys.readouterr().err.startswith("keras-psp: --dataset kitti has no preset")


def test_convert(tmp_path, capsys):
    path = tmp_path / "iter_80000.pth"
    writers.write_torch(path, checkpoints.mmsegmentation(18, 3))
    assert main(["convert", str(path), "--align-corners", "true"]) == 0
    out, err = capsys.readouterr()
    assert out.strip() == str(tmp_path / "iter_80000.keras")
    assert "a PSPNet of mmsegmentation" in err
    model = keras.models.load_model(tmp_path / "iter_80000.keras")
    assert (model.num_classes, model.align_corners) == (3, True)
    # An existing file is replaced only on request.
    assert main(["convert", str(path)]) == 1
    assert "exists; choose another --output, or use --force" in capsys.readouterr().err
    assert main(["convert", str(path), "--force"]) == 0
    folder = tmp_path / "kept.keras"
    folder.mkdir()
    assert main(["convert", str(path), "--output", str(folder), "--force"]) == 1
    assert "is a folder" in capsys.readouterr().err and folder.is_dir()


def test_convert_sweeps_and_names_what_cannot_be_written(tmp_path, capsys, monkeypatch):
    path = tmp_path / "iter_80000.pth"
    writers.write_torch(path, checkpoints.mmsegmentation(18, 3))
    arguments = ["convert", str(path), "--align-corners", "true", "--output"]
    draft = tmp_path / ".a.keras-abc_1234"  # of a killed process
    draft.mkdir()
    (draft / "new.keras").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main([*arguments, "~/a.keras"]) == 0
    assert (tmp_path / "a.keras").exists() and not draft.exists()
    capsys.readouterr()
    assert main([*arguments, str(path / "b.keras")]) == 1
    assert capsys.readouterr().err == (  # without a summary: nothing was converted
        f"keras-psp: {path / 'b.keras'} can't be written: {path} is a file, not a folder; choose "
        "another output.\n"
    )
    assert main([*arguments, "gs://bucket/b.keras"]) == 1
    assert "an address; give a local path" in capsys.readouterr().err
    assert main(["convert", "s3://bucket/a.pth"]) == 1
    assert "is 's3:" in (err := capsys.readouterr().err) and "an address; give a local" in err
