"""The class of every pixel of one image, and the files it is saved as."""

import dataclasses
import functools
import os
from pathlib import Path

import numpy as np
from PIL import Image

from keras_psp.files import written_aside
from keras_psp.visual.picture import overlay_with_legend, save_picture

_NOTEBOOK = 1000  # pixels of the longer side


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """A photograph and the class of each of its pixels.

    Attributes:
        photo: (height, width, 3) uint8, RGB, upright.
        classes: (height, width), uint8, or uint16 for more than 256 classes.
        class_names: in index order.
        palette: (num_classes, 3) uint8, RGB.
        name: what saved files begin with.
        source: path or address of the photograph, "photo 3" of the third in memory.
        probabilities: (height, width, num_classes) float32 where they were asked for.
    """

    photo: np.ndarray
    classes: np.ndarray
    class_names: tuple[str, ...]
    palette: np.ndarray
    name: str = "photo"
    source: str = ""
    probabilities: np.ndarray | None = None

    @functools.cached_property
    def class_shares(self) -> np.ndarray:
        """(num_classes,) float64: share of the pixels that each class has, 0 to 1."""
        counts = np.bincount(self.classes.ravel(), minlength=len(self.class_names))
        return counts / self.classes.size

    @property
    def shares(self) -> dict[str, float]:
        """Names of the classes that occur and their shares of the pixels, the largest first."""
        order = np.argsort(-self.class_shares, kind="stable")
        return {
            self.class_names[index]: float(self.class_shares[index])
            for index in order
            if self.class_shares[index]
        }

    def overlay(self, *, alpha: float = 0.5) -> Image.Image:
        """The photograph tinted and outlined by class, above a legend with shares, RGB.

        Args:
            alpha: share of the colours, 0 to 1.
        """
        # No pixel of a prediction is ignored.
        return overlay_with_legend(
            self.photo,
            self.classes,
            self.class_names,
            self.palette,
            alpha=alpha,
            ignore_class=-1,
        )

    def save(
        self,
        folder: str | os.PathLike,
        *,
        suffix: str = ".png",
        alpha: float = 0.5,
        force: bool = False,
    ) -> list[Path]:
        """Write NAME_overlay.png, NAME_classes.png and, if there are any, probabilities.

        NAME_classes.png holds class indices: 8 bits with the palette, for more than 256
        classes 16 bits. NAME_probabilities.npz holds `probabilities`, (height, width,
        num_classes) float16, and `class_names`. Each file is whole or absent.

        Args:
            folder: made if it doesn't exist.
            suffix: of the overlay, as ".jpg".
            alpha: see `overlay`.
            force: replace what is there.

        Returns:
            The paths.

        Raises:
            FileExistsError: a file is there and `force` isn't given; nothing was written.
        """
        paths = [Path(folder) / name for name in self._files(suffix)]
        for path in () if force else paths:
            if path.exists():
                raise FileExistsError(
                    f"{path} exists; choose another folder, or force=True to replace it."
                )
        save_picture(self.overlay(alpha=alpha), paths[0])
        save_picture(_index_picture(self.classes, self.palette), paths[1])
        if self.probabilities is not None:
            with written_aside(paths[2]) as draft:
                np.savez_compressed(
                    draft,
                    probabilities=self.probabilities.astype(np.float16),
                    class_names=np.array(self.class_names),
                )
        return paths

    def _files(self, suffix):
        return result_files(self.name, suffix, probabilities=self.probabilities is not None)

    def _repr_png_(self) -> bytes:
        import io

        picture = self.overlay()
        picture.thumbnail((_NOTEBOOK, _NOTEBOOK))
        file = io.BytesIO()
        picture.save(file, "png")
        return file.getvalue()

    def __repr__(self) -> str:
        height, width = self.classes.shape
        top = ", ".join(f"{name} {share:.1%}" for name, share in list(self.shares.items())[:3])
        return f"<Prediction of {self.source or self.name}, {width}x{height}: {top}>"


def result_files(name: str, suffix: str, *, probabilities: bool) -> list[str]:
    """Names of what `Prediction.save` writes."""
    files = [f"{name}_overlay{suffix}", f"{name}_classes.png"]
    return [*files, f"{name}_probabilities.npz"] if probabilities else files


def _index_picture(classes, palette):
    if len(palette) > 256:
        return Image.fromarray(classes.astype(np.uint16))
    picture = Image.fromarray(classes.astype(np.uint8))
    picture.putpalette(np.asarray(palette, np.uint8).tobytes())
    return picture
