import re

import numpy as np
import pytest
from support import datasets

from keras_psp.data import ImageFolder


def test_classes_are_counted_from_the_labels_without_names(flat):
    folder = ImageFolder(flat)
    assert folder.num_classes == 3
    assert folder.class_names == ("class 0", "class 1", "class 2")
    assert folder.palette.shape == (3, 3)
    datasets.write_example(flat, "void", value=255)
    assert ImageFolder(flat).num_classes == 3
    assert ImageFolder(flat, ignore_class=0).num_classes == 256


def test_palette_file_has_colors_and_names_in_index_order(flat):
    (flat / "palette.txt").write_text(
        "# index R G B name\n2 7 8 9 street sign\n0 1 2 3 sky\n1 4 5 6 tree\n255 0 0 0 void\n"
    )
    folder = ImageFolder(flat)
    assert folder.class_names == ("sky", "tree", "street sign")
    np.testing.assert_array_equal(folder.palette, [[1, 2, 3], [4, 5, 6], [7, 8, 9]])


def test_given_names_and_colors_override_files(divided):
    folder = ImageFolder(
        divided, class_names=["a", "b", "c"], palette=[[0, 0, 0]] * 2 + [[9, 9, 9]]
    )
    assert folder.class_names == ("a", "b", "c")
    assert folder.palette[2].tolist() == [9, 9, 9]


def test_labels_with_only_void_have_no_classes(tmp_path):
    datasets.write_example(tmp_path, "one", value=255)
    assert "every label pixel is ignore_class (255)" in datasets.fault(tmp_path)


@pytest.mark.parametrize(
    ("classes", "palette", "message"),
    [
        ("", None, "0 class names; between 1 and 255"),
        ("sky\nroad\nsky\n", None, "class 'sky' occurs twice"),
        ("sky\nroad\n", "0 1 2 3 sky\n", "no color for class 1 (road); add a line"),
        ("sky\n", "0 1 2 3 road\n", "class 0 is called 'road' but 'sky' in classes"),
        ("sky\n", "0 1 2\n", "line 1: '0 1 2' isn't `index R G B name`"),
        ("sky\n", "0 1 2 256 sky\n", "isn't `index R G B name` with colors from 0"),
        ("sky\n", "sky 1 2 3\n", "isn't `index R G B name`"),
        (None, "0 1 2 3 sky\n2 1 2 3 road\n", "classes are [0, 2]; they must be"),
    ],
)
def test_wrong_text_files_are_refused_by_the_constructor(tmp_path, classes, palette, message):
    datasets.write_example(tmp_path, "one")
    if classes is not None:
        (tmp_path / "classes.txt").write_text(classes)
    if palette is not None:
        (tmp_path / "palette.txt").write_text(palette)
    with pytest.raises(ValueError, match=re.escape(message)):
        ImageFolder(tmp_path)


def test_palette_of_another_length_is_refused(divided):
    with pytest.raises(ValueError, match="palette has 1 colors but there are 3 classes"):
        ImageFolder(divided, palette=[[0, 0, 0]])


@pytest.mark.parametrize("name", ["classes.txt", "palette.txt"])
def test_text_that_is_not_utf8_is_refused(flat, name):
    (flat / name).write_bytes("0 1 2 3 Stra\u00dfe\n".encode("latin-1"))
    with pytest.raises(ValueError, match=f"{name}: isn't UTF-8 text; save it as UTF-8"):
        ImageFolder(flat)
