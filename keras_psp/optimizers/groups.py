"""Variables with another learning rate or without weight decay."""

from collections.abc import Sequence

import keras


def learning_rate_factors(
    variables: Sequence[keras.Variable], *, backbone: str, head_multiplier: float
) -> list[float]:
    """1 for each variable inside the layer named `backbone`, `head_multiplier` for the others."""
    return [
        1.0 if backbone in variable.path.split("/") else head_multiplier for variable in variables
    ]


def weight_decays(
    optimizer: keras.optimizers.Optimizer,
    variables: Sequence[keras.Variable],
    decay: float,
    excluded: Sequence[str],
) -> list[float]:
    """`decay` for each variable, 0 for those named in `excluded`."""
    return [
        # `_use_weight_decay` honors Keras' method `exclude_from_weight_decay(...)`.
        decay if variable.name not in excluded and optimizer._use_weight_decay(variable) else 0.0
        for variable in variables
    ]
