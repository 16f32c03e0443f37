"""Weighted sums of losses, and losses by their names."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Self

import keras

from keras_psp.arguments import checked_mining, checked_number, checked_tuple, parsed_loss
from keras_psp.losses.crossentropy import UpsampledCrossentropy
from keras_psp.losses.focal import UpsampledFocalCrossentropy
from keras_psp.losses.lovasz import UpsampledLovasz
from keras_psp.losses.regions import UpsampledDice, UpsampledTversky
from keras_psp.losses.upsampled import UpsampledLoss


@keras.saving.register_keras_serializable("keras_psp")
class UpsampledSum(UpsampledLoss):
    """Weighted sum of losses of this package.

    They are computed one after another, so the sum takes no more memory than the largest of them.

    Args:
        losses: losses with the same `ignore_class`, e.g. `[UpsampledDice(),
            UpsampledCrossentropy()]`. Each has its own class weights and other options.
        weights: one positive factor per loss, or None for ones.
        name: name of the loss.

    Call arguments are those of the losses.

    Returns:
        A scalar.

    Raises:
        ValueError: if `losses` contains one of another package, they ignore different labels, or
            an argument is invalid.

    Example:
        loss = UpsampledSum([UpsampledDice(), UpsampledCrossentropy()], [0.5, 1.0])
        masks = np.zeros((1, 473, 473), "int32")
        loss(masks, keras.random.normal((1, 60, 60, 21)))
    """

    def __init__(
        self,
        losses: Sequence[UpsampledLoss],
        weights: Sequence[float] | None = None,
        *,
        name: str = "sum",
    ):
        self.losses = list(checked_tuple("losses", losses, _checked_part))
        if not self.losses:
            raise ValueError("losses is empty; give at least one loss.")
        ignored = [loss.ignore_class for loss in self.losses]
        if len(set(ignored)) > 1:
            raise ValueError(
                f"the losses have the ignore_class {', '.join(map(str, ignored))}; give all of "
                "them the same."
            )
        super().__init__(ignore_class=ignored[0], name=name)
        weights = [1.0] * len(self.losses) if weights is None else weights
        self.weights = list(
            checked_tuple(
                "weights",
                weights,
                functools.partial(checked_number, above=0),
                length=len(self.losses),
            )
        )

    def parts(self) -> list[UpsampledLoss]:
        """The losses that are added, including those of nested sums."""
        return [part for loss in self.losses for part in loss.parts()]

    def value(
        self, y_true: Any, y_pred: Any, sample_weight: Any | None = None, *, training: bool = False
    ) -> Any:
        """Computes the sum, by default for evaluation."""
        values = (
            weight * loss.value(y_true, y_pred, sample_weight, training=training)
            for weight, loss in zip(self.weights, self.losses, strict=True)
        )
        return functools.reduce(lambda total, value: total + value, values)

    def aligned(self, align_corners: bool) -> Self:
        """A copy for a network with this `align_corners`; raises ValueError if it has another."""
        losses = [loss.aligned(align_corners) for loss in self.losses]
        return type(self)(losses, self.weights, name=self.name)

    def get_config(self) -> dict[str, Any]:
        losses = [keras.saving.serialize_keras_object(loss) for loss in self.losses]
        return {"name": self.name, "losses": losses, "weights": self.weights}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The sum whose `get_config` returned this."""
        losses = [keras.saving.deserialize_keras_object(loss) for loss in config["losses"]]
        return cls(**{**config, "losses": losses})


def _checked_part(name, loss):
    if isinstance(loss, UpsampledLoss):
        return loss
    raise ValueError(
        f"{name} is {loss!r}; only losses of keras_psp.losses can be added, e.g. UpsampledDice()."
    )


_LOSSES: dict[str, Callable[..., UpsampledLoss]] = {
    "crossentropy": UpsampledCrossentropy,
    "boundary": functools.partial(UpsampledCrossentropy, boundary_weight=5.0, name="boundary"),
    "focal": UpsampledFocalCrossentropy,
    "dice": UpsampledDice,
    "tversky": UpsampledTversky,
    "lovasz": UpsampledLovasz,
}


def get(
    text: str,
    *,
    ignore_class: int | None = 255,
    class_weights: Sequence[float] | None = None,
    hard_pixels: int | None = None,
    hard_threshold: float | None = None,
    label_smoothing: float = 0.0,
) -> UpsampledLoss:
    """Returns a loss by its name, or a sum of losses, as in `PSPNet.compile(loss=...)`.

    Example:
        loss = keras_psp.losses.get("0.5*dice+crossentropy", class_weights=[1, 2, 2])

    Args:
        text: "crossentropy", "boundary" (cross-entropy with weight 6 near boundaries), "focal",
            "dice", "tversky" or "lovasz", each with the defaults of its class; or several of
            them, joined by "+", each optionally after a factor and "*".
        ignore_class: label to ignore, or None.
        class_weights: class weights of every loss.
        hard_pixels: as in `UpsampledCrossentropy`, for "crossentropy" and "boundary".
        hard_threshold: as in `UpsampledCrossentropy`, for "crossentropy" and "boundary".
        label_smoothing: as in `UpsampledCrossentropy`, for "crossentropy" and "boundary".

    Raises:
        ValueError: if a name is unknown, or an option applies to none of the losses.
    """
    checked_mining(hard_pixels, hard_threshold)
    terms = parsed_loss("loss", text, hard_pixels=hard_pixels, label_smoothing=label_smoothing)
    common = {"ignore_class": ignore_class, "class_weights": class_weights}
    own = {
        "hard_pixels": hard_pixels,
        "hard_threshold": hard_threshold,
        "label_smoothing": label_smoothing,
    }
    losses = [
        _LOSSES[name](**common, **(own if name in ("crossentropy", "boundary") else {}))
        for _, name in terms
    ]
    weights = [weight for weight, _ in terms]
    return losses[0] if weights == [1.0] else UpsampledSum(losses, weights, name=text)
