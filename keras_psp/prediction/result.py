"""`Prediction`: the class of every pixel of one image, and the files it is saved as."""

import dataclasses
import functools
import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from keras_psp.files import local_path, written_aside
from keras_psp.prediction.confidence import Confidence
from keras_psp.visual.overlays import overlay_with_legend, save_image

_NOTEBOOK_SIDE = 1000  # pixels of the longer side in a notebook


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """An image and the class of each of its pixels.

    Attributes:
        image: (height, width, channels), upright: uint8 RGB, or the network's bands with the
            values in the file.
        classes: (height, width), uint8, or uint16 for more than 256 classes.
        class_names: names in index order.
        palette: (num_classes, 3) uint8, RGB.
        name: what the names of saved files start with.
        source: path or address of the image, or "image 3" for the third if it is in memory.
        probabilities: (height, width, num_classes) float32, or None if not requested.
        confidence: maps of how sure the prediction is, or None if not requested.

    Example:
        prediction = keras_psp.predict("street.jpg")
        prediction.shares  # {"sky": 0.41, "road": 0.3, ...}
        prediction.save("results")
    """

    image: np.ndarray
    classes: np.ndarray
    class_names: tuple[str, ...]
    palette: np.ndarray
    name: str = "photo"
    source: str = ""
    probabilities: np.ndarray | None = None
    confidence: Confidence | None = None

    @functools.cached_property
    def class_shares(self) -> np.ndarray:
        """Each class' share of the pixels, 0 to 1, (num_classes,) float64."""
        counts = np.bincount(self.classes.ravel(), minlength=len(self.class_names))
        return counts / self.classes.size

    @property
    def shares(self) -> dict[str, float]:
        """The share of the pixels of every class that occurs, by name, largest first."""
        shares = zip(self.class_names, self.class_shares.tolist(), strict=True)
        return dict(sorted((pair for pair in shares if pair[1]), key=lambda pair: -pair[1]))

    def overlay(self, *, alpha: float = 0.5) -> Image.Image:
        """Draws the image tinted and outlined by class, above a legend with shares.

        Bands other than RGB are shown as `keras_psp.visual.bands.viewable` does.

        Args:
            alpha: opacity of the class colors, 0 to 1.
        """
        return overlay_with_legend(
            self.image,
            self.classes,
            self.class_names,
            self.palette,
            alpha=alpha,
            ignore_class=-1,  # a prediction has no ignored pixels
        )

    def save(
        self,
        folder: str | os.PathLike,
        *,
        suffix: str = ".png",
        alpha: float = 0.5,
        force: bool = False,
    ) -> list[Path]:
        """Writes NAME_overlay.png, NAME_classes.png, and files for what else the prediction has.

        NAME_classes.png has class indices as 8-bit palette values, or as 16-bit gray for more
        than 256 classes. NAME_probabilities.npz has `probabilities`, (height, width,
        num_classes) float16, and `class_names`. With `confidence`, NAME_confidence.png shows its
        maps side by side, and NAME_probability.png, NAME_margin.png, NAME_entropy.png and
        NAME_disagreement.png have them as 16-bit gray, where 65535 is 1. No file is ever
        half-written.

        Args:
            folder: created if it doesn't exist.
            suffix: format of the overlay, e.g. ".jpg".
            alpha: see `overlay`.
            force: replace existing files.

        Returns:
            The paths of the files.

        Raises:
            FileExistsError: if a file exists and `force` is False; nothing is written.
            ValueError: if `suffix` isn't that of an image file.
        """
        if suffix.lower() not in Image.registered_extensions():
            raise ValueError(
                f"suffix is {suffix!r}; it must be that of an image file, e.g. '.png' or '.jpg'."
            )
        maps = () if self.confidence is None else tuple(self.confidence.maps())
        files = result_files(
            self.name, suffix, probabilities=self.probabilities is not None, confidence=maps
        )
        paths = [local_path("folder", folder) / file for file in files]
        existing = [path for path in paths if path.exists()]
        if existing and not force:
            raise FileExistsError(
                f"{existing[0]} exists; choose another folder, or force=True to replace it."
            )
        save_image(self.overlay(alpha=alpha), paths[0])
        save_image(_index_image(self.classes, self.palette), paths[1])
        if self.confidence is not None:
            pictures = [self.confidence.picture(self.image), *self.confidence.images().values()]
            for picture, path in zip(pictures, paths[-len(pictures) :], strict=True):
                save_image(picture, path)
        if self.probabilities is not None:
            with written_aside(paths[2]) as draft:
                np.savez_compressed(
                    draft,
                    probabilities=self.probabilities.astype(np.float16),
                    class_names=np.array(self.class_names),
                )
        return paths

    def _repr_png_(self) -> bytes:
        image, file = self.overlay(), io.BytesIO()
        image.thumbnail((_NOTEBOOK_SIDE, _NOTEBOOK_SIDE))
        image.save(file, "png")
        return file.getvalue()

    def __repr__(self) -> str:
        height, width = self.classes.shape
        top = ", ".join(f"{name} {share:.1%}" for name, share in list(self.shares.items())[:3])
        return f"<Prediction of {self.source or self.name}, {width}x{height}: {top}>"


def result_files(
    name: str, suffix: str, *, probabilities: bool, confidence: Sequence[str] = ()
) -> list[str]:
    """Returns the names of the files that `Prediction.save` writes.

    `confidence` are the names of the maps; the last one is absent if there is a single view.
    """
    files = [f"{name}_overlay{suffix}", f"{name}_classes.png"]
    files += [f"{name}_probabilities.npz"] if probabilities else []
    files += [f"{name}_confidence.png"] if confidence else []
    return [*files, *(f"{name}_{part}.png" for part in confidence)]


def _index_image(classes, palette):
    if len(palette) > 256:
        return Image.fromarray(classes.astype(np.uint16))
    image = Image.fromarray(classes.astype(np.uint8))
    image.putpalette(np.asarray(palette, np.uint8).tobytes())
    return image
