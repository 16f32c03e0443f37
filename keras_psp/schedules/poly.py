"""The "poly" learning-rate schedule."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_psp")
class PolyLearningRate(keras.optimizers.schedules.LearningRateSchedule):
    """Learning-rate schedule that falls from `base` to 0 along a power of the progress.

    The rate is base * (1 - step / steps) ** power (paper, section 5.1; semseg/util/util.py).

    Args:
        base: learning rate at the start, 0.01 in the paper.
        steps: number of training steps, after which the rate is 0.
        power: 0.9 in the paper.
        warmup_steps: number of steps in which a factor grows linearly to 1; the curve itself
            is not shifted. 0 in the paper.

    Raises:
        ValueError: if `steps` is below 1 or `warmup_steps` is not in [0, steps).

    Example:
        schedule = PolyLearningRate(0.01, steps=1000)
        schedule(500)  # 0.01 * 0.5 ** 0.9 = 0.00536
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
        if steps is None or steps < 1:
            raise ValueError(f"steps={steps}; give the number of training steps, at least 1.")
        if not 0 <= warmup_steps < steps:
            raise ValueError(f"warmup_steps={warmup_steps} must be in [0, steps={steps}).")
        self.base = base
        self.steps = steps
        self.power = power
        self.warmup_steps = warmup_steps
        self.name = name

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
