import pytest
from PIL import Image
from support import datasets

from keras_psp.data import ImageFolder, load
from keras_psp.data.patterns import suggested


def write(root, *paths, value=1):
    """Writes images (.jpg, .bmp) and labels (other suffixes), all of one value."""
    for path in paths:
        is_image = path.endswith((".jpg", ".bmp", "_rgb.png"))
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        kind = "TIFF" if path.endswith(".tif") else None
        Image.new("RGB" if is_image else "L", (6, 4), value if not is_image else (9, 9, 9)).save(
            root / path, kind
        )


def pairs(root, images=None, labels=None, split="all"):
    source = ImageFolder(root, images=images, labels=labels)
    return [
        (image.relative_to(root).as_posix(), label.relative_to(root).as_posix())
        for image, label in source.paths(split)
    ]


@pytest.mark.parametrize(
    ("images", "labels", "files"),
    [
        ("img/*.jpg", "masks/{stem}_mask.png", [("img/a.jpg", "masks/a_mask.png")]),
        ("img/*", "truth/{name}.png", [("img/a.jpg", "truth/a.jpg.png")]),
        ("*.jpg", "{stem}.png", [("a.jpg", "a.png"), ("b.jpg", "b.png")]),
        ("**/*.jpg", "m/**/{stem}.tif", [("x/y/a.jpg", "m/x/y/a.tif"), ("a.jpg", "m/a.tif")]),
        ("{city}/{id}_rgb.png", "seg/{city}/{id}_gt.png", [("ulm/1_rgb.png", "seg/ulm/1_gt.png")]),
        ("a[1]/?.jpg", "l/{stem}.png", [("a[1]/b.jpg", "l/b.png")]),
    ],
)
def test_patterns_pair_files(tmp_path, images, labels, files):
    write(tmp_path, *(path for pair in files for path in pair))
    (tmp_path / ".hidden.jpg").write_text("")
    assert sorted(pairs(tmp_path, images, labels)) == sorted(files)


def test_labels_may_be_next_to_images_of_the_same_suffix(tmp_path):
    write(tmp_path, "d/a_rgb.png", "d/b_rgb.png", "d/a_rgb_mask.png", "d/b_rgb_mask.png")
    assert pairs(tmp_path, "d/*", "d/{stem}_mask.png") == [
        ("d/a_rgb.png", "d/a_rgb_mask.png"),
        ("d/b_rgb.png", "d/b_rgb_mask.png"),
    ]


def test_one_pattern_is_enough(tmp_path):
    write(tmp_path, "images/a.jpg", "labels/a_mask.png")
    assert pairs(tmp_path, labels="labels/{stem}_mask.png") == [
        ("images/a.jpg", "labels/a_mask.png")
    ]
    write(tmp_path / "other", "img/a.jpg", "labels/a.png")
    assert pairs(tmp_path / "other", "img/*") == [("img/a.jpg", "labels/a.png")]


def test_folders_are_splits(tmp_path):
    for split in ("training", "valid", "extra"):
        for i in range(2):
            write(tmp_path, f"img/{split}/{split}{i}.jpg", f"seg/{split}/{split}{i}.png")
    source = ImageFolder(tmp_path, images="img/{split}/*", labels="seg/{split}/{stem}.png")
    assert source.splits == ("train", "val", "extra")
    assert [image.name for image, _ in source.paths("val")] == ["valid0.jpg", "valid1.jpg"]
    other = tmp_path / "other"
    write(other, "train/img/a.jpg", "train/seg/a.png", "val/img/b.jpg", "val/seg/b.png")
    assert pairs(other, "img/*", "seg/{stem}.png", "val") == [("val/img/b.jpg", "val/seg/b.png")]


def test_without_splits_it_divides_as_images_and_labels_do(tmp_path):
    for index in range(10):
        datasets.write_example(tmp_path / "usual", f"s{index}")
        write(tmp_path / "other", f"img/s{index}.jpg", f"seg/s{index}.png")
    other = load("folder", root=tmp_path / "other", images="img/*", labels="seg/{stem}.png")
    for split in ("train", "val", "test"):
        names = [
            [i.stem for i, _ in s.paths(split)] for s in (ImageFolder(tmp_path / "usual"), other)
        ]
        assert names[0] == names[1] and names[0]


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        ("", "l/{stem}.png", "images is ''; it must be a pattern such as 'images/\\*'"),
        ("i/", "l/{stem}.png", "images is 'i/'; it must be a pattern"),
        (3, "l/{stem}.png", "images is 3; it must be a pattern"),
        ("i/{stem}.jpg", "l/{stem}.png", r"images='i/{stem}.jpg': {stem} is for labels only"),
        ("{a}/{a}.jpg", "l/{stem}.png", r"images=.*: {a} may occur only once"),
        ("**/a/**/*.jpg", "l/{stem}.png", r"images=.*: \*\*/ may occur only once"),
        ("i/*", "l/*.png", r"labels='l/\*.png': \* doesn't say which label an image has; use"),
        ("i/*", "**/{stem}.png", r"labels=.*: \*\*/ must occur in images as well"),
        ("i/*", "l/{city}.png", r"labels=.*: {city} is unknown; known are {stem}, {name}"),
        ("i/*", "l/mask.png", "labels='l/mask.png': is the same for all images; use {stem}"),
        ("i/*.png", "l/{stem}.png", r"no image matches images='i/\*.png'; images end in"),
        ("i/*", "i/{name}", r"match the same file; each needs a folder or an ending"),
        ("i/*", "x/{stem}.png", r"a.jpg: image has no label; there is no folder .*x"),
        ("i/*", "l/{name}", r"a.jpg: image has no label; .* give labels='l/{stem}.png'"),
        ("i/a.jpg", "l/{stem}.png", r"b.png: label has no image; add the image, remove the label"),
        ("{x}/a.*", "l/{stem}.png", "is the label of both a.jpg and a.bmp; names must be unique"),
    ],
)  # fmt: skip
def test_wrong_patterns_are_named(tmp_path, images, labels, message):
    write(tmp_path, "i/a.jpg", "l/a.png", "i/b.jpg", "l/b.png", "j/a.bmp")
    with pytest.raises(ValueError, match=message):
        pairs(tmp_path, images, labels)


def test_the_labels_of_yolo_are_named(tmp_path):
    write(tmp_path, "images/a.jpg")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 0.1 0.1 0.9 0.1 0.5 0.9")
    with pytest.raises(ValueError, match=r"labels/a\.txt looks like YOLO's labels, which aren't"):
        pairs(tmp_path, "images/*", "labels/{stem}.png")


@pytest.mark.parametrize(
    ("images", "labels", "expected"),
    [
        (["a.jpg", "b.jpg"], ["a_mask.png", "b_mask.png"], ("*", "{stem}_mask.png")),
        (["a.jpg"], ["a_gtFine_labelIds.png"], ("*", "{stem}_gtFine_labelIds.png")),
        (["a.jpg"], ["a.jpg.png"], ("*", "{name}.png")),
        (["a.jpg"], ["a.tif"], ("*", "{stem}.tif")),
        (["a.jpg"], ["mask_a.png"], ("*", "mask_{stem}.png")),
        (["1.jpg"], ["10.png"], None),
        (["u_1_leftImg8bit.png"], ["u_1_gt.png"], ("{id}_leftImg8bit.png", "{id}_gt.png")),
        (["a.jpg"], ["b.png"], None),
        ([], ["b.png"], None),
    ],
)
def test_patterns_are_suggested(images, labels, expected):
    assert suggested(images, labels) == expected
