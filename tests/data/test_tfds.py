import re
import sys

import numpy as np
import pytest
from support import datasets

from keras_psp import data

pytest.importorskip("tensorflow_datasets", reason="needs the extra tfds")

FORMATS = ["array_record", "tfrecord"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    pytest.importorskip("importlib_resources", reason="tensorflow-datasets writes with it")
    pytest.importorskip("array_record", reason="has no wheels for Windows")
    folders = {}
    for file_format in FORMATS:
        folders[file_format] = tmp_path_factory.mktemp(file_format)
        datasets.prepare_pets(folders[file_format], file_format=file_format)
    return folders


@pytest.mark.parametrize("file_format", FORMATS)
def test_classes_of_pets_start_at_0(folders, file_format):
    source = data.load("tfds:oxford_iiit_pet", root=folders[file_format])
    assert source.class_names == ("pet", "background", "border")
    assert source.splits == ("train", "test")
    assert [source.count(split) for split in source.splits] == [3, 2]
    examples = list(source.examples("train").as_numpy_iterator())
    assert len(examples) == 3
    for image, mask in examples:
        assert image.shape == (datasets.HEIGHT, datasets.WIDTH, 3)
        assert image.dtype == mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, datasets.labels("oxford_iiit_pet") - 1)


def test_a_palette_can_be_an_array(folders):
    colors = np.arange(9, dtype=np.uint8).reshape(3, 3)
    source = data.TFDSSource("oxford_iiit_pet", data_dir=folders["array_record"], palette=colors)
    np.testing.assert_array_equal(source.palette, colors)


def test_array_records_are_read_in_any_order(folders):
    source = data.load("tfds:oxford_iiit_pet", root=folders["array_record"])
    in_order = [image for image, _ in source.examples("train").as_numpy_iterator()]
    for index in (2, 0, 1):
        np.testing.assert_array_equal(source.example("train", index)[0], in_order[index])
    split = data.load("tfds:oxford_iiit_pet", "test", root=folders["array_record"])
    assert len(split) == 2 and len(list(split)) == 2
    assert split[-1][1].max() == 2


def test_tfrecords_are_only_read_in_order(folders):
    split = data.load("tfds:oxford_iiit_pet", "test", root=folders["tfrecord"])
    assert not hasattr(split.source, "example")
    assert [mask.max() for _, mask in split] == [2, 2]
    with pytest.raises(TypeError, match=r"can't be read in any order; use examples\(\)"):
        _ = split[0]
    with pytest.raises(TypeError, match="doesn't keep each example in its own files"):
        split.paths()


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_network_trains_on_the_files(folders, file_format):
    datasets.train(data.load("tfds:oxford_iiit_pet", root=folders[file_format]))


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_value_without_class_is_named(tmp_path, folders, file_format):
    strange = np.full((datasets.HEIGHT, datasets.WIDTH), 4, np.uint8)
    datasets.prepare_pets(tmp_path, file_format=file_format, values=strange)
    source = data.load("tfds:oxford_iiit_pet", root=tmp_path)
    with pytest.raises(
        Exception,
        match=r"pet, example 0 of 'train' \(\d.jpg\): label value 4 doesn't occur in .*1 to 3",
    ):
        list(source.examples("train"))


def test_masks_of_any_whole_numbers_are_read_and_others_refused(tmp_path, folders):
    import tensorflow_datasets as tfds

    shape = (datasets.HEIGHT, datasets.WIDTH, 1)
    for called, value in (
        ("counts", np.int32(-1)),
        ("shares", np.float32(0.5)),
        ("flags", np.bool_(True)),
    ):
        datasets.prepare_pets(
            tmp_path,
            file_format="array_record",
            values=np.full(shape[:2], value),
            trimap=tfds.features.Tensor(shape=shape, dtype=value.dtype),
            called=called,
        )
    source = data.TFDSSource("counts", data_dir=tmp_path, class_names=("a", "b"))
    with pytest.raises(ValueError, match=r"\(\d.jpg\): label value -1 isn't in 0 to 255"):
        source.example("train", 0)
    with pytest.raises(ValueError, match="'segmentation_mask' has values of type float32; a mask"):
        data.TFDSSource("shares", data_dir=tmp_path, class_names=("a", "b"))
    flags = data.TFDSSource("flags", data_dir=tmp_path, class_names=("a", "b"))
    assert (flags.example("train", 0)[1] == 1).all()


def test_images_other_than_bytes_are_refused(tmp_path, folders):
    import tensorflow_datasets as tfds

    wide = tfds.features.Image(dtype=np.uint16, encoding_format="png")
    datasets.prepare_pets(tmp_path, file_format="array_record", image=wide, called="wide")
    with pytest.raises(ValueError, match="'image' has values of type uint16; images must be uint8"):
        data.TFDSSource("wide", data_dir=tmp_path, class_names=("a", "b"))


@pytest.mark.parametrize("file_format", FORMATS)
def test_examples_have_the_names_of_their_files(folders, tmp_path, file_format):
    source = data.load("tfds:oxford_iiit_pet", root=folders[file_format])
    names = source.names("train")
    found = [re.fullmatch(r"example (\d) of 'train' \((\d)\.jpg\)", name) for name in names]
    assert [int(match[1]) for match in found] == [0, 1, 2]
    written = np.array([datasets.random_image(index) for index in range(3)], float)
    for match, (image, _) in zip(found, source.examples("train"), strict=True):
        # Stored as JPEG; the nearest is the one of this name.
        distances = np.abs(image.numpy() - written).mean(axis=(1, 2, 3))
        assert int(match[2]) == np.argmin(distances)
    report = data.examine(source, ["train"], progress=False)
    assert [item.image for item in report.examined["train"]] == names


@pytest.mark.parametrize("file_format", FORMATS)
def test_the_check_names_a_value_without_class(tmp_path, folders, file_format):
    strange = np.full((datasets.HEIGHT, datasets.WIDTH), 4, np.uint8)
    datasets.prepare_pets(tmp_path, file_format=file_format, values=strange)
    source = data.load("tfds:oxford_iiit_pet", root=tmp_path)
    # The error itself, not TensorFlow's about it.
    with pytest.raises(ValueError, match=r"^oxford_iiit_pet, example 0 of 'train' \(\d.jpg\): la"):
        data.examine(source, ["train"], progress=False)


def test_features_and_classes_can_be_given(folders):
    source = data.TFDSSource(
        "oxford_iiit_pet",
        data_dir=folders["array_record"],
        image="image",
        mask="segmentation_mask",
        lookup={1: 1, 2: 0, 3: 255},
        class_names=("other", "pet"),
        palette=[[0, 0, 0], [9, 9, 9]],
    )
    assert source.palette.tolist() == [[0, 0, 0], [9, 9, 9]]
    mask = source.example("train", 0)[1]
    assert mask[0, :3].tolist() == [1, 0, 255]


def test_wrong_feature_lists_the_image_features(folders):
    with pytest.raises(ValueError, match=r"'image' isn't an image of 1 channel\(s\), as the mask"):
        data.TFDSSource("oxford_iiit_pet", data_dir=folders["array_record"], mask="image")
    with pytest.raises(ValueError, match=r"segmentation_mask \(None, None, 1\)\. Pass image="):
        data.TFDSSource("oxford_iiit_pet", data_dir=folders["array_record"], image="label")


def test_unknown_splits_and_sets_are_named(folders, tmp_path):
    with pytest.raises(ValueError, match="Split 'val' is unknown; oxford_iiit_pet has train, test"):
        data.load("tfds:oxford_iiit_pet", "val", root=folders["array_record"])
    with pytest.raises(ValueError, match="tensorflow-datasets has no data set 'pets_of_mine'"):
        data.load("tfds:pets_of_mine", root=tmp_path)


def test_error_about_an_unprepared_set_says_how_to_prepare_it(tmp_path):
    with pytest.raises(ValueError, match=r"isn't prepared in .*download=True, or run `tfds build"):
        data.load("tfds:oxford_iiit_pet", root=tmp_path)


def test_error_without_tfds_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match=r'pip install "keras-psp\[tfds\]"'):
        data.load("tfds:oxford_iiit_pet")
