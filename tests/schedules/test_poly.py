import keras
import numpy as np
import pytest

from keras_psp import PolyLearningRate
from keras_psp.schedules import training_steps


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
        ({"steps": 0}, "steps is 0; it must be an integer >= 1"),
        ({}, "steps is None"),
        ({"steps": 2.5}, "steps is 2.5"),
        ({"steps": 5, "warmup_steps": 5}, "warmup_steps is 5; it must be an integer from 0 to 4"),
        ({"steps": 5, "base": -0.1}, "base is -0.1; it must be a finite number > 0"),
        ({"steps": 5, "power": float("nan")}, "power is nan"),
    ],
)
def test_invalid_arguments_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        PolyLearningRate(**arguments)


def test_steps_are_counted_as_by_keras():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(np.zeros((10, 1)), np.zeros((10, 1)), batch_size=4, epochs=3, verbose=0)
    assert training_steps(10, batch_size=4, epochs=3) == 9
    assert int(model.optimizer.iterations) == 9


def test_steps_of_invalid_counts_raise():
    with pytest.raises(ValueError, match="examples is 0; it must be an integer >= 1"):
        training_steps(0, batch_size=4, epochs=1)
    with pytest.raises(ValueError, match=r"batch_size is 3.0; it must"):
        training_steps(1, batch_size=3.0, epochs=1)
    with pytest.raises(ValueError, match="epochs is 0"):
        training_steps(1, batch_size=4, epochs=0)
