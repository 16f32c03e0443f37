import json

import pytest
from support.networks import tiny_predictor

from keras_psp.prediction import Protocol
from keras_psp.prediction.opening import choose_base_size, open_segmenter, run_folder


def test_the_base_size_of_a_run_is_found_by_any_name_of_its_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.json").write_text(json.dumps({"image_size": [36, 48]}))
    for name in (run, str(run), "~/run"):
        assert run_folder(name) == run
        assert choose_base_size(name, "auto") == 48
        assert choose_base_size(name, 99) == 99 and choose_base_size(name, None) is None


def test_images_are_averaged_if_the_training_resized_its_images(tmp_path):
    tiny_predictor().save(tmp_path / "best.keras")
    (tmp_path / "recipe.json").write_text(json.dumps({"image_size": [36, 48]}))
    for given, expected in (
        (Protocol(), (48, True)),
        (Protocol(base_size=60), (60, True)),
        (Protocol(antialias=False), (48, False)),
        (Protocol(base_size=None), (None, False)),
    ):
        chosen = open_segmenter(tmp_path, given).protocol
        assert (chosen.base_size, chosen.antialias) == expected
    (tmp_path / "recipe.json").write_text(json.dumps({"image_size": None}))
    chosen = open_segmenter(tmp_path, Protocol(base_size=60)).protocol
    assert (chosen.base_size, chosen.antialias) == (60, False)


@pytest.mark.parametrize("name", ["~/nothing", "pspnet_r50-d8_512x512_160k_ade20k", None, object()])
def test_other_models_have_no_base_size(name):
    assert run_folder(name) is None
    assert choose_base_size(name, "auto") is None


def test_a_preset_has_its_own_base_size():
    assert choose_base_size("pspnet_r18-d8_128x128_scenes", "auto") == 192


def test_a_damaged_recipe_is_named(tmp_path):
    (tmp_path / "recipe.json").write_text("{")
    with pytest.raises(ValueError, match=r"recipe.json is damaged .*; restore it, or give base_"):
        choose_base_size(tmp_path, "auto")
    assert choose_base_size(tmp_path, None) is None


def test_a_model_is_a_local_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run_folder("~") == tmp_path
    with pytest.raises(ValueError, match=r"model is 'gs:.*', an address; give a local path"):
        run_folder("gs://bucket/runs/a")
