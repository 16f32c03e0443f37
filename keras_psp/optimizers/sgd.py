"""Stochastic gradient descent as the PSPNets were trained."""

from collections.abc import Sequence

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_psp")
class SGD(keras.optimizers.Optimizer):
    """Momentum SGD with coupled weight decay and a faster head.

    gradient += weight_decay * variable
    momentum  = momentum_rate * momentum + gradient
    variable -= learning_rate * multiplier * momentum

    (torch.optim.SGD as in semseg/tool/train.py.) `keras.optimizers.SGD(weight_decay=)`
    is decoupled, which is another method.

    Args:
        learning_rate: a float or a schedule.
        momentum: 0.9 in the paper.
        weight_decay: 1e-4 in the paper, on every trainable variable.
        head_multiplier: learning-rate factor of every variable outside the backbone, 10
            in semseg.
        backbone: name of the layer whose variables have the plain learning rate.
        exclude_from_weight_decay: variable names without decay, e.g.
            ("gamma", "beta", "bias"); none in semseg.
    """

    def __init__(
        self,
        learning_rate=0.01,
        *,
        momentum: float = 0.9,
        weight_decay: float = 1e-4,
        head_multiplier: float = 10.0,
        backbone: str = "backbone",
        exclude_from_weight_decay: Sequence[str] = (),
        name: str = "sgd",
        **kwargs,
    ):
        # The base class' own weight decay is the decoupled one and stays off.
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum={momentum} must lie in [0, 1).")
        self.momentum = momentum
        self.coupled_weight_decay = weight_decay
        self.head_multiplier = head_multiplier
        self.backbone = backbone
        self.excluded = tuple(exclude_from_weight_decay)

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.momentums = self.add_optimizer_variables(variables, "momentum")
        self._multipliers = [
            1.0 if self.backbone in variable.path.split("/") else self.head_multiplier
            for variable in variables
        ]
        self._decays = [
            # `self.exclude_from_weight_decay(...)`, Keras' own method, counts as well.
            self.coupled_weight_decay
            if variable.name not in self.excluded and self._use_weight_decay(variable)
            else 0.0
            for variable in variables
        ]

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        momentum = self.momentums[index]
        learning_rate = ops.cast(learning_rate * self._multipliers[index], variable.dtype)
        gradient = ops.cast(gradient, variable.dtype)
        if self._decays[index]:
            gradient = gradient + self._decays[index] * ops.convert_to_tensor(variable)
        self.assign(momentum, self.momentum * ops.convert_to_tensor(momentum) + gradient)
        self.assign_sub(variable, learning_rate * ops.convert_to_tensor(momentum))

    def get_config(self):
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "weight_decay": self.coupled_weight_decay,
            "head_multiplier": self.head_multiplier,
            "backbone": self.backbone,
            "exclude_from_weight_decay": self.excluded,
        }
