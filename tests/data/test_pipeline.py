import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_psp.data import (
    GeneratedScenes,
    batch_examples,
    epoch_order,
    evaluation_batches,
    training_batches,
)
from keras_psp.data.pipeline import _plan

MEAN = (123.675, 116.28, 103.53)


class ArraySource:
    """A source in memory, with images of one or several sizes."""

    class_names = tuple(f"class {index}" for index in range(10))
    palette = np.zeros((10, 3), np.uint8)
    ignore_class = 255
    num_classes = 10
    splits = ("train",)

    def __init__(self, images, masks):
        self.images, self.masks = images, masks
        self.reads = []

    def repeated(self, times):
        return ArraySource(self.images.repeat(times, 0), self.masks.repeat(times, 0))

    def count(self, split):
        return len(self.images)

    def example(self, split, index):
        self.reads.append(index)
        return self.images[index], self.masks[index]

    def sizes(self, split):
        return [mask.shape for mask in self.masks]

    def examples(self, split):
        def pairs():
            yield from zip(self.images, self.masks, strict=True)

        return tf.data.Dataset.from_generator(
            pairs,
            output_signature=(
                tf.TensorSpec((None, None, 3), tf.uint8),
                tf.TensorSpec((None, None), tf.uint8),
            ),
        )


class SequentialSource:
    """The same without random access, like some users' sources."""

    def __init__(self, source_images):
        self.ignore_class = source_images.ignore_class
        self.count, self.examples = source_images.count, source_images.examples


def noise(count=6, height=8, width=10):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, height, width, 3), np.uint8)
    return ArraySource(images, random.integers(0, 10, (count, height, width), np.uint8))


def blocks(count=8, side=24):
    """Masks of 4x4 blocks; the gray values of an image are 25 times its mask."""
    random = np.random.default_rng(1)
    small = random.integers(0, 10, (count, side // 4, side // 4), np.uint8)
    masks = small.repeat(4, axis=1).repeat(4, axis=2)
    return ArraySource(np.stack([masks * 25] * 3, -1).astype(np.uint8), masks)


def numbered(count=8, height=4, width=4):
    """Every pixel of image k has class k."""
    masks = np.arange(count, dtype=np.uint8)[:, None, None]
    masks = np.broadcast_to(masks, (count, height, width)).copy()
    return ArraySource(np.stack([masks] * 3, -1), masks)


def collected(batches):
    images, masks = zip(*batches.as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(masks)


PLAIN = {"scale": (1, 1), "mirror": False}


# --- Training -----------------------------------------------------------------


def test_without_scale_mirror_and_crop_the_image_is_unchanged():
    source = noise()
    images, masks = collected(training_batches(source, batch_size=1, crop_size=(8, 10), **PLAIN))
    order = [next(i for i in range(6) if np.array_equal(source.masks[i], mask)) for mask in masks]
    assert sorted(order) == list(range(6))
    np.testing.assert_array_equal(masks, source.masks[order])
    np.testing.assert_array_equal(images, source.images[order].astype(np.float32))
    assert images.dtype == np.float32
    assert masks.dtype == np.int32


def test_images_and_masks_are_mirrored_together():
    source = noise(count=1).repeated(20)
    batches = training_batches(source, batch_size=20, crop_size=(8, 10), scale=(1, 1), mirror=True)
    seen = set()
    for image, mask in zip(*collected(batches), strict=True):
        flipped = np.array_equal(mask, source.masks[0][:, ::-1])
        step = -1 if flipped else 1
        np.testing.assert_array_equal(mask, source.masks[0][:, ::step])
        np.testing.assert_array_equal(image, source.images[0][:, ::step])
        seen.add(flipped)
    assert seen == {False, True}


def test_crops_are_parts_of_the_image_at_every_position():
    source = noise(count=1, height=4, width=5).repeated(60)
    batches = training_batches(source, batch_size=60, crop_size=(3, 3), **PLAIN)
    positions = set()
    for image in collected(batches)[0]:
        matches = [
            (y, x)
            for y in range(2)
            for x in range(3)
            if np.array_equal(image, source.images[0][y : y + 3, x : x + 3])
        ]
        positions.update(matches)
        assert len(matches) == 1
    assert positions == {(y, x) for y in range(2) for x in range(3)}


@pytest.mark.parametrize("mirror", [False, True])
def test_padding_is_half_on_either_side_with_the_odd_pixel_last(mirror):
    # semseg/util/transform.py, Crop: 3 rows and 5 columns too few.
    source = noise(count=1, height=4, width=5)
    images, masks = collected(
        training_batches(source, batch_size=1, crop_size=(7, 10), scale=(1, 1), mirror=mirror)
    )
    inside = np.zeros((7, 10), bool)
    inside[1:5, 2:7] = True
    assert (masks[0][~inside] == 255).all()
    np.testing.assert_allclose(images[0][~inside], np.tile(MEAN, (50, 1)), rtol=1e-6)
    flips = [np.array_equal(masks[0][1:5, 2:7], source.masks[0][:, ::s]) for s in (1, -1)]
    assert any(flips)
    if not mirror:
        np.testing.assert_array_equal(images[0][1:5, 2:7], source.images[0])


def test_padding_has_the_given_fill_and_ignore_class():
    source = noise(count=1, height=2, width=2)
    source.ignore_class = 17
    images, masks = collected(
        training_batches(source, batch_size=1, crop_size=4, fill=(1, 2, 3), **PLAIN)
    )
    assert masks[0, 0].tolist() == [17] * 4
    assert images[0, 0, 0].tolist() == [1, 2, 3]


def test_scale_2_repeats_labels_and_interpolates_the_image():
    source = ArraySource(
        np.array([[[0] * 3, [100] * 3]], np.uint8)[None], np.array([[[3, 7]]], np.uint8)
    )
    images, masks = collected(
        training_batches(source, batch_size=1, crop_size=(2, 4), scale=(2, 2), mirror=False)
    )
    assert masks[0].tolist() == [[3, 3, 7, 7]] * 2
    # The centers of the four pixels are at -0.25, 0.25, 0.75 and 1.25 of the old ones.
    np.testing.assert_allclose(images[0, ..., 0], [[0, 25, 75, 100]] * 2, atol=1e-4)


def test_scale_one_half_averages_two_neighbors():
    image = np.repeat(np.arange(0, 80, 10, dtype=np.uint8)[None, :], 2, axis=0)
    source = ArraySource(np.stack([image] * 3, -1)[None], np.zeros((1, 2, 8), np.uint8))
    images, masks = collected(
        training_batches(source, batch_size=1, crop_size=(1, 6), scale=(0.5, 0.5), mirror=False)
    )
    np.testing.assert_allclose(images[0, 0, :, 0], [MEAN[0], 5, 25, 45, 65, MEAN[0]], atol=1e-4)
    assert masks[0, 0].tolist() == [255, 0, 0, 0, 0, 255]


@pytest.mark.parametrize("rotate", [0, 10])
def test_image_and_labels_stay_aligned_under_all_augmentation(rotate):
    source = blocks()
    batches = training_batches(source, batch_size=4, crop_size=(20, 28), seed=3, rotate=rotate)
    interior = 0
    for _ in range(5):
        images, masks = collected(batches)
        assert set(np.unique(masks)) <= set(range(10)) | {255}
        # Where a pixel and all within two of it have one label, only that label's gray
        # can have been interpolated. (Two: as in OpenCV, a label is taken at its pixel's
        # corner, half a pixel of the source from where the image is sampled.)
        near = range(-2, 3)
        around = np.stack(
            [np.roll(masks, (y, x), (1, 2))[:, 2:-2, 2:-2] for y in near for x in near]
        )
        uniform = (around == around[0]).all(0)
        gray, label = images[:, 2:-2, 2:-2][uniform], masks[:, 2:-2, 2:-2][uniform]
        expected = np.where((label == 255)[:, None], MEAN, (label * 25)[:, None])
        np.testing.assert_allclose(gray, expected, atol=0.01)
        interior += int((label != 255).sum())
    assert interior > 500


def test_half_of_the_images_are_rotated_and_half_blurred():
    image = np.random.default_rng(0).integers(0, 256, (1, 24, 24, 3), np.uint8)
    source = ArraySource(image, np.zeros((1, 24, 24), np.uint8)).repeated(60)
    options = {"batch_size": 60, "crop_size": 24, "scale": (1, 1), "mirror": False}

    def share_unchanged(**arguments):
        batches = training_batches(source, **options, **arguments)
        same = np.isclose(collected(batches)[0], image, atol=1e-2)
        return same.all((1, 2, 3)).mean()

    assert 0.3 < share_unchanged(rotate=(5, 10)) < 0.7
    assert 0.3 < share_unchanged(blur=True) < 0.7


def test_fill_is_never_blended_with_the_image():
    # Black images: a blended edge would be neither black nor the mean.
    source = ArraySource(np.zeros((8, 9, 11, 3), np.uint8), np.zeros((8, 9, 11), np.uint8))
    for image, mask in zip(
        *collected(training_batches(source, batch_size=8, crop_size=25)), strict=True
    ):
        assert (image[mask == 0] == 0).all()
        np.testing.assert_allclose(
            image[mask == 255], np.broadcast_to(MEAN, image[mask == 255].shape)
        )


def test_scales_cover_their_range():
    source = ArraySource(np.zeros((40, 20, 20, 3), np.uint8), np.zeros((40, 20, 20), np.uint8))
    _, masks = collected(training_batches(source, batch_size=40, crop_size=40, scale=(0.5, 1.5)))
    heights = (masks == 0).any(2).sum(1)
    widths = (masks == 0).any(1).sum(1)
    np.testing.assert_array_equal(heights, widths)  # one factor for both axes
    assert 10 <= heights.min() < 14
    assert 26 < heights.max() <= 30


def test_seed_and_epoch_determine_the_batches():
    def epochs(count, **arguments):
        batches = training_batches(blocks(), batch_size=2, crop_size=16, **arguments)
        return [collected(batches) for _ in range(count)]

    first, again = epochs(3, seed=5), epochs(3, seed=5)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[1], b[1])
    assert not np.array_equal(first[0][1], first[1][1])
    assert not np.array_equal(first[1][1], first[2][1])
    assert not np.array_equal(first[0][1], epochs(1, seed=6)[0][1])
    # Resumed: the third epoch alone is the third epoch.
    np.testing.assert_array_equal(epochs(1, seed=5, first_epoch=2)[0][0], first[2][0])


MIXED = {"cutout": 0.5, "class_mix": 0.6, "rotate": 10, "color": 1.0}


def test_without_cutout_and_class_mix_the_draws_are_those_of_before():
    # Runs that older versions started draw the order, then three times four numbers per example.
    random = np.random.default_rng([3, 7])
    order = random.permutation(5)[:4].reshape(2, 2)
    draws = np.concatenate([random.random((4, 4), dtype=np.float32) for _ in range(3)], 1)
    planned, numbers = _plan(5, 2, seed=3, epoch=7)
    np.testing.assert_array_equal(planned, order)
    np.testing.assert_array_equal(numbers.reshape(4, -1)[:, :12], draws)


def test_classes_of_the_next_example_are_pasted():
    # Image k has class 2k on the left and 2k + 1 on the right.
    count, pairs = 5, np.arange(10, dtype=np.uint8).reshape(5, 1, 2, 1)
    masks = np.broadcast_to(pairs, (5, 4, 2, 3)).reshape(5, 4, 6).copy()
    source = ArraySource(np.stack([masks * 20] * 3, -1), masks)
    arguments = {"batch_size": 2, "crop_size": (4, 6), "seed": 2, **PLAIN}
    mixed = 0
    for epoch in range(6):
        batches = training_batches(source, class_mix=0.5, first_epoch=epoch, **arguments)
        images, labels = collected(batches)
        order = epoch_order(count, seed=2, epoch=epoch)[:4]
        for image, mask, index, following in zip(
            images, labels, order, np.roll(order, -1), strict=True
        ):
            np.testing.assert_array_equal(image[..., 0], mask * 20)
            changed = mask != masks[index]
            mixed += changed.any()
            # One of two classes, from where it is in the other image.
            np.testing.assert_array_equal(mask[changed], masks[following][changed])
            assert changed.sum() in (0, 12)
    assert 6 <= mixed <= 18  # 12 of 24 are expected


def test_cutout_ignores_what_it_fills():
    source = blocks().repeated(4)
    arguments = {"batch_size": 32, "crop_size": 24, "fill": (1, 2, 3), **PLAIN}
    images, masks = collected(training_batches(source, cutout=0.5, **arguments))
    hole = masks == 255
    np.testing.assert_array_equal(images[hole], np.tile((1, 2, 3), (hole.sum(), 1)))
    np.testing.assert_array_equal(images[~hole][:, 0], masks[~hole] * 25)
    assert 8 <= hole.any((1, 2)).sum() <= 24
    everywhere = collected(training_batches(source, cutout=1.0, **arguments))[1]
    assert (everywhere == 255).any((1, 2)).all()


def test_mixed_batches_resume_and_divide_exactly():
    arguments = {"batch_size": 2, "crop_size": 16, "seed": 3, **MIXED}
    whole = list(training_batches(blocks(), first_epoch=1, **arguments).as_numpy_iterator())
    plain = training_batches(blocks(), **{**arguments, "class_mix": 0}, first_epoch=1)
    assert any((a[1] != b[1]).any() for a, b in zip(whole, plain.as_numpy_iterator(), strict=True))
    resumed = training_batches(blocks(), first_epoch=1, first_step=2, epochs=2, **arguments)
    for ours, theirs in zip(resumed.as_numpy_iterator(), whole[2:], strict=True):
        for part, expected in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(part, expected)
    workers = [
        training_batches(blocks(), first_epoch=1, shard=(index, 2), **arguments)
        for index in range(2)
    ]
    together = zip(*(worker.as_numpy_iterator() for worker in workers), strict=True)
    for parts, theirs in zip(together, whole, strict=True):
        for kind in range(2):
            np.testing.assert_array_equal(
                np.concatenate([part[kind] for part in parts]), theirs[kind]
            )


def test_repeat_continues_with_the_next_epochs_so_that_skip_resumes():
    def stream(**arguments):
        return training_batches(numbered(), batch_size=2, crop_size=4, **arguments)

    whole = collected(stream().repeat().take(12))[1]
    resumed = collected(stream(first_epoch=1).repeat().skip(3).take(5))[1]
    np.testing.assert_array_equal(resumed, whole[2 * 7 :])


def test_first_step_reads_only_the_rest_of_the_epoch():
    def stream(source, **arguments):
        return training_batches(source, batch_size=2, crop_size=16, seed=3, **arguments)

    whole = list(stream(blocks(), first_epoch=1).as_numpy_iterator())
    source = blocks()
    resumed = stream(source, first_epoch=1, first_step=3)
    rest = list(resumed.as_numpy_iterator())
    assert len(rest) == 1
    np.testing.assert_array_equal(rest[0][0], whole[3][0])
    np.testing.assert_array_equal(rest[0][1], whole[3][1])
    assert sorted(source.reads) == sorted(epoch_order(8, seed=3, epoch=1)[6:])
    # The passes after it are whole, so a length would be wrong for one or the other.
    assert len(list(resumed)) == 4
    assert resumed.cardinality() == tf.data.UNKNOWN_CARDINALITY


def test_with_epochs_every_pass_contains_all_that_is_left():
    def labels(batches):
        return collected(batches)[1][:, 0, 0].tolist()

    def stream(**arguments):
        return training_batches(numbered(9), batch_size=2, crop_size=4, **PLAIN, **arguments)

    one_by_one = stream()
    expected = [label for _ in range(4) for label in labels(one_by_one)]
    left = stream(first_epoch=1, first_step=3, epochs=4)
    assert len(left) == 1 + 2 * 4
    assert labels(left) == expected[8 + 6 :]
    next(iter(left))  # a look at the shapes
    assert labels(left) == expected[8 + 6 :]


@pytest.mark.parametrize("first", [(0, 0), (1, 2)])
def test_fit_resumed_within_an_epoch_sees_the_same_batches(first):
    class Recorded(keras.Model):
        seen = []

        def train_step(self, data):
            tf.py_function(
                lambda mask: self.seen.append(mask[:, 0, 0].numpy().tolist()), [data[1]], []
            )
            return {"loss": 0.0}

    def fit(**arguments):
        batches = training_batches(numbered(), batch_size=2, crop_size=4, **PLAIN, **arguments)
        epochs, first_epoch = arguments["epochs"], arguments["first_epoch"]
        steps = None if arguments.get("first_step") else 4
        model.fit(
            batches, epochs=epochs, initial_epoch=first_epoch, steps_per_epoch=steps, verbose=0
        )

    model = Recorded()
    model.compile()
    if first == (0, 0):
        fit(first_epoch=0, epochs=4)
    else:
        fit(first_epoch=1, first_step=2, epochs=2)
        fit(first_epoch=2, epochs=4)
    order = np.concatenate([epoch_order(8, seed=0, epoch=epoch) for epoch in range(4)])
    epoch, step = first
    assert model.seen == order.reshape(-1, 2)[epoch * 4 + step :].tolist()


def test_epoch_order_and_batch_examples_predict_what_is_read():
    source = numbered(11)
    arguments = {"batch_size": 3, "seed": 4}
    batches = training_batches(source, crop_size=4, first_epoch=2, **arguments, **PLAIN)
    examples = [mask[:, 0, 0].tolist() for _, mask in batches.as_numpy_iterator()]
    order = epoch_order(11, seed=4, epoch=2)
    assert sorted(order) == list(range(11))
    assert np.concatenate(examples).tolist() == order[:9].tolist()
    for step in range(3):
        assert batch_examples(source, epoch=2, step=step, **arguments) == examples[step]
    part = batch_examples(source, epoch=2, step=1, shard=(2, 3), **arguments)
    assert part == examples[1][2:]
    with pytest.raises(ValueError, match=r"step is 3, but an epoch has 3 step\(s\)"):
        batch_examples(source, epoch=2, step=3, **arguments)


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_together_see_what_one_worker_sees(workers):
    arguments = {"batch_size": 4, "crop_size": 16, "seed": 7, "rotate": 10}
    source = blocks(count=9)
    whole = training_batches(source, first_step=1, **arguments)
    parts = []
    for index in range(workers):
        part = training_batches(source, first_step=1, shard=(index, workers), **arguments)
        assert part.element_spec[0].shape[0] == 4 // workers
        parts.append([list(part.as_numpy_iterator()) for _ in range(2)])
    for epoch in range(2):
        batches = list(whole.as_numpy_iterator())
        assert all(len(part[epoch]) == len(batches) for part in parts)
        for step, batch in enumerate(batches):
            for kind in range(2):
                together = np.concatenate([part[epoch][step][kind] for part in parts])
                np.testing.assert_array_equal(together, batch[kind])


def test_a_worker_reads_only_its_own_examples():
    source = blocks()
    list(training_batches(source, batch_size=4, crop_size=8, shard=(1, 2), seed=5))
    order = epoch_order(8, seed=5, epoch=0)
    assert sorted(source.reads) == sorted([*order[2:4], *order[6:8]])


def test_an_epoch_has_every_example_at_most_once_and_drops_the_remainder():
    batches = training_batches(numbered(), batch_size=3, crop_size=4, **PLAIN)
    assert batches.cardinality() == 2
    orders = [collected(batches)[1][:, 0, 0].tolist() for _ in range(6)]
    assert all(len(set(order)) == 6 for order in orders)
    assert len({tuple(order) for order in orders}) == 6
    assert set().union(*orders) == set(range(8))  # each time with another remainder


def test_cached_examples_are_read_once():
    source = numbered()
    batches = training_batches(source, batch_size=4, crop_size=4)
    for _ in range(3):
        collected(batches)
    assert sorted(source.reads) == list(range(8))


def test_uncached_examples_are_the_same_and_read_every_epoch():
    source = blocks()
    arguments = {"batch_size": 4, "crop_size": 16, "image_size": (12, 12)}
    cached = collected(training_batches(source, **arguments))
    source.reads.clear()
    batches = training_batches(source, cache=False, **arguments)
    np.testing.assert_array_equal(collected(batches)[0], cached[0])
    collected(batches)
    assert len(source.reads) == 16


def test_auto_caches_what_fits_a_quarter_of_the_free_memory(monkeypatch):
    # Images and masks of 4 x 4 x (3 + 1) bytes; room for three of the eight.
    monkeypatch.setattr("keras_psp.data.reader.free_memory", lambda: 4 * (3 * 64 + 63))
    source = numbered()
    batches = training_batches(source, batch_size=4, crop_size=4, cache="auto", **PLAIN)
    first = collected(batches)[1]
    assert sorted(source.reads) == list(range(8))
    source.reads.clear()
    second = collected(batches)[1]
    assert len(source.reads) == 5
    for epoch, masks in enumerate((first, second)):
        assert masks[:, 0, 0].tolist() == epoch_order(8, seed=0, epoch=epoch).tolist()


def test_a_source_without_random_access_has_the_same_batches():
    source = noise()
    arguments = {"batch_size": 2, "crop_size": 8, "seed": 1}
    expected = collected(training_batches(source, **arguments))
    result = collected(training_batches(SequentialSource(source), **arguments))
    np.testing.assert_array_equal(result[0], expected[0])
    np.testing.assert_array_equal(result[1], expected[1])


def test_image_size_averages_images_and_samples_labels():
    source = blocks(count=1)
    images, masks = collected(
        training_batches(source, batch_size=1, crop_size=(6, 6), image_size=(6, 6), **PLAIN)
    )
    np.testing.assert_array_equal(masks[0], source.masks[0][::4, ::4])
    expected = tf.image.resize(source.images[0], (6, 6), antialias=True)
    np.testing.assert_allclose(images[0], expected, atol=0.5001)  # 8 bits


def test_images_of_different_sizes_make_one_batch():
    source = noise(count=1)
    other = noise(count=1, height=5, width=3)
    mixed = ArraySource([source.images[0], other.images[0]], [source.masks[0], other.masks[0]])
    images, masks = collected(training_batches(mixed, batch_size=2, crop_size=(6, 7)))
    assert images.shape == (2, 6, 7, 3)
    assert masks.shape == (2, 6, 7)


def test_batches_have_static_shapes():
    image, mask = training_batches(noise(), batch_size=2, crop_size=(6, 7)).element_spec
    assert image.shape == (2, 6, 7, 3)
    assert mask.shape == (2, 6, 7)


def test_generated_scenes_are_a_source():
    source = GeneratedScenes(image_size=(48, 64), counts={"train": 3})
    images, masks = collected(training_batches(source, batch_size=3, crop_size=48))
    assert images.shape == (3, 48, 48, 3)
    assert set(np.unique(masks)) <= {*range(source.num_classes), source.ignore_class}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"batch_size": 7},
            r"6 example\(s\), fewer than batch_size 7; set batch_size to 6",
        ),
        ({"batch_size": 0}, "batch_size is 0; it must be an integer >= 1"),
        ({"crop_size": (3, 0)}, r"crop_size is \(3, 0\); it must be two integers from 1"),
        ({"crop_size": 4.5}, "crop_size is 4.5; .* or one for both"),
        ({"image_size": 8}, "image_size is 8; it must be two integers from 1 to 16384"),
        ({"image_size": (64, 100_000)}, r"image_size is \(64, 100000\); it must be two integers"),
        ({"scale": (2, 0.5)}, r"scale is \(2, 0.5\); it must be \(smallest, largest\)"),
        ({"scale": (0, 1)}, "0 < smallest <= largest"),
        ({"scale": 1}, "scale is 1; it must be"),
        ({"cutout": 1.1}, "cutout is 1.1; it must be a finite number >= 0 and <= 1"),
        ({"class_mix": -1}, "class_mix is -1; it must be a finite number >= 0 and <= 1"),
        ({"rotate": 200}, "rotate is 200; it must be an angle from 0 to 180"),
        ({"rotate": (10, -10)}, r"rotate is \(10, -10\); it must be an angle"),
        ({"seed": -1}, "seed is -1; it must be an integer >= 0"),
        ({"first_epoch": 0.5}, "first_epoch is 0.5; it must be an integer >= 0"),
        ({"first_step": 3}, r"first_step is 3, but an epoch has 3 step\(s\)"),
        ({"first_epoch": 2, "epochs": 2}, "epochs is 2; it must be an integer >= 3"),
        ({"shard": (2, 2)}, r"shard is \(2, 2\); it must be \(index, count\)"),
        ({"shard": 1}, "shard is 1; it must be"),
        ({"shard": (0, 4)}, r"batch_size 2 can't be divided among 4 workers"),
        ({"cache": "no"}, "cache is 'no'; it must be True, False or"),
        ({"fill": (0, 0)}, r"fill is \(0, 0\); it must be three numbers"),
        ({"fill": (0, 0, 256)}, "three numbers from 0 to 255"),
    ],
)
def test_invalid_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        training_batches(noise(), **{"batch_size": 2, "crop_size": 8, **arguments})


def test_no_cache_needs_random_access():
    with pytest.raises(ValueError, match=r"SequentialSource has no example.*cache=True"):
        training_batches(SequentialSource(noise()), batch_size=2, crop_size=8, cache=False)


def test_an_unknown_split_is_refused_before_anything_is_read():
    with pytest.raises(ValueError, match="'val' is unknown"):
        training_batches(
            GeneratedScenes(counts={"train": 2}), split="val", batch_size=1, crop_size=8
        )


# --- Evaluation ---------------------------------------------------------------


def test_evaluation_has_all_examples_in_order_with_a_smaller_last_batch():
    source = noise()
    batches = list(evaluation_batches(source, split="train", batch_size=4))
    assert [len(images) for images, _ in batches] == [4, 2]
    images, masks = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    np.testing.assert_array_equal(images, source.images.astype(np.float32))
    np.testing.assert_array_equal(masks, source.masks)
    assert images.dtype == np.float32
    assert masks.dtype == np.int32


@pytest.mark.parametrize("random_access", [True, False])
@pytest.mark.parametrize("workers", [1, 4, 7])
def test_evaluation_workers_together_see_every_example_once(workers, random_access):
    source_images = noise(count=6)
    source = source_images if random_access else SequentialSource(source_images)
    masks_seen = [
        mask
        for index in range(workers)
        for _, masks in evaluation_batches(
            source, split="train", batch_size=2, shard=(index, workers)
        )
        for mask in masks
    ]
    np.testing.assert_array_equal(masks_seen, source_images.masks)
    if random_access and workers == 4:
        assert sorted(source_images.reads) == list(range(6))


def test_evaluation_resizes_images_and_never_masks():
    source = noise()
    images, masks = collected(evaluation_batches(source, split="train", image_size=(4, 5)))
    expected = tf.image.resize(source.images, (4, 5), antialias=True)
    np.testing.assert_allclose(images, expected, rtol=1e-6)
    np.testing.assert_array_equal(masks, source.masks)


def test_evaluation_of_different_sizes_has_batches_of_one():
    source, other = noise(count=2), noise(count=1, height=5, width=3)
    mixed = ArraySource([*source.images, *other.images], [*source.masks, *other.masks])
    for image_size in (None, (4, 4)):
        batches = list(evaluation_batches(mixed, split="train", image_size=image_size))
        assert [mask.shape for _, mask in batches] == [
            (1, 8, 10),
            (1, 8, 10),
            (1, 5, 3),
        ]


def test_evaluation_of_unknown_sizes_has_batches_of_one():
    batches = evaluation_batches(SequentialSource(noise()), split="train")
    assert [len(images) for images, _ in batches] == [1] * 6


def test_evaluation_of_fixed_shapes_is_batched():
    source = GeneratedScenes(image_size=(48, 64), counts={"val": 3})
    images, masks = next(iter(evaluation_batches(source, split="val")))
    assert images.shape == (3, 48, 64, 3)
    assert masks.shape == (3, 48, 64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": -1}, "batch_size is -1; it must be an integer >= 1"),
        ({"image_size": (0, 4)}, r"image_size is \(0, 4\); it must be two integers from 1"),
        ({"shard": (-1, 2)}, r"shard is \(-1, 2\); it must be"),
    ],
)
def test_invalid_evaluation_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        evaluation_batches(noise(), split="train", **arguments)


def test_no_generator_makes_glibc_give_memory_back():
    # Its operation sets M_TRIM_THRESHOLD, so that every large tensor faults in all of its pages.
    batches = training_batches(numbered(), batch_size=2, crop_size=24)
    graph = tf.raw_ops.DatasetToGraphV2(
        input_dataset=batches._variant_tensor, external_state_policy=1
    )
    nodes = tf.compat.v1.GraphDef.FromString(graph.numpy())
    names = [node.op for node in nodes.node]
    names += [node.op for function in nodes.library.function for node in function.node_def]
    assert "PyFunc" in names and not any(name.startswith("Generator") for name in names)
