"""What `fit`, `evaluate` and `predict` refuse or report before long work."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.networks import tiny_backbone, tiny_predictor, tiny_pspnet

from keras_psp import MeanIoU, PSPNet

CLASSES = 4


@pytest.fixture(scope="module")
def model():
    model = tiny_pspnet(bin_sizes=(1, 2), backbone=tiny_backbone(num_stages=2, name="backbone"))
    model.compile(metrics=[MeanIoU(CLASSES)])
    return model


def example(count=4, height=17, width=25):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, height, width, 3)).astype("float32")
    masks = rng.integers(0, CLASSES, (count, height, width)).astype("uint8")
    masks[:, :3] = 255
    return images, masks


def pipeline(*arrays):
    return tf.data.Dataset.from_tensor_slices(arrays).batch(2)


class Batches(keras.utils.PyDataset):
    def __init__(self, *arrays):
        super().__init__()
        self.arrays = arrays

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return tuple(array[2 * index : 2 * index + 2] for array in self.arrays)


def generator(*arrays):
    return (tuple(array[i : i + 2] for array in arrays) for i in (0, 2))


SOURCES = [pipeline, Batches, generator]


@pytest.mark.parametrize("scaled", [lambda x: x / 255, lambda x: x / 127.5 - 1])
def test_scaled_images_are_refused(model, scaled):
    images, masks = example()
    for call in (model.fit, model.evaluate):
        with pytest.raises(
            ValueError, match=r"takes RGB values 0..255: multiply images of 0..1 by"
        ):
            call(scaled(images), masks, verbose=0)
    with pytest.raises(ValueError, match="images are between"):
        model.fit(images, masks, validation_data=(scaled(images), masks), verbose=0)


@pytest.mark.parametrize("source", SOURCES)
def test_a_first_batch_of_scaled_images_is_refused(model, source):
    images, masks = example()
    for call in (model.fit, model.evaluate):
        with pytest.raises(
            ValueError, match="images are between 0 and 1 but this PSPNet takes RGB"
        ):
            call(source(images / 255, masks), verbose=0)


def test_predictions_of_scaled_images_warn(model):
    images = example()[0] / 255
    for call in (model.predict, model.predict_classes):
        with pytest.warns(UserWarning, match="multiply images of 0..1 by 255"):
            call(images, verbose=0)
    with pytest.warns(UserWarning, match="multiply images of 0..1 by 255"):
        model(images)
    with pytest.warns(UserWarning, match="multiply images of 0..1 by 255"):
        model.predict(tf.data.Dataset.from_tensor_slices(images).batch(2), verbose=0)


def test_dark_images_are_images(model):
    noise = np.random.default_rng(0).integers(0, 2, (2, 17, 25, 3)).astype("float32")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(noise, verbose=0)
        model.predict(np.zeros_like(noise), verbose=0)
        model.predict(noise.astype("uint8"), verbose=0)


def test_a_model_of_scaled_images_takes_them():
    images, masks = example()
    scaled = tiny_predictor(4, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    scaled.compile()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scaled.evaluate(images / 255, masks, verbose=0)
    for wrong in (images, images.astype("uint8")):
        with pytest.raises(ValueError, match="divide the images by 255"):
            scaled.evaluate(wrong, masks, verbose=0)


def test_images_scaled_by_the_user_are_taken_if_mean_and_std_say_so():
    images, masks = example(2, 40, 40)
    options = {"output_stride": 32, "bin_sizes": (1,), "mean": (0, 0, 0), "std": (1, 1, 1)}
    model = PSPNet(CLASSES, backbone="mobilenet_v2", **options)  # which expects -1..1
    model.compile()
    model.evaluate(images / 127.5 - 1, masks, verbose=0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_images_that_are_not_finite_are_refused(model, value):
    images, masks = example()
    images[2, 3, 4] = value
    message = "image 2 has values that are NaN or infinite"
    for call in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match=message):
            call(images, masks, verbose=0)
    with pytest.raises(ValueError, match=message):
        model.predict(images, verbose=0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda x, y: (x[:0], y[:0]), r"images have shape \(0, 17, 25, 3\); there is no image"),
        (lambda x, y: (list(x), y), r"images are a list of 4; give one array, e.g. np.stack"),
        (lambda x, y: (x, list(y)), r"masks are a list of 4; give one array, e.g. np.stack"),
        (lambda x, y: (x, None), "masks are None; give one integer mask per image"),
        (
            lambda x, y: (x, np.eye(4)[y % 4]),
            r"masks have shape .*e.g. np.argmax\(masks, axis=-1\)",
        ),
        (lambda x, y: (None, y), "images are None; give an array"),
        (lambda x, y: ("a.jpg", y), "images are 'a.jpg'; give an array, .* read files"),
        (lambda x, y: (x, y[:, 0, 0]), r"masks have shape \(4,\); give one integer mask per image"),
        (lambda x, y: (x.astype("O"), y), "images have dtype object; they must be numbers"),
        (lambda x, y: (x, y.astype("U3")), "masks have dtype <U3; they must be numbers"),
        (lambda x, y: (x, y / 255.0), "mask 0 holds the label 0.0039"),
        (lambda x, y: (x, np.where(y == 1, 1.5, y)), "mask 0 holds the label 1.5"),
    ],
)
def test_invalid_arrays_are_refused(model, changed, message):
    for call in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match=message):
            call(*changed(*example()), verbose=0)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((0, 17, 25, 3), "uint8"), "there is no image"),
        ([np.zeros((17, 25, 3))], "give one array, e.g. np.stack"),
        ("a.jpg", "images are 'a.jpg'; give an array"),
        (None, "images are None; give an array"),
    ],
)
def test_predictions_of_no_or_several_arrays_are_refused(model, images, message):
    for call in (model.predict, model.predict_classes):
        with pytest.raises(ValueError, match=message):
            call(images, verbose=0)


def test_single_batches_are_checked(model):
    images, masks = example()
    for call in (model.train_on_batch, model.test_on_batch):
        with pytest.raises(ValueError, match=r"multiply images of 0..1 by 255"):
            call(images / 255, masks)
        with pytest.raises(ValueError, match=r"mask 0 holds the label 0.0039"):
            call(images, masks / 255.0)
        with pytest.raises(ValueError, match="mask 3 holds the label 77"):
            call(images, np.where(np.arange(4)[:, None, None] == 3, 77, masks))
        with pytest.raises(ValueError, match=r"np.argmax"):
            call(images, np.eye(4)[masks % 4])
        assert np.isfinite(call(images, masks)).all()
    with pytest.warns(UserWarning, match="multiply images of 0..1 by 255"):
        model.predict_on_batch(images / 255)


@pytest.mark.parametrize("weight", [-1.0, np.nan])
def test_invalid_sample_weights_are_refused(model, weight):
    weights = np.array([1, weight, 1, 1])
    for call in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match="sample_weight has the value"):
            call(*example(), sample_weight=weights, verbose=0)


def test_masks_of_one_class_and_the_ignored_label_are_refused(model):
    images, masks = example()
    binary = np.where(masks == 255, 255, 0)
    with pytest.raises(
        ValueError, match=r"labels 0 and 255 only, .*np.where\(masks == 255, 1, mas"
    ):
        model.fit(images, binary, verbose=0)
    with pytest.raises(ValueError, match="all pixels of the masks have the label 255"):
        model.fit(images, np.full_like(masks, 255), verbose=0)
    with pytest.warns(UserWarning, match="all pixels of the masks have the label 2"):
        model.fit(images, np.full_like(masks, 2), verbose=0)
    model.evaluate(images, binary, verbose=0)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("metrics", [[], [MeanIoU(CLASSES)]])
def test_an_invalid_label_in_evaluation_is_named(source, metrics):
    images, masks = example()
    masks[3, 9, 9] = 200
    model = tiny_predictor(CLASSES)
    model.compile(metrics=metrics)
    if source is generator and not metrics:  # it can't be read a second time
        assert np.isnan(model.evaluate(source(images, masks), verbose=0))
        return
    message = "holds the label 200, which is neither one of the 4 classes"
    with pytest.raises(ValueError, match=message):
        model.evaluate(source(images, masks), verbose=0)


def test_labels_after_the_evaluated_steps_are_not_read():
    images, masks = example()
    model = tiny_predictor(CLASSES)
    model.compile()
    bias = model.get_layer("classifier").bias
    bias.assign(np.full(bias.shape, np.nan))
    # A pipeline that repeats would never end.
    batches = pipeline(images, masks).concatenate(pipeline(images, np.full_like(masks, 200)))
    assert np.isnan(model.evaluate(batches, steps=2, verbose=0))
    with pytest.raises(ValueError, match="batch 2: mask 0 holds the label 200"):
        model.evaluate(batches, steps=3, verbose=0)


def test_an_invalid_label_in_evaluation_with_another_loss_is_named():
    images, masks = example()
    masks[3, 9, 9] = 77
    model = tiny_predictor(CLASSES)
    # It may mean anything by labels; the metric doesn't.
    model.compile(loss=lambda _, logits: keras.ops.sum(logits, -1), metrics=[MeanIoU(CLASSES)])
    with pytest.raises(ValueError, match="the label 77"):
        model.evaluate(pipeline(images, masks), verbose=0)


def test_a_value_that_is_no_label_in_an_evaluated_pipeline_is_named():
    images, masks = example()
    masks = masks.astype("float32")
    masks[3, 9, 9] = 1.5
    model = tiny_predictor(CLASSES)
    model.compile()
    with pytest.raises(ValueError, match=r"batch 1: mask 1 holds the label 1.5"):
        model.evaluate(pipeline(images, masks), verbose=0)


def test_an_invalid_label_in_training_is_named():
    images, masks = example()
    masks[3, 9, 9] = 200
    model = tiny_predictor(CLASSES)
    model.compile(metrics=[MeanIoU(CLASSES)])
    with pytest.raises(ValueError, match="holds the label 200"):
        model.fit(pipeline(images, masks), verbose=0)
