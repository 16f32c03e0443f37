import numpy as np
import pytest
from PIL import Image
from support import datasets

from keras_psp.data import FileList, ImageFolder
from keras_psp.data.label_map import LabelMap, parse_label_map


def read(tmp_path, values, entries, *, ignore_class=255):
    path = tmp_path / "label.png"
    Image.fromarray(np.array([values], np.uint16 if max(values) > 255 else np.uint8)).save(path)
    return LabelMap(entries, ignore_class=ignore_class).read(path)[0].tolist()


def test_values_ranges_and_ignore(tmp_path):
    assert read(tmp_path, [0, 255, 2], {255: 1}) == [0, 1, 2]
    assert read(tmp_path, [0, 1, 254, 255], {"1-254": 1}) == [0, 1, 1, 255]
    assert read(tmp_path, [0, 128, 9], {(8, 9): "2", "128": "ignore"}, ignore_class=7) == [0, 7, 2]


def test_instances_in_16_bits(tmp_path):
    assert read(tmp_path, [0, 1, 300, 65535], {"1-65535": 1}) == [0, 1, 1, 1]
    with pytest.raises(
        ValueError, match=r"label.png: label value 400 isn't in label_map and doesn'"
    ):
        read(tmp_path, [0, 400], {"256-300": 1})
    # 8 bits in a set of instances
    assert read(tmp_path, [0, 7], {"1-65535": 1}) == [0, 1]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, r"label_map is \{\}; it must map values to classes, e.g. \{255: 1\}"),
        ([(255, 1)], r"label_map is \[\(255, 1\)\]; it must map"),
        ({"x": 1}, "label_map: 'x' isn't a value from 0 to 65535 or a range such as '1-254'"),
        ({-1: 1}, "label_map: -1 isn't a value"),
        ({1.5: 1}, "label_map: 1.5 isn't a value"),
        ({True: 1}, "label_map: True isn't a value"),
        ({"9-3": 1}, "label_map: '9-3' isn't a value"),
        ({"0-70000": 1}, "label_map: '0-70000' isn't a value"),
        ({255: 256}, "label_map: the class of 255 is 256; it must be from 0 to 255, or 'ignore'"),
        ({255: "object"}, "the class of 255 is 'object'"),
        ({255: 1.0}, "the class of 255 is 1.0"),
        ({255: True}, "the class of 255 is True"),
        ({"1-9": 1, 5: 2}, "label_map has two entries for the value 5; remove one"),
    ],
)
def test_wrong_entries_are_named(entries, message):
    with pytest.raises(ValueError, match=message):
        LabelMap(entries, ignore_class=255)


def test_words_of_the_command_line():
    assert parse_label_map(["255=1", "1-254 = 2", "128=ignore"]) == {
        "255": "1",
        "1-254": "2",
        "128": "ignore",
    }
    for word in ("255", "=1", "255="):
        with pytest.raises(ValueError, match=f"--label-map {word}: must be VALUE=CLASS, for inst"):
            parse_label_map([word])
    with pytest.raises(ValueError, match="--label-map 1=2: 1 occurs twice; remove one"):
        parse_label_map(["1=1", "1=2"])


def test_masks_of_0_and_255_train_with_a_map(tmp_path):
    for index in range(4):
        datasets.write_example(tmp_path, f"scene{index}", value=(0, 255)[index % 2])
    source = ImageFolder(tmp_path, label_map={255: 1})
    assert source.num_classes == 2
    assert source.check(progress=False) == 4
    assert [int(mask[0, 0]) for _, mask in source.examples("all")] == [0, 1, 0, 1]
    datasets.train(source)


def test_stray_values_are_still_found(tmp_path):
    for index in range(4):
        datasets.write_example(tmp_path, f"scene{index}", value=(0, 255, 128, 0)[index])
    with pytest.raises(ValueError, match="hold only the values 0 to 1, 128, which would make 129"):
        ImageFolder(tmp_path, label_map={255: 1}).check(progress=False)


def test_lists_take_a_map(tmp_path):
    datasets.write_example(tmp_path, "a", value=255)
    (tmp_path / "val.txt").write_text("images/a.png labels/a.png\n")
    source = FileList(tmp_path, label_map={255: 1})
    assert source.splits == ("val",)
    assert source.example("val", 0)[1].max() == 1


def test_color_labels_take_no_map(tmp_path):
    datasets.write_example(tmp_path, "a")
    Image.new("RGB", (6, 4), (255, 0, 0)).save(tmp_path / "labels" / "a.png")
    with pytest.raises(ValueError, match=r"a.png: label has colors, but label_map is for numbers"):
        ImageFolder(tmp_path, label_map={255: 1})
