import keras
import pytest

from keras_psp import PolyLearningRate


def test_follows_the_poly_formula():
    schedule = PolyLearningRate(0.01, 100)
    for step in (0, 1, 50, 99):
        assert float(schedule(step)) == pytest.approx(0.01 * (1 - step / 100) ** 0.9, rel=1e-5)
    assert float(schedule(100)) == 0
    assert float(schedule(150)) == 0


def test_warmup_rises_to_the_poly_curve():
    schedule, plain = PolyLearningRate(0.1, 50, warmup_steps=10), PolyLearningRate(0.1, 50)
    assert float(schedule(0)) == pytest.approx(0.01)
    assert float(schedule(4)) == pytest.approx(0.5 * float(plain(4)))
    assert float(schedule(9)) == pytest.approx(float(plain(9)))
    assert float(schedule(30)) == pytest.approx(float(plain(30)))


def test_config_round_trip():
    schedule = PolyLearningRate(0.1, 50, power=2, warmup_steps=3)
    config = keras.saving.serialize_keras_object(schedule)
    assert keras.saving.deserialize_keras_object(config).get_config() == schedule.get_config()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps=0"),
        ({}, "steps=None"),
        ({"steps": 5, "warmup_steps": 5}, "warmup_steps=5"),
    ],
)
def test_invalid_arguments_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        PolyLearningRate(0.1, **arguments)
