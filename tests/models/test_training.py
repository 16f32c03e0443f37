"""Keras' own ways of training a PSPNet, on every backend in a process of its own."""

import importlib.util
import os
import subprocess
import sys
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.networks import tiny_backbone, tiny_pspnet

from keras_psp import SGD, MeanIoU, PolyLearningRate
from keras_psp.schedules import training_steps

SCRIPT = """
import keras
import numpy as np
from keras import ops
import keras_psp

BACKEND = keras.backend.backend()
rng = np.random.default_rng(0)
images = rng.integers(0, 256, (8, 25, 33, 3)).astype("float32")
images[:, :, 16:] /= 8
masks = np.zeros(images.shape[:3], "int32")
masks[:, :, 16:] = 1
masks[:, :3] = 255


def made(cls=keras_psp.PSPNet):
    keras.utils.set_random_seed(0)
    backbone = keras_psp.DilatedResNet(18, stem_filters=(8,), num_stages=2, name="backbone")
    model = cls(2, backbone=backbone, bin_sizes=(1, 2), fusion_filters=8, dropout=0.0)
    model.compile(keras_psp.SGD(0.01), metrics=[keras_psp.MeanIoU(2)])
    return model


def learns(history):
    losses = history["loss"]
    assert losses[-1] < 0.8 * losses[0], losses


# The steps of Keras' guides "Customizing what happens in fit()", with shorter names.
if BACKEND == "tensorflow":
    import tensorflow as tf

    class CustomModel(keras_psp.PSPNet):
        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                y_pred = self(x, training=True)
                loss = self.compute_loss(y=y, y_pred=y_pred)
            trainable_vars = self.trainable_variables
            gradients = tape.gradient(loss, trainable_vars)
            self.optimizer.apply(gradients, trainable_vars)
            for metric in self.metrics:
                if metric.name == "loss":
                    metric.update_state(loss)
                else:
                    metric.update_state(y, y_pred)
            return {m.name: m.result() for m in self.metrics}

        def test_step(self, data):
            x, y = data
            y_pred = self(x, training=False)
            loss = self.compute_loss(y=y, y_pred=y_pred)
            for metric in self.metrics:
                if metric.name == "loss":
                    metric.update_state(loss)
                else:
                    metric.update_state(y, y_pred)
            return {m.name: m.result() for m in self.metrics}

elif BACKEND == "jax":
    import jax

    class CustomModel(keras_psp.PSPNet):
        def compute_loss_and_updates(
            self, trainable_variables, non_trainable_variables, x, y, training=False
        ):
            y_pred, non_trainable_variables = self.stateless_call(
                trainable_variables, non_trainable_variables, x, training=training
            )
            loss = self.compute_loss(x, y, y_pred)
            return loss, (y_pred, non_trainable_variables)

        def train_step(self, state, data):
            trainable, non_trainable, optimizer_variables, metrics_variables = state
            x, y = data
            grad_fn = jax.value_and_grad(self.compute_loss_and_updates, has_aux=True)
            (loss, (y_pred, non_trainable)), grads = grad_fn(
                trainable, non_trainable, x, y, training=True
            )
            trainable, optimizer_variables = self.optimizer.stateless_apply(
                optimizer_variables, grads, trainable
            )
            new_metrics_vars, logs = [], {}
            for metric in self.metrics:
                start = len(new_metrics_vars)
                these = metrics_variables[start : start + len(metric.variables)]
                if metric.name == "loss":
                    these = metric.stateless_update_state(these, loss)
                else:
                    these = metric.stateless_update_state(these, y, y_pred)
                logs[metric.name] = metric.stateless_result(these)
                new_metrics_vars += these
            return logs, (trainable, non_trainable, optimizer_variables, new_metrics_vars)

        def test_step(self, state, data):
            trainable, non_trainable, metrics_variables = state
            x, y = data
            y_pred, non_trainable = self.stateless_call(
                trainable, non_trainable, x, training=False
            )
            loss = self.compute_loss(x, y, y_pred)
            new_metrics_vars, logs = [], {}
            for metric in self.metrics:
                start = len(new_metrics_vars)
                these = metrics_variables[start : start + len(metric.variables)]
                if metric.name == "loss":
                    these = metric.stateless_update_state(these, loss)
                else:
                    these = metric.stateless_update_state(these, y, y_pred)
                logs[metric.name] = metric.stateless_result(these)
                new_metrics_vars += these
            return logs, (trainable, non_trainable, new_metrics_vars)

else:
    import torch

    class CustomModel(keras_psp.PSPNet):
        def train_step(self, data):
            x, y = data
            self.zero_grad()
            y_pred = self(x, training=True)
            loss = self.compute_loss(y=y, y_pred=y_pred)
            loss.backward()
            trainable_weights = [v for v in self.trainable_weights]
            gradients = [v.value.grad for v in trainable_weights]
            with torch.no_grad():
                self.optimizer.apply(gradients, trainable_weights)
            for metric in self.metrics:
                if metric.name == "loss":
                    metric.update_state(loss)
                else:
                    metric.update_state(y, y_pred)
            return {m.name: m.result() for m in self.metrics}


plain = made()
expected = plain.fit(images, masks, epochs=3, batch_size=4, shuffle=False, verbose=0).history
own = made(CustomModel)
history = own.fit(images, masks, epochs=3, batch_size=4, shuffle=False, verbose=0).history
np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-3)
name = "mean_iou" if "mean_iou" in history else "compile_metrics"
values = [v["mean_iou"] if isinstance(v, dict) else v for v in history[name]]
np.testing.assert_allclose(np.asarray(values, float), expected["mean_iou"], atol=2e-2)
found = own.evaluate(images, masks, verbose=0, return_dict=True)
assert np.isfinite(found["loss"])
print("custom train step")

DISTILLATION

teacher = made()
teacher.fit(images, masks, epochs=4, batch_size=4, verbose=0)
before = [np.array(ops.convert_to_numpy(v)) for v in teacher.variables]
student = made(Distilled)
count = len(student.variables)
student.learn_from(teacher)
student.compile(keras_psp.SGD(0.01), metrics=[keras_psp.MeanIoU(2)])
assert len(student.variables) == count  # the teacher is no part of it
learns(student.fit(images, masks, epochs=6, batch_size=4, verbose=0).history)
for old, new in zip(before, teacher.variables):
    np.testing.assert_array_equal(old, ops.convert_to_numpy(new))
print("distillation")

model = made()
callbacks = [
    keras.callbacks.EarlyStopping(monitor="val_mean_iou", patience=50),
    keras.callbacks.ModelCheckpoint(
        "best.keras", monitor="val_mean_iou", save_best_only=True
    ),
    keras.callbacks.ReduceLROnPlateau(monitor="val_mean_iou", patience=50),
]
history = model.fit(
    images, masks, epochs=4, batch_size=4, callbacks=callbacks, verbose=0,
    validation_data=(images, masks),
).history
best = keras.saving.load_model("best.keras").evaluate(images, masks, verbose=0, return_dict=True)
np.testing.assert_allclose(best["mean_iou"], max(history["val_mean_iou"]), atol=1e-3)
print("callbacks")

# What no label and no image of the scale is, in batches of any kind.
wrong = masks.copy()
wrong[5, 9, 9] = 7


class Batches(keras.utils.PyDataset):
    def __init__(self, images, masks):
        super().__init__()
        self.arrays = images, masks

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return tuple(array[2 * index : 2 * index + 2] for array in self.arrays)


for metrics in ([], [keras_psp.MeanIoU(2)]):
    model = made()
    model.compile(metrics=metrics)
    for call in [model.evaluate] + ([model.fit] if metrics else []):
        try:
            call(Batches(images, wrong), verbose=0)
        except ValueError as error:
            assert "the label 7, which is neither one of the 2 classes" in str(error), error
        else:
            raise AssertionError("no error")
for call in (model.fit, model.evaluate):
    fresh = made()
    try:
        getattr(fresh, call.__name__)(Batches(images / 255, masks), verbose=0)
    except ValueError as error:
        assert "multiply images of 0..1 by 255" in str(error), error
    else:
        raise AssertionError("no error")
print("batches")

# One image per pass: what training normalizes with is what evaluation does.
model = made()
model.fit(images, masks, epochs=6, batch_size=1, verbose=0)
fit = model.fit(images, masks, epochs=1, batch_size=1, verbose=0).history["mean_iou"][0]
assert fit - model.evaluate(images, masks, verbose=0)[1] < 0.1
print("one image")
"""


def distillation():
    """The class in docs/training.md."""
    page = Path(__file__).parents[2].joinpath("docs/training.md").read_text(encoding="utf-8")
    code = page.partition("class Distilled")[2].partition("\n\n\n")[0]
    return f"class Distilled{code}"


@pytest.mark.slow  # a process per backend
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_keras_own_ways(backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT.replace("DISTILLATION", distillation())],
        env={**os.environ, "KERAS_BACKEND": backend},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    parts = ["custom train step", "distillation", "callbacks", "batches", "one image"]
    assert run.stdout.splitlines() == parts, run.stderr[-3000:]
    assert run.returncode == 0


def example():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (10, 17, 25, 3)).astype("uint8")
    return images, rng.integers(0, 2, images.shape[:3])


def scheduled(steps, **arguments):
    backbone = tiny_backbone(num_stages=2, name="backbone")
    model = tiny_pspnet(2, backbone=backbone, bin_sizes=(1,), fusion_filters=8, aux_weight=0)
    model.compile(SGD(PolyLearningRate(0.01, steps, **arguments)))
    return model


def warnings_of(model, **arguments):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(*example(), verbose=0, **arguments)
    return [str(each.message) for each in caught if "learning rate" in str(each.message)]


def test_a_schedule_that_ends_early_or_late_is_reported():
    # Keras takes ceil(10 / 4) = 3 steps per epoch.
    model = scheduled(2 * 10 // 4)
    (message,) = warnings_of(model, batch_size=4, epochs=2)
    assert "is 0 in the last 1 of 6 steps: the schedule has 5" in message
    assert "PolyLearningRate(..., steps=6); see schedules.training_steps" in message
    (message,) = warnings_of(model, batch_size=4)
    assert "is 0 from the start: 6 of the schedule's 5 steps are taken" in message
    (message,) = warnings_of(scheduled(100), batch_size=4)
    assert "ends at 97% of its start: the schedule has 100 steps, not 3" in message


def test_a_schedule_that_fits_is_not_reported():
    model = scheduled(training_steps(10, batch_size=4, epochs=2))
    assert not warnings_of(model, batch_size=4)  # the second epoch is to come
    assert not warnings_of(model, batch_size=4, epochs=2, initial_epoch=1)


def test_a_metric_monitored_without_mode_is_maximized():
    model = scheduled(2)
    model.compile(metrics=[MeanIoU(2)])
    stop = keras.callbacks.EarlyStopping(monitor="mean_iou")
    model.fit(*example(), verbose=0, callbacks=[stop])
    assert stop.monitor_op is keras.ops.greater


def test_batches_of_one_class_are_reported_after_the_first_epoch():
    images, masks = example()
    model = scheduled(10)
    model.compile(metrics=[MeanIoU(2)])

    def batches(masks):
        return tf.data.Dataset.from_tensor_slices((images, masks)).batch(5)

    with pytest.warns(
        UserWarning, match=r"hold only class 0, so .*; 255 is ignored: .*mask == 255"
    ):
        model.fit(batches(np.where(masks == 1, 255, 0)), epochs=2, verbose=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="the labels of the first epoch")
        model.fit(batches(masks), verbose=0)


def test_a_model_compiled_again_has_no_earlier_metrics():
    model = scheduled(2)
    model.compile(metrics=[MeanIoU(2)])
    model.compile()
    history = model.fit(*example(), verbose=0)
    assert list(history.history) == ["loss"]


def test_jit_compile_is_checked():
    with pytest.raises(ValueError, match="jit_compile is 'maybe'; choose one of 'auto', True, Fal"):
        scheduled(2).compile(jit_compile="maybe")


def test_a_dataset_without_masks_is_refused():
    images, _ = example()
    batches = tf.data.Dataset.from_tensor_slices(images).batch(2)
    with pytest.raises(ValueError, match="there are no masks; give one integer mask per image"):
        scheduled(2).fit(batches, verbose=0)


def test_training_a_calibrated_model_warns_that_its_temperature_is_out_of_date():
    model = scheduled(2)
    model.temperature = 1.5
    with pytest.warns(UserWarning, match=r"temperature=1.5 was fitted to the weights before"):
        model.fit(*example(), verbose=0)
