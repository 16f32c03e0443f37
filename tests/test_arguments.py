"""Random arguments: each call works, or its error names the argument."""

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_psp import (
    SGD,
    AuxiliaryHead,
    DilatedBackbone,
    DilatedResNet,
    MeanIoU,
    PolyLearningRate,
    PSPNet,
    PyramidPoolingModule,
    UpsampledCrossentropy,
)
from keras_psp.arguments import (
    checked_choice,
    checked_count,
    checked_flag,
    checked_integer,
    checked_number,
    checked_string,
    checked_tuple,
)
from keras_psp.layers import BilinearResize, FactorizedFusion, ImageNormalization
from keras_psp.losses import median_frequency_weights
from keras_psp.schedules import training_steps
from keras_psp.training import Recipe

quick = settings(
    deadline=None, max_examples=40, suppress_health_check=list(HealthCheck), database=None
)

# What nobody should give, besides values of the right type outside their range.
WRONG = st.sampled_from(
    [
        *(None, "auto", "a", "", b"a", True, np.True_, object(), {}, {1}, 1j),
        *(-1, 0, 1, 2.5, 1e9, float("nan"), float("inf"), np.int64(3), np.float32(0.5)),
        *((), (1,), (1, "a"), [1, 2, 3], [[1, 2], [3]], np.array([1, 2, 3]), np.array(2)),
    ]
)


@st.composite
def arguments(draw, **valid):
    """Some arguments of a call; in one of two cases, one of them is anything."""
    given_arguments = draw(st.fixed_dictionaries({}, optional=valid))
    if draw(st.booleans()):
        given_arguments[draw(st.sampled_from(sorted(valid)))] = draw(WRONG)
    return given_arguments


def refused(call, given_arguments):
    """The error of a call, which must name one of the arguments, and its result."""
    try:
        return None, call(**given_arguments)
    except (ValueError, TypeError) as error:
        raised = error
    names = [name for name in given_arguments if name in str(raised)]
    assert names, f"{given_arguments}: {type(raised).__name__}: {raised}"
    return raised, None


def check_layer(layer, inputs, shape):
    outputs = keras.tree.flatten(layer(inputs, training=True) if shape is None else layer(inputs))
    for output in outputs:
        assert np.isfinite(keras.ops.convert_to_numpy(output)).all()
    if shape is not None:
        assert tuple(outputs[0].shape) == shape
    # Saved as JSON and made again.
    config = keras.saving.serialize_keras_object(layer)
    again = keras.saving.deserialize_keras_object(config)
    assert again.get_config() == layer.get_config()


flags = st.booleans()
small = st.integers(1, 5)
bins = st.lists(st.integers(1, 4), max_size=3, unique=True).map(tuple)
share = st.floats(0, 0.9)
norms = {
    "epsilon": st.floats(1e-6, 1e-2),
    "momentum": st.floats(0, 0.99),
    "synchronized": st.sampled_from(["auto", False]),
}
rgb = st.tuples(*[st.floats(0.1, 255)] * 3)
features = np.random.default_rng(0).normal(size=(2, 5, 6, 8)).astype("float32")
images = np.random.default_rng(0).integers(0, 256, (1, 33, 41, 3)).astype("uint8")


@quick
@given(
    arguments(
        num_classes=st.integers(2, 4),
        bin_sizes=bins,
        pooling=st.sampled_from(["average", "max"]),
        reduction=st.sampled_from(["auto", None, 3]),
        fusion_filters=st.sampled_from(["auto", 4]),
        fusion_kernel_size=st.sampled_from([1, 3]),
        normalize_global=flags,
        classifier_kernel_size=st.sampled_from([1, 3]),
        dropout=share,
        aux_weight=st.floats(0, 1),
        aux_filters=st.sampled_from(["auto", 4]),
        align_corners=flags,
        mean=rgb,
        std=rgb,
        channel_order=st.sampled_from(["rgb", "bgr", "auto"]),
        activation=st.sampled_from([None, "softmax"]),
        input_shape=st.sampled_from([(None, None, 3), (33, 41, 3), (None, 64, 3)]),
        class_names=st.sampled_from([None, ["a", "b"], ("a", "b", "c"), ["a", "a"]]),
        palette=st.sampled_from([None, [[0, 0, 0], [255, 0, 0]], [[0, 0, 256]] * 2]),
        dtype=st.sampled_from([None, "float32", "mixed_bfloat16"]),
        name=st.sampled_from(["net", "a/b"]),
    )
)
def test_pspnet(given_arguments):
    def make(**changed):
        backbone = DilatedResNet(18, stem_filters=(4,), num_stages=2, name="backbone")
        defaults = {"num_classes": 2, "backbone": backbone, "bin_sizes": (1, 2)}
        return PSPNet(**{**defaults, **changed})

    error, model = refused(make, given_arguments)
    if error is None:
        logits = model.predict_on_batch(images)
        assert logits.shape == (1, 33, 41, model.num_classes)
        assert np.isfinite(logits).all()


@quick
@given(arguments(num_classes=small, filters=st.sampled_from(["auto", 3]), dropout=share, **norms))
def test_auxiliary_head(given_arguments):
    error, layer = refused(lambda **a: AuxiliaryHead(**{"num_classes": 3, **a}), given_arguments)
    if error is None:
        check_layer(layer, features, (2, 5, 6, layer.num_classes))


@quick
@given(
    arguments(
        bin_sizes=bins,
        pooling=st.sampled_from(["average", "max"]),
        reduction=st.sampled_from(["auto", None, 2]),
        filters=st.sampled_from(["auto", 3]),
        kernel_size=st.sampled_from([1, 3]),
        normalize_global=flags,
        align_corners=flags,
        dropout=share,
        **norms,
    )
)
def test_pyramid_pooling(given_arguments):
    error, layer = refused(PyramidPoolingModule, given_arguments)
    if error is None and max(layer.bin_sizes, default=1) <= 5:
        filters = 128 if layer.filters == "auto" else layer.filters
        check_layer(layer, features, (2, 5, 6, filters))


@quick
@given(arguments(filters=small, kernel_size=st.sampled_from([1, 3]), align_corners=flags))
def test_fusion(given_arguments):
    error, layer = refused(lambda **a: FactorizedFusion(**{"filters": 3, **a}), given_arguments)
    if error is None:
        check_layer(layer, [features, features[:, :2, :2]], (2, 5, 6, layer.filters))


@quick
@given(arguments(align_corners=flags))
def test_resizing(given_arguments):
    error, layer = refused(BilinearResize, given_arguments)
    if error is None:
        check_layer(layer, [features, images], (2, 33, 41, 8))


@quick
@given(arguments(mean=rgb, std=rgb, channel_order=st.sampled_from(["rgb", "bgr"])))
def test_normalization(given_arguments):
    error, layer = refused(ImageNormalization, given_arguments)
    if error is None:
        check_layer(layer, images, images.shape)


@quick
@given(
    arguments(
        depth=st.sampled_from([18, 34]),
        output_stride=st.sampled_from([8, 16, 32]),
        dilations=st.sampled_from([None, (1, 1, 2, 4), (1, 2, 2, 3), (1, 1, 1, 1)]),
        stem_filters=st.sampled_from([(4,), (2, 2, 4), (2, 2)]),
        contract_dilation=flags,
        dilate_second=flags,
        num_stages=st.sampled_from([2, 3]),
        stride_in_1x1=flags,
        use_bias=flags,
        **norms,
    )
)
def test_resnet(given_arguments):
    small = {"depth": 18, "stem_filters": (4,), "num_stages": 2}
    error, layer = refused(lambda **a: DilatedResNet(**{**small, **a}), given_arguments)
    if error is None:
        auxiliary, last = layer(images[:, :17, :17].astype("float32") / 255)
        assert np.isfinite(last).all() and last.shape[-1] in (128, 256, 512)
        assert layer.compute_output_shape((1, 17, 17, 3))[1] == last.shape


@quick
@given(
    arguments(
        output_stride=st.sampled_from([8, 16, 32]),
        feature_layers=st.sampled_from([None, ("first", "last"), ("last", "none")]),
        **norms,
    )
)
def test_other_backbones(given_arguments):
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, 4, padding="same", name="first")(inputs)
    x = keras.layers.Conv2D(4, 3, 2, padding="same", name="last")(x)
    model = keras.Model(inputs, x, name="small")
    error, layer = refused(lambda **a: DilatedBackbone(model, **a), given_arguments)
    if error is None:
        assert np.isfinite(layer(images.astype("float32"))[1]).all()


masks = np.random.default_rng(0).integers(0, 3, (2, 9, 11))


@quick
@given(
    arguments(
        ignore_class=st.sampled_from([255, None, 0, -1]),
        class_weights=st.sampled_from([None, [1, 2, 0], np.ones(3), [0, 0, 0], [1, -1, 1]]),
        hard_pixels=st.sampled_from([None, 1, 50]),
        hard_threshold=st.sampled_from([None, 0.7]),
        align_corners=st.sampled_from([None, True, False]),
        chunk_elements=st.integers(1, 1000),
        name=st.just("loss"),
    )
)
def test_loss(given_arguments):
    error, loss = refused(UpsampledCrossentropy, given_arguments)
    if error is None and (loss.class_weights is None or len(loss.class_weights) == 3):
        value = keras.ops.convert_to_numpy(loss(masks, features[:, :3, :3, :3]))
        assert value.shape == () and np.isfinite(value)


@quick
@given(arguments(num_classes=st.integers(2, 5), ignore_class=st.sampled_from([None, 255, 0])))
def test_metric(given_arguments):
    error, metric = refused(lambda **a: MeanIoU(**{"num_classes": 3, **a}), given_arguments)
    if error is None and metric.num_classes >= 3:
        metric.update_state(masks, np.zeros_like(masks))
        assert 0 <= float(metric.result()) <= 1


@quick
@given(
    arguments(
        base=st.floats(1e-5, 1),
        steps=st.integers(1, 50),
        power=share,
        warmup_steps=st.integers(0, 9),
    )
)
def test_schedule(given_arguments):
    error, schedule = refused(lambda **a: PolyLearningRate(**{"steps": 20, **a}), given_arguments)
    if error is None:
        rates = [float(schedule(step)) for step in (0, schedule.steps // 2, schedule.steps)]
        assert np.isfinite(rates).all() and min(rates) >= 0


@quick
@given(
    arguments(
        learning_rate=st.floats(0, 1),
        momentum=share,
        weight_decay=st.floats(0, 0.1),
        head_multiplier=st.floats(0, 20),
        backbone=st.just("backbone"),
        exclude_from_weight_decay=st.sampled_from([(), ["bias"]]),
        name=st.just("sgd"),
    )
)
def test_optimizer(given_arguments):
    error, optimizer = refused(SGD, given_arguments)
    if error is None:
        variable = keras.Variable([1.0, 2.0])
        optimizer.apply([keras.ops.ones(2)], [variable])
        assert np.isfinite(keras.ops.convert_to_numpy(variable)).all()


@settings(quick, max_examples=200)
@given(
    arguments(
        backbone=st.sampled_from(["resnet18", "resnet269", "vgg"]),
        output_stride=st.sampled_from([8, 16]),
        stem_filters=st.sampled_from([None, (64,), (2, 2, 4)]),
        num_stages=st.integers(1, 4),
        aux_weight=st.floats(-1, 1),
        dropout=st.floats(0, 1),
        bin_sizes=bins,
        pooling=st.sampled_from(["average", "max"]),
        reduction=st.sampled_from(["auto", None, 4]),
        epochs=st.integers(0, 3),
        batch_size=st.integers(0, 3),
        crop_size=st.sampled_from([41, (49, 57), 8]),
        image_size=st.sampled_from([None, (64, 64), (0, 1)]),
        scale=st.tuples(st.floats(0, 2), st.floats(0, 2)),
        rotate=st.floats(-10, 190),
        mirror=flags,
        blur=flags,
        fill=rgb,
        learning_rate=st.floats(-1, 1),
        power=share,
        warmup_steps=st.integers(-1, 5),
        momentum=st.floats(-0.5, 1.5),
        weight_decay=st.floats(-1, 1),
        head_multiplier=st.floats(-1, 20),
        class_weights=st.sampled_from([None, "median_frequency", (1.0, 2.0), (0.0,)]),
        hard_pixels=st.sampled_from([None, 5]),
        hard_threshold=st.sampled_from([None, 0.7]),
        ema=st.sampled_from([None, 0.9, 1.5]),
        gradient_accumulation_steps=st.integers(0, 2),
        synchronized_batch_norm=st.sampled_from(["auto", True, False]),
        dtype=st.sampled_from(["float32", "mixed_bfloat16"]),
        jit_compile=st.sampled_from(["auto", True, False]),
        seed=st.integers(-1, 5),
        validation_epochs=st.integers(-1, 2),
        checkpoint_steps=st.integers(0, 2),
    )
)
def test_recipe(given_arguments):
    error, recipe = refused(Recipe, given_arguments)
    if error is None:
        assert Recipe.from_dict(recipe.to_dict()) == recipe


@quick
@given(arguments(examples=small, batch_size=small, epochs=small))
def test_training_steps(given_arguments):
    defaults = {"examples": 3, "batch_size": 2, "epochs": 1}
    error, steps = refused(lambda **a: training_steps(**{**defaults, **a}), given_arguments)
    assert error or steps >= 1


@quick
@given(arguments(pixel_counts=st.sampled_from([[[1, 2], [0, 3]], [[0, 0]], [[1, -1]]])))
def test_class_weights(given_arguments):
    if given_arguments:
        error, weights = refused(median_frequency_weights, given_arguments)
        assert error or np.isfinite(weights).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: checked_integer("n", 2.0, least=1), r"n is 2.0; it must be an integer >= 1\."),
        (
            lambda: checked_integer("n", 9, least=1, most=8),
            "n is 9; it must be an integer from 1 to",
        ),
        (lambda: checked_integer("n", True), r"n is True; it must be an integer\."),
        (lambda: checked_count("n", 0, "auto", None), "n is 0; .* >= 1, or 'auto' or None"),
        (lambda: checked_count("n", "full", "auto"), "n is 'full'; .* >= 1, or 'auto'"),
        (lambda: checked_number("x", "1"), r"x is '1'; it must be a finite number\."),
        (lambda: checked_number("x", 2, above=0, most=1), "x is 2; .* finite number > 0 and <= 1"),
        (lambda: checked_flag("f", 1), "f is 1; it must be True or False"),
        (lambda: checked_choice("c", True, (1, 2)), "c is True; choose one of 1, 2"),
        (lambda: checked_string("s", 3), "s is 3; it must be a string"),
        (
            lambda: checked_tuple("t", "ab", checked_string),
            "t is 'ab'; it must be a sequence of val",
        ),
        (lambda: checked_tuple("t", [1], checked_flag, length=2), r"t is \[1\]; .* of 2 values"),
        (lambda: checked_tuple("t", [True, 1], checked_flag), r"t\[1\] is 1; it must be True or"),
    ],
)
def test_errors_name_argument_value_and_remedy(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_checked_values_are_pythons():
    assert type(checked_integer("n", np.int64(3))) is int
    assert checked_count("n", np.int64(3), "auto") == 3 and checked_count("n", None, None) is None
    assert type(checked_number("x", np.float32(0.5))) is float
    assert checked_flag("f", np.True_) is True
    assert checked_tuple("t", np.array([1, 2]), checked_integer) == (1, 2)
