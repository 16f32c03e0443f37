import numpy as np
import pytest
from PIL import Image

from keras_psp.data import epoch_order
from keras_psp.palette import VOID_COLOR
from keras_psp.training import augmented_samples, contact_sheet


class Plain:
    """Image k is of class k and entirely gray."""

    class_names = ("zero", "one", "two")
    palette = np.array([(200, 0, 0), (0, 200, 0), (0, 0, 200)], np.uint8)
    ignore_class = 255
    num_classes = 3
    splits = ("train",)

    def __init__(self):
        self.reads = []

    def count(self, split):
        return 3

    def example(self, split, index):
        self.reads.append(index)
        return np.full((20, 30, 3), 100, np.uint8), np.full((20, 30), index, np.uint8)


ARGUMENTS = {"crop_size": (20, 30), "scale": (1, 1), "mirror": False, "rows": 2, "columns": 2}


def test_samples_are_the_first_training_crops_tinted_with_their_labels():
    source = Plain()
    image = np.asarray(augmented_samples(source, seed=3, alpha=0.5, **ARGUMENTS))
    order = [*epoch_order(3, seed=3, epoch=0), epoch_order(3, seed=3, epoch=1)[0]]
    # Crops of 280 x 187 pixels, 10 apart.
    for cell, index in enumerate(order):
        y, x = 10 + cell // 2 * 197 + 90, 10 + cell % 2 * 290 + 140
        np.testing.assert_array_equal(image[y, x], 50 + source.palette[index] / 2)
    for color in source.palette[np.unique(order)]:  # the legend
        assert (image[2 * 197 :] == color).all(-1).any()


def test_only_the_samples_are_read():
    source = Plain()
    augmented_samples(source, **{**ARGUMENTS, "rows": 1, "columns": 1})
    assert epoch_order(3, seed=0, epoch=0)[0] in source.reads
    # tf.data reads ahead, but not for ever.
    assert len(source.reads) < 50


def test_ignored_pixels_are_hatched_and_in_the_legend():
    arguments = {**ARGUMENTS, "crop_size": (40, 60)}
    inside = np.asarray(augmented_samples(Plain(), **ARGUMENTS))
    padded = np.asarray(augmented_samples(Plain(), **arguments))
    void = np.array(VOID_COLOR)
    assert not (inside[:390] == void).all(-1).any()
    corner = (padded[10:50, 10:290] == void).all(-1)
    assert 0.2 < corner.mean() < 0.3  # two of eight diagonals


def test_cutout_and_class_mix_are_seen():
    plain = np.asarray(augmented_samples(Plain(), **ARGUMENTS))
    holes = np.asarray(augmented_samples(Plain(), cutout=1.0, **ARGUMENTS))
    cells = slice(10, 390), slice(10, 580)
    assert not (plain[cells] == np.array(VOID_COLOR)).all(-1).any()
    assert (holes[cells] == np.array(VOID_COLOR)).all(-1).any()

    class Halves(Plain):
        def example(self, split, index):
            image, mask = super().example(split, index)
            mask[:, 15:] = (index + 1) % 3
            return image, mask

    halves = np.asarray(augmented_samples(Halves(), **ARGUMENTS))
    mixed = np.asarray(augmented_samples(Halves(), class_mix=1.0, **ARGUMENTS))
    assert (mixed[cells] != halves[cells]).any()


def test_the_image_is_saved(tmp_path):
    path = tmp_path / "runs" / "samples.png"
    image = augmented_samples(Plain(), path=path, **ARGUMENTS)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), np.asarray(image))
    assert [file.name for file in path.parent.iterdir()] == ["samples.png"]


def test_invalid_arguments_are_those_of_training_batches():
    with pytest.raises(ValueError, match="crop_size is 0; it must be"):
        augmented_samples(Plain(), crop_size=0)


def test_a_page_has_rows_and_columns():
    with pytest.raises(ValueError, match="rows is 0; it must be an integer >= 1"):
        augmented_samples(Plain(), crop_size=32, rows=0)
    with pytest.raises(ValueError, match="columns is 0; it must be an integer >= 1"):
        contact_sheet(None, columns=0)
