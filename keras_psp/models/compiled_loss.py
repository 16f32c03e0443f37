"""The loss that a PSPNet is compiled with."""

from collections.abc import Callable
from typing import Any

import keras

from keras_psp.arguments import parsed_loss
from keras_psp.losses import UpsampledCrossentropy
from keras_psp.losses import get as loss_by_name
from keras_psp.losses.upsampled import UpsampledLoss


def checked_loss(loss: Any, model: Any) -> Any:
    """Returns the loss to compile a PSPNet with.

    Args:
        loss: as in `PSPNet.compile`.
        model: the network.

    Raises:
        ValueError: if the loss doesn't fit the network.
    """
    if isinstance(loss, dict | list | tuple):
        raise ValueError(f"loss={loss!r}: PSPNet has one output; give one loss.")
    if loss is None:
        loss = UpsampledCrossentropy()
    if isinstance(loss, str):
        loss = _loss_by_name(loss)
    if isinstance(loss, UpsampledLoss):
        # A copy, because the caller may give theirs to another model too.
        loss = loss.aligned(model.align_corners)
    elif not getattr(loss, "from_logits", callable(loss) and not _is_stock_function(loss)):
        raise ValueError(
            f"loss={loss!r} expects probabilities but PSPNet trains on logits; use "
            "keras_psp.UpsampledCrossentropy() or "
            "keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)."
        )
    ignored = getattr(loss, "ignore_class", None)
    if ignored is not None and 0 <= ignored < model.num_classes:
        raise ValueError(
            f"the loss ignores label {ignored}, which is one of the {model.num_classes} "
            "classes; give the loss another ignore_class, -1 for instance."
        )
    for part in loss.parts() if isinstance(loss, UpsampledLoss) else [loss]:
        weights = getattr(part, "class_weights", None)
        if weights is not None and len(weights) != model.num_classes:
            raise ValueError(
                f"the loss has {len(weights)} class_weights but the model {model.num_classes} "
                "classes; give one per class."
            )
    return loss


def _loss_by_name(name):
    """Returns a loss of this package by name, else one of Keras'."""
    try:
        parsed_loss("loss", name)
    except ValueError:
        try:
            return keras.losses.get(name)
        except ValueError:
            pass
        raise
    return loss_by_name(name)


class FunctionLoss(keras.losses.Loss):
    """A plain function of labels and logits, reduced and weighted like a `Loss`."""

    def __init__(self, function: Callable):
        super().__init__(name="loss")
        self._function = function

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """As `keras.losses.Loss.call`."""
        return self._function(y_true, y_pred)


def _is_stock_function(loss):
    return getattr(loss, "__module__", "").startswith("keras.")
