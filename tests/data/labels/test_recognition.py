import pytest
from support import datasets, label_tools
from support.label_tools import colored, save_image, save_json

from keras_psp.data import load
from keras_psp.data.labels.recognition import recognized

MAKERS = {
    "labelme": label_tools.labelme,
    "coco_instances": label_tools.coco,
    "cvat": label_tools.cvat,
    "supervisely": label_tools.supervisely,
    "roboflow": label_tools.roboflow,
}


@pytest.mark.parametrize("name", MAKERS)
def test_tools_are_recognized(tmp_path, examples, name):
    MAKERS[name](tmp_path, examples)
    assert recognized(tmp_path).name == name
    files = {"coco_instances": "annotations/instances.json", "cvat": "annotations.xml"}
    if name in files:
        assert recognized(tmp_path / files[name]).name == name
    if name == "labelme":
        assert recognized(tmp_path / "photo00.json").name == name


def test_a_folder_called_labels_may_hold_the_files_of_a_tool(tmp_path, examples):
    label_tools.labelme(tmp_path / "images", examples)
    (tmp_path / "labels").mkdir()
    for file in (tmp_path / "images").glob("*.json"):
        file.rename(tmp_path / "labels" / file.name)
    assert recognized(tmp_path).name == "labelme"
    assert load("labelme", root=tmp_path).count("all") == 12


def test_large_files_are_recognized_by_their_ends(tmp_path):
    content = {"images": [], "annotations": [{"text": "x" * 3_000_000}], "categories": []}
    save_json(tmp_path / "instances.json", content)
    assert recognized(tmp_path / "instances.json").name == "coco_instances"


@pytest.mark.parametrize(
    ("image", "label", "options"),
    [
        ("images/{}.jpg", "labels/{}.png", {}),
        ("train/images/{}.jpg", "train/labels/{}.png", {}),
        ("images/{}.png", "masks/{}.png", {"images": "images/*", "labels": "masks/{stem}.png"}),
        (
            "JPEGImages/{}.jpg",
            "SegmentationClass/{}.png",
            {"images": "JPEGImages/*", "labels": "SegmentationClass/{stem}.png"},
        ),
        (
            "images/{}.jpg",
            "labels/{}.tif",
            {"images": "images/*", "labels": "labels/{stem}.tif"},
        ),
        ("a/{}.png", "gt/{}_x.tif", {"images": "a/*", "labels": "gt/{stem}_x.tif"}),
        ("{}.png", "{}_mask.png", {"images": "*", "labels": "{stem}_mask.png"}),
        (
            "valid/img/{}.png",
            "valid/mask/{}.png",
            {"images": "img/*", "labels": "mask/{stem}.png"},
        ),
    ],
)
def test_folders_of_masks_are_recognized_and_can_be_read(tmp_path, examples, image, label, options):
    for scene in examples:
        save_image(tmp_path / image.format(scene.name), scene.image)
        save_image(tmp_path / label.format(scene.name), scene.mask())
    found = recognized(tmp_path)
    assert (found.name, found.options) == ("folder", options)
    source = load(found.name, root=tmp_path, **found.options)
    split = source.splits[0]
    label_tools.assert_masks_equal(source, [s.mask() for s in examples], examples, split)


def test_cvats_segmentation_masks_are_recognized(tmp_path, examples):
    for scene in examples:
        save_image(tmp_path / "JPEGImages" / f"{scene.name}.png", scene.image)
        for folder in ("SegmentationClass", "SegmentationObject"):
            save_image(tmp_path / folder / f"{scene.name}.png", colored(scene.mask()))
    lines = [f"{name}:{','.join(map(str, c))}::" for name, c in label_tools.COLORS.items()]
    (tmp_path / "labelmap.txt").write_text("\n".join(["background:0,0,0::", *lines]))
    found = recognized(tmp_path)
    assert found.options["labels"] == "SegmentationClass/{stem}.png"
    source = load(found.name, root=tmp_path, **found.options)
    label_tools.assert_masks_equal(source, [s.mask() for s in examples], examples)


def test_other_folders_are_not_recognized(tmp_path):
    assert recognized(tmp_path / "nowhere") is None
    assert recognized(tmp_path) is None
    (tmp_path / "meta.json").write_text("{")
    (tmp_path / "a.json").write_text('{"annotations": {"segments_info": 1}, "images": []}')
    (tmp_path / "a.xml").write_text("<annotation/>")
    (tmp_path / "a.txt").write_text("")
    datasets.write_example(tmp_path / "pictures", "a")
    assert recognized(tmp_path) is None
    for name in ("a.json", "a.xml", "a.txt"):
        assert recognized(tmp_path / name) is None
