import numpy as np
import pytest

from keras_psp.data import training_batches
from keras_psp.data.split import Split


def test_split_is_a_sequence(source):
    train = Split(source, "train")
    assert len(train) == 4
    assert [int(mask[0, 0]) for _, mask in train] == [0, 1, 255, 0]
    np.testing.assert_array_equal(train[-1][0], source.example("train", 3)[0])
    assert [int(mask[0, 0]) for _, mask in train[1:3]] == [1, 255]
    with pytest.raises(IndexError):
        _ = train[4]
    assert train.paths() == source.paths("train")
    assert (train.class_names, train.ignore_class, train.num_classes) == (
        source.class_names,
        255,
        3,
    )
    np.testing.assert_array_equal(train.palette, source.palette)
    assert [int(mask[0, 0]) for _, mask in train.examples()] == [0, 1, 255, 0]
    assert repr(train) == "<Split 'train': 4 examples, 3 classes>"


def test_split_is_refused_as_a_source(source):
    with pytest.raises(TypeError, match=r"pass its \.source and split='train'"):
        training_batches(Split(source, "train"), batch_size=2, crop_size=4)


def test_masks_of_an_unlabeled_split_are_none(unlabeled):
    test = Split(unlabeled, "test")
    assert not test.labeled
    image, mask = test[1]
    assert image.shape == (4, 6, 3) and mask is None


def test_split_must_exist(source):
    with pytest.raises(ValueError, match="Split 'dev' is unknown"):
        Split(source, "dev")
