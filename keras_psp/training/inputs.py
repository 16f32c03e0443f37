"""What a training reads, opened and checked before Keras is imported."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_psp.data import GeneratedScenes, load
from keras_psp.training.recipes import Recipe
from keras_psp.weights.locating import IMAGENET, existing_weights, imagenet_source
from keras_psp.weights.presets import all_presets


def open_source(
    recipe: Recipe, data: Any = None, *, complete: bool = True, **options: Any
) -> tuple[Any, str]:
    """Returns the source of examples, and its description for recipe.json.

    Args:
        recipe: The recipe, which names the data set.
        data: The folder of its files, a source, or None.
        complete: See `keras_psp.data.load`, also for the `options`.

    Raises:
        TypeError: If data is something else.
        ValueError: If the data can't be opened.
    """
    if data is not None and not isinstance(data, str | os.PathLike):
        if not hasattr(data, "splits"):
            raise TypeError(
                f"data is an object of type {type(data).__name__}; it must be a folder or a source "
                "of examples, e.g. keras_psp.data.ImageFolder."
            )
        if isinstance(data, GeneratedScenes):
            return data, "generated"
        if hasattr(data, "root"):
            return data, str(Path(data.root).resolve())
        title = getattr(data, "title", "")
        return data, type(data).__name__ + (f" of {title}" if title else "")
    if recipe.dataset == "scenes":
        if data is not None:
            raise ValueError(f"data={data!r}: generated scenes are not read from files; omit data.")
        return GeneratedScenes(seed=recipe.seed), "generated"
    if not complete:
        options = {**options, "complete": False}
    source = load(recipe.dataset, root=data, **options)
    return source, str(Path(data).resolve()) if data else ""


def splits_of(recipe: Recipe) -> list[str]:
    """Returns the splits that a training reads, each once."""
    splits = [recipe.train_split, *([recipe.val_split] if recipe.validation_epochs else [])]
    return list(dict.fromkeys(splits))


def check_splits(source: Any, recipe: Recipe) -> None:
    """Raises ValueError if the data lacks a split that a training reads."""
    for split in splits_of(recipe):
        if split not in source.splits:
            field = "train_split" if split == recipe.train_split else "val_split"
            raise ValueError(
                f"{field}={split!r} is not a split of the data; choose one of "
                f"{', '.join(source.splits)}."
            )


def check_weights(recipe: Recipe, *, paths: bool = False) -> None:
    """Raises an error if a recipe's weights don't exist.

    Args:
        recipe: The recipe.
        paths: Whether files must exist; a resumed training no longer needs them.

    Raises:
        ValueError: If the name is unknown, or there are no ImageNet weights for the depth.
        FileNotFoundError: If there is no such file.
    """
    if recipe.weights in IMAGENET:
        if recipe.has_resnet:
            imagenet_source(recipe.weights, int(recipe.backbone.removeprefix("resnet")))
        elif recipe.weights != "imagenet":
            raise ValueError(
                f"weights={recipe.weights!r} are for ResNets; {recipe.backbone} has 'imagenet'."
            )
    elif paths and recipe.weights is not None and recipe.weights not in all_presets():
        existing_weights(recipe.weights)


def padding_note(recipe: Recipe, sizes: Sequence[tuple[int, int]]) -> str:
    """Returns a sentence about crops that would mostly be padding, or "".

    Args:
        recipe: The recipe.
        sizes: (height, width) of the training images.
    """
    crop = np.broadcast_to(recipe.crop_size, 2)
    images = np.reshape([recipe.image_size] if recipe.image_size else sizes, (-1, 2))
    if not images.size:
        return ""
    factors = np.linspace(*recipe.scale, 9)[:, None, None]
    filled = np.minimum(1, images * factors / crop).prod(axis=-1).mean()
    if filled >= 0.5:
        return ""
    height, width = np.median(images, axis=0).astype(int)
    return (
        f"{1 - filled:.0%} of the crops of {crop[1]}x{crop[0]} are padding, which costs time and "
        f"teaches nothing, since most images are {width}x{height}; a smaller crop_size is faster."
    )
