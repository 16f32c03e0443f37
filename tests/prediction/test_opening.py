import json

import pytest
from support.networks import tiny_predictor

from keras_psp.prediction import Protocol
from keras_psp.prediction.opening import open_segmenter, run_folder


def test_the_base_size_of_a_run_is_found_by_any_name_of_its_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    run = tmp_path / "run"
    run.mkdir()
    tiny_predictor().save(run / "best.keras")
    (run / "recipe.json").write_text(json.dumps({"image_size": [36, 48]}))
    for name in (run, str(run), "~/run", run / "best.keras", "~/run/best.keras"):
        assert run_folder(name) == run
        assert open_segmenter(name, Protocol()).protocol.base_size == 48


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
def test_other_models_are_not_folders_of_runs(name):
    assert run_folder(name) is None


def test_only_runs_and_presets_have_a_base_size(tmp_path):
    tiny_predictor().save(tmp_path / "a.keras")
    for model, expected in (
        (tmp_path / "a.keras", None),
        (tiny_predictor(), None),
        ("pspnet_r18-d8_128x128_scenes", 192),
    ):
        assert open_segmenter(model, Protocol()).protocol.base_size == expected


def test_a_damaged_recipe_is_named(tmp_path):
    tiny_predictor().save(tmp_path / "best.keras")
    (tmp_path / "recipe.json").write_text("{")
    with pytest.raises(ValueError, match=r"recipe.json is damaged .*; restore it, or give base_"):
        open_segmenter(tmp_path, Protocol())
    assert open_segmenter(tmp_path, Protocol(base_size=None)).protocol.base_size is None


def test_a_model_is_a_local_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run_folder("~") == tmp_path
    with pytest.raises(ValueError, match=r"model is 'gs:.*', an address; give a local path"):
        run_folder("gs://bucket/runs/a")
