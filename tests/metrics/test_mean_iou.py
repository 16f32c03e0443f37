import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_psp import MeanIoU
from keras_psp.metrics.mean_iou import LIMB


def reference(labels, classes, n, ignore=255):
    """Confusion matrix by a loop over cells."""
    keep = labels != ignore
    return np.array(
        [[np.sum(keep & (labels == i) & (classes == j)) for j in range(n)] for i in range(n)]
    )


def example(n=5):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, n, (4, 13, 11)).astype("uint8")
    labels[rng.uniform(size=labels.shape) < 0.1] = 255
    return labels, rng.integers(0, n, labels.shape)


def test_measures_computed_by_hand():
    metric = MeanIoU(3)
    metric.update_state(np.array([[[0, 0, 1, 255]]]), np.array([[[0, 1, 1, 2]]]))
    # Class 0: intersection 1, union 2. Class 1: intersection 1, union 2. Class 2: absent.
    np.testing.assert_allclose(metric.per_class_iou(), [0.5, 0.5, np.nan])
    np.testing.assert_allclose(metric.per_class_accuracy(), [0.5, 1, np.nan])
    assert float(metric.result()) == 0.5
    assert metric.pixel_accuracy() == pytest.approx(2 / 3)
    assert metric.class_accuracy() == 0.75


def test_updates_accumulate_one_confusion_matrix():
    labels, classes = example()
    metric = MeanIoU(5)
    for image_labels, image_classes in zip(labels, classes, strict=True):
        metric.update_state(image_labels[None, ..., None], image_classes[None])
    expected = reference(labels, classes, 5)
    np.testing.assert_array_equal(metric.confusion_matrix(), expected)
    metric.reset_state()
    assert metric.confusion_matrix().sum() == 0
    assert np.isnan(metric.pixel_accuracy())


def test_scores_count_like_class_ids():
    labels, classes = example()
    scores = np.eye(5, dtype="float32")[classes]
    metric = MeanIoU(5)
    metric.update_state(labels, scores)
    np.testing.assert_array_equal(metric.confusion_matrix(), reference(labels, classes, 5))


def test_counts_stay_exact_past_two_to_the_31():
    metric = MeanIoU(2)
    high = np.array([[3 * 2**31 // LIMB, 0, 0], [0, 0, 0]])
    metric.high.assign(high)
    metric.low.assign(np.array([[LIMB - 1, 0, 0], [0, 7, 0]]))
    metric.update_state(np.zeros((1, 1, 3), "int32"), np.zeros((1, 1, 3), "int32"))
    assert metric.confusion_matrix().tolist() == [[3 * 2**31 + LIMB + 2, 0], [0, 7]]
    assert 0 <= metric.low.numpy().min() <= metric.low.numpy().max() < LIMB


def test_single_pixels_count_past_two_to_the_24():
    metric = MeanIoU(2)
    metric.low.assign(np.full((2, 3), 2**24 - 1))
    for _ in range(3):
        metric.update_state(np.zeros((1, 1, 1), "int32"), np.ones((1, 1, 1), "int32"))
    assert metric.confusion_matrix()[0, 1] == 2**24 + 2  # float32 would stop at 2^24


def test_prediction_outside_the_classes_is_an_error_of_its_label():
    metric = MeanIoU(2)
    metric.update_state(np.array([[[0, 0, 1, 255]]]), np.array([[[0, 7, 1, 7]]]))
    assert metric.confusion_matrix().tolist() == [[1, 0], [0, 1]]
    assert metric.confusion_matrix(others=True).tolist() == [[1, 0, 1], [0, 1, 0]]
    np.testing.assert_allclose(metric.per_class_iou(), [0.5, 1])
    assert float(metric.result()) == 0.75
    assert metric.pixel_accuracy() == pytest.approx(2 / 3)


def test_ignore_class_can_be_a_class():
    metric = MeanIoU(3, ignore_class=0)
    metric.update_state(np.array([[[0, 1, 2]]]), np.array([[[1, 1, 1]]]))
    assert metric.confusion_matrix().sum() == 2


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (7, r"holds the label 7, .* 3 classes \(0..2\) nor the ignored label \(255\)"),
        (-3, "holds a negative label"),
        (1000, "holds a label above 255"),
    ],
)
def test_an_invalid_label_is_named(label, message):
    metric = MeanIoU(3)
    metric.update_state(np.array([[[0, label]]]), np.array([[[0, 0]]]))
    for measure in (metric.result, metric.confusion_matrix, metric.pixel_accuracy):
        with pytest.raises(ValueError, match=message):
            measure()
    metric.reset_state()
    assert float(metric.result()) == 0


def test_an_invalid_label_makes_a_compiled_result_nan():
    metric = MeanIoU(3)

    @tf.function
    def result(labels):
        metric.update_state(labels, tf.zeros_like(labels, tf.int32))
        return metric.result()

    assert np.isnan(result(tf.constant([[[0, 7]]])))
    assert np.isnan(result(tf.constant([[[0.0, 1.5]]])))  # no whole number


def test_replicas_are_summed():
    labels, classes = example()
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        metric = MeanIoU(5)

    @tf.function
    def update(labels, classes):
        strategy.run(metric.update_state, args=(labels, classes))

    def shard(values):
        def part(context):
            i = context.replica_id_in_sync_group
            return tf.constant(values[2 * i : 2 * i + 2])

        return strategy.experimental_distribute_values_from_function(part)

    for _ in range(3):
        update(shard(labels), shard(classes))
    np.testing.assert_array_equal(metric.confusion_matrix(), 3 * reference(labels, classes, 5))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MeanIoU(1), "num_classes is 1; it must be an integer >= 2"),
        (lambda: MeanIoU(2.5), "num_classes is 2.5; it must be an integer >= 2"),
        (lambda: MeanIoU(3, ignore_class="a"), "ignore_class is 'a'; it must be an integer"),
        (
            lambda: MeanIoU(3).update_state(
                np.zeros((1, 2, 2)), {"logits": np.zeros((1, 1, 1, 3))}
            ),
            r"call model.compute_metrics\(x, y, y_pred\)",
        ),
        (
            lambda: MeanIoU(3).update_state(np.full((1, 2, 2), 1.5), np.zeros((1, 2, 2))),
            "y_true has the value 1.5; labels must be whole numbers",
        ),
        (  # the probabilities of a sigmoid, which would all be class 0
            lambda: MeanIoU(2).update_state(np.ones((1, 2, 2)), np.full((1, 2, 2, 1), 0.75)),
            "y_pred has the value 0.75; labels must be whole numbers",
        ),
        (
            lambda: MeanIoU(3).update_state(np.zeros((1, 2, 2)), np.zeros((1, 2, 2, 4))),
            "scores of 3 classes",
        ),
        (
            lambda: MeanIoU(3).update_state(
                np.zeros((1, 2, 2)), np.zeros((1, 2, 2)), sample_weight=1
            ),
            "pass sample_weight to the loss instead",
        ),
    ],
)
def test_invalid_arguments_raise(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_config_round_trip():
    metric = MeanIoU(4, ignore_class=None, name="m")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert again.get_config() == metric.get_config()
