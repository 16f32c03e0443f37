"""One training from its recipe to its trained network, begun or gone on with."""

import contextlib
import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_psp.files import writing, written_aside
from keras_psp.models import PSPNet
from keras_psp.models.pspnet import returning
from keras_psp.progress import in_threads
from keras_psp.training.bar import Progress
from keras_psp.training.callbacks import Guard, KeepState, Signals, Stopped
from keras_psp.training.checkpoints import Checkpoints
from keras_psp.training.clock import Clock
from keras_psp.training.devices import find_devices
from keras_psp.training.folder import RunFolder
from keras_psp.training.log import EPOCH_COLUMNS, STEP_COLUMNS, Table
from keras_psp.training.network import build, check_weights, schedule
from keras_psp.training.recipes import Recipe, with_fields
from keras_psp.training.recipes import recipe as recipe_named
from keras_psp.training.record import Record, TensorBoard
from keras_psp.training.validation import Judge

# Pictures drawn after each validation.
_DRAWN = 6


@dataclasses.dataclass
class Run:
    """A training that is done.

    Attributes:
        folder: where everything lies, see `keras_psp.training.folder.RunFolder`.
        model: the network after the last step, or its moving average.
        best_mean_iou: best on the validation split, of best.keras; NaN without one.
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
    **fields,
) -> Run:
    """Train a PSPNet by a recipe; the same call again goes on where it was stopped.

        run = keras_psp.train("camvid", data="CamVid", output="runs/camvid", backbone="resnet18")

    On one GPU or all of this machine's, or on several machines: the same call on each, with
    TF_CONFIG (TensorFlow) or KERAS_DISTRIBUTION_* (JAX) set, and an output folder that all
    of them see. The batch of the recipe is that of all devices together.

    After a kill at any moment the same call goes on from the last checkpoint: order,
    augmentation, dropout, momenta and metrics go on where they were. On a CPU the losses are
    those of a training left alone, bit by bit. (But for `ema` on TensorFlow, whose compiled
    step then rounds otherwise from start to start.)

    Args:
        recipe: a name in `keras_psp.training.RECIPES`, or a `Recipe`.
        data: folder of the data set, or a source of examples of your own, as
            `keras_psp.data.ImageFolder`; None looks where `keras_psp.data.load` does.
        output: folder of the run.
        unreadable: "stop" reads all files first and names the bad ones; "skip" leaves them
            out, with a line that says how many; "trust" reads none ahead.
        complete: False takes a copy of the data set that is partial on purpose.
        progress: whether there are bars on stderr.
        strategy: a `tf.distribute.Strategy` in place of the one that the devices suggest.
        fields: of the recipe, as batch_size=8.

    Returns:
        The finished run.

    Raises:
        ValueError: for a recipe, data set or output that can't be.
        TypeError: for data of another kind.
        FloatingPointError: at a loss that is not finite, with its step and files; the last
            good checkpoint is kept.
        OSError: where the output can't be written; the last good checkpoint is kept.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, once the step is done and a checkpoint
            written; on several machines at once and without one.
    """
    chosen = recipe_named(recipe) if isinstance(recipe, str) else recipe
    chosen = with_fields(chosen, fields)
    if unreadable not in ("stop", "skip", "trust"):
        raise ValueError(f"unreadable={unreadable!r} is unknown; choose stop, skip or trust.")
    check_weights(chosen)
    devices = find_devices(strategy)
    devices.check(chosen)
    source, origin = _source(chosen, data, complete)
    _check_splits(source, chosen)
    folder = RunFolder(output, writes=devices.first)
    with folder.held():
        folder.begin(chosen, origin)
        folder.record_start(devices.names)
        if unreadable != "trust" and hasattr(source, "check"):
            for split in _splits(chosen):
                shown = progress and devices.first
                source.check(split, progress=shown, skip=unreadable == "skip")
        # With other examples the order would be another, and a resumed run not the same.
        folder.settle("examples", source.count(chosen.train_split))
        return _Training(chosen, source, folder, devices, progress).run()


class _Training:
    """The parts of a training, and their order."""

    def __init__(self, recipe, source, folder, devices, progress):
        self.recipe = recipe
        self.source = source
        self.folder = folder
        self.devices = devices
        self.shown = progress and devices.first
        self.steps_per_epoch = source.count(recipe.train_split) // recipe.batch_size
        if not self.steps_per_epoch:
            raise ValueError(
                f"split {recipe.train_split!r} has {source.count(recipe.train_split)} examples, "
                f"fewer than batch_size={recipe.batch_size}; choose a smaller one."
            )

    def run(self) -> Run:
        recipe, devices = self.recipe, self.devices
        keras.utils.set_random_seed(recipe.seed)
        weights = self._class_weights()
        with devices.scope():
            self.model, metric = build(recipe, self.source, self.steps_per_epoch, weights)
        metrics = [self.model.metrics[0], metric]  # the first is that of the loss
        self.checkpoints = Checkpoints(
            self.folder / "checkpoints", self.model, metrics, writes=devices.first
        )
        position = self.checkpoints.restore() or {"epoch": 0, "step_in_epoch": 0, "total": 0.0}
        step = position["epoch"] * self.steps_per_epoch + position["step_in_epoch"]
        counts = [self.source.count(split) for split in _splits(recipe)]
        devices.check_agreement(step, f"{recipe}, {counts} examples")
        if step and self.shown:
            print(f"{self.folder.path}: going on after step {step}", file=sys.stderr)
        self._open_logs(step)
        self._draw_input()
        self.clock = Clock(
            steps_per_epoch=self.steps_per_epoch,
            epochs=recipe.epochs,
            batch_size=recipe.batch_size,
            learning_rate=schedule(recipe, self.steps_per_epoch),
        )
        self.clock.resume(position)
        self.bar = Progress(self.clock) if self.shown else None
        judge = Judge(
            self.folder,
            self.log,
            metric,
            self._validation(),
            self.clock,
            recipe.validation_epochs,
            self._after_epoch,
        )
        judge.set_model(self.model)  # it may have to judge before `fit` does so
        try:
            if step and position["step_in_epoch"] == 0 and not judge.judged(position["epoch"]):
                # Stopped between the checkpoint of an epoch and its validation.
                judge.judge(position["epoch"], position["finished"])
            self._fit(position, judge)
            self._draw_curve()
        finally:
            if self.bar is not None:
                self.bar.close()
        return Run(self.folder.path, self.model, judge.best())

    def _class_weights(self):
        weights = self.recipe.class_weights
        if weights != "median_frequency":
            return weights
        from keras_psp.losses import median_frequency_weights

        split, classes = self.recipe.train_split, self.source.num_classes

        def counted(index):
            _, mask = self.source.example(split, index)
            return np.bincount(np.asarray(mask).ravel(), minlength=256)[:classes]

        indices = range(self.source.count(split))
        counts = in_threads(counted, indices, "Counting labels", progress=self.shown)
        return median_frequency_weights(list(counts))

    def _open_logs(self, step):
        first = self.devices.first
        self.log = Table(self.folder / "log.csv", EPOCH_COLUMNS, writes=first)
        self.steps = Table(self.folder / "steps.csv", STEP_COLUMNS, writes=first)
        self.log.cut(step)
        self.steps.cut(step)
        self.board = TensorBoard.opened(self.folder / "tensorboard") if first else None

    def _validation(self):
        if not self.recipe.validation_epochs:
            return None
        recipe, devices = self.recipe, self.devices
        # No more at a time than a training step has on one device.
        share = recipe.batch_size // (devices.replicas * recipe.gradient_accumulation_steps)
        return devices.validation(
            self.source,
            recipe.val_split,
            image_size=recipe.image_size,
            batch_size=min(8, share),
        )

    def _fit(self, position, judge):
        recipe, model = self.recipe, self.model
        epoch, step = position["epoch"], position["step_in_epoch"]
        # Several machines would have to stop at the same step.
        signals = Signals() if self.devices.machines == 1 else None
        keep = KeepState(
            self.clock,
            self.checkpoints,
            every=recipe.checkpoint_steps,
            due=judge.due,
            resumed=step > 0,
            signals=signals,
        )
        guard = Guard(self.clock, self._files, self._last_good)
        record = Record(self.clock, self.steps, self.board)
        bar = [] if self.bar is None else [self.bar]
        options = {
            "verbose": 0,
            "shuffle": False,
            "callbacks": [self.clock, guard, record, *bar, keep, judge],
        }
        with signals or contextlib.nullcontext():
            if step:
                # Keras takes the length of the first epoch for that of all, so the rest of a
                # cut epoch is a `fit` of its own.
                keep.hold = recipe.ema is not None and epoch + 1 < recipe.epochs
                rest = self._batches(epoch, step, epoch + 1)
                model.fit(
                    rest,
                    initial_epoch=epoch,
                    epochs=epoch + 1,
                    steps_per_epoch=self.steps_per_epoch - step,
                    **options,
                )
                if keep.hold:  # `fit` ends by putting the average in place of the weights
                    self.checkpoints.put_back(keep.held)
                    keep.hold, keep.held = False, None
                epoch += 1
            if epoch == recipe.epochs and not step:  # all is done; what `fit` does at its end
                model.optimizer.finalize_variable_values(model.trainable_variables)
            if epoch < recipe.epochs:
                model.fit(
                    self._batches(epoch, 0, recipe.epochs),
                    initial_epoch=epoch,
                    epochs=recipe.epochs,
                    steps_per_epoch=self.steps_per_epoch,
                    **options,
                )
        if signals is not None and signals.came:  # in the last validation; a script ends here too
            raise Stopped("stopped after the last step; the training is done")

    def _batches(self, epoch, step, epochs):
        from keras_psp.data import training_batches

        batches = training_batches(
            self.source,
            batch_size=self.recipe.batch_size,
            first_epoch=epoch,
            first_step=step,
            epochs=epochs,
            shard=self.devices.shard,
            **self._augmentation(),
        )
        return self.devices.distributed(batches)

    def _augmentation(self):
        """What makes crops of examples, for `training_batches`."""
        names = ("crop_size", "scale", "mirror", "rotate", "blur", "fill", "image_size", "seed")
        given = {name: getattr(self.recipe, name) for name in names}
        return {"split": self.recipe.train_split, **given}

    def _draw_input(self):
        """A picture of 16 crops, so that a wrong label or colour is seen at the start."""
        from keras_psp.training.samples import augmented_samples

        path = self.folder / "augmented.png"
        if self.devices.first and not path.exists():
            picture = augmented_samples(self.source, **self._augmentation())
            with writing(path), written_aside(path) as draft:
                picture.save(draft)

    def _files(self, epoch, step):
        """Names of the examples of a batch."""
        from keras_psp.data import batch_examples

        recipe = self.recipe
        indices = batch_examples(
            self.source,
            split=recipe.train_split,
            batch_size=recipe.batch_size,
            seed=recipe.seed,
            epoch=epoch,
            step=step,
        )
        if not hasattr(self.source, "paths"):
            return [f"example {index}" for index in indices]
        paths = self.source.paths(recipe.train_split)
        return [str(paths[index][0]) for index in indices]

    def _last_good(self):
        kept = self.checkpoints.steps()
        if not kept:
            return "There is no checkpoint yet."
        path = self.checkpoints.path(kept[0])
        return f"The last good weights are those of step {kept[0]}, {path}."

    def _after_epoch(self, epochs, row):
        """Bar, TensorBoard, pictures and curve, once log.csv has its row."""
        if self.bar is not None:
            self.bar.judged(epochs, row)
        values = {k.removeprefix("val_"): v for k, v in row.items() if k.startswith("val_")}
        # On JAX all processes have to take part in the predictions.
        picture = self._draw(epochs) if values else None
        if not self.devices.first:
            return
        if self.board is not None and values:
            self.board.scalars(row["step"], "validation", values)
            self.board.picture(row["step"], "predictions", picture)
        self._draw_curve()

    def _draw_curve(self):
        from keras_psp.visual.curve import training_curve

        if self.devices.first:
            path = self.folder / "curve.png"
            with writing(path):
                training_curve(self.steps, self.log, path=path)

    def _draw(self, epochs):
        """Predictions of a few validation pictures beside the truth; the picture's path."""
        from keras_psp import visual

        source, images, truths, predictions = self.source, [], [], []
        for image, mask in _some_examples(source, self.recipe.val_split, self.recipe.image_size):
            # Not `predict`, in which all machines of several would have to take part.
            with returning("classes"):
                classes = keras.ops.convert_to_numpy(self.model(image[None], training=False))
            images.append(image)
            truths.append(mask)
            predictions.append(_at_size(classes[0], mask.shape))
        path = self.folder / "pictures" / f"epoch-{epochs:04d}.png"
        if self.devices.first:
            with writing(path):
                visual.comparison(
                    images,
                    truths,
                    predictions,
                    source.class_names,
                    source.palette,
                    path=path,
                    ignore_class=source.ignore_class,
                )
        return path


def _source(recipe, data, complete):
    """The examples, and what to call them in recipe.json."""
    if data is not None and not isinstance(data, str | os.PathLike):
        if not hasattr(data, "splits"):
            raise TypeError(
                f"data is an object of type {type(data).__name__}; it must be a folder or a source "
                "of examples, as keras_psp.data.ImageFolder."
            )
        return data, f"a {type(data).__name__}"
    if recipe.dataset == "scenes":
        if data is not None:
            raise ValueError(f"data={data!r}: generated scenes are read from nowhere.")
        from keras_psp.data import GeneratedScenes

        return GeneratedScenes(seed=recipe.seed), "generated"
    from keras_psp.data import load

    options = {} if complete else {"complete": False}
    source = load(recipe.dataset, root=data, **options)
    return source, str(Path(data).resolve()) if data else ""


def _splits(recipe):
    """The splits that a training reads."""
    return list(
        dict.fromkeys(
            [recipe.train_split, *([recipe.val_split] if recipe.validation_epochs else [])]
        )
    )


def _check_splits(source, recipe):
    for split in _splits(recipe):
        if split not in source.splits:
            name = "train_split" if split == recipe.train_split else "val_split"
            raise ValueError(
                f"{name}={split!r} is none of the splits that there are: "
                f"{', '.join(source.splits)}."
            )


def _some_examples(source, split, image_size):
    """A few examples from all over a split, images resized if asked for."""
    import tensorflow as tf

    from keras_psp.data import evaluation_batches

    every = max(1, source.count(split) // _DRAWN)
    if not hasattr(source, "example"):
        batches = evaluation_batches(source, split=split, batch_size=1, image_size=image_size)
        for images, masks in batches.shard(every, 0).take(_DRAWN).as_numpy_iterator():
            yield images[0], masks[0]
        return
    for index in range(0, source.count(split), every)[:_DRAWN]:
        image, mask = source.example(split, index)
        if image_size is not None:
            image = tf.image.resize(image, image_size, antialias=True).numpy()
        yield np.asarray(image, "float32"), np.asarray(mask)


def _at_size(classes, size):
    """Class ids (h, w) at another size, nearest."""
    rows = np.arange(size[0]) * classes.shape[0] // size[0]
    columns = np.arange(size[1]) * classes.shape[1] // size[1]
    return classes[rows[:, None], columns]
