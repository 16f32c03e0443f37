"""Optimizers whose variables have different learning rates and weight decays."""

import re
from collections.abc import Sequence
from typing import Any

import keras

from keras_psp.arguments import checked_number, checked_string, checked_tuple

_GROUPS = 5  # of a backbone that isn't a ResNet, which has a stem and four stages


class GroupedOptimizer(keras.optimizers.Optimizer):
    """Base class of `SGD` and `AdamW`, with the arguments and factors of the groups.

    Keras' own weight decay, which has the same learning rate for all variables, stays off.
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
        *,
        weight_decay: float,
        head_multiplier: float,
        layer_decay: float | None,
        backbone: str,
        exclude_from_weight_decay: Sequence[str],
        name: str,
        **kwargs: Any,
    ):
        if not callable(learning_rate):
            learning_rate = checked_number("learning_rate", learning_rate, least=0)
        super().__init__(learning_rate=learning_rate, name=checked_string("name", name), **kwargs)
        self.grouped_weight_decay = checked_number("weight_decay", weight_decay, least=0)
        self.head_multiplier = checked_number("head_multiplier", head_multiplier, least=0)
        if layer_decay is not None:
            layer_decay = checked_number("layer_decay", layer_decay, above=0, most=1)
        self.layer_decay = layer_decay
        self.backbone = checked_string("backbone", backbone)
        self.excluded = checked_tuple(
            "exclude_from_weight_decay", exclude_from_weight_decay, checked_string
        )

    def build(self, variables: Sequence[keras.Variable]) -> None:
        if self.built:
            return
        super().build(variables)
        paths = [variable.path for variable in variables]
        inside = [path for path in paths if self.backbone in path.split("/")]
        factors = dict(zip(inside, self._backbone_factors(inside), strict=True))
        self._multipliers = [factors.get(path, self.head_multiplier) for path in paths]
        self._decays = [
            # `_use_weight_decay` honors Keras' method `exclude_from_weight_decay(...)`.
            self.grouped_weight_decay
            if v.name not in self.excluded and self._use_weight_decay(v)
            else 0.0
            for v in variables
        ]

    def _backbone_factors(self, paths):
        """Learning-rate factors of the backbone's variables: 1, or falling towards its input."""
        if self.layer_decay is None:
            return [1.0] * len(paths)
        # "stem_conv1" or "stage2_block1", stages from 2 to 5.
        parts = [path.partition(f"{self.backbone}/")[2].split("/")[0] for path in paths]
        matches = [re.fullmatch(r"stem_conv\d+|stage(\d+)_block\d+", part) for part in parts]
        if all(matches):
            groups = [int(match[1] or 1) for match in matches if match]
        else:
            layers = [path.rpartition("/")[0] for path in paths]
            order = {layer: index for index, layer in enumerate(dict.fromkeys(layers))}
            groups = [order[layer] * _GROUPS // len(order) for layer in layers]
        last = max(groups, default=0)
        return [self.layer_decay ** (last - group + 1) for group in groups]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "weight_decay": self.grouped_weight_decay,
            "head_multiplier": self.head_multiplier,
            "layer_decay": self.layer_decay,
            "backbone": self.backbone,
            "exclude_from_weight_decay": self.excluded,
        }
