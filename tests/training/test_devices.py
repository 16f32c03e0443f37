import json

import numpy as np
import pytest
import tensorflow as tf
from support.networks import tiny_pspnet

from keras_psp import MeanIoU
from keras_psp.training import recipe
from keras_psp.training.devices import Devices, _machines_of_tf_config, find_devices


class Images:
    """Seven images, of one size or of several."""

    ignore_class = 255
    splits = ("val",)
    class_names = ("a", "b", "c")
    palette = np.zeros((3, 3), "uint8")
    num_classes = 3

    def __init__(self, sizes):
        rng = np.random.default_rng(0)
        self.pairs = [
            (
                rng.integers(0, 256, (*size, 3), dtype="uint8"),
                rng.integers(0, 3, size).astype("uint8"),
            )
            for size in sizes
        ]

    def count(self, split):
        return len(self.pairs)

    def sizes(self, split):
        return [mask.shape for _, mask in self.pairs]

    def example(self, split, index):
        return self.pairs[index]

    def examples(self, split):
        return tf.data.Dataset.from_generator(
            lambda: iter(self.pairs),
            output_signature=(
                tf.TensorSpec((None, None, 3), tf.uint8),
                tf.TensorSpec((None, None), tf.uint8),
            ),
        )


SIZES = {
    "one": [(17, 25)] * 7,
    "several": [(17, 25), (25, 17), (20, 20), (17, 25)] + [(33, 17)] * 3,
}


@pytest.mark.parametrize("sizes", SIZES)
def test_two_devices_evaluate_every_image_once(sizes):
    source = Images(SIZES[sizes])
    matrices, weights = [], None
    # A second strategy in a process can't communicate (TensorFlow #62790).
    reduction = tf.distribute.ReductionToOneDevice()
    pair = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], cross_device_ops=reduction)
    for strategy in (None, pair):
        devices = find_devices(strategy)
        with devices.scope():
            model = tiny_pspnet(3, bin_sizes=(1, 2), fusion_filters=8)
            if weights is not None:
                model.set_weights(weights)
            weights = model.get_weights()
            metric = MeanIoU(3)
            model.compile(metrics=[metric])
        batches, steps = devices.validation(source, "val", image_size=None)
        model.evaluate(batches, steps=steps, verbose=0)
        matrices.append(metric.confusion_matrix())
    assert matrices[0].sum() == sum(height * width for height, width in SIZES[sizes])
    assert matrices[1].sum() == matrices[0].sum()
    assert np.abs(matrices[1] - matrices[0]).sum() <= 0.01 * matrices[0].sum()


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("strategy", [None, "some"])
def test_machines_evaluate_every_image_once_in_equally_many_steps(sizes, strategy, monkeypatch):
    source = Images(SIZES[sizes])
    monkeypatch.setattr(Devices, "_to_strategy", lambda self, batches: batches)
    seen, step_counts = 0, []
    for machine in range(3):
        devices = Devices("several", 3, machine, 6, strategy)
        batches, steps = devices.validation(source, "val", image_size=None, batch_size=2)
        batches = list(batches)
        step_counts.append(steps)
        seen += sum(int((masks.numpy() != 255).sum()) for _, masks in batches)
        if strategy is None:  # JAX splits each batch between two devices
            assert all(len(images) % 2 == 0 for images, _ in batches)
            assert len(batches) == steps
        else:  # the devices take batches in turn
            assert len(batches) == 2 * steps
    assert len(set(step_counts)) == 1
    assert seen == sum(height * width for height, width in SIZES[sizes])


def test_recipes_that_the_devices_cannot_train_are_refused():
    pair = Devices("MirroredStrategy", replicas=2, strategy="some")
    with pytest.raises(ValueError, match=r"batch_size=6 .* 2 device\(s\) in 2 part\(s\) .* of 4"):
        pair.check(recipe("camvid", batch_size=6, gradient_accumulation_steps=2))
    with pytest.raises(ValueError, match="jit_compile=True does not work under MirroredStrategy"):
        pair.check(recipe("camvid", jit_compile=True))
    nine = Devices("several", machines=9, replicas=9, strategy="some")
    with pytest.raises(ValueError, match="has 7 images for 9 machines; each needs one"):
        nine.validation(Images(SIZES["one"]), "val", image_size=None)
    pair.check(recipe("camvid", batch_size=8, gradient_accumulation_steps=2))


def test_an_invalid_tf_config_is_reported_with_a_valid_one(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "worker-0:2222")
    with pytest.raises(ValueError, match="TF_CONFIG='worker-0:2222' is not"):
        find_devices()


def test_the_chief_comes_before_the_workers(monkeypatch):
    cluster = {"chief": ["a:1"], "worker": ["b:1", "c:1"]}
    indices = []
    for kind, index in (("chief", 0), ("worker", 0), ("worker", 1)):
        config = {"cluster": cluster, "task": {"type": kind, "index": index}}
        monkeypatch.setenv("TF_CONFIG", json.dumps(config))
        indices.append(_machines_of_tf_config()[1])
    assert indices == [0, 1, 2]


def test_tf_config_may_name_one_machine(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["localhost:1"]}}')
    assert find_devices().machines == 1
