import pytest

from keras_psp.training import Recipe
from keras_psp.training.inputs import padding_note, proportions_note


def test_crops_that_are_mostly_padding_are_reported():
    recipe = Recipe(crop_size=400, scale=(1.0, 1.0))
    # 100x200 of 400x400 pixels are 1/8.
    assert padding_note(recipe, [(100, 200)] * 3) == (
        "88% of the crops of 400x400 are padding, which costs time and teaches nothing, since most "
        "images are 200x100; a smaller crop_size is faster."
    )


@pytest.mark.parametrize(
    "recipe,sizes",
    [
        (Recipe(), [(375, 500)]),  # PASCAL VOC, as the authors trained on it
        (Recipe(crop_size=713), [(1024, 2048)]),
        (Recipe(crop_size=96, scale=(1.0, 1.0)), [(96, 96), (68, 96)]),
        (Recipe(image_size=(473, 473)), [(60, 60)]),  # resized first
    ],
)
def test_published_crops_are_not(recipe, sizes):
    assert padding_note(recipe, sizes) == ""


def test_images_that_are_stretched_are_reported():
    recipe = Recipe(image_size=(512, 512))
    # 640x480 is wider by a third.
    assert proportions_note(recipe, [(480, 640), (500, 520)]).startswith(
        "image_size 512x512 changes the proportions of 50% of the images, e.g. of 640x480, but "
        "evaluate and predict keep them: the longer side is then 512."
    )
    assert proportions_note(Recipe(image_size=(544, 960)), [(1080, 1920)]) == ""
    assert proportions_note(Recipe(), [(480, 640)]) == ""
