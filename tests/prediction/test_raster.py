import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from support.networks import random_network, tiny_predictor
from support.rasters import CRS, write_raster

import keras_psp.prediction.segmenter as segmenter_module
from keras_psp.prediction.segmenter import Segmenter
from keras_psp.prediction.strips import Strips

RNG = np.random.default_rng(0)
PROTOCOL = {"crop": 65, "overlap": 1 / 3, "base_size": None, "batch_size": 1}


def scene(height, width):
    """Random colors in blocks of 15 pixels."""
    rng = np.random.default_rng(height)
    blocks = rng.integers(0, 256, (height // 15 + 1, width // 15 + 1, 3), "uint8")
    return np.kron(blocks, np.ones((15, 15, 1), "uint8"))[:height, :width]


@pytest.fixture(scope="module")
def network():
    """A network whose predictions vary."""
    model = random_network(5)
    logits = model.predict_low_resolution(scene(200, 200)[None].astype("float32"))
    model.get_layer("classifier").bias.assign(-np.median(logits, axis=(0, 1, 2)))
    return model


@pytest.fixture
def small_blocks(monkeypatch):
    """Lets probabilities be computed for a few rows at a time, as of wide images."""
    monkeypatch.setattr(segmenter_module, "_BLOCK_ELEMENTS", 2**15)


def strips_of(segmenter, image, first=0):
    strips = Strips(segmenter, *image.shape[:2], lambda low, high: image[low:high])
    return np.concatenate([classes for _, classes, _ in strips.classes(first)])


@pytest.mark.parametrize(
    ("size", "options"),
    [
        ((300, 211), {}),
        ((200, 111), {"overlap": 0.6, "flip": True}),
        ((40, 130), {}),  # lower than a window
        ((130, 40), {"overlap": 0.0}),  # narrower
        ((65, 65), {}),
        ((50, 50), {"flip": True}),
    ],
)
def test_strips_are_equal_to_the_whole_image(network, small_blocks, size, options):
    image = scene(*size)
    segmenter = Segmenter(network, **{**PROTOCOL, **options})
    (whole,) = segmenter.classes([image])
    assert len(np.unique(whole)) > 1
    np.testing.assert_array_equal(strips_of(segmenter, image), whole)


def test_strips_that_begin_later_are_equal(network, small_blocks):
    image = scene(300, 140)
    segmenter = Segmenter(network, **PROTOCOL)
    (whole,) = segmenter.classes([image])
    step = segmenter.block_rows(Strips(segmenter, 300, 140, None))
    first = 100 - 100 % step
    np.testing.assert_array_equal(strips_of(segmenter, image, first), whole[first:])


def test_a_whole_view_or_several_scales_are_refused(network):
    with pytest.raises(ValueError, match="crop is None, but large images are predicted in windows"):
        Strips(Segmenter(network), 100, 100, None)
    with pytest.raises(
        ValueError, match=r"scales are .* but large images are predicted at their own size"
    ):
        Strips(Segmenter(network, crop=65, scales=(0.5, 1.0)), 100, 100, None)


# --- GeoTIFFs -------------------------------------------------------------------

rasters = pytest.mark.skipif(
    not __import__("importlib.util").util.find_spec("rasterio"), reason="rasterio isn't installed"
)


@rasters
def test_the_output_has_the_reference_the_colors_and_the_names(network, tmp_path):
    import rasterio

    from keras_psp.prediction.raster import predict_raster

    image = scene(700, 90)
    path = write_raster(tmp_path / "in.tif", image, crs=CRS, tiled=True)
    summary = predict_raster(path, tmp_path / "out.tif", network, progress=False, **PROTOCOL)
    (whole,) = Segmenter(network, **PROTOCOL).classes([image])
    with rasterio.open(path) as source, rasterio.open(summary.path) as file:
        assert file.crs == source.crs and file.transform == source.transform
        np.testing.assert_array_equal(file.read(1), whole)
        assert file.block_shapes == [(512, 512)] and file.nodata is None
        assert file.tags()["class_names"].startswith('["class 0"')
        assert len(file.colormap(1)) >= 5
    np.testing.assert_allclose(
        summary.class_shares, np.bincount(whole.ravel(), minlength=5) / whole.size
    )
    assert not (tmp_path / ".out.tif.parts").exists()
    with pytest.raises(FileExistsError, match=r"out\.tif exists; choose another output"):
        predict_raster(path, tmp_path / "out.tif", network, **PROTOCOL)


@rasters
def test_pixels_without_data_get_the_nodata_value(network, tmp_path):
    import rasterio

    from keras_psp.prediction.raster import predict_raster

    image = RNG.integers(1, 256, (90, 80, 4), "uint8")
    image[..., 3] = 255
    image[:20, :, 3] = 0
    path = write_raster(tmp_path / "in.tif", image, photometric="RGB", alpha="YES")
    summary = predict_raster(path, tmp_path / "out.tif", network, progress=False, **PROTOCOL)
    with rasterio.open(summary.path) as file:
        classes = file.read(1)
        assert file.nodata == 255
    assert (classes[:20] == 255).all() and (classes[20:] < 5).all()
    assert summary.class_shares.sum() == pytest.approx(1)


@rasters
def test_a_stopped_prediction_resumes(network, small_blocks, tmp_path, monkeypatch, capsys):
    import rasterio

    from keras_psp.prediction import raster

    image = scene(300, 90)
    path = write_raster(tmp_path / "in.tif", image)
    (whole,) = Segmenter(network, **PROTOCOL).classes([image])
    read = raster._Reader.rows
    rows = []

    def stops(self, first, last):
        rows.append(first)
        if len(rows) == 5:
            raise KeyboardInterrupt
        return read(self, first, last)

    monkeypatch.setattr(raster._Reader, "rows", stops)
    with pytest.raises(KeyboardInterrupt):
        raster.predict_raster(path, tmp_path / "out.tif", network, progress=False, **PROTOCOL)
    assert not (tmp_path / "out.tif").exists()
    parts = sorted((tmp_path / ".out.tif.parts").glob("rows_*.npz"))
    assert len(parts) >= 2
    with pytest.raises(ValueError, match="has rows"):
        raster.predict_raster(path, tmp_path / "out.tif", network, **{**PROTOCOL, "flip": True})
    parts[-1].write_bytes(parts[-1].read_bytes()[:-30])  # damaged
    del rows[:]
    rows.extend([None] * 5)
    raster.predict_raster(path, tmp_path / "out.tif", network, progress=False, **PROTOCOL)
    with rasterio.open(tmp_path / "out.tif") as file:
        np.testing.assert_array_equal(file.read(1), whole)
    assert min(rows[5:]) > 0  # the first rows were not predicted again
    assert "predicted again" in capsys.readouterr().err


@rasters
@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((70, 70, 5), "uint8"), "has 5 bands but 3 are expected"),
        (np.zeros((70, 70, 3), "uint16"), "large RGB rasters must be uint8"),
    ],
)
def test_other_rasters_are_refused(network, values, message, tmp_path):
    from keras_psp.prediction.raster import predict_raster

    path = write_raster(tmp_path / "in.tif", values)
    with pytest.raises(ValueError, match=message):
        predict_raster(path, tmp_path / "out.tif", network, **PROTOCOL)


@rasters
def test_a_segmenter_with_another_protocol_is_refused(network, tmp_path):
    from keras_psp.prediction.raster import predict_raster

    path = write_raster(tmp_path / "in.tif", scene(70, 70))
    segmenter = Segmenter(network, **PROTOCOL)
    with pytest.raises(ValueError, match="has its own protocol; make it with flip instead"):
        predict_raster(path, tmp_path / "out.tif", segmenter, flip=True)


@rasters
def test_four_bands_of_16_bits(tmp_path):
    import rasterio

    from keras_psp.prediction.raster import predict_raster

    image = RNG.integers(0, 9000, (150, 90, 4), "uint16")
    normalization = {"mean": (4500.0,) * 4, "std": (2600.0,) * 4}
    network = tiny_predictor(3, input_channels=4, **normalization)
    path = write_raster(tmp_path / "in.tif", image)
    summary = predict_raster(path, tmp_path / "out.tif", network, progress=False, **PROTOCOL)
    (whole,) = Segmenter(network, **PROTOCOL).classes([image])
    with rasterio.open(summary.path) as file:
        np.testing.assert_array_equal(file.read(1), whole)


@rasters
@pytest.mark.slow  # starts Keras twice
def test_a_killed_process_resumes(tmp_path):
    import rasterio

    image = scene(1600, 1600)
    write_raster(tmp_path / "in.tif", image)
    command = [sys.executable, "-m", "keras_psp", "predict", "in.tif", "--output", "out"]
    command += ["--crop", "128", "--max-megapixels", "0.1"]
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(command, cwd=tmp_path, stderr=log)
    deadline = time.monotonic() + 300
    while len(list(tmp_path.glob("out/.*.parts/rows_*.npz"))) < 1:
        assert process.poll() is None, (tmp_path / "log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out" / "in_classes.tif").exists()
    second = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert "resuming after row" in second.stderr
    from keras_psp.weights.opening import open_model

    assert "predicted at its own size" in second.stderr
    (whole,) = Segmenter(open_model(None), crop=128).classes([image])
    with rasterio.open(tmp_path / "out" / "in_classes.tif") as file:
        assert (file.read(1) == whole).mean() > 0.9999


@rasters
def test_nodata_that_is_nan_or_a_number_is_replaced_before_values_are_checked(tmp_path, recwarn):
    import rasterio

    from keras_psp.prediction.raster import predict_raster

    network = tiny_predictor(input_channels=1, mean=(300.0,), std=(20.0,))
    heights = RNG.normal(300, 20, (90, 80, 1)).astype("float32")
    for nodata in (np.nan, -9999.0):
        heights[:60] = nodata
        path = write_raster(tmp_path / "in.tif", heights, nodata=nodata)
        output = tmp_path / f"{nodata}.tif"
        predict_raster(path, output, network, progress=False, **PROTOCOL)
        with rasterio.open(output) as file:
            classes = file.read(1)
        assert (classes[:60] == 255).all() and (classes[60:] < 3).all()
    assert not [warning for warning in recwarn if "far from" in str(warning.message)]
