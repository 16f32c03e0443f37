"""AdamW with a higher learning rate for the heads."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_psp.arguments import checked_number
from keras_psp.optimizers.groups import GroupedOptimizer


@keras.saving.register_keras_serializable("keras_psp")
class AdamW(GroupedOptimizer, keras.optimizers.Adam):
    """Adam with decoupled weight decay and a higher learning rate for the heads.

    This is torch.optim.AdamW with two groups of parameters, as mmsegmentation uses it for
    pretrained backbones. In `keras.optimizers.AdamW` all variables have the same learning rate.

    Args:
        learning_rate: a float or a schedule; that of the backbone.
        weight_decay: factor of the decay: each step subtracts this times the learning rate times
            the variable.
        beta_1, beta_2, epsilon: as in `keras.optimizers.Adam`.
        head_multiplier: learning-rate factor of all variables outside the backbone.
        layer_decay: None, or the factor, above 0 and at most 1, by which the learning rate
            decreases from each part of the backbone to the one before it, as in mmsegmentation's
            recipes for ConvNeXt and BEiT (LearningRateDecayOptimizerConstructor). With 0.7, the
            learning rate is multiplied by 0.7 in the last stage, 0.49 in the one before, and so
            on to the stem. The parts of a `DilatedResNet` are its stem and stages; a
            `DilatedBackbone` has five with about the same number of trainable layers, in the
            model's order.
        backbone: name of the layer whose variables `head_multiplier` doesn't apply to.
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
        layer_decay: float | None = None,
        backbone: str = "backbone",
        exclude_from_weight_decay: Sequence[str] = ("gamma", "beta", "bias"),
        name: str = "adamw",
        **kwargs: Any,
    ):
        super().__init__(
            learning_rate,
            weight_decay=weight_decay,
            head_multiplier=head_multiplier,
            layer_decay=layer_decay,
            backbone=backbone,
            exclude_from_weight_decay=exclude_from_weight_decay,
            name=name,
            beta_1=checked_number("beta_1", beta_1, least=0, below=1),
            beta_2=checked_number("beta_2", beta_2, least=0, below=1),
            epsilon=checked_number("epsilon", epsilon, above=0),
            **kwargs,
        )

    def update_step(self, gradient: Any, variable: keras.Variable, learning_rate: Any) -> None:
        index = self._get_variable_index(variable)
        learning_rate = ops.cast(learning_rate * self._multipliers[index], variable.dtype)
        if decay := self._decays[index]:
            share = ops.convert_to_tensor(variable) * (learning_rate * decay)
            self.assign_sub(variable, share)
        super().update_step(gradient, variable, learning_rate)
