import importlib.util
import json

import keras
import numpy as np
import pytest
from PIL import Image
from support.rasters import CRS, band_folder, band_image, write_raster

import keras_psp
from keras_psp import export
from keras_psp.data import ImageFolder
from keras_psp.training import Recipe, train
from keras_psp.training.bands import check_bands

RECIPE = Recipe(
    backbone="resnet18",
    stem_filters=(8,),
    weights=None,
    aux_weight=0.0,
    bin_sizes=(1, 2),
    crop_size=64,
    batch_size=2,
    epochs=12,
    validation_epochs=12,
    learning_rate=0.02,
    scale=(1.0, 1.0),
)


def test_colors_and_fills_are_refused(tmp_path):
    source = ImageFolder(band_folder(tmp_path, 1, suffix=".png"), channels=1)
    with pytest.raises(ValueError, match=r"color is 1, but the images have 1 band; .*--color 0"):
        check_bands(source, Recipe(color=1.0))
    with pytest.raises(ValueError, match=r"fill is .*, a color, but the images have 1 band; omit"):
        check_bands(source, Recipe(fill=(0.0, 0.0, 0.0)))
    check_bands(ImageFolder(tmp_path), Recipe(color=1.0, fill=(0.0, 0.0, 0.0)))


@pytest.mark.slow  # a training and three exports each
@pytest.mark.parametrize(
    ("channels", "dtype", "suffix"), [(1, "uint8", ".png"), (4, "uint16", ".tif")]
)
def test_bands_are_trained_evaluated_predicted_and_exported(channels, dtype, suffix, tmp_path):
    if suffix == ".tif":
        pytest.importorskip("rasterio", reason="rasterio isn't installed")
    root = band_folder(tmp_path / "data", channels, dtype, suffix=suffix)
    source = ImageFolder(root, channels=channels)
    pixels = np.concatenate([source.image("train", i).reshape(-1, channels) for i in range(4)])
    run = train(RECIPE, data=source, output=tmp_path / "run", progress=False)
    layer = run.model.get_layer("normalization")
    np.testing.assert_allclose(layer.mean, pixels.mean(0, dtype=np.float64))
    np.testing.assert_allclose(layer.std, pixels.std(0, dtype=np.float64))
    stored = json.loads((run.folder / "bands.json").read_text())
    assert stored["dtype"] == dtype and stored["mean"] == list(layer.mean)
    for name in ("augmented.png", "best.keras", "pictures/epoch-0012.png"):
        assert (run.folder / name).exists()
    # A finished run is resumed without measuring again.
    resumed = train(RECIPE, data=source, output=tmp_path / "run", progress=False)
    assert resumed.model.get_layer("normalization").mean == layer.mean

    evaluation = keras_psp.evaluate(
        source, tmp_path / "run", output=tmp_path / "evaluated", progress=False
    )
    assert evaluation.measures.mean_iou > 0.5  # one class everywhere has 0.4
    assert (tmp_path / "evaluated" / "report.html").exists()
    with pytest.raises(ValueError, match=f"must be .height, width, {channels}., as this network"):
        keras_psp.evaluate(
            ImageFolder(root)
            if channels == 1
            else [(np.zeros((64, 80, 3), "uint8"), np.zeros((64, 80), "uint8"))],
            tmp_path / "run",
            progress=False,
        )

    path, _ = source.paths("val")[0]
    (classes,) = (keras_psp.predict(path, tmp_path / "run").classes,)
    image = source.image("val", 0)
    if suffix == ".tif":
        import rasterio

        write_raster(tmp_path / "here.tif", image, crs=CRS)
        keras_psp.prediction.predict_files(
            tmp_path / "here.tif", tmp_path / "predicted", tmp_path / "run", progress=False
        )
        with rasterio.open(tmp_path / "predicted" / "here_classes.tif") as file:
            np.testing.assert_array_equal(file.read(1), classes)
            assert file.crs.to_string() == CRS
        assert (tmp_path / "predicted" / "here_overlay.png").exists()

    model, size = run.model, image.shape[:2]
    input_dtype = "uint8" if dtype == "uint8" else "float32"
    logits = model.predict(image[None].astype("float32"), verbose=0)
    options = {"input_dtype": input_dtype, "output": "logits", "image_size": size}
    files = ["m.tflite", "saved"]
    if importlib.util.find_spec("onnxruntime"):
        export.onnx(model, tmp_path / "m.onnx", progress=False, **options)
        files.append("m.onnx")
    export.tflite(model, tmp_path / "m.tflite", progress=False, **options)
    export.saved_model(model, tmp_path / "saved", **options)
    for name in files:
        opened = export.open_export(tmp_path / name)
        ours = opened(image[None].astype(input_dtype))
        assert np.abs(ours - logits).max() <= 1e-4 * np.ptp(logits), name
        with pytest.raises(ValueError, match=f"give batches .batch, height, width, {channels}."):
            opened(np.zeros((1, *size, 3), input_dtype))
    if dtype != "uint8":
        with pytest.raises(ValueError, match="aren't 0 to 255; give input_dtype='float32'"):
            export.tflite(model, tmp_path / "n.tflite", progress=False)
    with pytest.raises(ValueError, match="JPEG and PNG in RGB; use saved_model"):
        export.tf_serving(model, tmp_path / "served")


def test_a_gray_image_of_another_type_is_noticed():
    model = keras_psp.PSPNet(
        2, backbone="resnet18", input_channels=1, mean=(3000.0,), std=(500.0,), bin_sizes=(1,)
    )
    image, _ = band_image((64, 80), 1)
    with pytest.warns(
        UserWarning, match="band 1 has mean .* but its mean and std are 3000 and 500"
    ):
        keras_psp.predict(Image.fromarray(image[..., 0]), model)
    model.compile(keras.optimizers.SGD())
    with pytest.raises(ValueError, match="give images in the units"):
        model.fit(image[None], np.zeros((1, 64, 80), "int32"), verbose=0)
