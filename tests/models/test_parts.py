import keras
import numpy as np
import pytest
from support.networks import tiny_backbone, tiny_pspnet

from keras_psp.models.parts import LogitParts, position_means

VARIANTS = {
    "average": {},
    "max": {"pooling": "max"},
    "without reduction": {"reduction": None},
    "max without reduction": {"pooling": "max", "reduction": None},
    "1x1 fusion": {"fusion_kernel_size": 1},
    "3x3 classifier": {"classifier_kernel_size": 3, "bin_sizes": (1, 4)},
    "corners apart": {"align_corners": False, "normalize_global": False},
    "no pyramid": {"bin_sizes": ()},
    "stride 16": {"backbone": tiny_backbone(name="backbone", output_stride=16)},
    "softmax": {"activation": "softmax"},
}


def network(**arguments):
    """A tiny PSPNet; the random statistics of its BatchNorm make every part count."""
    keras.utils.set_random_seed(0)
    model, rng = tiny_pspnet(**arguments), np.random.default_rng(0)
    norm = model.get_layer("pyramid_pooling").norm
    for variable in (norm.gamma, norm.moving_variance):
        variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    for variable in (norm.beta, norm.moving_mean, model.get_layer("classifier").bias):
        variable.assign(rng.normal(size=variable.shape))
    return model


def random_image(height=49, width=66):
    return np.random.default_rng(1).integers(0, 256, (height, width, 3)).astype("uint8")


def resized(level, size, align_corners):
    """A level's map at the size of the features, in float64."""
    matrices = []
    for bins, side in zip(level.shape, size, strict=False):
        index = np.arange(side)
        if align_corners:
            position = index * (bins - 1) / (side - 1)
        else:
            position = np.clip((index + 0.5) * bins / side - 0.5, 0, bins - 1)
        matrices.append(np.stack([np.interp(position, np.arange(bins), e) for e in np.eye(bins)]))
    return np.einsum("ay,cx,ack->yxk", *matrices, level.astype("float64"))


def convolved(x, kernel):
    taps = len(kernel)
    padded = np.pad(x, [(taps // 2, taps // 2)] * 2 + [(0, 0)])
    height, width, _ = x.shape
    return sum(
        np.tensordot(padded[i : i + height, j : j + width], kernel[i, j], 1)
        for i in range(taps)
        for j in range(taps)
    )


def plain_terms(model, parts):
    """The terms of the fusion before BatchNorm, and its scale and shift, in float64."""
    pyramid = model.get_layer("pyramid_pooling")
    features = keras.Model(model.inputs[0], model.views.features).predict(
        random_image()[None], verbose=0
    )[0]
    maps = [resized(level, parts.size, model.align_corners) for level in parts.levels]
    kernel = np.asarray(pyramid.fusion.kernel, "float64")
    ends = np.cumsum([x.shape[-1] for x in (features, *maps)])[:-1]
    kernels = np.split(kernel, ends, axis=2)
    norm = pyramid.norm
    scale = np.asarray(norm.gamma) / np.sqrt(np.asarray(norm.moving_variance) + norm.epsilon)
    shift = np.asarray(norm.beta) - np.asarray(norm.moving_mean) * scale
    return [features, *maps], kernels, scale, shift


@pytest.mark.parametrize("variant", VARIANTS)
def test_parts_add_up_to_the_networks_logits(variant):
    model = network(**VARIANTS[variant])
    parts = LogitParts(model, random_image(97, 130))
    logits = model.predict_low_resolution(random_image(97, 130)[None])[0]
    bound = 1e-6 * np.ptp(logits)
    np.testing.assert_allclose(parts.logits, logits, atol=bound)
    for index in range(4):
        assert len(parts.parts(index)) == 2 + len(model.bin_sizes)
        np.testing.assert_allclose(parts.parts(index).sum(0), logits[..., index], atol=bound)
    difference = logits[..., 2] - logits[..., 0]
    np.testing.assert_allclose(parts.parts(2, 0).sum(0), difference, atol=2 * bound)


@pytest.mark.parametrize("variant", ["average", "1x1 fusion", "3x3 classifier", "corners apart"])
def test_each_part_is_its_term_through_the_gates_of_the_sum(variant):
    # The plain form: upsampled levels, one convolution each, in float64.
    model = network(**VARIANTS[variant])
    parts = LogitParts(model, random_image())
    maps, kernels, scale, shift = plain_terms(model, parts)
    terms = [convolved(x, kernel) for x, kernel in zip(maps, kernels, strict=True)]
    gates = sum(terms) * scale + shift > 0
    classifier = model.get_layer("classifier")
    kernel = np.asarray(classifier.kernel, "float64")
    expected = [convolved(gates * scale * term, kernel)[..., 1] for term in terms]
    constant = convolved(gates * shift, kernel)[..., 1] + np.asarray(classifier.bias)[1]
    bound = 1e-5 * np.ptp(parts.logits)
    np.testing.assert_allclose(parts.parts(1), [*expected, constant], atol=bound)


@pytest.mark.parametrize("variant", ["average", "3x3 classifier", "no pyramid"])
def test_parts_of_several_classes_are_those_of_each(variant):
    parts = LogitParts(network(**VARIANTS[variant]), random_image())
    together = np.stack(list(parts.class_parts([3, 1])))
    bound = 1e-6 * np.ptp(parts.logits)
    for place, index in enumerate((3, 1)):
        np.testing.assert_allclose(together[..., place], parts.parts(index), atol=bound)


@pytest.mark.parametrize("variant", ["average", "max", "3x3 classifier", "corners apart"])
def test_logits_without_a_level_are_those_of_a_constant_map(variant):
    model = network(**VARIANTS[variant])
    parts = LogitParts(model, random_image())
    maps, kernels, scale, shift = plain_terms(model, parts)
    for x, mean in zip(maps[1:], parts.means(), strict=True):
        np.testing.assert_allclose(mean, x.mean(axis=(0, 1)), atol=1e-5 * np.abs(x).max())
    maps[1] = np.broadcast_to(maps[1].mean(axis=(0, 1)) + 0.1, maps[1].shape)
    maps[2] = np.zeros_like(maps[2])
    z = sum(convolved(x, k) for x, k in zip(maps, kernels, strict=True)) * scale + shift
    classifier = model.get_layer("classifier")
    expected = convolved(np.maximum(z, 0), np.asarray(classifier.kernel, "float64"))
    replaced = {0: maps[1][0, 0], 1: maps[2][0, 0]}
    actual = parts.logits_without({n: mean.astype("float32") for n, mean in replaced.items()})
    bound = 1e-5 * np.ptp(parts.logits)
    np.testing.assert_allclose(actual, expected + np.asarray(classifier.bias), atol=bound)
    np.testing.assert_allclose(parts.logits_without({}), parts.logits, atol=bound)


def test_the_mean_of_a_level_is_that_of_all_positions():
    # Aligned corners, two bins on three positions: 0, 1/2, 1.
    level = np.array([[0.0, 4.0], [8.0, 12.0]])[..., None]
    assert position_means([level], (3, 3), align_corners=True)[0].tolist() == [6.0]
    # Three bins on four positions: 0, 2/3, 4/3, 2, so that the middle one weighs 1/3 + 1/3.
    level = np.array([[3.0, 0.0, 0.0]] * 3)[..., None]
    mean = position_means([level], (4, 4), align_corners=True)[0]
    np.testing.assert_allclose(mean, [3 * (1 + 1 / 3) / 4])


def test_half_precision_is_that_of_the_features():
    model = network(dtype="mixed_bfloat16")
    parts = LogitParts(model, random_image())
    logits = model.predict_low_resolution(random_image()[None])[0]
    bound = 1e-6 * np.ptp(logits)
    np.testing.assert_allclose(parts.parts(3).sum(0), parts.logits[..., 3], atol=bound)
    np.testing.assert_allclose(parts.logits, logits, atol=0.02 * np.ptp(logits))


def test_weights_that_change_later_are_used():
    model = network()
    LogitParts(model, random_image())
    fusion, count = model.get_layer("pyramid_pooling").fusion, len(model.weights)
    fusion.kernel.assign(-np.asarray(fusion.kernel))
    parts = LogitParts(model, random_image())
    logits = model.predict_low_resolution(random_image()[None])[0]
    np.testing.assert_allclose(parts.logits, logits, atol=1e-6 * np.ptp(logits))
    assert len(model.weights) == count  # the view has none of its own


def test_images_too_small_for_the_bins_are_refused():
    with pytest.raises(ValueError, match="images of 33x90 give a feature map smaller than"):
        LogitParts(network(), random_image(33, 90))
