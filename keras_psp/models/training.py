"""`compile`, `fit` and `evaluate` of a PSPNet, where they differ from Keras' own.

Overrides of `keras.Model`, for Keras 3.15:

`compile`, `get_compile_config`, `compile_from_config`
    Add the paper's optimizer and loss as defaults, refuse arguments that can't work, and
    accumulate gradients with one step per batch. A float16 model gets a loss scale, which Keras
    adds only for a global policy. A loaded optimizer is built immediately, so that its saved
    state is read. Accumulation can be removed once Keras' optimizers accumulate under a strategy
    (they call `merge_call` inside a condition).
`_run_through_graph`
    Refuses `clone_model` of a compiled model, which fails with a TypeError in Keras.
`compute_loss`, and `update_state` of the compiled metrics
    Compare the logits of two heads with one mask per image, upsampling a few rows at a time.
`fit`, `evaluate`, `train_on_batch`, `test_on_batch`, `_symbolic_build`
    Check arrays and first batches before any lengthy work, see `arrays.py`; `fit` also warns about
    a schedule of the wrong length, and stops at a loss that isn't finite.
`train_step`
    Computes a batch in parts, see `accumulation.py`.
`test_step`
    Requests logits at the output stride, through a context variable, which each replica's thread
    has for itself.
`_maybe_symbolic_build`, `_make_function`
    Keras' own fail if a strategy spans several machines, and the first also if replicas have
    images of different sizes, see `machines.py`. Can be removed once Keras issue 20585 is fixed.
"""

import math
import warnings
from typing import TYPE_CHECKING, Any

import keras

from keras_psp.arguments import checked_choice, checked_integer
from keras_psp.layers.chunks import upsampled_classes
from keras_psp.layers.resampling import resize_bilinear, spatial_size
from keras_psp.losses.upsampled import UpsampledLoss
from keras_psp.metrics.mean_iou import MeanIoU
from keras_psp.models.accumulation import accumulated_step
from keras_psp.models.arrays import (
    check_arrays,
    check_batch,
    find_invalid_label,
    first_batch_checked,
)
from keras_psp.models.checks import check_same_size
from keras_psp.models.compiled_loss import FunctionLoss, checked_loss
from keras_psp.models.machines import local_values, on_several_machines, stepwise_function
from keras_psp.models.outputs import low_resolution_outputs
from keras_psp.optimizers.sgd import SGD
from keras_psp.schedules.poly import PolyLearningRate

if TYPE_CHECKING:  # the mixin comes before keras.Model in the bases of PSPNet
    from keras import Model as _Model
else:
    _Model = object


class TrainingMixin(_Model):
    """Training and evaluation of `PSPNet`."""

    def compile(
        self,
        optimizer: Any = None,
        loss: Any = None,
        metrics: Any = None,
        *,
        gradient_accumulation_steps: int = 1,
        **kwargs: Any,
    ) -> None:
        """Like `keras.Model.compile`, with the paper's choices as defaults.

        Args:
            optimizer: default `keras_psp.SGD()`.
            loss: default `UpsampledCrossentropy(ignore_class=255)`; a loss of
                `keras_psp.losses`, or its name as in `keras_psp.losses.get`, e.g.
                "dice+crossentropy". Keras' own losses get logits upsampled to the mask's size;
                they need `from_logits=True`.
            metrics: any. If all are `keras_psp.MeanIoU`, they get class ids, computed without
                storing the logits at full size; otherwise all get the logits at full size.
            gradient_accumulation_steps: number of parts in which a batch is computed, one after
                another, with the memory of one. Their gradients are averaged (each part's loss
                is the mean over its own pixels). A batch remains one step, for the schedule and
                for the data, also under a strategy.

        Raises:
            ValueError: if an argument is invalid or doesn't fit this model.
        """
        parts = checked_integer("gradient_accumulation_steps", gradient_accumulation_steps, least=1)
        checked_choice("jit_compile", kwargs.get("jit_compile", "auto"), ("auto", True, False))
        if kwargs.get("loss_weights") is not None:
            raise ValueError(
                f"loss_weights={kwargs['loss_weights']!r}: PSPNet has one loss; the auxiliary "
                "head's share is PSPNet(aux_weight=...)."
            )
        if self._outside_scope():
            raise ValueError(
                "the model was made outside the tf.distribute strategy in whose scope it is "
                "compiled; make and compile it inside `with strategy.scope():`."
            )
        optimizer = SGD() if optimizer is None else keras.optimizers.get(optimizer)
        scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        if self._policy.name == "mixed_float16" and kwargs.get("auto_scale_loss", True):
            # Without a loss scale, float16 gradients underflow to zero.
            optimizer = optimizer if scaled else keras.optimizers.LossScaleOptimizer(optimizer)
        loss = checked_loss(loss, self)
        every_metric = [
            metric
            for metric in keras.tree.flatten([metrics, kwargs.get("weighted_metrics")])
            if metric is not None
        ]
        for metric in every_metric:
            if isinstance(metric, MeanIoU) and metric.num_classes != self.num_classes:
                raise ValueError(
                    f"MeanIoU({metric.num_classes}) cannot count a model of "
                    f"{self.num_classes} classes; use MeanIoU({self.num_classes})."
                )
            # Other classes may be ignored on purpose, e.g. the background; 255 is the default.
            if isinstance(metric, MeanIoU) and metric.ignore_class == 255 < self.num_classes:
                raise ValueError(
                    f"MeanIoU ignores label 255, which is one of the {self.num_classes} classes; "
                    "use MeanIoU(..., ignore_class=) with the label that the loss ignores."
                )
        # The auxiliary head uses the same object.
        self._loss_function = loss if isinstance(loss, keras.losses.Loss) else FunctionLoss(loss)
        self._metrics_take_classes = all(
            getattr(metric, "accepts_class_ids", False) for metric in every_metric
        )
        self._parts = parts
        self._compile_metrics = None  # Keras would keep those of an earlier call
        super().compile(optimizer=optimizer, loss=loss, metrics=metrics, **kwargs)
        self._update_metrics_at_mask_size()
        self._reset_views()

    def _update_metrics_at_mask_size(self):
        """Makes the compiled metrics accept what a call returns, also in a user's `train_step`."""
        metrics = self._compile_metrics
        if metrics is None:
            return
        update_state = metrics.update_state

        def update_at_mask_size(y_true, y_pred, sample_weight=None):
            logits = y_pred["logits"] if isinstance(y_pred, dict) else y_pred
            if self._metrics_take_classes:
                size = spatial_size(y_true)
                logits = upsampled_classes(logits, size, align_corners=self.align_corners)
            else:
                logits = self._at_mask_size(logits, y_true)
            return update_state(y_true, logits, sample_weight)

        metrics.update_state = update_at_mask_size

    def _mean_ious(self):
        """The compiled `MeanIoU` metrics by their names in logs."""
        if self._compile_metrics is None:
            return {}
        return {m.name: m for m in self._compile_metrics.metrics if isinstance(m, MeanIoU)}

    def _outside_scope(self):
        """Whether the model was created outside the current `tf.distribute` strategy."""
        if keras.backend.backend() != "tensorflow":
            return False
        import tensorflow as tf

        return tf.distribute.has_strategy() and (
            self._distribute_strategy is not tf.distribute.get_strategy()
        )

    def get_compile_config(self) -> dict[str, Any] | None:
        """Like `keras.Model.get_compile_config`, with gradient accumulation."""
        config = super().get_compile_config()
        return {**config, "gradient_accumulation_steps": self._parts} if config else config

    def _run_through_graph(self, *args: Any, **kwargs: Any) -> Any:
        """Called by `keras.models.clone_model` only."""
        if self.compiled:
            raise ValueError(
                "keras.models.clone_model makes a plain Functional model of a PSPNet, which can't "
                "be compiled as it is; use PSPNet.from_config(model.get_config()) and compile that."
            )
        return super()._run_through_graph(*args, **kwargs)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Like `keras.Model.compile_from_config`, and builds the optimizer for its saved state."""
        config = keras.saving.deserialize_keras_object(config)
        self.compile(**config)
        if getattr(self, "optimizer", None) is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Computes the loss of the logits, plus `aux_weight` times that of the auxiliary head.

        `x` is the images, `y` the masks (of the images' size in training), and `y_pred` the
        output of a call.
        """
        logits, auxiliary = y_pred, None
        if isinstance(y_pred, dict):
            logits, auxiliary = y_pred["logits"], y_pred.get("auxiliary")
        if y is None:
            raise ValueError("there are no masks; give one integer mask per image.")
        if training and x is not None:
            check_same_size(x, y)
        upsamples = isinstance(self._loss_function, UpsampledLoss)
        if upsamples and not training:
            return self._loss_function.value(y, logits, sample_weight) + sum(self.losses)
        if not upsamples:
            logits = self._at_mask_size(logits, y)
        loss = super().compute_loss(x, y, logits, sample_weight, training)
        if auxiliary is not None:
            if not upsamples:
                auxiliary = self._at_mask_size(auxiliary, y)
            loss = loss + self.aux_weight * self._loss_function(y, auxiliary, sample_weight)
        return loss

    def _at_mask_size(self, logits, mask):
        return resize_bilinear(logits, spatial_size(mask), align_corners=self.align_corners)

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: str | int = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Any = None,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Like `keras.Model.fit`, but arrays are checked first, and a non-finite loss stops it.

        Raises:
            ValueError: before training, if masks differ in size from their images or contain a
                label that is neither a class nor ignored.
            FloatingPointError: within ten steps of a loss that is NaN or infinite.
        """
        if class_weight is not None:
            raise ValueError(
                f"class_weight={class_weight!r}: Keras weighs whole examples by it, not pixels; "
                "give UpsampledCrossentropy(class_weights=...), or sample_weight, one "
                "(height, width) map per image."
            )
        if self.temperature != 1:
            warnings.warn(
                f"temperature={self.temperature:g} was fitted to the weights before this training; "
                "calibrate the model again afterwards, or set model.temperature = 1.",
                stacklevel=2,
            )
        self._check_loaded_weights()
        check_arrays(self, x, y, kwargs.get("sample_weight"), training=True)
        if isinstance(validation_data, tuple):
            check_arrays(self, *validation_data[:3])
        if not hasattr(x, "shape") and not isinstance(x, keras.utils.PyDataset):
            # Batches come in their own order; Keras would only warn about the default True.
            shuffle = False
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            checks = [CheckSchedule(kwargs.get("initial_epoch", 0)), StopOnNonFiniteLoss(self)]
            callbacks = [*keras.tree.flatten(callbacks or []), *checks]
        with first_batch_checked(self, x) as x:
            return super().fit(
                x,
                y,
                batch_size=batch_size,
                epochs=epochs,
                verbose=verbose,
                callbacks=callbacks,
                validation_split=validation_split,
                validation_data=validation_data,
                shuffle=shuffle,
                **kwargs,
            )

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Like `keras.Model.evaluate`, at the masks' size, which may differ from the images'.

        Logits are never stored at full size, unless a metric or one of Keras' own losses needs
        them.

        Raises:
            ValueError: if images don't have the model's scale, or a mask contains a label that is
                neither a class nor ignored.
        """
        self._check_loaded_weights()
        check_arrays(self, x, y, sample_weight)
        with first_batch_checked(self, x) as batches:
            results = super().evaluate(
                batches, y, batch_size, verbose, sample_weight, steps, *args, **kwargs
            )
        values = results.values() if isinstance(results, dict) else keras.tree.flatten(results)
        if not all(math.isfinite(value) for value in values):
            find_invalid_label(self, x, steps)
        return results

    def train_on_batch(self, x: Any, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Like `keras.Model.train_on_batch`, but the batch is checked first, as in `fit`."""
        self._check_loaded_weights()
        check_batch(self, (x, y), name="mask")
        return super().train_on_batch(x, y, *args, **kwargs)

    def test_on_batch(self, x: Any, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Like `keras.Model.test_on_batch`, but the batch is checked first, as in `evaluate`."""
        self._check_loaded_weights()
        check_batch(self, (x, y), name="mask")
        return super().test_on_batch(x, y, *args, **kwargs)

    def train_step(self, *args: Any) -> Any:
        """Like Keras' own, but in parts if compiled so; takes data, or on JAX (state, data)."""
        if self._parts > 1:
            return accumulated_step(self, args, self._parts)
        return super().train_step(*args)

    def test_step(self, *args: Any) -> Any:
        """Like Keras' own, on logits at the output stride; takes data, or on JAX (state, data)."""
        with low_resolution_outputs():
            return super().test_step(*args)

    def _symbolic_build(self, iterator=None, data_batch=None):
        """Like Keras' own, but checks the first batch, which it takes on JAX and PyTorch."""

        def checked(batches):
            for first, last, steps in batches:
                batch = steps[0] if isinstance(steps, list | tuple) else next(steps)
                check_batch(self, batch)
                yield first, last, [batch]

        iterator = None if iterator is None else checked(iterator)
        super()._symbolic_build(iterator=iterator, data_batch=data_batch)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        if self._distribute_strategy is None:
            return
        if iterator is not None:
            for _, _, batches in iterator:
                data_batch = local_values(self._distribute_strategy, next(batches))
                break
        with self._distribute_strategy.scope():
            self._symbolic_build(data_batch=data_batch)

    def _make_function(self, step_function, *args, **kwargs):
        on_tensorflow = keras.backend.backend() == "tensorflow"
        if on_tensorflow and on_several_machines(self.distribute_strategy):
            return stepwise_function(self, step_function)
        return super()._make_function(step_function, *args, **kwargs)


class CheckSchedule(keras.callbacks.Callback):
    """Warns at the start of `fit` if a `PolyLearningRate` ends before the training, or long after.

    Args:
        initial_epoch: that of `fit`.
    """

    def __init__(self, initial_epoch: int = 0):
        super().__init__()
        self._initial_epoch = initial_epoch

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Compares the schedule's steps with those of the training, if they are known."""
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        schedule = getattr(optimizer, "_learning_rate", None)
        per_epoch = self.params.get("steps")
        if not isinstance(schedule, PolyLearningRate) or not per_epoch:
            return
        done = int(keras.ops.convert_to_numpy(optimizer.iterations))
        steps = per_epoch * max(self.params["epochs"] - self._initial_epoch, 0)
        steps //= optimizer.gradient_accumulation_steps or 1
        end, last = done + steps, schedule.steps
        remedy = f"make it with PolyLearningRate(..., steps={end}); see schedules.training_steps."
        if done >= last:
            message = f"is 0 from the start: {done} of the schedule's {last} steps are taken"
        elif end > last:
            message = f"is 0 in the last {end - last} of {steps} steps: the schedule has {last}"
        elif not done and 2 * end < last:
            rate = (1 - end / last) ** schedule.power
            message = f"ends at {rate:.0%} of its start: the schedule has {last} steps, not {steps}"
        else:
            return
        warnings.warn(f"the learning rate {message}; {remedy}", stacklevel=2)


class StopOnNonFiniteLoss(keras.callbacks.Callback):
    """Raises an error if a PSPNet's loss or mean IoU is NaN or infinite, with the likely causes.

    It is a ValueError if a `MeanIoU` has counted an invalid label, else a FloatingPointError.
    """

    # Reading the loss waits for the step, so it is read at every tenth step only.
    EVERY = 10

    def __init__(self, network: keras.Model):
        super().__init__()
        self._network = network
        self._next = 0
        self._classes_unchecked = True

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts counting the epoch's steps."""
        self._next = 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Checks the loss every ten steps, and after the first epoch the classes in its labels."""
        if batch >= self._next:  # steps_per_execution may skip any one number
            self._next = batch + self.EVERY
            self._check(logs, f"step {batch + 1}")
        if self._classes_unchecked and batch + 1 == self.params.get("steps"):
            self._classes_unchecked = False
            self._check_classes()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Checks the epoch's loss."""
        self._check(logs, f"epoch {epoch + 1}")

    def _check_classes(self):
        """Warns if the labels that the metric has counted contain fewer than two classes."""
        for metric in self._network._mean_ious().values():
            if keras.backend.backend() == "jax":
                self._network.jax_state_sync()
            (classes,) = metric.confusion_matrix(others=True).sum(axis=1).nonzero()
            if len(classes) < 2:
                self._warn_of_one_class(classes)
            break

    def _warn_of_one_class(self, classes):
        ignored = getattr(self._network._loss_function, "ignore_class", None)
        message = (
            "the labels of the first epoch hold "
            + (f"only class {classes[0]}" if len(classes) else "no class")
            + ", so nothing is learned"
        )
        if ignored is not None:
            message += (
                f"; {ignored} is ignored: if it means a class, give it a number, e.g. "
                f"np.where(mask == {ignored}, 1, mask)"
            )
        warnings.warn(f"{message}.", stacklevel=2)

    def _check(self, logs, where):
        logs = logs or {}
        metrics = self._network._mean_ious()
        if all(math.isfinite(float(logs.get(name, 0.0))) for name in ("loss", *metrics)):
            return
        loss = float(logs.get("loss", math.nan))
        if keras.backend.backend() == "jax":
            self._network.jax_state_sync()
        for metric in metrics.values():
            metric.result()  # names an invalid label
        ignored = getattr(self._network._loss_function, "ignore_class", None)
        raise FloatingPointError(
            f"the loss is {loss} by {where}: either a mask holds a label outside "
            f"0..{self._network.num_classes - 1} other than the ignored {ignored}, or training "
            "diverged (lower the learning rate or add warmup_steps); the weights are unusable, "
            "so go back to the last saved ones."
        )
