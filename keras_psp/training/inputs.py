"""Opens and checks the inputs of a training, before Keras is imported."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_psp.data import GeneratedScenes, JoinedPairs, load
from keras_psp.data.division import split_parts
from keras_psp.imagenet import HUB
from keras_psp.training.recipes import Recipe, with_fields
from keras_psp.weights.locating import IMAGENET, existing_weights, imagenet_source, is_preset

_STRETCHED = np.log(1.1)  # sides that grow by different factors


def open_source(
    recipe: Recipe, data: Any = None, *, complete: bool = True, **options: Any
) -> tuple[Any, str]:
    """Returns the source of examples, and its description for recipe.json.

    Args:
        recipe: The recipe, which names the data set.
        data: The folder of its files, a source, several of these, or None.
        complete: See `keras_psp.data.load`, also for the `options`.

    Raises:
        TypeError: If data is something else.
        ValueError: If the data can't be opened.
    """
    if isinstance(data, list | tuple):
        parts = [open_source(recipe, part, complete=complete, **options) for part in data]
        if len(parts) == 1:
            return parts[0]
        return JoinedPairs([source for source, _ in parts]), " + ".join(where for _, where in parts)
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
    if recipe.classes is not None:
        options = {**options, "classes": recipe.classes}
    source = load(recipe.dataset, root=data, **options)
    return source, str(Path(data).resolve()) if data else ""


def with_extra(
    source: Any, recipe: Recipe, extra: Sequence[str], *, complete: bool = True
) -> tuple[Any, Recipe]:
    """Adds data sets to a source, and their "train" splits to the recipe's training split.

    Args:
        source: The source of the recipe's data set.
        recipe: The recipe. If its `train_split` already names splits of the added sets, such as
            "3*train+coco:train", theirs are left as they are.
        extra: Each NAME=FOLDER, with a name for `keras_psp.data.load`. COCO is read with the
            classes of PASCAL VOC if these are the source's.
        complete: See `keras_psp.data.load`.

    Raises:
        TypeError: If the source isn't in files.
        ValueError: If a text isn't NAME=FOLDER, or a set can't be opened or joined.
    """
    sources: dict[str, Any] = {}
    for text in extra:
        name, equals, folder = text.partition("=")
        if not (name and equals and folder):
            raise ValueError(f"extra={text!r} must be NAME=FOLDER, e.g. coco=COCO.")
        if name in sources:
            raise ValueError(f"extra={text!r}: {name} is given twice; join their files first.")
        reduced = name == "coco" and recipe.dataset == "voc2012"
        options = {"classes": "voc2012"} if reduced else {}
        sources[name] = load(name, root=folder, complete=complete, **options)
    if not sources:
        return source, recipe
    named = {part.partition(":")[0] for part in split_parts(recipe.train_split) if ":" in part}
    added = "".join(f"+{name}:train" for name in sources if name not in named)
    recipe = with_fields(recipe, {"train_split": recipe.train_split + added})
    return JoinedPairs([source], sources), recipe


def splits_of(recipe: Recipe) -> list[str]:
    """Returns the splits that a training reads, each once."""
    splits = [recipe.train_split, *([recipe.val_split] if recipe.validation_epochs else [])]
    return list(dict.fromkeys(splits))


def check_splits(source: Any, recipe: Recipe) -> None:
    """Raises ValueError if the data lacks a split that a training reads."""
    for split in splits_of(recipe):
        field = "train_split" if split == recipe.train_split else "val_split"
        parts = split_parts(split)
        for part in parts:
            if part not in source.splits:
                raise ValueError(
                    f"{field}={split!r}: the data has no split {part!r}; choose one of "
                    f"{', '.join(source.splits)}, or join some, e.g. train+val."
                )
        if len(parts) > 1 and not hasattr(source, "paths"):
            raise ValueError(
                f"{field}={split!r}: splits of a {type(source).__name__} can't be joined; only "
                "those of data sets and folders on disk can."
            )


def check_weights(recipe: Recipe, *, paths: bool = False) -> None:
    """Raises an error if a recipe's weights don't exist.

    Args:
        recipe: The recipe.
        paths: Whether files must exist; a resumed training no longer needs them.

    Raises:
        ValueError: If the name is unknown, or there are no ImageNet weights for the depth.
        ImportError: If the backbone is from keras-hub, which isn't installed.
        FileNotFoundError: If there is no such file.
    """
    if recipe.backbone.startswith(HUB):
        from keras_psp.models.hub import check_preset

        check_preset(recipe.backbone)
    if recipe.weights in IMAGENET:
        if recipe.has_resnet:
            imagenet_source(recipe.weights, int(recipe.backbone.removeprefix("resnet")))
        elif recipe.weights != "imagenet":
            raise ValueError(
                f"weights={recipe.weights!r} are for ResNets; {recipe.backbone} has 'imagenet'."
            )
    elif paths and recipe.weights is not None and not is_preset(recipe.weights):
        existing_weights(recipe.weights)


def start_note(recipe: Recipe) -> str:
    """Returns a sentence about a ResNet that has no published weights to start from, or ""."""
    if recipe.weights is not None or not recipe.has_resnet:
        return ""
    depth = int(recipe.backbone.removeprefix("resnet"))
    if any(depth in sources for sources in IMAGENET.values()):
        return ""
    return (
        f"no ImageNet weights of {recipe.backbone} are published, so it starts from random ones, "
        "unlike the paper's network; if you have a checkpoint, pass it as weights (--weights FILE)."
    )


def proportions_note(recipe: Recipe, sizes: Sequence[tuple[int, int]]) -> str:
    """Returns a sentence about images whose proportions `image_size` changes, or "".

    Args:
        recipe: The recipe.
        sizes: (height, width) of the training images.
    """
    if recipe.image_size is None or not sizes:
        return ""
    height, width = recipe.image_size
    images = np.asarray(sizes)
    stretched = np.abs(np.log(images[:, 1] / images[:, 0] * height / width)) > _STRETCHED
    if stretched.mean() < 0.1:
        return ""
    high, wide = np.median(images[stretched], axis=0).astype(int)
    return (
        f"image_size {width}x{height} changes the proportions of {stretched.mean():.0%} of the "
        f"images, e.g. of {wide}x{high}, but evaluate and predict keep them: the longer side is "
        f"then {max(height, width)}. Choose an image_size with the proportions of the images."
    )


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
