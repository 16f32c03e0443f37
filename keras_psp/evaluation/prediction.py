"""Photographs to classes: `keras_psp.predict`."""

import dataclasses
import functools
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from keras_psp.data.photos import MAX_PIXELS, read_photo
from keras_psp.data.progress import ahead
from keras_psp.evaluation.inputs import Input, find_inputs, is_one
from keras_psp.evaluation.protocol import chosen_base_size
from keras_psp.evaluation.segmenter import Segmenter
from keras_psp.files import written_aside
from keras_psp.models.pspnet import PSPNet
from keras_psp.visual.palette import default_palette
from keras_psp.visual.picture import overlay_with_legend, save_picture

DEFAULT_MODEL = "pspnet_r18-d8_128x128_scenes"
"""What comes with the package and needs no network."""
_PHOTOGRAPHS = "pspnet_r50-d8_512x512_160k_ade20k"
_PIXELS = 2**24  # of the photographs that go to the network together
_DECODERS = 4  # threads; twice as many photographs wait at most
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


class Predictions(Iterator[Prediction]):
    """The predictions of several photographs, made as they are taken.

    Photographs that can't be read are left out, with a line each on stderr.

    Attributes:
        failures: (source, reason) of those left out so far.
    """

    def __init__(self, outcomes: Iterator):
        self.failures: list[tuple[str, str]] = []
        self._outcomes = outcomes

    def __next__(self) -> Prediction:
        for item, found in self._outcomes:
            if isinstance(found, Prediction):
                return found
            self.failures.append((item.origin, str(found)))
            print(f"left out {item.origin}: {found}", file=sys.stderr)
        raise StopIteration


def predict(
    photos: Any,
    model: Any = None,
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    crop: int | None = None,
    overlap: float = 1 / 3,
    base_size: int | Literal["auto"] | None = "auto",
    batch_size: int = 4,
    probabilities: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Prediction | Predictions:
    """The class of every pixel of photographs.

        ade20k = "pspnet_r50-d8_512x512_160k_ade20k"
        keras_psp.predict("street.jpg", ade20k).save("results")
        for prediction in keras_psp.predict("holiday/", "runs/mine"):
            print(prediction.source, prediction.shares)

    Args:
        photos: a file, an address (http, https), bytes, a PIL image or an array, (height,
            width, 3) of 0 to 255: see `keras_psp.data.photos.read_photo`. Or several: a
            folder, with all below it, a pattern as "*.jpg", an array (n, height, width, 3),
            or an iterable of any of these.
        model: None for "pspnet_r18-d8_128x128_scenes", which comes with this package and
            knows the few classes of its generated scenes; a preset's name
            (`keras_psp.list_presets()`; "pspnet_r50-d8_512x512_160k_ade20k" is for
            photographs), a `PSPNet`, a `.keras` or other file that
            `keras_psp.weights.convert` knows, or the folder of a training. The last one
            opened by name is kept for the next call.
        scales, flip, crop, overlap, batch_size: see `Segmenter`.
        base_size: longer side of the photograph at scale 1, in pixels, None for its own; "auto"
            as in `keras_psp.evaluate`.
        probabilities: keep them as well; they take 4 bytes a class and pixel.
        max_pixels: larger photographs are refused.

    Returns:
        For one photograph a `Prediction`; for several an iterator of them, in order, which
        reads a few ahead and holds no more.

    Raises:
        ValueError, OSError: of one photograph that can't be read, or for a model that isn't
            there. Of several, those that can't be read are left out; see `Predictions`.
    """
    model = chosen_model(model)
    network = open_model(model)
    segmenter = Segmenter(
        network,
        scales=scales,
        flip=flip,
        crop=crop,
        overlap=overlap,
        base_size=chosen_base_size(model, base_size),
        batch_size=batch_size,
    )
    found = outcomes(
        find_inputs(photos),
        segmenter,
        batch_size=batch_size,
        probabilities=probabilities,
        max_pixels=max_pixels,
    )
    if not is_one(photos):
        return Predictions(found)
    ((_, prediction),) = found
    if isinstance(prediction, Exception):
        raise prediction
    return prediction


def outcomes(
    inputs: Iterable[Input],
    segmenter: Segmenter,
    *,
    batch_size: int,
    probabilities: bool,
    max_pixels: int,
) -> Iterator[tuple[Input, Prediction | Exception]]:
    """Each input with its prediction, or with the error that says why there is none.

    The next photographs are decoded in threads while the network works.
    """

    def read(item):
        try:
            if item.is_video:
                raise ValueError(
                    f"{item.origin}: is a video; give it to keras_psp.evaluation.predict_files or "
                    "`keras-psp predict`."
                )
            return item, read_photo(item.source, max_pixels=max_pixels)
        except (ValueError, OSError, TypeError) as error:
            return item, error
        except MemoryError:
            return item, ValueError(f"{item.origin}: is too large for the memory; make it smaller.")

    names, palette = class_names_of(segmenter.model), palette_of(segmenter.model)
    # Probabilities come photograph by photograph, and are too large to be kept waiting.
    batch_size = 1 if probabilities else batch_size
    for group in _grouped(ahead(read, inputs, threads=_DECODERS), batch_size):
        photos = [photo for _, photo in group if not isinstance(photo, Exception)]
        found = iter(_segmented(segmenter, photos, probabilities))
        for item, photo in group:
            if isinstance(photo, Exception):
                yield item, photo
                continue
            result = next(found)
            if isinstance(result, Exception):
                reason = str(result).split("\n")[0]
                if segmenter.base_size:
                    remedy = f"base_size is {segmenter.base_size}, a larger one may help."
                    reason = f"{reason.rstrip('.')}; {remedy}"
                yield item, ValueError(f"{item.origin}: the network can't take it: {reason}")
                continue
            classes, chances = result
            yield (
                item,
                Prediction(photo, classes, names, palette, item.stem, item.origin, chances),
            )


def _grouped(pairs, batch_size):
    """Lists of as many as the network takes at a time."""
    group, pixels = [], 0
    for item, photo in pairs:
        group.append((item, photo))
        pixels += photo.size // 3 if isinstance(photo, np.ndarray) else 0
        if len(group) >= batch_size or pixels >= _PIXELS:
            yield group
            group, pixels = [], 0
    if group:
        yield group


def _segmented(segmenter, photos, probabilities):
    """For each photograph (classes, probabilities or None), or an exception."""
    if not photos:
        return []
    try:
        if not probabilities:
            return [(classes, None) for classes in segmenter.classes(photos)]
        (photo,) = photos
        chances = segmenter.probabilities(photo)
        kind = np.uint8 if chances.shape[-1] <= 256 else np.uint16
        return [(chances.argmax(axis=-1).astype(kind), chances)]
    except Exception as error:
        if not out_of_memory(error) and not isinstance(error, ValueError):
            raise
        if len(photos) == 1:
            if not isinstance(error, ValueError):
                return [
                    ValueError("it needs more memory than there is; give crop=, or base_size=.")
                ]
            return [error]
    # One of them is at fault: each on its own.
    return [result for photo in photos for result in _segmented(segmenter, [photo], probabilities)]


def out_of_memory(error: BaseException) -> bool:
    """Whether it says that something needs more memory than there is."""
    # TensorFlow has an error of its own for that.
    return isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError"


def class_names_of(model: PSPNet) -> tuple[str, ...]:
    """The model's class names, or "class 0" and so on where it has none."""
    return tuple(model.class_names or (f"class {index}" for index in range(model.num_classes)))


def palette_of(model: PSPNet) -> np.ndarray:
    """(num_classes, 3) uint8: the model's colours, or those of `default_palette`.

    Beyond 256 classes these are used again.
    """
    if model.palette:
        return np.asarray(model.palette, np.uint8)
    colours = default_palette(min(model.num_classes, 256))
    return np.resize(colours, (model.num_classes, 3))


def chosen_model(model: Any) -> Any:
    """The model that is asked for; where that is None, what comes with the package, and says so."""
    if model is None:
        _say_which()
        return DEFAULT_MODEL
    return model


def open_model(model: Any) -> PSPNet:
    """The network that is meant; see `predict`.

    Raises:
        ValueError: there is no such preset, or the folder is no training's.
        FileNotFoundError: there is no such file.
        TypeError: for another object.
    """
    if isinstance(model, PSPNet):
        return model
    model = chosen_model(model)
    if not isinstance(model, str | os.PathLike):
        raise TypeError(
            f"model is an object of type {type(model).__name__}; it must be a PSPNet, a preset's "
            "name, a file or the folder of a training."
        )
    path = Path(model).expanduser()
    if path.is_dir():
        found = [path / name for name in ("best.keras", "last.keras") if (path / name).is_file()]
        if not found:
            raise ValueError(
                f"{model}: neither best.keras nor last.keras is in this folder; give that of a "
                "training that has validated once, or a file."
            )
        path = found[0]
    if path.is_file():
        return _opened(str(path), path.stat().st_mtime_ns)
    if path.suffix or path.parent != Path("."):
        # A preset's name may hold neither.
        raise FileNotFoundError(f"model {str(model)!r}: there is no such file or folder.")
    return _opened(str(model), None)


@functools.cache
def _say_which():
    print(
        f"model: {DEFAULT_MODEL}, which comes with keras_psp and knows generated scenes only; for "
        f"photographs give a preset that is fetched once, as {_PHOTOGRAPHS}",
        file=sys.stderr,
    )


@functools.lru_cache(maxsize=1)
def _opened(name, modified):
    from keras_psp.weights import convert

    return PSPNet.from_preset(name) if modified is None else convert(name, verbose=False)


def _without_training(config):
    """A configuration, at any depth, without what says which layers are frozen."""
    if isinstance(config, list | tuple):
        return [_without_training(value) for value in config]
    if not isinstance(config, dict):
        return config
    return {
        key: _without_training(value)
        for key, value in config.items()
        if key not in ("frozen", "trainable")
    }


def digest(model: PSPNet) -> str:
    """Sixteen hexadecimal digits that tell a network from one with other weights or settings.

    Such are its dtype policy, its mean and std, `align_corners` or the classes' colours; its name
    and what of it is frozen change no result.
    """
    config = {key: value for key, value in model.get_config().items() if key != "name"}
    settings = [_without_training(config), model.dtype_policy.name]
    found = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for weight in model.weights:
        found.update(np.ascontiguousarray(np.asarray(weight)).tobytes())
    return found.hexdigest()[:16]
