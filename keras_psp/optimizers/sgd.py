"""Stochastic gradient descent, as used to train the published PSPNets."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_psp.arguments import checked_number
from keras_psp.optimizers.groups import GroupedOptimizer


@keras.saving.register_keras_serializable("keras_psp")
class SGD(GroupedOptimizer):
    """Momentum SGD with coupled weight decay and a higher learning rate for the heads.

        gradient += weight_decay * variable
        velocity  = momentum * velocity + gradient
        variable -= learning_rate * multiplier * velocity

    This is torch.optim.SGD as used in semseg/tool/train.py. The weight decay of
    `keras.optimizers.SGD` is a different method: it is decoupled from the gradient.

    Args:
        learning_rate: a float or a schedule.
        momentum: 0.9 in the paper.
        weight_decay: 1e-4 in the paper, for every trainable variable.
        head_multiplier: learning-rate factor of all variables outside the backbone; 10 in
            semseg.
        layer_decay: None, or the factor, above 0 and at most 1, by which the learning rate
            decreases from each part of the backbone to the one before it, as in mmsegmentation's
            recipes for ConvNeXt and BEiT (LearningRateDecayOptimizerConstructor). With 0.7, the
            learning rate is multiplied by 0.7 in the last stage, 0.49 in the one before, and so
            on to the stem. The parts of a `DilatedResNet` are its stem and stages; a
            `DilatedBackbone` has five with about the same number of trainable layers, in the
            model's order.
        backbone: name of the layer whose variables `head_multiplier` doesn't apply to.
        exclude_from_weight_decay: names of variables without decay, e.g.
            ("gamma", "beta", "bias"); none in semseg.

    Raises:
        ValueError: if an argument is invalid.

    Example:
        model = PSPNet(num_classes=21)
        model.compile(SGD(PolyLearningRate(0.01, steps=30_000)))
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 0.01,
        *,
        momentum: float = 0.9,
        weight_decay: float = 1e-4,
        head_multiplier: float = 10.0,
        layer_decay: float | None = None,
        backbone: str = "backbone",
        exclude_from_weight_decay: Sequence[str] = (),
        name: str = "sgd",
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
            **kwargs,
        )
        self.momentum = checked_number("momentum", momentum, least=0, below=1)

    def build(self, variables: Sequence[keras.Variable]) -> None:
        if self.built:
            return
        super().build(variables)
        self.momentums = self.add_optimizer_variables(variables, "momentum")

    def update_step(self, gradient: Any, variable: keras.Variable, learning_rate: Any) -> None:
        index = self._get_variable_index(variable)
        momentum, decay = self.momentums[index], self._decays[index]
        learning_rate = ops.cast(learning_rate * self._multipliers[index], variable.dtype)
        gradient = ops.cast(gradient, variable.dtype)
        # TensorFlow's operation has no bfloat16 on GPUs.
        if keras.backend.backend() == "tensorflow" and variable.dtype != "bfloat16":
            factor = ops.convert_to_tensor(self.momentum, variable.dtype)
            _tensorflow_update(variable, momentum.value, gradient, learning_rate, factor, decay)
            return
        if decay:
            gradient = gradient + decay * ops.convert_to_tensor(variable)
        self.assign(momentum, self.momentum * ops.convert_to_tensor(momentum) + gradient)
        self.assign_sub(variable, learning_rate * ops.convert_to_tensor(momentum))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "momentum": self.momentum}


def _tensorflow_update(variable, momentum, gradient, learning_rate, factor, decay):
    """Computes the same in place, without temporaries for all variables at once."""
    import tensorflow as tf

    # TensorFlow computes everything as early as possible: all products with the decay, which don't
    # need the gradients, would be in memory during the whole step.
    with tf.control_dependencies([gradient]):
        if decay:
            gradient = gradient + decay * tf.convert_to_tensor(variable)
        tf.raw_ops.ResourceApplyMomentum(
            var=variable.handle,
            accum=momentum.handle,
            lr=learning_rate,
            grad=gradient,
            momentum=factor,
        )
