import numpy as np

from keras_psp.data import scenes

SKYLINE_PAIR = ("building", "skyscraper")


def class_id(name):
    return scenes.CLASS_NAMES.index(name)


def test_objects_range_from_a_few_pixels_to_half_the_image(many):
    person = [np.sum(mask == class_id("person")) for _, mask in many]
    assert 0 < min(pixels for pixels in person if pixels) < 30
    assert max(np.mean(mask == class_id("water")) for _, mask in many) > 0.45
    assert max(np.mean(mask == class_id("skyscraper")) for _, mask in many) > 0.12


def test_an_image_with_a_hull_shows_only_its_surface(many):
    for _, mask in many:
        for hull, surface, wrong in (
            ("boat", "water", "road"),
            ("car", "road", "water"),
        ):
            if (mask == class_id(hull)).any():
                assert np.mean(mask == class_id(surface)) >= 0.08
                assert not (mask == class_id(wrong)).any()


def test_an_image_with_a_tower_shows_a_skyline(many):
    for _, mask in many:
        if np.isin(mask, [class_id(name) for name in SKYLINE_PAIR]).any():
            assert np.mean(mask == class_id("skyline")) > 0.004
