"""The "poly" learning-rate schedule."""

from typing import Any

import keras
from keras import ops

from keras_psp.arguments import checked_integer, checked_number, checked_string


@keras.saving.register_keras_serializable("keras_psp")
class PolyLearningRate(keras.optimizers.schedules.LearningRateSchedule):
    """Learning-rate schedule that decays from `base` to 0 with a power of the remaining steps.

    The rate is base * (1 - step / steps) ** power (paper, section 5.1; semseg/util/util.py).

    Args:
        base: learning rate at the start, 0.01 in the paper.
        steps: number of training steps, after which the rate is 0.
        power: 0.9 in the paper.
        warmup_steps: number of steps over which a factor of the rate grows linearly to 1; the
            curve itself is not shifted. 0 in the paper.

    Raises:
        ValueError: if an argument is invalid, for instance `steps` below 1 or `warmup_steps` not
            in [0, steps).

    Example:
        steps = training_steps(1000, batch_size=16, epochs=50)
        schedule = PolyLearningRate(0.01, steps=steps)
        schedule(steps / 2)  # 0.01 * 0.5 ** 0.9 = 0.00536
    """

    def __init__(
        self,
        base: float = 0.01,
        steps: int | None = None,
        *,
        power: float = 0.9,
        warmup_steps: int = 0,
        name: str = "poly",
    ):
        self.base = checked_number("base", base, above=0)
        self.steps = checked_integer("steps", steps, least=1)
        self.power = checked_number("power", power, least=0)
        last = self.steps - 1
        self.warmup_steps = checked_integer("warmup_steps", warmup_steps, least=0, most=last)
        self.name = checked_string("name", name)

    def __call__(self, step: Any) -> Any:
        # Half precision can't represent large step numbers.
        exact = "float64" if keras.config.floatx() == "float64" else "float32"
        step = ops.cast(step, exact)
        rate = self.base * ops.power(ops.maximum(1.0 - step / self.steps, 0.0), self.power)
        if self.warmup_steps:
            rate = rate * ops.minimum((step + 1.0) / self.warmup_steps, 1.0)
        return rate

    def get_config(self) -> dict[str, Any]:
        return {
            "base": self.base,
            "steps": self.steps,
            "power": self.power,
            "warmup_steps": self.warmup_steps,
            "name": self.name,
        }


def training_steps(examples: int, *, batch_size: int, epochs: int) -> int:
    """Number of steps that `fit` takes, for `PolyLearningRate(steps=...)`.

    Keras takes ceil(examples / batch_size) steps per epoch: a last batch that isn't full counts.
    For data that is already in batches, it is epochs * len(batches).

    Args:
        examples: number of examples, e.g. len(images).
        batch_size: that of `fit`, 32 by default.
        epochs: that of `fit`.

    Raises:
        ValueError: if an argument is not a positive integer.

    Example:
        training_steps(100, batch_size=16, epochs=2)  # 14
    """
    examples = checked_integer("examples", examples, least=1)
    batch_size = checked_integer("batch_size", batch_size, least=1)
    return -(-examples // batch_size) * checked_integer("epochs", epochs, least=1)
