import json

import numpy as np
import pytest
from support.datasets import random_camvid
from support.networks import random_network

from keras_psp.evaluation import calibrate
from keras_psp.evaluation.calibration import calibration_errors, fitted_temperature
from keras_psp.prediction import Segmenter


def sample(count=4000, classes=5, seed=0):
    """Logits and labels drawn from their softmax: calibrated by construction."""
    rng = np.random.default_rng(seed)
    logits = 3 * rng.normal(size=(count, classes))
    return logits.astype("float32"), (logits + rng.gumbel(size=logits.shape)).argmax(1)


@pytest.fixture(scope="module")
def model():
    return random_network(11)


@pytest.fixture
def camvid(tmp_path):
    return random_camvid(tmp_path / "camvid")


@pytest.mark.parametrize("factor", [0.4, 1.0, 6.0])
def test_the_factor_of_overconfident_logits_is_found(factor):
    logits, labels = sample()
    temperature = fitted_temperature(factor * logits, labels)
    assert temperature == pytest.approx(factor, rel=0.05)
    # The derivative vanishes: neighbors on both sides are worse.
    losses = [
        calibration_errors(factor * logits, labels, temperature=t).negative_log_likelihood
        for t in (0.999 * temperature, temperature, 1.001 * temperature)
    ]
    assert losses[1] < min(losses[0], losses[2])


def test_errors_by_hand():
    # Probabilities 0.8 and 0.2; 0.5 and 0.5.
    logs = np.log(np.array([[0.8, 0.2], [0.5, 0.5]], "float32"))
    errors = calibration_errors(logs, np.array([0, 1]), temperature=1.0)
    assert errors.negative_log_likelihood == pytest.approx(-(np.log(0.8) + np.log(0.5)) / 2)
    assert errors.brier_score == pytest.approx((0.08 + 0.5) / 2)
    # The first is right with 0.8, the second wrong with 0.5.
    assert errors.expected_calibration_error == pytest.approx((0.2 + 0.5) / 2)


def test_calibration_lowers_the_error():
    logits, labels = sample(20_000)
    before, after = (
        calibration_errors(4 * logits, labels, temperature=t).expected_calibration_error
        for t in (1.0, fitted_temperature(4 * logits, labels))
    )
    assert before > 0.1 and after < 0.01


@pytest.mark.parametrize("labels", [[0, 0], [1, 1]])
def test_labels_without_a_best_temperature_are_refused(labels):
    with pytest.raises(ValueError, match=r"no temperature from 0.05 to 20 is optimal for these"):
        fitted_temperature(np.log([[0.9, 0.1], [0.7, 0.3]]), np.array(labels))


def test_a_split_is_sampled_the_same_way_and_every_pixel_if_there_are_few(model, camvid, capsys):
    options = {"crop": 33, "flip": True, "progress": False}
    calibration = calibrate(camvid, model, test_split="test", **options)
    error = capsys.readouterr().err
    assert "calibrated before" not in error and "warning" not in error
    # All labeled pixels, one by one.
    logs, labels = [], []
    for index in range(camvid.count("val")):
        image, mask = camvid.example("val", index)
        known = mask != camvid.ignore_class
        logs.append(np.log(Segmenter(model, crop=33, flip=True).probabilities(image)[known]))
        labels.append(mask[known])
    logs, labels = np.concatenate(logs), np.concatenate(labels).astype(int)
    assert calibration.before.reliability.counts.sum() == len(labels)
    assert calibration.temperature == pytest.approx(fitted_temperature(logs, labels), rel=1e-3)
    loss = -logs[np.arange(len(labels)), labels].mean()
    assert calibration.before.negative_log_likelihood == pytest.approx(loss, rel=1e-4)
    assert calibration.after.negative_log_likelihood < loss
    assert [part.split for part in calibration.errors] == ["val", "val", "test", "test"]
    fewer = [calibrate(camvid, model, pixels=200, seed=seed, **options) for seed in (3, 3, 4)]
    assert fewer[0].before.reliability.counts.sum() == 200
    assert fewer[0].temperature == fewer[1].temperature != fewer[2].temperature


def test_a_calibrated_model_and_the_training_split_are_reported(model, camvid, tmp_path, capsys):
    model.temperature = 1.5
    try:
        calibration = calibrate(camvid, model, split="train", progress=False)
    finally:
        model.temperature = 1.0
    error = capsys.readouterr().err
    assert "was calibrated before: its temperature is 1.5" in error
    assert "warning: split 'train' is the training split" in error
    assert calibration.before.temperature == 1.5
    # The new one replaces the old one.
    again = calibrate(camvid, model, split="train", progress=False)
    assert again.temperature == calibration.temperature
    capsys.readouterr()
    (tmp_path / "run").mkdir()
    (tmp_path / "run/recipe.json").write_text(json.dumps({"train_split": "2*train+val"}))
    model.save(tmp_path / "run/best.keras")
    calibrate(camvid, tmp_path / "run", progress=False)
    assert "warning: split 'val' is the training split" in capsys.readouterr().err
    calibrate(camvid, model, split="val+train", progress=False)
    assert "warning: split 'val+train' contains the training split" in capsys.readouterr().err


def test_results_are_printed_and_saved(model, camvid, tmp_path, capsys):
    calibration = calibrate(camvid, model, progress=False)
    calibration.print()
    assert f"{calibration.temperature:.4f}" in capsys.readouterr().out
    calibration.save(tmp_path / "out")
    content = json.loads((tmp_path / "out/calibration.json").read_text())
    assert content["temperature"] == calibration.temperature
    assert [part["temperature"] for part in content["errors"]] == [1, calibration.temperature]
    assert len(content["errors"][0]["bins"]) == 15
    assert (tmp_path / "out/reliability.png").stat().st_size > 1000
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").touch()
    with pytest.raises(ValueError, match="is not empty"):
        calibration.save(tmp_path / "other")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pixels": 0}, "pixels is 0"),
        ({"test_split": "val"}, "test_split='val' is the split of the calibration"),
        ({"split": "other"}, "other"),
    ],
)
def test_invalid_arguments_are_refused(model, camvid, options, message):
    with pytest.raises(ValueError, match=message):
        calibrate(camvid, model, progress=False, **options)


def test_pairs_need_labels_and_a_number(model):
    image, mask = np.zeros((40, 40, 3), "uint8"), np.full((40, 40), 255, "uint8")
    with pytest.raises(ValueError, match="no labeled pixels; choose another split"):
        calibrate([(image, mask)], model, progress=False)
    with pytest.raises(ValueError, match="number of images is unknown; give limit="):
        calibrate(iter([(image, mask)]), model, progress=False)
    with pytest.raises(ValueError, match="test_split needs a data source with splits"):
        calibrate([(image, mask)], model, test_split="test", progress=False)
