import json

import numpy as np
import pytest
from PIL import Image

from keras_psp.data import GeneratedScenes, ImageFolder, examine


def write(folder, split, masks, *, images=None, suffix="png", **options):
    """Writes (6, 8) masks, or full ones of one value, with an image of noise each."""
    for kind in ("images", "labels"):
        (folder / split / kind).mkdir(parents=True, exist_ok=True)
    for index, mask in enumerate(masks):
        mask = np.full((6, 8), mask, np.uint8) if np.isscalar(mask) else np.uint8(mask)
        seed = (images or range(index, index + 1))[0 if images is None else index]
        noise = np.random.default_rng([seed, len(split)] if images is None else seed)
        image = Image.fromarray(noise.integers(0, 256, (*mask.shape, 3), np.uint8))
        image.save(folder / split / "images" / f"{split}{index}.{suffix}", **options)
        Image.fromarray(mask).save(folder / split / "labels" / f"{split}{index}.png")


def halves(left, right):
    return np.repeat([[left] * 4 + [right] * 4], 6, axis=0)


def report(folder, names=None, **options):
    if names:
        (folder / "classes.txt").write_text("\n".join(names) + "\n")
    return examine(ImageFolder(folder, **options), progress=False)


def test_masks_of_0_and_255_are_refused_with_the_remedy(tmp_path):
    write(tmp_path, "train", [halves(0, 255), halves(0, 255)])
    found = report(tmp_path, ["background", "object"])
    (problem,) = found.problems("train")
    assert "hold only class 0 (background), and 50.00 % of their pixels are 255" in problem
    assert "label_map={255: 1}." in problem
    with pytest.raises(ValueError, match="nothing can be learned"):
        found.require("train")


def test_one_class_alone_is_refused(tmp_path):
    write(tmp_path, "train", [1, 1])
    (problem,) = report(tmp_path, ["a", "b"]).problems("train")
    assert problem.endswith("only class 1 (b); nothing can be learned from this. Label the other "
                            "classes as well.")  # fmt: skip


def test_gaps_between_unnamed_values_are_refused(tmp_path):
    write(tmp_path, "train", [halves(0, 254), 255])
    (problem,) = report(tmp_path).problems("train")
    assert "hold only the values 0, 254 to 255, which would make 255 classes" in problem
    assert "classes.txt" in problem
    assert not report(tmp_path, [f"class {i}" for i in range(255)]).problems("train")


def test_interpolated_masks_are_refused_unless_the_values_are_named(tmp_path):
    ramp = Image.fromarray(np.uint8(halves(0, 20))).rotate(20, Image.Resampling.BICUBIC)
    ramp = ramp.resize((64, 48), Image.Resampling.BICUBIC)
    write(tmp_path, "train", [np.asarray(ramp)])
    (problem,) = report(tmp_path).problems("train")
    assert "values in the labels never fill a 2x2 square" in problem
    found = report(tmp_path, [f"class {i}" for i in range(99)])
    assert not found.problems("train")
    assert any("never fill a 2x2 square" in note for note in found.notes())


def test_classes_that_never_occur_in_training_are_named(tmp_path):
    write(tmp_path, "train", [halves(0, 2)])
    write(tmp_path, "val", [halves(0, 1)])
    notes = report(tmp_path, ["sky", "boat", "car", "sign"]).notes()
    assert notes == ["2 of 4 classes never occur in split 'train': boat, sign"]


def test_classes_counted_from_labels_are_told_with_the_largest(tmp_path):
    write(tmp_path, "train", [halves(0, 1), halves(0, 2), halves(1, 255)])
    path = tmp_path / "train" / "labels" / "train1.png"
    assert report(tmp_path).notes() == [
        f"3 classes, counted from the labels; the largest value of split 'train', 2, is in {path}"
    ]


def test_much_ignored_and_empty_labels_are_told(tmp_path):
    write(tmp_path, "train", [halves(0, 1), 255, 255])
    notes = report(tmp_path, ["sky", "boat"]).notes()
    assert notes[0] == "66.67 % of the label pixels in split 'train' are 255, which is ignored"
    assert notes[1].startswith("2 labels of split 'train' without any class (")


def test_images_in_two_splits_and_with_two_labels_are_told(tmp_path):
    write(tmp_path, "train", [halves(0, 1), halves(0, 1), halves(1, 0)], images=[1, 2, 2])
    write(tmp_path, "val", [halves(0, 1)], images=[1])
    same, differing = report(tmp_path, ["sky", "boat"]).notes()
    assert same.startswith("1 image of split 'val' also in 'train' (")
    assert differing.startswith("1 image with the content of another but different labels (")


def test_orientations_are_counted(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    write(tmp_path, "train", [halves(0, 1), halves(0, 1)], suffix="jpg", exif=exif)
    (note,) = report(tmp_path, ["sky", "boat"]).notes()
    assert note.startswith("2 of 2 images have an EXIF orientation and are turned upright")
    assert note.endswith("train0.jpg)")


def test_labels_of_stored_pixels_are_refused_with_the_reason(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    write(tmp_path, "train", [halves(0, 1)], suffix="jpg", exif=exif)
    (fault,) = report(tmp_path, ["sky", "boat"]).faults().values()
    assert "mask is 8x6 but its image is 6x8 if turned upright by its EXIF orientation" in fault


def test_images_of_a_divided_folder_are_counted_once(tmp_path):
    write(tmp_path, "", [halves(0, 1)] * 5)
    for path in (tmp_path / "images").iterdir():
        Image.open(path).convert("RGBA").rotate(45).save(path)  # transparent corners
    found = report(tmp_path, ["a", "b"])
    assert list(found.examined) == ["train", "val", "test"]
    assert any(note.startswith("5 of 5 images have transparent pixels") for note in found.notes())
    chosen = found.representative(16)
    assert {split: len(numbers) for split, numbers in chosen.items()} == {
        "train": 3,
        "val": 1,
        "test": 1,
    }
    whole = examine(found.source, ["all"], progress=False)
    assert len(whole.examined["all"]) == 5


def test_all_faults_are_listed_and_the_first_is_raised(tmp_path):
    write(tmp_path, "train", [halves(0, 1), 7, halves(0, 1)])
    (tmp_path / "train" / "images" / "train0.png").write_bytes(b"")
    found = report(tmp_path, ["sky", "boat"])
    reasons = list(found.faults().values())
    assert "train0.png: is empty" in reasons[0]
    assert "label value 7 is neither a class" in reasons[1]
    with pytest.raises(ValueError, match=r"is empty.*\(1 more like it\.\)"):
        found.require()
    assert found.without_faults().count == 1


def test_the_table_has_shares_and_sizes(tmp_path, capsys):
    root = tmp_path / "photos[raw]"  # not markup
    write(root, "train", [halves(0, 1), 0, np.zeros((12, 8))])
    report(root, ["sky", "boat"]).print()
    rows = capsys.readouterr().out.split("\n")
    assert "photos[raw]: share" in "".join(row.strip() for row in rows)
    assert any("0 sky" in row and "87.50 %  100.00 %" in row for row in rows)
    assert any("1 boat" in row and "12.50 %  33.33 %" in row for row in rows)
    assert any("sizes" in row and "8x6 to 8x12" in row for row in rows)
    assert "ready to train on" in rows


def test_digests_identify_contents_and_order(tmp_path):
    write(tmp_path, "train", [halves(0, 1), halves(1, 0)])
    first = report(tmp_path, ["sky", "boat"]).digest("train")
    assert report(tmp_path, ["sky", "boat"]).digest("train") == first
    Image.fromarray(np.uint8(halves(0, 0))).save(tmp_path / "train" / "labels" / "train1.png")
    assert report(tmp_path, ["sky", "boat"]).digest("train") != first


def test_every_class_is_represented(tmp_path):
    write(tmp_path, "train", [halves(0, 1)] * 9 + [halves(0, 2), halves(0, 1)])
    found = report(tmp_path, ["sky", "boat", "car"])
    shown = [found.examined["train"][index] for index in found.representative(3)["train"]]
    assert any(item.image.endswith("train9.png") for item in shown)
    assert sum(map(len, found.representative(3).values())) == 3
    assert len(found.representative(99)["train"]) == 11


def test_the_json_has_every_file(tmp_path):
    write(tmp_path, "train", [halves(0, 1), 7])
    report(tmp_path, ["sky", "boat"]).to_json(tmp_path / "report.json")
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["class_names"] == ["sky", "boat"]
    first, second = content["splits"]["train"]
    assert first["pixels"] == {"0": 24, "1": 24}
    assert "label value 7" in second["fault"]
    assert list(content["faults"]) == [second["image"]]


def test_sources_without_files_are_examined_too():
    source = GeneratedScenes(counts={"val": 3}, image_size=(48, 48))
    found = examine(source, ["val"], progress=False)
    masks = np.stack([mask for _, mask in source.examples("val")])
    counts = np.bincount(masks.ravel(), minlength=256)
    total = sum((np.array([item.pixels.get(v, 0) for v in range(256)])
                 for item in found.examined["val"]), start=np.zeros(256))  # fmt: skip
    np.testing.assert_array_equal(total, counts)
    found.print()
