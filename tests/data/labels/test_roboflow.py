import pytest
from support import label_tools

from keras_psp.data import load


@pytest.fixture
def root(tmp_path, examples):
    label_tools.roboflow(tmp_path, examples)
    return tmp_path


def test_masks_are_exact(root, examples):
    source = load("roboflow", root=root)
    assert source.splits == ("train", "val", "test")
    assert source.class_names == ("background", *label_tools.CLASSES)
    for split, part in (("train", examples[:8]), ("val", examples[8:10]), ("test", examples[10:])):
        label_tools.assert_masks_equal(source, [scene.mask() for scene in part], part, split)


def test_one_of_its_folders_is_divided(root):
    source = load("roboflow", root=root / "train", class_names=("a", "b", "c", "d"))
    assert {split: source.count(split) for split in source.splits} == {
        "all": 8,
        "train": 6,
        "val": 1,
        "test": 1,
    }
    assert source.class_names == ("a", "b", "c", "d")


def test_values_without_a_gap_are_not_needed(root, examples):
    for folder in ("train", "valid", "test"):
        text = "Pixel Value, Class\n0, background\n3, tree\n1, cat\n2, dog\n"
        (root / folder / "_classes.csv").write_text(text)
    source = load("roboflow", root=root)
    assert source.class_names == ("background", "tree", "cat", "dog")
    mask = label_tools.masks_of(source, examples[:1], "train")[0]
    expected = examples[0].mask()
    assert ((mask == 1) == (expected == 3)).all() and ((mask == 2) == (expected == 1)).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists no classes; export the data set again"),
        ("Pixel Value, Class\nx, cat\n", "line 2: 'x, cat' isn't `pixel value, class`"),
        ("Pixel Value, Class\n0, a\n0, b\n", "line 3: '0, b' occurs twice; remove one"),
        ("Pixel Value, Class\n0, a\n", "valid/_classes.csv: lists other classes than"),
    ],
)
def test_wrong_lists_are_named(root, text, message):
    for folder in ("train", "test"):
        (root / folder / "_classes.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        load("roboflow", root=root)


def test_missing_files_are_named(root, tmp_path_factory):
    (root / "train" / "photo01_mask.png").unlink()
    with pytest.raises(
        ValueError, match=r"photo01.jpg: image has no label; add .*photo01_mask.png"
    ):
        load("roboflow", root=root)
    (root / "train" / "photo01.jpg").unlink()
    (root / "train" / "photo02.jpg").unlink()
    with pytest.raises(ValueError, match=r"photo02_mask.png: label has no image; add photo02"):
        load("roboflow", root=root)
    with pytest.raises(
        ValueError, match=r"class_names has 1 names, but _classes.csv has 4 classes"
    ):
        load("roboflow", root=root, class_names=("a",))
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(
        ValueError, match=r"neither it nor its train/, valid/ and test/ have _classes"
    ):
        load("roboflow", root=empty)
    with pytest.raises(ValueError, match="no such folder"):
        load("roboflow", root=empty / "nowhere")
    (empty / "_classes.csv").write_text("Pixel Value, Class\n0, a\n")
    with pytest.raises(ValueError, match="no images in this folder"):
        load("roboflow", root=empty)
