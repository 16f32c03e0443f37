import numpy as np
import pytest
from PIL import Image
from support import datasets

from keras_psp.data import load
from keras_psp.data.folder import ImageFolder

HEIGHT, WIDTH = 4, 6


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
        datasets.write_example(other, f"scene{index}", suffix=".bmp")
    for split in ("train", "val", "test"):
        assert [image.stem for image, _ in ImageFolder(flat).paths(split)] == [
            image.stem for image, _ in ImageFolder(other).paths(split)
        ]


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".png", ".BMP", ".webp"])
def test_image_suffixes_in_any_case(tmp_path, suffix):
    datasets.write_example(tmp_path, "one", suffix=suffix)
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


def test_a_network_trains_on_the_files(divided):
    datasets.train(load("folder", root=divided))


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
    assert "Checking" not in capsys.readouterr().err


def test_missing_label_is_named(divided):
    (divided / "train" / "labels" / "train1.png").unlink()
    message = datasets.fault(divided)
    assert message.startswith(str(divided / "train" / "images" / "train1.png"))
    assert "image has no label; add" in message


def test_an_image_without_a_known_suffix_is_named(divided):
    path = divided / "train" / "images" / "train0.png"
    path.rename(path.with_suffix(""))
    assert datasets.fault(divided).startswith(
        f"{path.with_suffix('')}: isn't read because its name doesn't end in one of .jpg, "
    )


def test_missing_image_is_named(divided):
    (divided / "val" / "images" / "val0.png").unlink()
    message = datasets.fault(divided)
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
    message = datasets.fault(divided)
    reason = {"truncated": "is broken (", "empty": "is empty", "text": "is a web page"}[damage]
    if kind == "labels":
        reason = "can't be read ("
    assert message.startswith(f"{path}: {reason}")


def test_damaged_checksum_is_a_fault(divided):
    path = divided / "train" / "labels" / "train1.png"
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(b"IDAT") + 6] ^= 0xFF
    path.write_bytes(damaged)
    assert datasets.fault(divided).startswith(f"{path}: can't be read (")


def test_mask_of_another_size_is_named(divided):
    path = divided / "train" / "labels" / "train2.png"
    Image.new("L", (5, 9)).save(path)
    assert datasets.fault(divided) == (
        f"{path}: mask is 5x9 but its image is {WIDTH}x{HEIGHT}; "
        "masks must have their image's size."
    )


def test_label_value_without_class_is_named(divided):
    path = divided / "val" / "labels" / "val1.png"
    Image.new("L", (WIDTH, HEIGHT), 3).save(path)
    message = datasets.fault(divided)
    assert message.startswith(
        f"{path}: label value 3 is neither a class (0 to 2) nor ignore_class (255)"
    )
    assert message.endswith('or map the value to a class or "ignore", e.g. label_map={3: 1}.')
    assert ImageFolder(divided, ignore_class=3).check(progress=False) == 5


def test_label_value_without_class_raises_in_examples_too(divided):
    Image.new("L", (WIDTH, HEIGHT), 7).save(divided / "val" / "labels" / "val1.png")
    with pytest.raises(Exception, match=r"val1.png: label value 7 is neither a class"):
        list(ImageFolder(divided).examples("val"))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_label_with_colors_is_refused(divided, mode):
    path = divided / "train" / "labels" / "train0.png"
    Image.new(mode, (WIDTH, HEIGHT)).save(path)
    message = datasets.fault(divided)
    has = "mode LA, colors" if mode == "LA" else "colors"
    assert message.startswith(f"{path}: label has {has} instead of one class number per pixel")
    assert "palette PNG of class indices" in message


def test_the_message_counts_the_other_faults(divided):
    for index in range(3):
        (divided / "train" / "images" / f"train{index}.png").write_bytes(b"")
    assert datasets.fault(divided).endswith("(2 more like it.)")


def test_two_images_of_one_name_are_refused(divided):
    Image.new("RGB", (WIDTH, HEIGHT)).save(divided / "val" / "images" / "val0.jpg")
    assert "val0.jpg has the same name but for the suffix" in datasets.fault(divided)


def test_empty_folder_is_refused(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    assert f"{tmp_path / 'images'}: no images in this folder" in datasets.fault(tmp_path)


def test_folder_without_labels_is_refused(tmp_path):
    (tmp_path / "images").mkdir()
    assert f"{tmp_path / 'labels'}: no such folder" in datasets.fault(tmp_path)


def test_folder_of_another_layout_is_refused(tmp_path):
    assert "put images into images/" in datasets.fault(tmp_path)
    assert "no such folder" in datasets.fault(tmp_path / "nowhere")


def test_too_few_examples_to_divide_are_refused(tmp_path):
    datasets.write_example(tmp_path, "one")
    with pytest.raises(ValueError, match=r"1 example\(s\) are too few .* split='all'"):
        ImageFolder(tmp_path).count("val")
    assert ImageFolder(tmp_path).count("all") == 1


def test_unknown_split_is_refused(divided):
    with pytest.raises(ValueError, match=r"'test' is unknown; .* has train, val\."):
        ImageFolder(divided).paths("test")


def test_arrays_of_different_sizes_are_refused(divided):
    datasets.write_example(divided / "train", "wide", size=(9, 4))
    with pytest.raises(ValueError, match=r"wide.png: image is 9x4 .* use examples"):
        ImageFolder(divided).arrays("train", progress=False)


@pytest.mark.parametrize("value", [-1, 256, None, 1.0, True])
def test_ignore_class_out_of_range_is_refused(divided, value):
    with pytest.raises(ValueError, match=r"ignore_class is .* integer from 0 to 255"):
        ImageFolder(divided, ignore_class=value)


def test_check_needs_two_classes(tmp_path):
    for index in range(4):
        datasets.write_example(tmp_path, f"scene{index}", value=(0, 255)[index % 2])
    (tmp_path / "classes.txt").write_text("background\nthing\n")
    with pytest.raises(
        ValueError,
        match=r"only class 0 \(background\), and .* 255, which is.* label_map={255: 1}",
    ):
        ImageFolder(tmp_path).check(progress=False)


@pytest.mark.parametrize(
    ("image", "label", "pattern"),
    [
        ("x.jpg", "x_mask.png", "labels='labels/{stem}_mask.png'"),
        ("x.jpg", "x_gtFine_labelIds.png", "labels='labels/{stem}_gtFine_labelIds.png'"),
        ("x.jpg", "x.jpg.png", "labels='labels/{name}.png'"),
        ("x.jpg", "x.tif", "labels='labels/{stem}.tif'"),
        (
            "u_1_leftImg8bit.png",
            "u_1_labelIds.png",
            "images='images/{id}_leftImg8bit.png' and labels='labels/{id}_labelIds.png'",
        ),
    ],
)
def test_labels_of_other_names_are_named_with_their_pattern(tmp_path, image, label, pattern):
    for folder, name, mode in (("images", image, "RGB"), ("labels", label, "L")):
        (tmp_path / folder).mkdir()
        Image.new(mode, (6, 4)).save(tmp_path / folder / name)
    stem = image.rpartition(".")[0]
    assert datasets.fault(tmp_path) == (
        f"{tmp_path / 'images' / image}: image has no label; there is no {stem}.png in "
        f"{tmp_path / 'labels'} but other files; if they are the labels, give {pattern}."
    )
    given = dict(part.split("=") for part in pattern.replace("'", "").split(" and "))
    assert ImageFolder(tmp_path, **given).count("all") == 1


@pytest.mark.parametrize(
    ("folder", "word"), [("north", "**/"), ("train", "{split}/"), ("Validation", "{split}/")]
)
def test_folders_within_images_are_refused_with_the_patterns(tmp_path, folder, word):
    datasets.write_example(tmp_path, "a")
    (tmp_path / "images" / folder).mkdir()
    Image.new("RGB", (6, 4)).save(tmp_path / "images" / folder / "b.png")
    message = datasets.fault(tmp_path)
    assert message.endswith(
        f"aren't read by default; give images='images/{word}*' and "
        f"labels='labels/{word}{{stem}}.png'."
    )
    assert message.startswith(str(tmp_path / "images" / folder / "b.png"))


def test_other_layouts_are_recognized(tmp_path):
    (tmp_path / "img").mkdir()
    (tmp_path / "masks").mkdir()
    Image.new("RGB", (6, 4)).save(tmp_path / "img" / "a.jpg")
    Image.new("L", (6, 4)).save(tmp_path / "masks" / "a_m.png")
    assert datasets.fault(tmp_path).endswith(
        "has no images/. This looks like images and masks in img/ and masks/; open it as 'folder', "
        "with images='img/*' and labels='masks/{stem}_m.png'."
    )
    (tmp_path / "img").rename(tmp_path / "images")
    assert datasets.fault(tmp_path).endswith(
        "labels: no such folder; it must hold one .png per image. This looks like images and masks "
        "in images/ and masks/; open it as 'folder', with images='images/*' and "
        "labels='masks/{stem}_m.png'."
    )
