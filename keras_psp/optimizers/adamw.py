"""AdamW with a higher learning rate for the heads."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_psp.arguments import checked_number, checked_string, checked_tuple
from keras_psp.optimizers.groups import learning_rate_factors, weight_decays


@keras.saving.register_keras_serializable("keras_psp")
class AdamW(keras.optimizers.Adam):
    """Adam with decoupled weight decay and a higher learning rate for the heads.

    This is torch.optim.AdamW with two groups of parameters, as mmsegmentation uses it for
    pretrained backbones. In `keras.optimizers.AdamW` all variables have the same learning rate.

    Args:
        learning_rate: a float or a schedule; that of the backbone.
        weight_decay: share of a variable that decays per step, times its learning rate.
        beta_1, beta_2, epsilon: as in `keras.optimizers.Adam`.
        head_multiplier: learning-rate factor of all variables outside the backbone.
        backbone: name of the layer whose variables have factor 1.
        exclude_from_weight_decay: names of variables without decay; by default those of
            normalizations and the biases.

    Raises:
        ValueError: if an argument is invalid.

    Example:
        model = PSPNet(num_classes=21, backbone="mobilenet_v3_small")
        model.compile(AdamW(PolyLearningRate(1e-4, steps=30_000)))
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 1e-4,
        *,
        weight_decay: float = 0.01,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        head_multiplier: float = 10.0,
        backbone: str = "backbone",
        exclude_from_weight_decay: Sequence[str] = ("gamma", "beta", "bias"),
        name: str = "adamw",
        **kwargs: Any,
    ):
        if not callable(learning_rate):
            learning_rate = checked_number("learning_rate", learning_rate, least=0)
        super().__init__(
            learning_rate=learning_rate,
            beta_1=checked_number("beta_1", beta_1, least=0, below=1),
            beta_2=checked_number("beta_2", beta_2, least=0, below=1),
            epsilon=checked_number("epsilon", epsilon, above=0),
            name=checked_string("name", name),
            **kwargs,
        )
        # Keras' own weight decay, which is off, has the same learning rate for all variables.
        self.decoupled_weight_decay = checked_number("weight_decay", weight_decay, least=0)
        self.head_multiplier = checked_number("head_multiplier", head_multiplier, least=0)
        self.backbone = checked_string("backbone", backbone)
        names = exclude_from_weight_decay
        self.excluded = checked_tuple("exclude_from_weight_decay", names, checked_string)

    def build(self, variables: Sequence[keras.Variable]) -> None:
        if self.built:
            return
        super().build(variables)
        self._multipliers = learning_rate_factors(
            variables, backbone=self.backbone, head_multiplier=self.head_multiplier
        )
        self._decays = weight_decays(self, variables, self.decoupled_weight_decay, self.excluded)

    def update_step(self, gradient: Any, variable: keras.Variable, learning_rate: Any) -> None:
        index = self._get_variable_index(variable)
        learning_rate = ops.cast(learning_rate * self._multipliers[index], variable.dtype)
        if decay := self._decays[index]:
            share = ops.convert_to_tensor(variable) * (learning_rate * decay)
            self.assign_sub(variable, share)
        super().update_step(gradient, variable, learning_rate)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["amsgrad"]
        return {
            **config,
            "weight_decay": self.decoupled_weight_decay,
            "head_multiplier": self.head_multiplier,
            "backbone": self.backbone,
            "exclude_from_weight_decay": self.excluded,
        }
