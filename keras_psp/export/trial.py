"""Every export runs once before its maker says that it is there."""

from collections.abc import Callable

import numpy as np

from keras_psp.export.graph import Signature, class_dtype
from keras_psp.models.checks import smallest_side
from keras_psp.models.pspnet import PSPNet


def check_output(
    what: str, opened: Callable[[], Callable], model: PSPNet, signature: Signature
) -> None:
    """Refuse an export that doesn't run, or gives what the signature doesn't say.

    Args:
        what: as "ONNX file".
        opened: opens it, as `open_onnx`.
        model, signature: of which it was made.
    """
    image = _some_image(model, signature)
    try:
        found = opened()(image)
    except Exception as error:  # each runtime has classes of its own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RuntimeError(
            f"the {what} was made but doesn't run ({reason}); nothing was written. Please report "
            "it with the network's arguments."
        ) from error
    shape, dtype = image.shape[:3], class_dtype(model.num_classes)
    if signature.output != "classes":
        shape, dtype = (*shape, model.num_classes), "float32"
    if found.shape != shape or found.dtype != dtype or not np.isfinite(found).all():
        raise RuntimeError(
            f"the {what} gives {found.dtype} {found.shape} where {dtype} {shape} of finite numbers "
            "is due; nothing was written. Check the sizes of the network's weights."
        )


def _some_image(model, signature):
    """Noise of a size that the signature and the network take, to try an export with."""
    side = smallest_side(model)
    size = signature.image_size or (side + 8, side + 16)
    noise = np.random.default_rng(0).integers(0, 256, (signature.batch_size or 1, *size, 3))
    return noise.astype(signature.input_dtype)
