import dataclasses

import numpy as np
import pytest
from support.networks import tiny_predictor

import keras_psp
from keras_psp.evaluation.report import Example, explain_examples, explaining
from keras_psp.explanation import level_means
from keras_psp.prediction import Segmenter


@pytest.fixture(scope="module")
def known(model, examples, explanations):
    """`keras_psp.explain` of the same images, with their mean in place of the levels."""
    images = [one.example.image for one in explanations.examples]
    means = level_means(np.stack(images), model)
    return [keras_psp.explain(image, model, reference=means) for image in images]


def test_the_worst_and_best_examples_are_explained(explanations):
    names = [one.example.name for one in explanations.examples]
    assert names == [f"image {number}" for number in (7, 6, 5, 2, 1, 0)]
    assert explanations.part_names == ("features", "1x1", "2x2", "constant")
    assert explanations.reference == "their mean over these 6 images"


def test_every_pixel_of_the_grid_has_the_classes_and_parts_of_explain(explanations, known):
    wrong = 0
    for one, explanation in zip(explanations.examples, known, strict=True):
        context = explanation.context()
        np.testing.assert_array_equal(one.classes, explanation.classes)
        np.testing.assert_array_equal(one.classes_without, context.classes)
        assert (one.x[0], one.x[-1], one.y[0], one.y[-1]) == (0, 120, 0, 89)
        assert len(one.x) == 48 and np.ptp(np.diff(one.x)) <= 1 and np.ptp(np.diff(one.y)) <= 1
        seconds = iter(one.truth_parts)
        for row, y in enumerate(one.y):
            for column, x in enumerate(one.x):
                truth = one.example.truth[y, x]
                assert one.truth[row, column] == (-1 if truth == 255 else truth)
                assert one.predicted[row, column] == explanation.classes[y, x]
                assert one.without[row, column] == context.classes[y, x]
                bins = (0, *explanation.bin_sizes)[one.level[row, column]]
                assert bins == context.level[y, x]
                second = next(seconds) if one.apart[row, column] else None
                if (row * 7 + column) % 89:
                    continue
                pixel = explanation.pixel(x, y)
                runner_up = explanation.class_names.index(pixel.other)
                assert one.runner_up[row, column] == runner_up
                np.testing.assert_allclose(
                    one.parts[row, column], list(pixel.parts.values()), atol=2e-5
                )
                apart = truth not in (255, one.predicted[row, column], runner_up)
                assert apart == (second is not None)
                if apart:
                    pixel = explanation.pixel(x, y, pixel.target, int(truth))
                    np.testing.assert_allclose(second, list(pixel.parts.values()), atol=2e-5)
                    wrong += 1
        assert next(seconds, None) is None
    assert wrong > 10


def test_correct_pixels_that_depend_on_the_pyramid_are_counted(explanations, known):
    correct, dependent = np.zeros((2, 5), int)
    for one, explanation in zip(explanations.examples, known, strict=True):
        right = explanation.classes == one.example.truth
        changed = right & (explanation.context().classes != explanation.classes)
        for index in range(5):
            correct[index] += np.sum(right & (one.example.truth == index))
            dependent[index] += np.sum(changed & (one.example.truth == index))
    np.testing.assert_array_equal(explanations.correct, correct)
    np.testing.assert_array_equal(explanations.dependent, dependent)
    assert dependent.any()


def test_large_images_are_explained_twice_with_the_same_result(
    model, examples, explanations, monkeypatch
):
    monkeypatch.setattr("keras_psp.explanation.several._KEPT_BYTES", 0)
    again = explain_examples(Segmenter(model), examples, progress=False)
    for one, other in zip(explanations.examples, again.examples, strict=True):
        np.testing.assert_array_equal(one.parts, other.parts)
        np.testing.assert_array_equal(one.without, other.without)


def test_the_grid_is_as_fine_as_its_bytes_allow(model, examples, monkeypatch):
    monkeypatch.setattr(explaining, "_MOST_BYTES", 3000)
    (one,) = explain_examples(Segmenter(model), examples[:1], progress=False).examples
    # Five bytes for classes, and two for each of the four parts of one or two differences.
    size = one.predicted.size * 13 + one.apart.sum() * 8
    assert 2400 < size <= 3000
    assert (one.x[0], one.x[-1]) == (0, 120)


def test_a_single_image_has_its_own_mean_in_place_of_the_levels(model, examples):
    explanations = explain_examples(Segmenter(model), examples[:1], progress=False)
    own = keras_psp.explain(examples[0].image, model)
    assert explanations.reference == own.reference
    np.testing.assert_array_equal(explanations.examples[0].decided, own.context().decided)


def test_the_ignored_class_may_be_one_of_the_classes(model, examples):
    one = dataclasses.replace(examples[0], truth=np.zeros_like(examples[0].truth))
    explanations = explain_examples(Segmenter(model), [one], ignore_class=0, progress=False)
    assert (explanations.examples[0].truth == -1).all() and not explanations.correct.any()


@pytest.mark.parametrize("base_size", [60, 200])
def test_resized_images_are_explained(model, examples, base_size):
    segmenter = Segmenter(model, base_size=base_size)
    (one,) = explain_examples(segmenter, examples[:1], progress=False).examples
    explanation = keras_psp.explain(examples[0].image, model, base_size=base_size)
    np.testing.assert_array_equal(one.classes, explanation.classes)
    x, y = int(one.x[20]), int(one.y[30])
    expected = list(explanation.pixel(x, y).parts.values())
    np.testing.assert_allclose(one.parts[30, 20], expected, atol=2e-5)


@pytest.mark.parametrize(
    "arguments", [{"input_channels": 4}, {"pooling": "max"}, {"reduction": None}]
)
def test_other_bands_and_variants_of_the_pyramid_are_explained(arguments):
    channels = arguments.get("input_channels", 3)
    network = tiny_predictor(3, **arguments)
    image = np.random.default_rng(0).integers(0, 256, (50, 40, channels)).astype("uint8")
    truth = np.zeros((50, 40), int)
    given = Example("a", image, truth, truth, 0.5)
    (one,) = explain_examples(Segmenter(network), [given], progress=False).examples
    assert one.parts.shape[2] == 4 and np.isfinite(one.parts).all()


@pytest.mark.parametrize(
    "protocol", [{"flip": True}, {"scales": (0.5, 1.0)}, {"scales": 2.0}, {"crop": 65}]
)
def test_several_views_are_not_explained(model, examples, protocol):
    explanations = explain_examples(Segmenter(model, **protocol), examples, progress=False)
    assert not explanations.examples
    assert "evaluate without --scales, --multi-scale, --flip and --crop" in explanations.absent


def test_a_network_without_pyramid_is_not_explained(examples):
    network = tiny_predictor(5, bin_sizes=())
    explanations = explain_examples(Segmenter(network), examples, progress=False)
    assert not explanations.examples and "has no pyramid" in explanations.absent


def test_little_memory_leaves_a_reason(model, examples, monkeypatch):
    def explained_together(segmenter, images):
        raise MemoryError
        yield

    monkeypatch.setattr(explaining, "explained_together", explained_together)
    explanations = explain_examples(Segmenter(model), examples, progress=False)
    assert explanations.absent == "There was not enough memory to explain these images."


def test_images_without_labels_are_left_out(model, examples):
    unlabeled = dataclasses.replace(examples[0], mean_iou=float("nan"))
    explanations = explain_examples(Segmenter(model), [unlabeled], progress=False)
    assert not explanations.examples and not explanations.absent
