"""Runs a training from its recipe to the trained network, or resumes it."""

import dataclasses
import functools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_psp.data import BandStatistics, batch_examples, training_batches
from keras_psp.data.identity import data_identity
from keras_psp.data.python_calls import original_errors
from keras_psp.data.report import checked
from keras_psp.losses import median_frequency_weights
from keras_psp.models import PSPNet
from keras_psp.progress import with_bar
from keras_psp.training.bands import band_statistics_of, check_bands
from keras_psp.training.callbacks import CheckpointCallback, Signals, StopOnNonFiniteLoss, Stopped
from keras_psp.training.checkpoints import Checkpoints
from keras_psp.training.devices import Devices, find_devices
from keras_psp.training.folder import RunFolder
from keras_psp.training.images import draw_curve, draw_input, draw_predictions
from keras_psp.training.inputs import (
    check_splits,
    check_weights,
    open_source,
    padding_note,
    proportions_note,
    splits_of,
    start_note,
)
from keras_psp.training.log import EPOCH_COLUMNS, STEP_COLUMNS, StepLog, Table, TensorBoard
from keras_psp.training.network import build, schedule
from keras_psp.training.progress import ProgressBar, TrainingProgress
from keras_psp.training.recipes import RECIPES, Recipe, with_fields
from keras_psp.training.recipes import recipe as recipe_by_name
from keras_psp.training.validation import Validation, averaging_optimizer


@dataclasses.dataclass
class Run:
    """A finished training.

    Attributes:
        folder: Folder of its files, see `keras_psp.training.folder.RunFolder`.
        model: The network after the last step, or its moving average.
        best_mean_iou: Best mean IoU on the validation split, that of best.keras; NaN if none.
    """

    folder: Path
    model: PSPNet
    best_mean_iou: float


def train(
    recipe: str | Recipe,
    *,
    data: Any = None,
    output: str | os.PathLike,
    unreadable: str = "stop",
    complete: bool = True,
    progress: bool = True,
    strategy: Any = None,
    loss: str | Any = None,
    optimizer: str | Callable[[Any], keras.optimizers.Optimizer] | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    **fields: Any,
) -> Run:
    """Trains a PSPNet by a recipe; the same call resumes a training that was stopped.

    It uses one GPU or all GPUs of the machine. On several machines, make the same call on each,
    with TF_CONFIG (TensorFlow) or KERAS_DISTRIBUTION_* (JAX) set and an output folder that all
    of them can access. The recipe's batch size is that of all devices together.

    A killed training resumes from its last checkpoint, with the same order of examples,
    augmentation, dropout, momenta and metrics. On a CPU its losses are equal, bit for bit, to
    those of an uninterrupted training. (Except with `ema` on TensorFlow, whose compiled step
    rounds differently from start to start.)

    Example:
        run = keras_psp.train("scenes", output="runs/scenes", epochs=1)
        print(run.best_mean_iou, run.folder / "best.keras")

    Args:
        recipe: A name in `keras_psp.training.RECIPES`, or a `Recipe`.
        data: Folder of the data set, or a source of examples such as
            `keras_psp.data.ImageFolder`, or a list of these, which are joined
            (`keras_psp.data.JoinedPairs`); None searches where `keras_psp.data.load` does.
        output: Folder of the run.
        unreadable: "stop" reads all files before training and reports the unreadable ones;
            "skip" excludes them and reports how many; "trust" reads no files before training.
        complete: False accepts an incomplete copy of the data set.
        progress: Whether to show progress bars on stderr.
        strategy: A `tf.distribute.Strategy` to use instead of the default for the devices.
        loss: The recipe's field, e.g. "dice+crossentropy", or a loss as for `PSPNet.compile` in
            place of the recipe's.
        optimizer: The recipe's field, e.g. "adamw", or a function from the learning-rate schedule
            to a Keras optimizer in place of the recipe's, e.g.
            `lambda rate: keras.optimizers.Lion(rate)`. With a loss or optimizer of your own,
            fields that only the recipe's would read are refused.
        callbacks: Keras callbacks, called after our own, with the validation's results in the
            logs of its epochs. To resume, give these three arguments again; the state of callbacks
            isn't in the checkpoints. A training that a callback stopped resumes as well.
        fields: Fields of the recipe to replace, e.g. `batch_size=8`.

    Returns:
        The finished run.

    Raises:
        ValueError: If the recipe, the data set or the output is invalid.
        TypeError: If `data` is neither a folder nor a source.
        FloatingPointError: If a loss is not finite, with its step and files; the last good
            checkpoint is kept.
        OSError: If the output can't be written; the last good checkpoint is kept.
        KeyboardInterrupt: After Ctrl-C or SIGTERM, once the step is finished and a checkpoint
            is written; on several machines immediately and without one.
    """
    chosen = recipe_by_name(recipe) if isinstance(recipe, str) else recipe
    given = {"loss": loss, "optimizer": optimizer}
    named = {name: part for name, part in given.items() if isinstance(part, str)}
    given |= dict.fromkeys(named)  # the rest are objects, which a recipe can't hold
    chosen = with_fields(chosen, fields | named)
    _check_given(chosen, given)
    if unreadable not in ("stop", "skip", "trust"):
        raise ValueError(f"unreadable={unreadable!r} is unknown; choose stop, skip or trust.")
    check_weights(chosen)
    devices = find_devices(strategy)
    devices.check(chosen)
    source, description = open_source(chosen, data, complete=complete)
    check_splits(source, chosen)
    check_bands(source, chosen)
    folder = RunFolder(output, writes=devices.first)
    shown = progress and devices.first
    with folder.locked():
        resumed = folder.begin(chosen, description)
        folder.record_start(devices.names)
        if devices.first and (note := start_note(chosen)):
            print(note, file=sys.stderr)
        splits, examined, pixels = splits_of(chosen), None, None
        if unreadable != "trust" and hasattr(source, "leave_out"):
            report = checked(
                source,
                splits,
                train_split=chosen.train_split,
                skip=unreadable == "skip",
                progress=shown,
            )
            examined = report.examined
            pixels = functools.partial(report.class_pixels, chosen.train_split)
            sizes = [item.size for item in examined[chosen.train_split] if not item.fault]
            for note in (padding_note(chosen, sizes), proportions_note(chosen, sizes)):
                if devices.first and note:
                    print(note, file=sys.stderr)
        folder.store_or_check_data(data_identity(source, splits, examined))
        # With other examples, their order and thus a resumed training would differ.
        folder.store_or_check("examples", source.count(chosen.train_split))
        bands = band_statistics_of(folder, source, chosen, resumed=resumed, progress=shown)
        folder.store_or_check("given", {name: _named(part) for name, part in given.items()})
        training = _Training(
            chosen, source, folder, devices, shown, given, callbacks, pixels, bands
        )
        return training.run()


# Fields that only the recipe's loss or optimizer reads.
_READ_BY = {
    "loss": ("class_weights", "hard_pixels", "hard_threshold", "label_smoothing"),
    "optimizer": ("momentum", "weight_decay", "head_multiplier", "layer_decay", "ema"),
}


def _check_given(recipe, given):
    """Raises ValueError for fields that have no effect with the caller's own loss or optimizer."""
    usual = RECIPES.get(recipe.name, Recipe())
    for part in [name for name, replaced in given.items() if replaced is not None]:
        for name in (part, *_READ_BY[part]):
            value = getattr(recipe, name)
            if value != getattr(usual, name):
                raise ValueError(
                    f"{name}={value!r} has no effect with your own {part}; omit it, or set it in "
                    f"the {part} that you pass."
                )


def _named(part):
    """Returns an object's entry in recipe.json: the name of its class or function."""
    return None if part is None else getattr(part, "__name__", type(part).__name__)


@dataclasses.dataclass
class _Training:
    """The parts of a training, in the order of their use."""

    recipe: Recipe
    source: Any
    folder: RunFolder
    devices: Devices
    shown: bool
    given: dict[str, Any] = dataclasses.field(default_factory=dict)  # in place of the recipe's
    callbacks: Sequence[keras.callbacks.Callback] = ()
    pixels: Callable[[], np.ndarray] | None = None  # see `_class_pixels`; None if not examined
    bands: BandStatistics | None = None  # of images that aren't RGB

    def __post_init__(self):
        split, batch_size = self.recipe.train_split, self.recipe.batch_size
        examples = self.source.count(split)
        self.steps_per_epoch = examples // batch_size
        if not self.steps_per_epoch:
            raise ValueError(
                f"split {split!r} has {examples} examples, fewer than batch_size={batch_size}; "
                "choose a smaller one."
            )

    @original_errors()  # of files that break while they are read
    def run(self) -> Run:
        self._build_model()
        position = self._restore()
        self._open_logs(position)
        draw_input(self.folder, self.source, self._augmentation())
        with ProgressBar(self.progress, shown=self.shown) as self.bar:
            validation = self._validation()
            if "finished" in position and not validation.is_logged(position["epoch"]):
                # It was stopped between the epoch's checkpoint and its validation.
                validation.on_epoch_end(position["epoch"] - 1, position["finished"])
            self._fit(position, validation)
            validation.save_last()
            draw_curve(self.folder, self.steps, self.log)
        return Run(self.folder.path, self.model, validation.best_mean_iou)

    def _build_model(self):
        keras.utils.set_random_seed(self.recipe.seed)
        weights = self._class_weights()
        with self.devices.scope():
            self.model, self.metric = build(
                self.recipe, self.source, self.steps_per_epoch, weights, self.bands, **self.given
            )

    def _class_weights(self):
        if self.recipe.class_weights != "median_frequency":
            return self.recipe.class_weights
        return median_frequency_weights(self._class_pixels)

    @functools.cached_property
    def _class_pixels(self):
        """Pixels of each class in each training example, (examples, classes)."""
        if self.pixels is not None:
            return self.pixels()
        split, classes = self.recipe.train_split, self.source.num_classes
        examples = self.source.examples(split)
        if self.shown:
            examples = with_bar(examples, "Counting labels", self.source.count(split))
        masks = (np.ravel(mask) for _, mask in examples)
        labels = (mask[mask != self.source.ignore_class] for mask in masks)
        return np.array([np.bincount(label, minlength=256)[:classes] for label in labels])

    def _restore(self):
        """Restores the newest checkpoint and returns its position."""
        self.progress = TrainingProgress(
            steps_per_epoch=self.steps_per_epoch,
            epochs=self.recipe.epochs,
            batch_size=self.recipe.batch_size,
            learning_rate=schedule(self.recipe, self.steps_per_epoch),
        )
        self.checkpoints = Checkpoints(
            self.folder / "checkpoints",
            self.model,
            [self.model.metrics[0], self.metric],  # the first is that of the loss
            writes=self.devices.first,
        )
        position = self.checkpoints.restore() or self.progress.position()
        self.progress.resume(position)
        step = self.progress.step
        counts = [self.source.count(split) for split in splits_of(self.recipe)]
        self.devices.check_agreement(step, f"{self.recipe}, {counts} examples")
        if step and self.shown:
            print(f"{self.folder.path}: resuming after step {step}", file=sys.stderr)
        return position

    def _open_logs(self, position):
        first = self.devices.first
        self.log = Table(self.folder / "log.csv", EPOCH_COLUMNS, writes=first)
        self.steps = Table(self.folder / "steps.csv", STEP_COLUMNS, writes=first)
        step = self.progress.step
        # The row of an epoch is written after its checkpoint and validation.
        logged = position["epoch"] - ("finished" in position)
        self.log.cut(step, end=logged * self.steps_per_epoch)
        self.steps.cut(step, end=step)
        self.board = TensorBoard.create(self.folder / "tensorboard") if first else None

    def _validation(self):
        recipe, devices = self.recipe, self.devices
        data = None
        if recipe.validation_epochs:
            # At most as many images at a time as a training step has on one device.
            share = recipe.batch_size // (devices.replicas * recipe.gradient_accumulation_steps)
            data = devices.validation(
                self.source,
                recipe.val_split,
                image_size=recipe.image_size,
                batch_size=min(8, share),
            )
        validation = Validation(
            self.folder,
            self.log,
            self.metric,
            data,
            self.progress,
            every=recipe.validation_epochs,
            on_logged=self._on_epoch_logged,
        )
        validation.set_model(self.model)  # it may run before `fit` does so
        return validation

    def _on_epoch_logged(self, epochs, row):
        """Shows the results of an epoch: in the bar, TensorBoard and images."""
        self.bar.print_epoch(epochs, row)
        metrics = {k.removeprefix("val_"): v for k, v in row.items() if k.startswith("val_")}
        if metrics:  # on JAX, all processes must take part in the predictions
            image = draw_predictions(self.folder, self.model, self.source, self.recipe, epochs)
            if self.board is not None:
                self.board.write_scalars(row["step"], "validation", metrics)
                self.board.write_image(row["step"], "predictions", image)
        draw_curve(self.folder, self.steps, self.log)

    def _fit(self, position, validation):
        recipe, model = self.recipe, self.model
        epoch, step = position["epoch"], position["step_in_epoch"]
        # Several machines would have to stop at the same step.
        signals = Signals(enabled=self.devices.machines == 1)
        checkpoint = CheckpointCallback(
            self.progress,
            self.checkpoints,
            every=recipe.checkpoint_steps,
            is_due=validation.is_due,
            signals=signals,
        )
        callbacks = [
            self.progress,
            StopOnNonFiniteLoss(self.progress, self._files, self._last_checkpoint),
            StepLog(self.progress, self.steps, self.board),
            self.bar,
            checkpoint,
            validation,
            *self.callbacks,
        ]
        with signals:
            if step:
                # Keras takes the length of the first epoch for that of all, so the rest of an
                # interrupted epoch needs a `fit` of its own.
                averages = averaging_optimizer(model) is not None
                checkpoint.keeps_arrays = averages and epoch + 1 < recipe.epochs
                self._fit_epochs(epoch, epoch + 1, step, callbacks)
                if model.stop_training:  # by a callback
                    return
                if checkpoint.keeps_arrays:  # `fit` ends by replacing the weights by their average
                    self.checkpoints.put_back(checkpoint.arrays)
                    checkpoint.keeps_arrays, checkpoint.arrays = False, None
                epoch += 1
            elif epoch == recipe.epochs:  # finished before; this is what `fit` does at its end
                model.optimizer.finalize_variable_values(model.trainable_variables)
            if epoch < recipe.epochs:
                self._fit_epochs(epoch, recipe.epochs, 0, callbacks)
        if signals.received:  # during the last validation
            raise Stopped("stopped after the last step; the training is finished")

    def _fit_epochs(self, first, end, first_step, callbacks):
        batches = training_batches(
            self.source,
            batch_size=self.recipe.batch_size,
            first_epoch=first,
            first_step=first_step,
            epochs=end,
            shard=self.devices.shard,
            **self._augmentation(),
        )
        self.model.fit(
            self.devices.distributed(batches),
            initial_epoch=first,
            epochs=end,
            steps_per_epoch=self.steps_per_epoch - first_step,
            verbose=0,
            shuffle=False,
            callbacks=callbacks,
        )

    def _augmentation(self):
        """Returns the arguments of `training_batches` that turn examples into crops."""
        names = (
            *("crop_size", "scale", "mirror", "rotate", "blur", "color"),
            *("cutout", "class_mix", "fill", "image_size", "max_class_share", "seed"),
        )
        arguments = {name: getattr(self.recipe, name) for name in names}
        if self.bands is not None:
            arguments["fill"] = self.bands.mean
        return {"split": self.recipe.train_split, **arguments, **self._rare_classes()}

    def _rare_classes(self):
        share = self.recipe.rare_classes
        return {"rare_classes": share, "class_pixels": self._class_pixels if share else None}

    def _files(self, epoch, step):
        """Returns the names of the examples in a batch."""
        split = self.recipe.train_split
        shared = {name: getattr(self.recipe, name) for name in ("batch_size", "seed")}
        shared |= self._rare_classes()
        indices = batch_examples(self.source, split=split, epoch=epoch, step=step, **shared)
        if not hasattr(self.source, "paths"):
            return [f"example {index}" for index in indices]
        paths = self.source.paths(split)
        return [str(paths[index][0]) for index in indices]

    def _last_checkpoint(self):
        steps = self.checkpoints.steps()
        if not steps:
            return "There is no checkpoint yet."
        path = self.checkpoints.path(steps[0])
        return f"The last good weights are those of step {steps[0]}, {path}."
