import concurrent.futures
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.networks import tiny_backbone, tiny_pspnet

from keras_psp import MeanIoU, PSPNet, UpsampledCrossentropy
from keras_psp.export import open_saved_model
from keras_psp.layers.resampling import resize_bilinear

CLASSES = 4


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return tiny_pspnet()


def example(count=4, height=49, width=66):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, height, width, 3)).astype("uint8")
    masks = rng.integers(0, CLASSES, (count, height, width)).astype("uint8")
    masks[:, :5] = 255
    return images, masks


def test_logits_have_the_images_size(model):
    images, _ = example()
    logits = model(images)
    assert logits.shape == (4, 49, 66, CLASSES)
    assert logits.dtype == "float32"
    np.testing.assert_allclose(model.predict(images, verbose=0), logits, rtol=1e-3, atol=1e-4)


def test_training_keeps_both_heads_at_stride_8(model):
    outputs = model(example()[0], training=True)
    assert {name: tuple(x.shape) for name, x in outputs.items()} == {
        "logits": (4, 7, 9, CLASSES),
        "auxiliary": (4, 7, 9, CLASSES),
    }


def test_softmax_by_argument(model):
    images, _ = example(1)
    sure = tiny_pspnet(activation="softmax")
    sure.set_weights(model.get_weights())
    np.testing.assert_allclose(sure(images), tf.nn.softmax(model(images)), atol=1e-5)


def test_classes_are_the_argmax_of_the_logits(model):
    images, _ = example()
    classes = model.predict_classes(images, verbose=0)
    assert classes.dtype == np.int32
    expected = model.predict(images, verbose=0).argmax(-1)
    assert np.mean(classes == expected) > 0.999
    # Both ways stay usable in turn.
    np.testing.assert_array_equal(model.predict_classes(images, verbose=0), classes)


def test_dynamic_sizes_in_one_graph(model):
    predict = tf.function(model, input_signature=[tf.TensorSpec((None, None, None, 3))])
    for height, width in ((41, 41), (57, 90)):
        images = tf.constant(example(1, height, width)[0], "float32")
        np.testing.assert_allclose(predict(images), model(images), rtol=1e-3, atol=1e-4)


def test_loss_is_main_plus_weighted_auxiliary(model):
    images, masks = example()
    model.compile()
    outputs = model(images, training=True)
    loss = model.compute_loss(images, masks, outputs)
    stock = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    main, auxiliary = (
        stock(masks, resize_bilinear(outputs[name], (49, 66), align_corners=True))
        for name in ("logits", "auxiliary")
    )
    np.testing.assert_allclose(loss, main + 0.4 * auxiliary, rtol=1e-5)


@pytest.mark.slow
def test_fit_learns_and_evaluate_counts_at_full_size(tmp_path):
    keras.utils.set_random_seed(0)
    images, _ = example(8)
    images[:, :, 33:] //= 8
    masks = np.zeros(images.shape[:3], "uint8")
    masks[:, :, 33:] = 1
    model = tiny_pspnet(num_classes=2)
    model.compile(metrics=[MeanIoU(2)])
    history = model.fit(images, masks, epochs=6, batch_size=4, verbose=0).history
    assert history["loss"][-1] < 0.6 * history["loss"][0]
    metrics = model.evaluate(images, masks, verbose=0, return_dict=True)
    metric = MeanIoU(2)
    metric.update_state(masks, model.predict(images, verbose=0))
    assert metrics["mean_iou"] == pytest.approx(float(metric.result()), abs=1e-3)
    stock = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    expected = stock(masks, model.predict(images, verbose=0))
    assert metrics["loss"] == pytest.approx(float(expected), rel=1e-3)

    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        again.predict(images, verbose=0), model.predict(images, verbose=0)
    )
    assert again.evaluate(images, masks, verbose=0, return_dict=True) == pytest.approx(metrics)
    assert again.backbone.get_config() == model.backbone.get_config()
    ours, theirs = again.get_config(), model.get_config()
    assert ours.pop("backbone")["class_name"] == theirs.pop("backbone")["class_name"]
    assert ours == theirs


def test_masks_may_be_larger_than_images_in_evaluation(model):
    images, _ = example()
    masks = np.zeros((4, 98, 132), "uint8")
    model.compile(metrics=[MeanIoU(CLASSES)])
    model.evaluate(images, masks, verbose=0)
    assert model.metrics[-1].metrics[0].confusion_matrix().sum() == masks.size


@pytest.mark.slow
def test_stock_losses_and_metrics():
    images, masks = example()
    model = tiny_pspnet()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    model.compile("adam", loss, metrics=["sparse_categorical_accuracy", MeanIoU(CLASSES)])
    history = model.fit(images, masks, batch_size=2, verbose=0).history
    metrics = model.evaluate(images, masks, verbose=0, return_dict=True)
    assert set(metrics) == set(history) == {"loss", "mean_iou", "sparse_categorical_accuracy"}
    fused = tiny_pspnet()
    fused.set_weights(model.get_weights())
    fused.compile()
    assert fused.evaluate(images, masks, verbose=0) == pytest.approx(metrics["loss"], rel=1e-4)


def test_datasets_and_sample_weights():
    images, masks = example()
    weights = np.array([1, 0, 0, 0], "float32")
    model = tiny_pspnet(aux_weight=0)
    model.compile()
    data = tf.data.Dataset.from_tensor_slices((images, masks, weights)).batch(2)
    assert np.isfinite(model.fit(data, verbose=0).history["loss"][0])
    weighted = model.evaluate(images, masks, sample_weight=weights, verbose=0, batch_size=4)
    alone = model.evaluate(images[:1], masks[:1], verbose=0)
    assert weighted == pytest.approx(alone / 4, rel=1e-3)


def test_baseline_and_no_auxiliary_head():
    model = tiny_pspnet(bin_sizes=(), aux_weight=0)
    names = [layer.name for layer in model.layers]
    assert "auxiliary_head" not in names
    assert set(model(example()[0], training=True)) == {"logits"}
    assert model.get_layer("pyramid_pooling").fusion.kernel.shape == (3, 3, 512, 128)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision(dtype):
    images, masks = example()
    model = tiny_pspnet(backbone=tiny_backbone(), dtype=dtype)
    assert model.backbone.dtype_policy.name == dtype
    assert model(images).dtype == "float32"
    model.compile(metrics=[MeanIoU(CLASSES)])
    assert np.isfinite(model.fit(images, masks, verbose=0).history["loss"][0])
    assert model.get_config()["dtype"] == dtype
    # float16 gradients vanish without a loss scale.
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (dtype == "mixed_float16")


def test_predictions_are_complete_after_compiling_again():
    images, _ = example(8)
    model = tiny_pspnet()
    model.compile()
    assert len(model.predict_classes(images, batch_size=2, verbose=0)) == 8
    model.compile(steps_per_execution=2)
    assert len(model.predict_classes(images, batch_size=2, verbose=0)) == 8


def test_a_callback_may_predict_while_the_model_is_evaluated():
    images, masks = example()
    model = tiny_pspnet()
    model.compile()
    shapes = []

    class Watch(keras.callbacks.Callback):
        def on_test_batch_end(self, batch, logs=None):
            shapes.append(model.predict(images[:1], verbose=0).shape)
            shapes.append(tuple(model(images[:1]).shape))

    model.evaluate(images, masks, verbose=0, callbacks=[Watch()])
    assert set(shapes) == {(1, *images.shape[1:3], CLASSES)}


def test_inside_another_model_the_main_head_is_trained(model):
    outer = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Identity(), model])
    outputs = outer(example()[0].astype("float32"), training=True)
    assert outputs.shape == (4, 49, 66, CLASSES)


@pytest.mark.slow
def test_plain_functions_are_losses():
    images, masks = example()
    masks[masks == 255] = 0

    def function(labels, logits):
        return keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)

    losses = []
    for loss in (function, keras.losses.SparseCategoricalCrossentropy(from_logits=True)):
        keras.utils.set_random_seed(0)
        model = tiny_pspnet(dropout=0.0)
        model.compile(loss=loss)
        losses.append(model.fit(images, masks, verbose=0).history["loss"][0])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_one_loss_serves_models_of_both_alignments():
    loss = UpsampledCrossentropy()
    for align_corners in (True, False):
        tiny_pspnet(align_corners=align_corners).compile(loss=loss)
    assert loss.align_corners is None


def test_frozen_layers_stay_frozen_when_saved(tmp_path):
    model = tiny_pspnet(backbone=tiny_backbone(trainable=False))
    assert not model.backbone.stem[0].norm.trainable
    model.get_layer("pyramid_pooling").norm.trainable = False
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    names = [v.path for v in model.trainable_variables]
    assert [v.path for v in loaded.trainable_variables] == names
    assert not loaded.backbone.stem[0].norm.trainable
    assert loaded.get_layer("pyramid_pooling").fusion.trainable


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss_weights": [0.5]}, "PSPNet has one loss"),
        ({"loss": {"logits": "mse"}}, "PSPNet has one output; give one loss"),
        ({"loss": UpsampledCrossentropy(ignore_class=2)}, "ignores label 2, which is one of the 4"),
        ({"metrics": [MeanIoU(2)]}, r"MeanIoU\(2\) cannot count a model of 4 classes"),
    ],
)
def test_invalid_compile_arguments_are_refused(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        model.compile(**arguments)


def test_a_metric_that_ignores_a_class_by_default_is_refused():
    model, loss = tiny_pspnet(256), UpsampledCrossentropy(ignore_class=-1)
    with pytest.raises(ValueError, match="ignores label 255, which is one of the 256 classes"):
        model.compile(loss=loss, metrics=[MeanIoU(256)])
    model.compile(loss=loss, metrics=[MeanIoU(256, ignore_class=-1)])


def test_class_weight_is_refused(model):
    model.compile()
    with pytest.raises(ValueError, match=r"class_weight=.*UpsampledCrossentropy\(class_weights"):
        model.fit(*example(), class_weight={0: 2.0})


@pytest.mark.slow
def test_masks_of_another_size_in_a_dataset_of_unknown_sizes():
    images, masks = example()
    shapes = (tf.TensorSpec((None, None, None, 3)), tf.TensorSpec((None, None, None), tf.int32))
    dataset = tf.data.Dataset.from_generator(
        lambda: iter([(images, masks[:, :20, :20])]), output_signature=shapes
    )
    model = tiny_pspnet()
    model.compile()
    with pytest.raises(tf.errors.InvalidArgumentError, match="masks differ in size from their"):
        model.fit(dataset, verbose=0)


def test_compiling_under_a_strategy_that_did_not_make_the_model(model):
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope(), pytest.raises(ValueError, match="make and compile it inside"):
        model.compile()


def test_summary_and_plot_show_the_papers_parts(model, tmp_path):
    lines = []
    model.summary(print_fn=lambda line, **_: lines.append(line))
    text = "\n".join(lines)
    parts = ("normalization", "backbone", "pyramid_pooling", "classifier", "auxiliary_head")
    assert all(part in text for part in parts)
    try:
        keras.utils.plot_model(model, to_file=tmp_path / "model.png")
    except ImportError:
        pytest.skip("plot_model needs pydot and graphviz")
    assert (tmp_path / "model.png").stat().st_size > 1000


def test_quantize_is_refused(model):
    with pytest.raises(ValueError, match="mode='int8': Keras doesn't quantize convolutions"):
        model.quantize("int8")


@pytest.mark.parametrize("name", ["model.h5", "model.hdf5"])
def test_saving_to_hdf5_is_refused(model, tmp_path, name):
    with pytest.raises(ValueError, match=r"Keras can't open a PSPNet from HDF5; save it as .keras"):
        model.save(tmp_path / name)
    assert not (tmp_path / name).exists()
    model.save_weights(tmp_path / "model.weights.h5")
    model.load_weights(tmp_path / "model.weights.h5")


def test_cloning_a_compiled_model_names_the_way(model):
    model.compile()
    with pytest.raises(ValueError, match=r"PSPNet.from_config\(model.get_config\(\)\)"):
        keras.models.clone_model(model)


def test_the_documentation_has_the_error_without_an_import(tmp_path):
    tiny_pspnet().save(tmp_path / "model.keras")
    code = f"import keras; keras.saving.load_model({str(tmp_path / 'model.keras')!r})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    # Keras' own message; nothing of ours has been imported.
    message = "Could not locate class 'PSPNet'"
    assert message in run.stderr
    page = Path(__file__).parents[2].joinpath("docs/training.md").read_text(encoding="utf-8")
    assert f"**`{message}`** from `keras.models.load_model`: `import keras_psp` first." in page


def test_loaded_weights_that_are_not_finite_are_refused(tmp_path):
    images, masks = example()
    model = tiny_pspnet()
    model.get_layer("classifier").bias.assign([0, np.nan, 0, 0])
    model.save(tmp_path / "model.keras")
    message = "classifier/bias holds weights that are NaN or infinite"
    for call in ("predict", "predict_classes", "predict_low_resolution", "__call__"):
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        with pytest.raises(ValueError, match=message):
            getattr(loaded, call)(images)
    loaded.compile()
    for call in (loaded.fit, loaded.evaluate):
        with pytest.raises(ValueError, match=message):
            call(images, masks, verbose=0)
    with pytest.raises(ValueError, match=message):
        PSPNet(weights=model)
    with pytest.raises(ValueError, match=message):
        PSPNet(weights=tmp_path / "model.keras")
    loaded.get_layer("classifier").bias.assign(np.zeros(4))
    assert np.isfinite(loaded.predict(images, verbose=0)).all()


def test_export_writes_what_keras_psp_export_writes(tmp_path):
    images, _ = example()
    model = tiny_pspnet()
    model.export(tmp_path / "saved", verbose=False, output="logits")
    served = open_saved_model(tmp_path / "saved")(images)
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(served, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 1}, "num_classes is 1; it must be an integer >= 2"),
        ({"num_classes": 2.5}, "num_classes is 2.5; it must be an integer >= 2"),
        ({"backbone": "resnet20"}, "backbone='resnet20' is unknown; choose one of resnet18, "),
        ({"backbone": 50}, "backbone=50 is unknown; choose one of resnet18"),
        ({"activation": "sigmoid"}, "activation is 'sigmoid'; choose one of None, 'softmax'"),
        ({"aux_weight": -1}, "aux_weight is -1; it must be a finite number >= 0"),
        ({"aux_weight": None}, "aux_weight is None"),
        ({"pooling": "sum"}, "pooling is 'sum'; choose one of 'average', 'max'"),
        ({"bin_sizes": None}, "bin_sizes is None; it must be a sequence of values"),
        ({"dropout": "a"}, "dropout is 'a'; it must be a finite number >= 0 and < 1"),
        ({"mean": None}, "mean is None; it must be a sequence of 3 values"),
        ({"mean": (0, float("nan"), 0)}, r"mean\[1\] is nan; it must be a finite number"),
        ({"std": (1, 1, 0)}, r"std\[2\] is 0; it must be a finite number > 0"),
        ({"input_shape": (64, 64)}, r"input_shape is \(64, 64\); it must be \(height, width, 3\)"),
        ({"input_shape": (3, 64, 64)}, r"input_shape is \(3, 64, 64\)"),
        ({"input_shape": (None, None, 4)}, r"input_shape is \(None, None, 4\)"),
        (
            {"input_shape": (17, 17, 3)},
            "images of 17x17 give a feature map smaller than the largest",
        ),
        ({"align_corners": "no"}, "align_corners is 'no'; it must be True or False"),
        ({"fusion_filters": 0}, "fusion_filters is 0; it must be an integer >= 1"),
        ({"aux_filters": 1.5}, "aux_filters is 1.5; it must be an integer >= 1"),
        ({"classifier_kernel_size": 2}, "classifier_kernel_size is 2; choose one of 1, 3, 5, 7"),
        ({"num_classes": 3, "palette": "abc"}, r"palette has shape \(\)"),
        ({"num_classes": 2, "palette": [[0, 0], [1]]}, "palette is .* one .red, green, blue. per"),
        ({"num_classes": 3, "class_names": "abc"}, "class_names is 'abc'; it must be a sequence"),
        ({"num_classes": 2, "class_names": ["a", "a"]}, "class_names has 'a' more than once"),
        (
            {"num_classes": 3, "class_names": ["a", "b"]},
            "class_names has 2 entries for num_classes=3",
        ),
        ({"dtype": "int8"}, "dtype is 'int8'; it must be a floating-point precision"),
        ({"dtype": "float31"}, "dtype is 'float31'; it must be a floating-point precision"),
    ],
)
def test_invalid_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        PSPNet(**{"backbone": "resnet18", **arguments})


def test_numpy_integers_are_integers(tmp_path):
    model = tiny_pspnet(np.int64(4), bin_sizes=np.array([1, 2]), fusion_filters=np.int32(8))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert (again.num_classes, again.bin_sizes, again.fusion_filters) == (4, (1, 2), 8)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 49, 49, 1), r"shape \(1, 49, 49, 1\).*Repeat the gray channel"),
        ((1, 49, 49, 4), r"shape \(1, 49, 49, 4\).*Drop the alpha channel"),
        ((49, 49, 3), r"shape \(49, 49, 3\).*Add the batch: images\[None\]"),
        ((1, 40, 49, 3), r"40x49 give a feature map smaller.*at least 41 pixels per side"),
    ],
)
def test_invalid_images_are_refused(model, shape, message):
    images = np.zeros(shape, "uint8")
    with pytest.raises(ValueError, match=message):
        model(images)
    with pytest.raises(ValueError, match=message):
        model.predict(images, verbose=0)


def test_invalid_images_in_fit_are_refused(model):
    model.compile()
    with pytest.raises(ValueError, match="Drop the alpha channel"):
        model.fit(np.zeros((1, 49, 49, 4)), np.zeros((1, 49, 49), "uint8"))


def test_a_mask_of_another_size_is_refused(model):
    images, masks = example()
    model.compile()
    message = "masks are 48x66 but their images 49x66; resize the masks"
    with pytest.raises(ValueError, match=message):
        model.fit(images, masks[:, 1:])
    data = tf.data.Dataset.from_tensor_slices((images, masks[:, 1:])).batch(2)
    with pytest.raises(ValueError, match=message):
        model.fit(data, verbose=0)
    with pytest.raises(ValueError, match="4 images but 3 masks"):
        model.fit(images, masks[:3])


def test_an_invalid_label_is_refused(model):
    images, masks = example()
    masks[2, 20, 20] = CLASSES
    model.compile()
    message = r"mask 2 holds the label 4, .* the 4 classes \(0..3\) nor the ignored label \(255\)"
    for call in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match=message):
            call(images, masks, verbose=0)
    with pytest.raises(ValueError, match=message):
        model.fit(images, np.where(masks == 4, 0, masks), validation_data=(images, masks))


@pytest.mark.slow
def test_an_invalid_label_in_a_dataset_stops_training():
    images, masks = example()
    masks[2, 20, 20] = 200
    model = tiny_pspnet()
    model.compile()
    data = tf.data.Dataset.from_tensor_slices((images, masks)).batch(2)
    with pytest.raises(FloatingPointError, match=r"the loss is nan by .* outside 0..3 other than"):
        model.fit(data, verbose=0)


def test_diverged_training_stops():
    images, masks = example()
    model = tiny_pspnet()
    model.get_layer("classifier").bias.assign(np.full(CLASSES, np.inf))
    model.compile()
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        model.fit(images, masks, verbose=0)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("sparse_categorical_crossentropy", "expects probabilities but PSPNet trains on logits"),
        (keras.losses.SparseCategoricalCrossentropy(), "from_logits=True"),
        (UpsampledCrossentropy(align_corners=False), "the loss has align_corners=False but the"),
    ],
)
def test_invalid_losses_are_refused(model, loss, message):
    with pytest.raises(ValueError, match=message):
        model.compile(loss=loss)


def test_backbone_is_renamed_or_refused():
    assert tiny_pspnet(backbone=tiny_backbone()).backbone.name == "backbone"
    built = tiny_backbone(name="mine")
    built.build((None, None, None, 3))
    with pytest.raises(ValueError, match="named 'mine' and computes in float32; make it"):
        tiny_pspnet(backbone=built)


def test_threads_get_the_output_they_ask_for():
    model = PSPNet(num_classes=3, backbone="resnet18", bin_sizes=(1,), aux_weight=0)
    images = np.zeros((1, 24, 32, 3), "float32")

    def ask(number):
        if number % 3 == 0:
            return model.predict(images, verbose=0).shape
        if number % 3 == 1:
            return model.predict_classes(images, verbose=0).shape
        return model.predict_low_resolution(images).shape

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        shapes = list(pool.map(ask, range(12)))
    assert shapes == [(1, 24, 32, 3), (1, 24, 32), (1, 3, 4, 3)] * 4


def test_remat_is_the_backbones_and_is_saved():
    assert tiny_pspnet().backbone.remat == "activations"
    model = tiny_pspnet(remat="blocks")
    assert model.backbone.remat == "blocks"
    assert PSPNet.from_config(model.get_config()).backbone.remat == "blocks"
    assert PSPNet(weights=model, remat="none").backbone.remat == "none"
    with pytest.raises(ValueError, match="remat is 'all'"):
        tiny_pspnet(remat="all")
    features = keras.applications.MobileNetV3Small(include_top=False, weights=None)
    with pytest.raises(ValueError, match="needs a DilatedResNet"):
        PSPNet(3, backbone=features, remat="blocks")


def test_the_temperature_divides_logits_in_inference_only(model):
    images, _ = example()
    model, warm = (
        PSPNet(weights=model, dropout=0.0, temperature=temperature) for temperature in (1.0, 2.5)
    )
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(warm.predict(images, verbose=0), expected / 2.5, rtol=1e-6)
    np.testing.assert_allclose(warm(images), expected / 2.5, rtol=1e-5)
    np.testing.assert_array_equal(
        warm.predict_classes(images, verbose=0), model.predict_classes(images, verbose=0)
    )
    np.testing.assert_array_equal(
        warm.predict_low_resolution(images), model.predict_low_resolution(images)
    )
    warm.temperature = 1  # also after a prediction that was traced with another one
    np.testing.assert_array_equal(warm.predict(images, verbose=0), expected)
    warm.temperature = 2.5
    expected = model(images, training=True)
    for name, logits in warm(images, training=True).items():
        np.testing.assert_allclose(logits, expected[name], atol=1e-4)
    for wrong in (0, -1, "2", float("nan")):
        with pytest.raises(ValueError, match=r"temperature is .*; it must be a finite number > 0"):
            warm.temperature = wrong


def test_the_temperature_is_saved_and_not_that_of_other_classes(model, tmp_path, capsys):
    warm = PSPNet(weights=model, temperature=2.5)
    warm.save(tmp_path / "warm.keras")
    assert keras.saving.load_model(tmp_path / "warm.keras").temperature == 2.5
    assert PSPNet(weights=warm).temperature == 2.5
    assert PSPNet(CLASSES + 1, weights=warm).temperature == 1
