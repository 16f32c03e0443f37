"""The images of a run: samples of its input, predictions, and its curves."""

from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_psp.files import writing
from keras_psp.training.folder import RunFolder
from keras_psp.training.log import Table
from keras_psp.training.recipes import Recipe
from keras_psp.training.samples import augmented_samples
from keras_psp.visual import comparison
from keras_psp.visual.curve import training_curve

_NUM_PREDICTIONS = 6


def draw_input(folder: RunFolder, source: Any, augmentation: dict[str, Any]) -> None:
    """Draws augmented.png, which shows wrong labels or colors before training starts."""
    path = folder / "augmented.png"
    if folder.writes and not path.exists():
        with writing(path):
            augmented_samples(source, path=path, **augmentation)


def draw_curve(folder: RunFolder, steps: Table, epochs: Table) -> None:
    """Draws curve.png from steps.csv and log.csv."""
    path = folder / "curve.png"
    if folder.writes:
        with writing(path):
            training_curve(steps, epochs, path=path)


def draw_predictions(
    folder: RunFolder, model: keras.Model, source: Any, recipe: Recipe, epochs: int
) -> Path:
    """Draws predictions for a few validation images next to their labels; returns the path."""
    images, labels, predictions = [], [], []
    for image, mask in _validation_examples(source, recipe):
        # Not `predict`, which would need all machines to take part.
        classes = keras.ops.convert_to_numpy(model.views.classes(image[None]))[0]
        images.append(image)
        labels.append(mask)
        predictions.append(_resize_nearest(classes, mask.shape))
    path = folder / "pictures" / f"epoch-{epochs:04d}.png"
    if folder.writes:
        with writing(path):
            comparison(
                images,
                labels,
                predictions,
                source.class_names,
                source.palette,
                path=path,
                ignore_class=source.ignore_class,
            )
    return path


def _validation_examples(source, recipe):
    """Yields a few examples spread over the split, their images at the recipe's size."""
    import tensorflow as tf

    split, size = recipe.val_split, recipe.image_size
    every = max(1, source.count(split) // _NUM_PREDICTIONS)
    if hasattr(source, "example"):
        indices = range(0, source.count(split), every)[:_NUM_PREDICTIONS]
        examples = (source.example(split, index) for index in indices)
    else:
        examples = source.examples(split).shard(every, 0).take(_NUM_PREDICTIONS)
    for image, mask in examples:
        if size is not None:
            image = tf.image.resize(image, size, antialias=True)
        yield np.asarray(image, "float32"), np.asarray(mask)


def _resize_nearest(classes, size):
    rows, columns = (np.arange(n) * old // n for n, old in zip(size, classes.shape, strict=True))
    return classes[rows[:, None], columns]
