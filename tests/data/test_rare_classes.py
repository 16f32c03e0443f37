import numpy as np
import pytest

from keras_psp.data import ImagePairs, batch_examples, training_batches
from keras_psp.data.rare_classes import TARGETS, drawn_for_classes


class Painted(ImagePairs):
    """Images of 60x80 of class 0, with a spot of 6x6 of class 2 in one of ten, and of 1 in half."""

    def __init__(self):
        super().__init__({"train": [(None, None)] * 10}, class_names=("a", "b", "c", "d"))

    def mask(self, index):
        mask = np.zeros((60, 80), np.uint8)
        if index == 3:
            mask[40:46, 70:76] = 2
        if index % 2:
            mask[:30, :40] = 1
        mask[:, :2] = 255
        return mask

    def example(self, split, index):
        mask = self.mask(index)
        return np.repeat(mask[..., None], 3, axis=2), mask

    @property
    def pixels(self):
        return np.array([np.bincount(self.mask(i).ravel(), minlength=256)[:4] for i in range(10)])


def masks(epochs=40, **arguments):
    source = Painted()
    arguments = {
        "batch_size": 5,
        "crop_size": 24,
        "scale": (1.0, 1.0),
        "mirror": False,
        **arguments,
    }
    batches = training_batches(source, epochs=epochs, **arguments)
    return np.concatenate([mask for _, mask in batches.as_numpy_iterator()])


def test_classes_are_drawn_equally_often():
    order = np.arange(1000) % 10
    pixels = Painted().pixels
    drawn, targets = drawn_for_classes(order, pixels, 0.6, seed=1, epoch=2)
    assert targets.shape == (1000, TARGETS)
    chosen = targets[:, 0]
    assert 550 < (chosen >= 0).sum() < 650
    np.testing.assert_array_equal(drawn[chosen < 0], order[chosen < 0])
    for index in range(3):
        assert 150 < (chosen == index).sum() < 250
        assert pixels[drawn[chosen == index], index].all()
    assert not (chosen == 3).any()  # no image has it
    assert set(drawn[chosen == 2]) == {3}
    other, _ = drawn_for_classes(order, pixels, 0.6, seed=1, epoch=3)
    assert (other != drawn).any()


@pytest.mark.parametrize("rotate", [0.0, 30.0])
@pytest.mark.parametrize("mirror", [False, True])
def test_crops_show_the_class_they_are_drawn_for(mirror, rotate):
    arguments = {"mirror": mirror, "rotate": rotate}
    shares = {
        share: np.mean(
            [
                (mask == 2).any()
                for mask in masks(rare_classes=share, class_pixels=Painted().pixels, **arguments)
            ]
        )
        for share in (0.0, 1.0)
    }
    assert shares[0.0] < 0.06  # one of ten images, one of several places
    # A third is drawn for class 2, and a spot that is turned out of the image isn't shown.
    assert shares[1.0] > 0.27


@pytest.mark.parametrize(
    ("scale", "top", "left"),
    [(0.5, 14, 19), (1.0, 4, 14), (2.0, 0, 4)],  # the last crops end at the image's edge
)
def test_the_class_is_anywhere_in_the_crops(scale, top, left):
    found = masks(rare_classes=1.0, class_pixels=Painted().pixels, scale=(scale, scale), epochs=60)
    rows, columns = np.nonzero((found == 2).any(0))
    assert top <= rows.min() <= top + 2 and left <= columns.min() <= left + 2
    assert rows.max() >= 22 and columns.max() >= 22


def test_crops_of_one_class_are_redrawn():
    def largest(mask):
        counts = np.bincount(mask[mask != 255], minlength=4)
        return counts.max() / max(1, counts.sum())

    free = [largest(mask) for mask in masks()]
    redrawn = [largest(mask) for mask in masks(max_class_share=0.75)]
    # Half of the images have one class only, which no position changes.
    assert np.mean(np.array(free) > 0.75) > 0.8
    assert 0.5 <= np.mean(np.array(redrawn) > 0.75) < 0.62


def test_a_share_of_one_and_none_change_nothing():
    for arguments in ({"max_class_share": 1.0}, {"rare_classes": 0.0}):
        np.testing.assert_array_equal(masks(**arguments), masks())


def test_resuming_and_names_of_a_batch_are_those_of_the_epoch():
    source, pixels = Painted(), Painted().pixels
    arguments = {"batch_size": 5, "rare_classes": 0.7, "class_pixels": pixels, "seed": 3}
    options = {**arguments, "crop_size": (60, 80), "scale": (1.0, 1.0), "mirror": False}
    whole = list(training_batches(source, epochs=3, **options).as_numpy_iterator())
    rest = list(
        training_batches(
            source, first_epoch=1, first_step=1, epochs=3, **options
        ).as_numpy_iterator()
    )
    assert len(rest) == 3
    for (_, one), (_, other) in zip(whole[3:], rest, strict=True):
        np.testing.assert_array_equal(one, other)
    for epoch in range(3):
        for step in range(2):
            indices = batch_examples(source, epoch=epoch, step=step, **arguments)
            expected = [source.mask(index) for index in indices]
            np.testing.assert_array_equal(whole[2 * epoch + step][1], expected)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"rare_classes needs class_pixels, .* of shape \(10, 4\)"):
        masks(rare_classes=0.5)
    with pytest.raises(ValueError, match=r"it has shape \(9, 4\)"):
        masks(rare_classes=0.5, class_pixels=Painted().pixels[1:])
    with pytest.raises(ValueError, match="rare_classes is 2; it must be"):
        masks(rare_classes=2)
    with pytest.raises(ValueError, match="max_class_share is 0; it must be"):
        masks(max_class_share=0)
