"""One training from its recipe to its trained network, started or gone on with."""

import contextlib
import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_psp.data.progress import in_threads
from keras_psp.layers.resnet import DilatedResNet
from keras_psp.losses import UpsampledCrossentropy
from keras_psp.metrics import MeanIoU
from keras_psp.models import PSPNet
from keras_psp.optimizers import SGD
from keras_psp.schedules import PolyLearningRate
from keras_psp.training.callbacks import (
    EPOCH_COLUMNS,
    STEP_COLUMNS,
    Clock,
    Guard,
    Judge,
    KeepState,
    Progress,
    Record,
    Signals,
    TensorBoard,
)
from keras_psp.training.checkpoints import Checkpoints
from keras_psp.training.devices import find_devices
from keras_psp.training.folder import RunFolder, Table
from keras_psp.training.recipes import Recipe
from keras_psp.training.recipes import recipe as recipe_named

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
    progress: bool = True,
    strategy: Any = None,
    **fields,
) -> Run:
    """Train a PSPNet by a recipe; the same call again goes on where it was stopped.

        run = keras_psp.train("camvid", data="CamVid", output="runs/camvid", backbone="resnet18")

    On one GPU or all of this machine's, or on several machines: the same call on each, with
    TF_CONFIG (TensorFlow) or KERAS_DISTRIBUTION_* (JAX) set, and an output folder that all
    of them see. The batch of the recipe is that of all devices together.

    After a kill at any moment the same call goes on from the last checkpoint and comes to
    the same network, bit by bit on a CPU: order, augmentation, dropout, momenta and metrics
    go on where they were.

    Args:
        recipe: a name in `keras_psp.training.RECIPES`, or a `Recipe`.
        data: folder of the data set, or a source of examples of your own, as
            `keras_psp.data.ImageFolder`; None looks where `keras_psp.data.load` does.
        output: folder of the run.
        unreadable: "stop" reads all files first and names the bad ones; "skip" leaves them
            out, with a line that says how many; "trust" reads none ahead.
        progress: whether there are bars on stderr.
        strategy: a `tf.distribute.Strategy` in place of the one that the devices suggest.
        fields: of the recipe, as batch_size=8.

    Returns:
        The finished run.

    Raises:
        ValueError: for a recipe, data set or output that can't be.
        FloatingPointError: at a loss that is not finite, with its step and files; the last
            good checkpoint is kept.
        OSError: where the output can't be written; the last good checkpoint is kept.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, once the step is done and a checkpoint
            written.
    """
    chosen = recipe_named(recipe) if isinstance(recipe, str) else recipe
    if fields:
        chosen = dataclasses.replace(chosen, **_known(fields))
    if unreadable not in ("stop", "skip", "trust"):
        raise ValueError(f"unreadable={unreadable!r} is unknown; choose stop, skip or trust.")
    devices = find_devices(strategy)
    devices.check_batch(chosen.batch_size, chosen.gradient_accumulation_steps)
    source, origin = _source(chosen, data)
    _check_splits(source, chosen)
    folder = RunFolder(output, writes=devices.first)
    folder.begin(chosen, origin)
    folder.record_start(devices.names)
    if unreadable != "trust":
        for split in {chosen.train_split, *_val_split(source, chosen)}:
            if hasattr(source, "check"):
                shown = progress and devices.first
                source.check(split, progress=shown, skip=unreadable == "skip")
    return _Training(chosen, source, folder, devices, progress).run()


def _known(fields):
    known = {field.name for field in dataclasses.fields(Recipe)}
    wrong = sorted(set(fields) - known)
    if wrong:
        raise ValueError(f"a recipe has no field {wrong[0]!r}; it has {', '.join(sorted(known))}.")
    return fields


class _Training:
    """The parts of a training, and their order."""

    def __init__(self, recipe, source, folder, devices, progress):
        self.recipe = recipe
        self.source = source
        self.folder = folder
        self.devices = devices
        self.progress = progress
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
            model, metric = build(recipe, self.source, self.steps_per_epoch, weights)
            model.optimizer.build(model.trainable_variables)
        self.metric = metric
        metrics = [model.metrics[0], metric]  # the first is that of the loss
        checkpoints = Checkpoints(self.folder / "checkpoints", model, metrics, writes=devices.first)
        position = checkpoints.restore() or {"epoch": 0, "step_in_epoch": 0, "total": 0.0}
        step = position["epoch"] * self.steps_per_epoch + position["step_in_epoch"]
        devices.check_agreement(step)
        if step and self.progress and devices.first:
            print(f"{self.folder.path}: going on after step {step}", file=sys.stderr)
        signals = Signals() if devices.machines == 1 else None
        callbacks = self._callbacks(model, checkpoints, position, step, signals)
        judge = next(c for c in callbacks if isinstance(c, Judge))
        try:
            if step and position["step_in_epoch"] == 0 and not judge.judged(position["epoch"]):
                # Stopped between the checkpoint of an epoch and its validation.
                judge.judge(position["epoch"], position["finished"])
            with signals or contextlib.nullcontext():
                self._fit(model, checkpoints, position, callbacks)
        finally:
            for callback in callbacks:
                if isinstance(callback, Progress):
                    callback.close()
        return Run(self.folder.path, model, judge.best())

    def _class_weights(self):
        weights = self.recipe.class_weights
        if weights != "median_frequency":
            return weights
        from keras_psp.losses import median_frequency_weights

        return median_frequency_weights(self._label_counts())

    def _label_counts(self):
        """Pixels of each class in the training split."""
        split, classes = self.recipe.train_split, self.source.num_classes
        indices = range(self.source.count(split))

        def counted(index):
            _, mask = self.source.example(split, index)
            return np.bincount(np.asarray(mask).ravel(), minlength=256)[:classes]

        shown = self.progress and self.devices.first
        return sum(in_threads(counted, indices, "Counting labels", progress=shown))

    def _callbacks(self, model, checkpoints, position, step, signals):
        recipe, folder, first = self.recipe, self.folder, self.devices.first
        log = Table(folder / "log.csv", EPOCH_COLUMNS, writes=first)
        steps_table = Table(folder / "steps.csv", STEP_COLUMNS, writes=first)
        log.cut(step)
        steps_table.cut(step)
        clock = Clock(
            steps_per_epoch=self.steps_per_epoch,
            epochs=recipe.epochs,
            batch_size=recipe.batch_size,
            learning_rate=schedule(recipe, self.steps_per_epoch),
        )
        clock.resume(position)
        board = TensorBoard.opened(folder / "tensorboard") if first else None
        bar = Progress(clock) if self.progress and first else None

        def after(epochs, row):
            if bar is not None:
                bar.judged(epochs, row)
            if not first:
                return
            values = {k.removeprefix("val_"): v for k, v in row.items() if k.startswith("val_")}
            picture = self._draw(model, epochs) if values else None
            if board is not None and values:
                board.scalars(row["step"], "validation", values)
                board.picture(row["step"], "predictions", picture)
            from keras_psp.visual.curve import training_curve

            training_curve(steps_table, log, path=folder / "curve.png")

        self.val_split = next(iter(_val_split(self.source, recipe)), None)
        batches = None
        if self.val_split and recipe.validation_epochs:
            from keras_psp.data import evaluation_batches

            batches = self.devices.validation(
                evaluation_batches, self.source, self.val_split, image_size=recipe.image_size
            )
        judge = Judge(folder, log, self.metric, batches, clock, recipe.validation_epochs, after)
        keep = KeepState(
            clock,
            checkpoints,
            every=recipe.checkpoint_steps,
            resumed=position["step_in_epoch"] > 0,
            signals=signals,
        )
        judge.set_model(model)  # it may have to judge before `fit` does so
        return [
            clock,
            Guard(clock, self._files, lambda: _last_good(checkpoints)),
            Record(clock, steps_table, board),
            *([bar] if bar is not None else []),
            keep,
            judge,
        ]

    def _fit(self, model, checkpoints, position, callbacks):
        recipe = self.recipe
        epoch, step = position["epoch"], position["step_in_epoch"]
        options = {"verbose": 0, "callbacks": callbacks, "shuffle": False}
        if step:
            # Keras takes the length of the first epoch for that of all, so the rest of a
            # cut epoch is a `fit` of its own.
            keep = next(c for c in callbacks if isinstance(c, KeepState))
            keep.hold = recipe.ema is not None and epoch + 1 < recipe.epochs
            batches = self._batches(epoch, step, epoch + 1)
            model.fit(batches, initial_epoch=epoch, epochs=epoch + 1, **options)
            if keep.hold:  # `fit` ends by putting the average in place of the weights
                checkpoints.put_back(keep.held)
                keep.hold, keep.held = False, None
            epoch += 1
        if epoch < recipe.epochs:
            model.fit(
                self._batches(epoch, 0, recipe.epochs),
                initial_epoch=epoch,
                epochs=recipe.epochs,
                steps_per_epoch=self.steps_per_epoch,
                **options,
            )

    def _batches(self, epoch, step, epochs):
        from keras_psp.data import training_batches

        recipe = self.recipe
        batches = training_batches(
            self.source,
            split=recipe.train_split,
            batch_size=recipe.batch_size,
            crop_size=recipe.crop_size,
            scale=recipe.scale,
            mirror=recipe.mirror,
            rotate=recipe.rotate,
            blur=recipe.blur,
            fill=recipe.fill,
            image_size=recipe.image_size,
            seed=recipe.seed,
            first_epoch=epoch,
            first_step=step,
            epochs=epochs,
            shard=self.devices.shard,
        )
        return self.devices.distributed(batches)

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

    def _draw(self, model, epochs):
        """Predictions of a few validation pictures beside the truth."""
        from keras_psp import visual
        from keras_psp.data import evaluation_batches

        source, recipe = self.source, self.recipe
        path = self.folder / "pictures" / f"epoch-{epochs:04d}.png"
        pictures = evaluation_batches(
            source, split=self.val_split, batch_size=1, image_size=recipe.image_size
        )
        every = max(1, source.count(self.val_split) // _DRAWN)
        images, truths, predictions = [], [], []
        for image, mask in pictures.shard(every, 0).take(_DRAWN).as_numpy_iterator():
            images.append(image[0])
            truths.append(mask[0])
            # Not `predict`, in which all machines of several would have to take part.
            logits = keras.ops.convert_to_numpy(model(image, training=False))
            predictions.append(_classes_at(logits[0].argmax(-1), mask[0].shape))
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


def build(recipe: Recipe, source, steps_per_epoch: int, class_weights=None):
    """The compiled model of a recipe, and its `MeanIoU`."""
    network = {
        "num_classes": source.num_classes,
        "bin_sizes": recipe.bin_sizes,
        "dropout": recipe.dropout,
        "aux_weight": recipe.aux_weight,
        "class_names": list(source.class_names),
        "palette": [list(map(int, colour)) for colour in source.palette],
        "dtype": None if recipe.dtype == "float32" else recipe.dtype,
    }
    depth = int(recipe.backbone.removeprefix("resnet"))
    options = {
        "output_stride": recipe.output_stride,
        "synchronized": recipe.synchronized_batch_norm,
    }
    if recipe.weights is None:
        stem = {"stem_filters": recipe.stem_filters} if recipe.stem_filters else {}
        backbone = DilatedResNet(depth, **options, **stem, dtype=network["dtype"], name="backbone")
        model = PSPNet(**network, backbone=backbone)
    else:
        model = _started(recipe, network, options)
    if recipe.frozen_batch_norm:
        for layer in model.backbone._flatten_layers():
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False
    optimizer = SGD(
        schedule(recipe, steps_per_epoch),
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        head_multiplier=recipe.head_multiplier,
        **({"use_ema": True, "ema_momentum": recipe.ema} if recipe.ema is not None else {}),
    )
    loss = UpsampledCrossentropy(
        ignore_class=source.ignore_class,
        class_weights=class_weights,
        hard_threshold=recipe.hard_threshold,
        hard_pixels=recipe.hard_pixels,
    )
    metric = MeanIoU(source.num_classes, ignore_class=source.ignore_class)
    model.compile(
        optimizer,
        loss,
        metrics=[metric],
        gradient_accumulation_steps=recipe.gradient_accumulation_steps,
        jit_compile=recipe.jit_compile,
    )
    return model, metric


def schedule(recipe: Recipe, steps_per_epoch: int) -> PolyLearningRate:
    """The learning rate of a recipe, by step."""
    return PolyLearningRate(
        recipe.learning_rate,
        recipe.epochs * steps_per_epoch,
        power=recipe.power,
        warmup_steps=recipe.warmup_steps,
    )


def _started(recipe, network, options):
    """The PSPNet from trained weights, which decide what kind of ResNet it is."""
    from keras_psp.weights.sources import open_weights

    source = open_weights(recipe.weights, {**network, "backbone": recipe.backbone})
    arguments = source.arguments
    config = {**arguments["backbone"].get_config(), **options}
    model = PSPNet(**{**arguments, "backbone": DilatedResNet(**config)})
    source.load(model)
    return model


def _source(recipe, data):
    """The examples, and what to call them in recipe.json."""
    if hasattr(data, "count"):
        return data, f"a {type(data).__name__}"
    if recipe.dataset == "scenes":
        if data is not None:
            raise ValueError(f"data={data!r}: generated scenes are read from nowhere.")
        from keras_psp.data import GeneratedScenes

        return GeneratedScenes(seed=recipe.seed), "generated"
    from keras_psp.data import load

    return load(recipe.dataset, root=data), str(Path(data).resolve()) if data else ""


def _check_splits(source, recipe):
    for name, split in (("train_split", recipe.train_split), ("val_split", recipe.val_split)):
        if split not in source.splits and (name == "train_split" or recipe.validation_epochs):
            raise ValueError(
                f"{name}={split!r} is none of the splits that there are: "
                f"{', '.join(source.splits)}."
            )


def _val_split(source, recipe):
    """The validation split as a list of one, or of none."""
    return [recipe.val_split] if recipe.validation_epochs else []


def _last_good(checkpoints):
    kept = checkpoints.steps()
    if not kept:
        return "There is no checkpoint yet."
    return f"The last good weights are those of step {kept[0]}, {checkpoints.path(kept[0])}."


def _classes_at(classes, size):
    """Class ids (h, w) at another size, nearest."""
    rows = np.arange(size[0]) * classes.shape[0] // size[0]
    columns = np.arange(size[1]) * classes.shape[1] // size[1]
    return classes[rows[:, None], columns]
