"""What all formats of shapes share, shown on labelme's."""

import numpy as np
import pytest
from PIL import Image
from support import datasets, label_tools
from support.label_tools import labelme_file, save_json

from keras_psp.data import ImageFolder, load

ORIENTATION = 0x0112


def write(root, name, *, size, shapes, stored=None, orientation=1, suffix="jpg"):
    """Writes an image as it is stored, and its .json for an image of (height, width)."""
    image = Image.fromarray(np.zeros((*(stored or size), 3), np.uint8))
    image.getexif()[ORIENTATION] = orientation
    root.mkdir(exist_ok=True)
    image.save(root / f"{name}.{suffix}", exif=image.getexif())
    save_json(root / f"{name}.json", labelme_file(f"{name}.{suffix}", size, shapes))


TOP_LEFT = [("cat", "rectangle", [[0, 0], [9, 4]])]


def test_shapes_for_the_upright_image_are_drawn_as_they_are(tmp_path):
    write(tmp_path, "a", size=(60, 40), stored=(40, 60), orientation=6, shapes=TOP_LEFT)
    image, mask = load("labelme", root=tmp_path).example("all", 0)
    assert image.shape == (60, 40, 3) and mask.shape == (60, 40)
    assert mask[:5, :10].all() and mask.sum() == 50


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_shapes_for_the_stored_image_are_turned_with_it(tmp_path, orientation, suffix):
    write(tmp_path, "a", size=(40, 60), orientation=orientation, shapes=TOP_LEFT, suffix=suffix)
    stored = np.zeros((40, 60), np.uint8)
    stored[:5, :10] = 1
    # EXIF 2.3: where the first row and column of the stored image are on the screen.
    expected = {
        5: stored.T,
        6: np.rot90(stored, -1),
        7: np.rot90(stored, 2).T,
        8: np.rot90(stored, 1),
    }[orientation]
    np.testing.assert_array_equal(load("labelme", root=tmp_path).example("all", 0)[1], expected)


def test_equal_sizes_mean_the_upright_image(tmp_path):
    write(tmp_path, "a", size=(40, 60), orientation=3, shapes=TOP_LEFT)
    assert load("labelme", root=tmp_path).example("all", 0)[1][:5, :10].all()


def test_unlabeled_pixels_are_background_or_ignored(tmp_path, capsys):
    write(tmp_path, "a", size=(40, 60), shapes=TOP_LEFT)
    source = load("labelme", root=tmp_path)
    assert source.class_names == ("background", "cat")
    assert capsys.readouterr().err.endswith(
        "pixels without a label are class 0, background; unlabeled='ignore' (--unlabeled ignore) "
        "ignores them.\n"
    )
    ignoring = load("labelme", root=tmp_path, unlabeled="ignore")
    assert ignoring.class_names == ("cat",)
    mask = ignoring.example("all", 0)[1]
    assert (mask[:5, :10] == 0).all() and (mask == 255).sum() == 40 * 60 - 50
    assert "without a label" not in capsys.readouterr().err
    with pytest.raises(ValueError, match="unlabeled is 'no'; choose one of background, ignore"):
        load("labelme", root=tmp_path, unlabeled="no")


def test_names_come_from_classes_txt_or_the_argument(tmp_path):
    write(tmp_path, "a", size=(40, 60), shapes=TOP_LEFT)
    (tmp_path / "classes.txt").write_text("cow\ncat\nBackground\n")
    source = load("labelme", root=tmp_path)
    assert source.class_names == ("cow", "cat", "Background")
    assert set(np.unique(source.example("all", 0)[1])) == {1, 2}
    source = load("labelme", root=tmp_path, class_names=("cow",))
    with pytest.raises(ValueError, match=r"a.json: shape 1, a rectangle, is labeled 'cat', which"):
        source.example("all", 0)
    with pytest.raises(ValueError, match="class_names: class 'cat' occurs twice"):
        load("labelme", root=tmp_path, class_names=("cat", "cat"))
    with pytest.raises(ValueError, match="class_names: 0 class names; between 1 and 255"):
        load("labelme", root=tmp_path, class_names=(), unlabeled="ignore")


def test_other_values_can_be_ignored(tmp_path):
    write(tmp_path, "a", size=(40, 60), shapes=TOP_LEFT)
    mask = load("labelme", root=tmp_path, unlabeled="ignore", ignore_class=9).example("all", 0)[1]
    assert set(np.unique(mask)) == {0, 9}


def test_spaces_around_a_label_have_no_meaning(tmp_path):
    write(tmp_path, "a", size=(40, 60), shapes=TOP_LEFT)
    write(tmp_path, "b", size=(40, 60), shapes=[("cat ", *TOP_LEFT[0][1:])])
    source = load("labelme", root=tmp_path)
    assert source.class_names == ("background", "cat")
    assert [source.example("all", index)[1].sum() for index in (0, 1)] == [50, 50]


def test_images_outside_of_the_splits_are_reported(tmp_path, capsys):
    for folder, name in (("train", "a"), ("val", "b"), ("", "c")):
        write(tmp_path / folder, name, size=(40, 60), shapes=TOP_LEFT)
    assert load("labelme", root=tmp_path).splits == ("all", "train", "val", "test")
    assert (
        "1 image(s) are in no split (c.jpg), so that the names divide all images into train, val "
        "and test, not the folders."
    ) in capsys.readouterr().err


def test_it_divides_as_a_folder_of_the_same_names(tmp_path, examples):
    label_tools.labelme(tmp_path / "shapes", examples)
    for scene in examples:
        datasets.write_example(tmp_path / "folder", scene.name)
    shapes, folder = load("labelme", root=tmp_path / "shapes"), ImageFolder(tmp_path / "folder")
    for split in ("train", "val", "test"):
        names = [[image.stem for image, _ in s.paths(split)] for s in (shapes, folder)]
        assert names[0] == names[1]


def test_check_and_a_training_read_the_shapes(tmp_path, examples):
    label_tools.labelme(tmp_path, examples)
    source = load("labelme", root=tmp_path)
    assert source.check(progress=False) == 12
    datasets.train(source)


def test_a_broken_image_is_a_fault_that_can_be_skipped(tmp_path, examples):
    label_tools.labelme(tmp_path, examples)
    (tmp_path / "photo05.png").write_bytes(b"\x89PNG")
    source = load("labelme", root=tmp_path)
    with pytest.raises(ValueError, match=r"photo05.png: "):
        source.check(progress=False)
    assert source.check(progress=False, skip=True) == 11


def test_too_few_images_to_divide_are_refused(tmp_path):
    write(tmp_path, "a", size=(40, 60), shapes=TOP_LEFT)
    with pytest.raises(ValueError, match=r"1 example\(s\) are too few to divide; use split='all'"):
        load("labelme", root=tmp_path).paths("val")
