import numpy as np
import pytest
from PIL import Image
from support.rasters import band_folder, band_image, write_raster

from keras_psp.data import (
    ImageFolder,
    JoinedPairs,
    band_statistics,
    evaluation_batches,
    training_batches,
)
from keras_psp.data.bands import read_bands
from keras_psp.data.identity import data_difference, data_identity

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_tiffs_have_the_values_of_the_file(dtype, tmp_path):
    pytest.importorskip("rasterio", reason="rasterio isn't installed")
    values = (1000 * RNG.normal(size=(7, 9, 5))).astype(dtype)
    path = write_raster(tmp_path / "a.tif", values)
    read = read_bands(path, 5)
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, values)
    np.testing.assert_array_equal(read_bands(path.read_bytes(), 5), values)


def test_pngs_are_read_without_rasterio(tmp_path):
    gray = RNG.integers(0, 256, (6, 5), "uint8")
    deep = RNG.integers(0, 65536, (6, 5), "uint16")
    four = RNG.integers(0, 256, (6, 5, 4), "uint8")
    for values in (gray, deep, four):
        Image.fromarray(values).save(tmp_path / "a.png")
        read = read_bands(tmp_path / "a.png", values[..., None].shape[2])
        assert read.dtype == values.dtype
        np.testing.assert_array_equal(read.reshape(values.shape), values)


def test_gray_photos_may_be_stored_in_rgb(tmp_path):
    gray = RNG.integers(0, 256, (6, 5), "uint8")
    Image.fromarray(gray).convert("RGB").save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_bands(tmp_path / "a.png", 1)[..., 0], gray)


def test_gray_photos_are_turned_upright(tmp_path):
    image = Image.fromarray(RNG.integers(0, 256, (6, 5), "uint8"))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.png", exif=exif)
    expected = np.rot90(np.asarray(image), -1)
    np.testing.assert_array_equal(read_bands(tmp_path / "a.png", 1)[..., 0], expected)


@pytest.mark.parametrize(
    ("values", "channels", "message"),
    [
        (np.zeros((4, 4, 3), "uint8") + np.arange(3, dtype="uint8"), 1, "has 3 bands but 1 is exp"),
        (np.zeros((4, 4, 5), "uint8"), 4, "has 5 bands but 4 are expected; give channels=5"),
        (np.zeros((4, 4, 2), "float64"), 2, "has values of type float64; convert them to one of"),
        (np.full((4, 4, 2), np.nan, "float32"), 2, "has values that are NaN or infinite"),
        (np.zeros(4, "uint8"), 1, r"has shape \(4,\); it must be \(height, width, 1\)"),
    ],
)
def test_other_bands_are_refused(values, channels, message):
    with pytest.raises(ValueError, match=message):
        read_bands(values, channels)


def test_palettes_and_16_bits_that_pillow_halves_are_refused(tmp_path):
    Image.new("P", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png: can't be read as bands .*Pillow's mode P"):
        read_bands(tmp_path / "a.png", 1)


def test_a_tiff_without_rasterio_names_the_extra(tmp_path, monkeypatch):
    Image.new("L", (4, 4)).save(tmp_path / "a.tif")
    monkeypatch.setitem(__import__("sys").modules, "rasterio", None)
    with pytest.raises(ImportError, match=r'pip install "keras-psp\[raster\]"'):
        read_bands(tmp_path / "a.tif", 1)


def test_other_files_than_tiffs_are_not_opened_by_gdal(tmp_path):
    pytest.importorskip("rasterio", reason="rasterio isn't installed")
    from keras_psp.data.bands import opened_raster

    (tmp_path / "a.tif").write_text("<VRTDataset/>")
    with (
        pytest.raises(ValueError, match=r"a\.tif: can't be read"),
        opened_raster(tmp_path / "a.tif"),
    ):
        pass


def test_band_statistics_are_those_of_all_pixels(tmp_path):
    source = ImageFolder(band_folder(tmp_path, 1, "uint16", suffix=".png"), channels=1)
    pixels = np.concatenate([source.image("train", i).reshape(-1, 1) for i in range(4)])
    measured = band_statistics(source, progress=False)
    np.testing.assert_allclose(measured.mean, pixels.astype(float).mean(0))
    np.testing.assert_allclose(measured.std, pixels.astype(float).std(0))
    assert (measured.dtype, measured.pixels) == ("uint16", len(pixels))


def test_a_constant_band_is_refused(tmp_path):
    source = ImageFolder(band_folder(tmp_path, 1, suffix=".png"), channels=1)
    source.example = lambda split, index: (np.full((4, 4, 1), 7, "uint8"), None)
    with pytest.raises(ValueError, match="band 1 is 7 in all images of split 'train'"):
        band_statistics(source, progress=False)


@pytest.mark.parametrize("rotate", [0, 10])
def test_crops_have_the_values_in_the_files(rotate, tmp_path):
    pytest.importorskip("rasterio", reason="rasterio isn't installed")
    source = ImageFolder(band_folder(tmp_path, 5, "uint16"), channels=5)
    arguments = {"batch_size": 2, "crop_size": 96, "blur": True, "rotate": rotate}
    fill = (1.0, 2.0, 3.0, 4.0, 5.0)
    for images, masks in training_batches(source, fill=fill, **arguments):
        assert images.shape == (2, 96, 96, 5)
        images, masks = images.numpy(), masks.numpy()
        np.testing.assert_allclose(images[masks == 255].min(0), fill, rtol=1e-3)
        assert 5000 < images.max() < 9000
        # The last band tells the classes apart, but for interpolation at their border.
        assert images[masks == 1][:, 4].mean() > 1.5 * images[masks == 0][:, 4].mean()
    ((images, masks),) = evaluation_batches(source, split="val")
    np.testing.assert_array_equal(images[0], source.example("val", 0)[0])


def test_resized_crops_keep_16_bits(tmp_path):
    source = ImageFolder(band_folder(tmp_path, 1, "uint16", suffix=".png"), channels=1)
    batches = training_batches(
        source, batch_size=2, crop_size=32, image_size=(32, 40), scale=(1, 1), fill=(0,)
    )
    assert max(images.numpy().max() for images, _ in batches) > 2000


def test_colors_are_changed_in_rgb_only(tmp_path):
    source = ImageFolder(band_folder(tmp_path, 1, suffix=".png"), channels=1)
    arguments = {"batch_size": 2, "crop_size": 32}
    with pytest.raises(ValueError, match="color is 1, but the images have 1 bands"):
        training_batches(source, fill=(0,), color=1.0, **arguments)
    with pytest.raises(ValueError, match="it must be one number per band, 1"):
        training_batches(source, **arguments)


def test_files_of_two_types_are_refused(tmp_path):
    root = band_folder(tmp_path, 1, suffix=".png")
    image, _ = band_image((64, 80), 1, "uint16", 1)
    Image.fromarray(image[..., 0]).save(root / "train" / "images" / "train1.png")
    with pytest.raises(ValueError, match=r"train1\.png: has values of type uint16, but the first"):
        ImageFolder(root, channels=1).check(progress=False)
    with pytest.raises(ValueError, match=r"train1\.png: has values of type uint16, but the first"):
        ImageFolder(root, channels=1).example("train", 1)


def test_the_identity_of_data_includes_its_bands(tmp_path):
    root = band_folder(tmp_path, 1, suffix=".png")
    gray, rgb = ImageFolder(root, channels=1), ImageFolder(root)
    stored, present = (data_identity(source, ["train"]) for source in (rgb, gray))
    assert "bands" not in stored
    assert data_difference(stored, present).startswith(
        "the images' bands are 1 of uint8, not 3 of uint8"
    )
    with pytest.raises(ValueError, match="its images have 3 bands, not 1"):
        JoinedPairs([gray, rgb])
