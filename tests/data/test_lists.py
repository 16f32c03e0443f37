import pytest
from PIL import Image
from support import datasets

from keras_psp.data import FileList, load


def write(root, name, value, *, folder="labels"):
    for path, mode, color in (
        (root / "images" / f"{name}.jpg", "RGB", (1, 2, 3)),
        (root / folder / f"{name}.png", "L", value),
    ):
        path.parent.mkdir(exist_ok=True)
        Image.new(mode, (6, 4), color).save(path)


@pytest.fixture
def root(tmp_path):
    for i in range(3):
        write(tmp_path, f"a{i}", i)
    (tmp_path / "train.txt").write_text(
        "images/a2.jpg labels/a2.png\n\n/images/a0.jpg /labels/a0.png\n"
    )
    (tmp_path / "val.txt").write_text("images/a1.jpg\tlabels/a1.png\n")
    (tmp_path / "test.txt").write_text("images/a1.jpg\nimages/a0.jpg\n")
    return tmp_path


def test_lists_keep_their_order(root):
    source = load("list", root=root, lists={"train": "train.txt", "val": root / "val.txt"})
    assert isinstance(source, FileList)
    assert source.splits == ("train", "val")
    assert [image.name for image, _ in source.paths("train")] == ["a2.jpg", "a0.jpg"]
    assert source.num_classes == 3  # counted from the labels of all lists
    assert [int(mask[0, 0]) for _, mask in source.examples("train")] == [2, 0]
    assert source.check(progress=False) == 3


def test_a_network_trains_on_the_files(root):
    datasets.train(load("list", root=root, lists={"train": "train.txt", "val": "val.txt"}))


def test_tabs_separate_paths_with_spaces(root):
    write(root, "a photo", 1)
    (root / "train.txt").write_text("images/a photo.jpg\tlabels/a photo.png\n")
    assert FileList(root, {"train": "train.txt"}).example("train", 0)[1][0, 0] == 1


def test_lists_of_images_have_no_labels(root):
    source = FileList(root, {"train": "train.txt", "test": "test.txt"}, class_names=("a", "b", "c"))
    assert source.labeled("train") and not source.labeled("test")
    assert source.image("test", 0).shape == (4, 6, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "train.txt: lists nothing"),
        ("a b c\n", r"train.txt, line 1: 'a b c'; every line must be `image label`.* by a tab"),
        (
            "images/a0.jpg labels/a0.png\nimages/a1.jpg\n",
            "line 2: 'images/a1.jpg'; every line must be",
        ),
        (
            "images/a1.jpg\nimages/a0.jpg labels/a0.png\n",
            "line 2: 'images/a0.jpg labels/a0.png'; every line must be",
        ),
        ("images/a9.jpg labels/a0.png\n", r"line 1: .*a9.jpg doesn't exist"),
        ("images/a0.jpg labels/a9.png\n", r"line 1: .*a9.png doesn't exist"),
    ],
)
def test_wrong_lines_are_named(root, text, message):
    (root / "train.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        FileList(root, {"train": "train.txt"})


def test_missing_lists_are_named(root):
    with pytest.raises(ValueError, match=r"dev.txt: no such file; it must list"):
        FileList(root, {"val": "dev.txt"})
    with pytest.raises(ValueError, match="lists is empty"):
        FileList(root, {})
