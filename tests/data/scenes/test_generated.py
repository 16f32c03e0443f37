import numpy as np
import pytest

from keras_psp.data import scenes
from keras_psp.data.scenes import generated

SIZES = [(48, 48), (48, 512), (512, 48), (96, 160), (131, 77)]
SURFACE_PAIR, SKYLINE_PAIR = ("boat", "car"), ("building", "skyscraper")


def test_a_scene_is_a_pure_function_of_seed_and_size():
    image, mask = scenes.scene(5)
    scenes.scene(6)
    again, mask_again = scenes.scene(5)
    np.testing.assert_array_equal(image, again)
    np.testing.assert_array_equal(mask, mask_again)
    assert not np.array_equal(image, scenes.scene(6)[0])


def test_a_scene_can_be_generated_in_both_contexts():
    names = scenes.CLASS_NAMES
    kinds = {"boat": "water", "car": "road", "building": "village", "skyscraper": "city"}
    for argument, pair in (("surface", SURFACE_PAIR), ("skyline", SKYLINE_PAIR)):
        compared = 0
        for seed in range(8):
            by_seed = scenes.scene(seed)
            both = [scenes.scene(seed, **{argument: kinds[name]}) for name in pair]
            # One of the two is the scene that the seed alone gives: the rest is the same.
            assert any(np.array_equal(by_seed[0], image) for image, _ in both)
            one, other = (
                mask == names.index(name) for (_, mask), name in zip(both, pair, strict=True)
            )
            np.testing.assert_array_equal(one, other)
            np.testing.assert_array_equal(both[0][0][one], both[1][0][one])
            compared += one.any() and not np.array_equal(both[0][0], both[1][0])
        assert compared >= 2


@pytest.mark.parametrize("size", SIZES)
def test_any_size_from_48_to_512_gives_valid_labels(size):
    for seed in range(6):
        image, mask = scenes.scene(seed, image_size=size)
        assert image.shape == (*size, 3) and image.dtype == np.uint8
        assert mask.shape == size and mask.dtype == np.uint8
        labels = set(np.unique(mask))
        assert labels <= {*range(len(scenes.CLASS_NAMES)), scenes.IGNORE_CLASS}
        assert len(labels) > 2 and image.std() > 5


def test_every_class_occurs_and_the_pairs_are_balanced(many):
    seen = np.array([[(mask == label).any() for label in range(14)] for _, mask in many])
    share = dict(zip(scenes.CLASS_NAMES, seen.mean(0), strict=True))
    assert min(share.values()) > 0.15, share
    for one, other in (SURFACE_PAIR, SKYLINE_PAIR):
        # Of about 120 fair coins, 30 to 70 % heads is 4 deviations each way.
        assert 0.3 < share[one] / (share[one] + share[other]) < 0.7


def test_source_has_classes_and_splits():
    source = scenes.GeneratedScenes()
    assert source.class_names == scenes.CLASS_NAMES and source.num_classes == 14
    assert source.palette is scenes.PALETTE and source.ignore_class == 255
    assert source.splits == ("train", "val", "test")
    assert [source.count(split) for split in source.splits] == [1200, 200, 300]
    assert set(scenes.CONTEXT_CLASSES) == {*SURFACE_PAIR, *SKYLINE_PAIR}


def test_splits_and_sources_never_share_a_seed():
    sources = [scenes.GeneratedScenes(seed=seed) for seed in (0, 1, 10, 11)]
    seeds = [
        source.scene_seed(split, index)
        for source in sources
        for split in source.splits
        for index in range(source.count(split))
    ]
    assert len(set(seeds)) == len(seeds)


def test_arrays_hold_the_scenes_of_the_split_in_order(capfd):
    # Both the threaded and the plain way.
    for size in ((48, 64), (128, 96)):
        source = scenes.GeneratedScenes(seed=3, image_size=size, counts={"some": 5})
        images, masks = source.arrays("some")
        assert images.shape == (5, *size, 3) and masks.shape == (5, *size)
        for index in range(5):
            seed = source.scene_seed("some", index)
            image, mask = scenes.scene(seed, image_size=size)
            np.testing.assert_array_equal(images[index], image)
            np.testing.assert_array_equal(masks[index], mask)
    assert capfd.readouterr() == ("", "")


def test_long_work_shows_progress_on_stderr_unless_disabled(capfd, monkeypatch):
    monkeypatch.setattr(generated, "_LONG_WORK", 1)
    source = scenes.GeneratedScenes(image_size=(48, 48), counts={"val": 3})
    source.arrays("val", progress=False)
    assert capfd.readouterr() == ("", "")
    source.arrays("val")
    out, err = capfd.readouterr()
    assert out == "" and "Generating val" in err


def test_examples_are_the_arrays_as_a_dataset():
    pytest.importorskip("tensorflow")
    source = scenes.GeneratedScenes(image_size=(48, 64), counts={"val": 3})
    images, masks = source.arrays("val")
    elements = list(source.examples("val").as_numpy_iterator())
    assert len(elements) == 3
    for (image, mask), expected, expected_mask in zip(elements, images, masks, strict=True):
        assert image.dtype == mask.dtype == np.uint8
        np.testing.assert_array_equal(image, expected)
        np.testing.assert_array_equal(mask, expected_mask)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: scenes.scene(-1), "seed is -1; it must be an integer >= 0"),
        (lambda: scenes.scene(1.5), "seed is 1.5"),
        (
            lambda: scenes.scene(1, surface="lake"),
            "surface is 'lake'; choose one of 'water', 'road', None",
        ),
        (lambda: scenes.scene(1, skyline="town"), "skyline is 'town'; .* 'village', 'city', None"),
        (lambda: scenes.scene(1, image_size=(32, 64)), r"\(32, 64\).*from 48 to 512"),
        (lambda: scenes.scene(1, image_size=(64, 513)), r"\(64, 513\).*from 48 to 512"),
        (lambda: scenes.scene(1, image_size=64), "64; it must be two integers from 48"),
        (lambda: scenes.scene(1, image_size=(64.0, 64)), "must be two integers"),
        (lambda: scenes.GeneratedScenes(seed=-2), "seed is -2"),
        (lambda: scenes.GeneratedScenes(image_size=(8, 8)), r"image_size is \(8, 8\)"),
        (
            lambda: scenes.GeneratedScenes(counts={"val": 0}),
            r"counts\['val'\] is 0; it must be an integer >= 1",
        ),
        (lambda: scenes.GeneratedScenes(counts={}), "at least one split"),
        (
            lambda: scenes.GeneratedScenes().count("dev"),
            "Split 'dev' is unknown; this source has train, val, test",
        ),
        (lambda: scenes.GeneratedScenes().arrays("dev"), "Split 'dev' is unknown"),
        (lambda: scenes.GeneratedScenes().examples("dev"), "Split 'dev' is unknown"),
    ],
)
def test_invalid_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
