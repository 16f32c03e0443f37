import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import datasets as miniatures
import numpy as np
import pytest
from PIL import Image

import keras_psp.data
from keras_psp.data import load
from keras_psp.data.folder import ImageFolder
from keras_psp.data.label_files import read_mask, read_training_image

HEIGHT, WIDTH = 4, 6


def write_example(root, name, *, value=1, suffix=".png", size=(WIDTH, HEIGHT)):
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (10, 20, 30)).save(root / "images" / f"{name}{suffix}")
    Image.new("L", size, value).save(root / "labels" / f"{name}.png")


def write_grey_png(path, *, bits, values):
    """A greyscale PNG of 1, 2, 4, 8 or 16 bits, written by hand from the standard."""
    rows = b""
    for row in values:
        text = "".join(f"{value:0{bits}b}" for value in row)
        text += "0" * (-len(text) % 8)
        rows += b"\0" + int(text, 2).to_bytes(len(text) // 8, "big")

    def chunk(kind, data):
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", len(values[0]), len(values), bits, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.fixture
def flat(tmp_path):
    for index in range(10):
        write_example(tmp_path, f"scene{index}", value=index % 3)
    return tmp_path


@pytest.fixture
def divided(tmp_path):
    for split, count in (("train", 3), ("val", 2)):
        for index in range(count):
            write_example(tmp_path / split, f"{split}{index}", value=index)
    (tmp_path / "classes.txt").write_text("sky\nroad\ncar\n")
    return tmp_path


# --- What is found ------------------------------------------------------------


def test_importing_the_data_package_does_not_import_tensorflow():
    # With an empty parent package: keras_psp itself needs Keras.
    package = Path(keras_psp.data.__file__).parents[1]
    code = (
        "import sys, types\n"
        "parent = types.ModuleType('keras_psp')\n"
        f"parent.__path__ = [{str(package)!r}]\n"
        "sys.modules['keras_psp'] = parent\n"
        "from keras_psp.data import ImageFolder, evaluation_batches, training_batches\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_name_the_data_package_lacks_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'VideoFolder'"):
        _ = keras_psp.data.VideoFolder
    assert "ImageFolder" in dir(keras_psp.data)


def test_divided_folder_has_the_splits_that_exist(divided):
    folder = ImageFolder(divided)
    assert folder.splits == ("train", "val")
    assert [folder.count(split) for split in folder.splits] == [3, 2]
    assert folder.class_names == ("sky", "road", "car")
    assert [image.name for image, _ in folder.paths("train")] == [
        "train0.png",
        "train1.png",
        "train2.png",
    ]
    assert folder.check(progress=False) == 5


def test_flat_folder_divides_into_80_10_10_without_overlap(flat):
    folder = ImageFolder(flat)
    assert folder.splits == ("all", "train", "val", "test")
    names = {s: {image.stem for image, _ in folder.paths(s)} for s in folder.splits}
    assert [len(names[s]) for s in ("train", "val", "test")] == [8, 1, 1]
    assert names["train"] | names["val"] | names["test"] == names["all"]


def test_flat_division_depends_on_the_names_only(flat, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    for index in reversed(range(10)):
        write_example(other, f"scene{index}", suffix=".bmp")
    for split in ("train", "val", "test"):
        assert [image.stem for image, _ in ImageFolder(flat).paths(split)] == [
            image.stem for image, _ in ImageFolder(other).paths(split)
        ]


def test_classes_are_counted_from_the_labels_if_not_named(flat):
    folder = ImageFolder(flat)
    assert folder.num_classes == 3
    assert folder.class_names == ("class 0", "class 1", "class 2")
    assert folder.palette.shape == (3, 3)
    write_example(flat, "void", value=255)
    assert ImageFolder(flat).num_classes == 3
    assert ImageFolder(flat, ignore_class=0).num_classes == 256


def test_palette_file_gives_colours_and_names_in_index_order(flat):
    (flat / "palette.txt").write_text(
        "# index R G B name\n2 7 8 9 street sign\n0 1 2 3 sky\n1 4 5 6 tree\n255 0 0 0 void\n"
    )
    folder = ImageFolder(flat)
    assert folder.class_names == ("sky", "tree", "street sign")
    np.testing.assert_array_equal(folder.palette, [[1, 2, 3], [4, 5, 6], [7, 8, 9]])


def test_given_names_and_colours_win_over_files(divided):
    folder = ImageFolder(
        divided, class_names=["a", "b", "c"], palette=[[0, 0, 0]] * 2 + [[9, 9, 9]]
    )
    assert folder.class_names == ("a", "b", "c")
    assert folder.palette[2].tolist() == [9, 9, 9]


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".png", ".BMP", ".webp"])
def test_image_suffixes_in_any_case(tmp_path, suffix):
    write_example(tmp_path, "one", suffix=suffix)
    (tmp_path / "images" / ".DS_Store").write_text("")
    (tmp_path / "images" / "._one.png").write_text("")
    (tmp_path / "images" / "notes.txt").write_text("")
    image, mask = ImageFolder(tmp_path).example("all", 0)
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert image.dtype == mask.dtype == np.uint8
    np.testing.assert_allclose(image[0, 0], [10, 20, 30], atol=4)  # lossy formats
    assert (mask == 1).all()


def test_examples_keep_the_order_of_paths(divided):
    masks = [int(mask[0, 0]) for _, mask in ImageFolder(divided).examples("train")]
    assert masks == [0, 1, 2]


def test_from_files_to_a_training_step(divided):
    miniatures.train(load("folder", root=divided))


def test_arrays_stack_what_examples_yield(divided):
    folder = ImageFolder(divided)
    images, masks = folder.arrays("train", progress=False)
    assert images.shape == (3, HEIGHT, WIDTH, 3)
    assert masks[:, 0, 0].tolist() == [0, 1, 2]
    for index, (image, mask) in enumerate(folder.examples("train")):
        np.testing.assert_array_equal(image, images[index])
        np.testing.assert_array_equal(mask, masks[index])


def test_progress_goes_to_stderr(divided, capsys):
    ImageFolder(divided).check()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Checking" in captured.err
    ImageFolder(divided).check(progress=False)
    assert capsys.readouterr().err == ""


# --- How files are read -------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "LA", "1"])
def test_images_of_other_modes_become_rgb(tmp_path, mode):
    colours = Image.new("RGB", (WIDTH, HEIGHT), (255, 255, 255))
    path = tmp_path / f"image{'.jpg' if mode == 'CMYK' else '.png'}"
    colours.convert(mode).save(path)
    np.testing.assert_array_equal(
        read_training_image(path), np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    )


def test_transparency_is_dropped_and_not_blended(tmp_path):
    Image.new("RGBA", (2, 2), (200, 100, 50, 0)).save(tmp_path / "image.png")
    assert read_training_image(tmp_path / "image.png")[0, 0].tolist() == [200, 100, 50]


def test_palette_labels_give_indices_not_colours(tmp_path):
    label = Image.new("P", (2, 1))
    label.putpalette([0, 0, 0, 255, 255, 255, 128, 0, 0, 7, 7, 7])
    label.putdata([3, 2])
    label.save(tmp_path / "label.png")
    assert read_mask(tmp_path / "label.png").tolist() == [[3, 2]]


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_grey_labels_of_any_depth_give_their_numbers(tmp_path, bits):
    values = [[0, 1, 1], [1, 0, min(2**bits - 1, 255)]]
    write_grey_png(tmp_path / "label.png", bits=bits, values=values)
    mask = read_mask(tmp_path / "label.png")
    assert mask.tolist() == values
    assert mask.dtype == np.uint8


# --- Faults -------------------------------------------------------------------


def fault(root, **arguments):
    with pytest.raises(ValueError, match=re.escape(str(root))) as caught:
        ImageFolder(root, **arguments).check(progress=False)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_missing_label_is_named(divided):
    (divided / "train" / "labels" / "train1.png").unlink()
    message = fault(divided)
    assert message.startswith(str(divided / "train" / "images" / "train1.png"))
    assert "image has no label; add" in message


def test_missing_image_is_named(divided):
    (divided / "val" / "images" / "val0.png").unlink()
    message = fault(divided)
    assert message.startswith(str(divided / "val" / "labels" / "val0.png"))
    assert "label has no image; add" in message


@pytest.mark.parametrize("kind", ["images", "labels"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "text"])
def test_unreadable_file_is_named(divided, kind, damage):
    path = divided / "train" / kind / "train1.png"
    noise = np.random.default_rng(0).integers(0, 3, (64, 64), np.uint8)
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    damaged = {"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"<html>"}
    path.write_bytes(damaged[damage])
    message = fault(divided)
    assert message.startswith(f"{path}: can't be read (")
    assert "replace the file, or remove it" in message


def test_damaged_checksum_is_a_fault(divided):
    path = divided / "train" / "labels" / "train1.png"
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(b"IDAT") + 6] ^= 0xFF
    path.write_bytes(damaged)
    assert fault(divided).startswith(f"{path}: can't be read (")


def test_other_size_of_the_mask_is_named(divided):
    path = divided / "train" / "labels" / "train2.png"
    Image.new("L", (5, 9)).save(path)
    assert fault(divided) == (
        f"{path}: mask is 5x9 but its image is {WIDTH}x{HEIGHT}; "
        "masks must have their image's size."
    )


def test_label_value_without_class_is_named(divided):
    path = divided / "val" / "labels" / "val1.png"
    Image.new("L", (WIDTH, HEIGHT), 3).save(path)
    message = fault(divided)
    assert message.startswith(
        f"{path}: label value 3 is neither a class (0 to 2) nor ignore_class (255)"
    )
    assert "set ignore_class" in message
    assert ImageFolder(divided, ignore_class=3).check(progress=False) == 5


def test_label_value_without_class_stops_examples_too(divided):
    Image.new("L", (WIDTH, HEIGHT), 7).save(divided / "val" / "labels" / "val1.png")
    with pytest.raises(Exception, match=r"val1.png: label value 7 is neither a class"):
        list(ImageFolder(divided).examples("val"))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_label_with_colours_is_refused(divided, mode):
    path = divided / "train" / "labels" / "train0.png"
    Image.new(mode, (WIDTH, HEIGHT)).save(path)
    message = fault(divided)
    assert message.startswith(f"{path}: label has mode {mode}, colors instead of")
    assert "palette PNG of class indices" in message


def test_16_bit_label_beyond_8_bits_is_refused(divided):
    path = divided / "train" / "labels" / "train0.png"
    write_grey_png(path, bits=16, values=[[0, 300]])
    assert fault(divided).startswith(f"{path}: label value 300 doesn't fit 8 bits")


def test_16_bit_image_is_refused(divided):
    path = divided / "train" / "images" / "train0.png"
    write_grey_png(path, bits=16, values=[[0, 300]])
    assert "more than 8 bits per channel); save it with 8 bits" in fault(divided)


def test_the_number_of_other_faults_is_told(divided):
    for index in range(3):
        (divided / "train" / "images" / f"train{index}.png").write_bytes(b"")
    assert fault(divided).endswith("(2 more like it.)")


def test_two_images_of_one_name_are_refused(divided):
    Image.new("RGB", (WIDTH, HEIGHT)).save(divided / "val" / "images" / "val0.jpg")
    assert "val0.jpg has the same name but for the suffix" in fault(divided)


def test_empty_folder_is_refused(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    assert f"{tmp_path / 'images'}: no images in this folder" in fault(tmp_path)


def test_folder_without_labels_is_refused(tmp_path):
    (tmp_path / "images").mkdir()
    assert f"{tmp_path / 'labels'}: no such folder" in fault(tmp_path)


def test_folder_of_another_layout_is_refused(tmp_path):
    assert "put images into images/" in fault(tmp_path)
    assert "no such folder" in fault(tmp_path / "nowhere")


def test_too_few_examples_to_divide_are_refused(tmp_path):
    write_example(tmp_path, "one")
    with pytest.raises(ValueError, match=r"1 example\(s\) are too few .* split='all'"):
        ImageFolder(tmp_path).count("val")
    assert ImageFolder(tmp_path).count("all") == 1


def test_unknown_split_is_refused(divided):
    with pytest.raises(ValueError, match=r"'test' is unknown; .* has train, val\."):
        ImageFolder(divided).paths("test")


def test_arrays_of_different_sizes_are_refused(divided):
    write_example(divided / "train", "wide", size=(9, 4))
    with pytest.raises(ValueError, match=r"wide.png: image is 9x4 .* use examples"):
        ImageFolder(divided).arrays("train", progress=False)


def test_labels_of_void_alone_have_no_classes(tmp_path):
    write_example(tmp_path, "one", value=255)
    assert "every label pixel is ignore_class (255)" in fault(tmp_path)


@pytest.mark.parametrize("value", [-1, 256, None, 1.0, True])
def test_ignore_class_out_of_range_is_refused(divided, value):
    with pytest.raises(ValueError, match=r"ignore_class is .* integer from 0 to 255"):
        ImageFolder(divided, ignore_class=value)


@pytest.mark.parametrize(
    ("classes", "palette", "message"),
    [
        ("", None, "0 class names; between 1 and 256"),
        ("sky\nroad\nsky\n", None, "class 'sky' occurs twice"),
        ("sky\nroad\n", "0 1 2 3 sky\n", "no color for class 1 (road); add a line"),
        ("sky\n", "0 1 2 3 road\n", "class 0 is called 'road' but 'sky' in classes"),
        ("sky\n", "0 1 2\n", "line 1: '0 1 2' isn't `index R G B name`"),
        ("sky\n", "0 1 2 256 sky\n", "isn't `index R G B name` with colors from 0"),
        ("sky\n", "sky 1 2 3\n", "isn't `index R G B name`"),
        (None, "0 1 2 3 sky\n2 1 2 3 road\n", "classes are [0, 2]; they must be"),
    ],
)
def test_wrong_text_files_are_refused_at_once(tmp_path, classes, palette, message):
    write_example(tmp_path, "one")
    if classes is not None:
        (tmp_path / "classes.txt").write_text(classes)
    if palette is not None:
        (tmp_path / "palette.txt").write_text(palette)
    with pytest.raises(ValueError, match=re.escape(message)):
        ImageFolder(tmp_path)


def test_palette_of_another_length_is_refused(divided):
    with pytest.raises(ValueError, match="palette has 1 colors but there are 3 classes"):
        ImageFolder(divided, palette=[[0, 0, 0]])


def test_check_wants_two_classes(tmp_path):
    for index in range(4):
        write_example(tmp_path, f"scene{index}", value=(0, 255)[index % 2])
    (tmp_path / "classes.txt").write_text("background\nthing\n")
    with pytest.raises(ValueError, match=r"fewer than two classes: \[0\] and the ignored 255"):
        ImageFolder(tmp_path).check(progress=False)


def test_16_bit_colour_is_refused(tmp_path):
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    pixel = zlib.compress(b"\0" + struct.pack(">HHH", 4000, 4000, 4000))
    path = tmp_path / "deep.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixel) + chunk(b"IEND", b"")
    )
    with pytest.raises(ValueError, match="more than 8 bits per channel"):
        read_training_image(path)


@pytest.mark.parametrize("name", ["classes.txt", "palette.txt"])
def test_text_that_is_not_utf8_is_named(flat, name):
    (flat / name).write_bytes("0 1 2 3 Stra\u00dfe\n".encode("latin-1"))
    with pytest.raises(ValueError, match=f"{name}: isn't UTF-8 text; save it as UTF-8"):
        ImageFolder(flat)
