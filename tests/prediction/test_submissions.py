import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image
from support import datasets as miniatures

from keras_psp.data import ImagePairs, load
from keras_psp.labels import labels
from keras_psp.prediction.submissions import (
    ADE20KSubmission,
    CityscapesSubmission,
    VOCSubmission,
    image_sizes,
)

SIZES = {"2008_000001": (3, 4), "2008_000002": (5, 2)}
BERLIN = "berlin_000000_000019"


def voc(folder, **options):
    return VOCSubmission(folder, SIZES, **options)


def city(folder):
    return CityscapesSubmission(folder, {f"{BERLIN}_leftImg8bit": (4, 6)}, size=(4, 6))


def fill(submission):
    """Writes every class in turn into every file."""
    for name, size in submission.images.items():
        submission.write(name, np.resize(np.arange(submission.num_classes), size))


def test_voc_files_are_palette_pngs_in_the_folders_of_the_devkit(tmp_path):
    submission = voc(tmp_path)
    classes = np.arange(12).reshape(3, 4)
    path = submission.write("2008_000001", classes)
    folder = tmp_path / "results" / "VOC2012" / "Segmentation" / "comp6_test_cls"
    assert path == folder / "2008_000001.png"
    with Image.open(path) as image:
        assert image.mode == "P" and image.size == (4, 3)
        np.testing.assert_array_equal(np.asarray(image), classes)
        colors = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(colors, np.array(labels("voc2012").palette)[classes])
    assert submission.palette()[255].tolist() == [224, 224, 192]  # void in the devkit
    path = voc(tmp_path, competition="comp5", image_set="val").path("2008_000001")
    assert path.parent == folder.with_name("comp5_val_cls")


def test_cityscapes_files_have_label_ids_and_the_name_of_the_image(tmp_path):
    submission = city(tmp_path)
    path = submission.write(f"{BERLIN}_leftImg8bit", np.resize([0, 13, 18], (4, 6)))
    assert path == tmp_path / f"{BERLIN}_pred_labelIds.png"
    with Image.open(path) as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), np.resize([7, 26, 33], (4, 6)))


def test_ade20k_files_count_from_one(tmp_path):
    submission = ADE20KSubmission(tmp_path, {"ADE_test_00000001": (2, 2)})
    path = submission.write("ADE_test_00000001", np.array([[0, 149], [1, 2]], np.uint8))
    assert path == tmp_path / "ADE_test_00000001.png"
    with Image.open(path) as image:
        assert image.mode == "L"
        assert np.asarray(image).tolist() == [[1, 150], [2, 3]]


@pytest.mark.parametrize(
    ("name", "split", "kind"),
    [
        ("voc2012", "test", VOCSubmission),
        ("ade20k", "val", ADE20KSubmission),
        ("cityscapes", "test", CityscapesSubmission),
    ],
)
def test_image_sizes_come_from_a_source(tmp_path, name, split, kind):
    root = tmp_path / name
    root.mkdir()
    miniatures.MAKERS[name](root)
    source = load(name, root=root, complete=False)
    sizes = image_sizes(source, split)
    assert set(sizes.values()) == {(miniatures.HEIGHT, miniatures.WIDTH)}
    options = {"size": (48, 64)} if name == "cityscapes" else {}
    submission = kind(tmp_path / "out", sizes, **options)
    fill(submission)
    assert submission.check(progress=False) == source.count(split) == 2
    # The labels of the benchmark's source have the values that the files must have.
    values = submission.to_values(np.arange(source.num_classes))
    assert tuple(values) == source.label_values


def test_images_of_the_same_name_are_refused(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (64, 48)).save(tmp_path / folder / "1.jpg")
    pairs = [(tmp_path / folder / "1.jpg", None) for folder in ("a", "b")]
    source = ImagePairs({"test": pairs}, class_names=["road"])
    with pytest.raises(ValueError, match="'test' has several images named '1', for each of which"):
        image_sizes(source, "test")


def test_archives_contain_the_files_of_the_submission(tmp_path):
    submission = voc(tmp_path / "out")
    fill(submission)
    inside = [f"results/VOC2012/Segmentation/comp6_test_cls/{name}.png" for name in SIZES]
    with tarfile.open(submission.pack(tmp_path / "results.tgz", progress=False)) as archive:
        assert archive.getnames() == inside
        assert archive.extractfile(inside[0]).read() == submission.path("2008_000001").read_bytes()
    submission = city(tmp_path / "city")
    fill(submission)
    path = submission.pack(tmp_path / "city" / "city.zip", progress=False)
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [f"{BERLIN}_pred_labelIds.png"]
    assert submission.check(progress=False) == 1  # the archive is not a fault
    with pytest.raises(ValueError, match=r"a.rar: the archive must end in .zip, .tgz or"):
        submission.pack(tmp_path / "a.rar")
    submission.path(BERLIN).unlink()
    with pytest.raises(ValueError, match="there is no such file; write the prediction"):
        submission.pack(path, progress=False)


@pytest.mark.parametrize(
    ("name", "classes", "message"),
    [
        ("2008_9", np.zeros((3, 4), int), "'2008_9' is not one of the 2 images .* '2008_000001'"),
        (
            "2008_000002",
            np.zeros((2, 5), int),
            r"shape \(2, 5\) but the image is 2x5; they must have shape \(5, 2\)",
        ),
        ("2008_000001", np.zeros((3, 4)), "dtype float64; they must be integers, class indices"),
        (
            "2008_000001",
            np.full((3, 4), 21),
            r"value 21 is not a class of PASCAL VOC 2012 \(0",
        ),
        ("2008_000001", np.full((3, 4), -1), "value -1 is not a class"),
    ],
)
def test_an_invalid_prediction_is_not_written(tmp_path, name, classes, message):
    with pytest.raises(ValueError, match=message):
        voc(tmp_path).write(name, classes)
    assert not any(tmp_path.iterdir())


def gray(size, value=7):
    return Image.fromarray(np.full(size, value, np.uint8))


@pytest.mark.parametrize(
    ("make", "spoil", "message"),
    [
        (
            voc,
            lambda path: path.unlink(),
            "2.png: there is no such file; write the prediction of",
        ),
        (voc, lambda path: path.write_bytes(b"PNG?"), r"2.png: can't be read \(.*; write it again"),
        (
            voc,
            lambda path: gray((5, 2)).save(path),
            "2.png: has pixels of mode L instead of P, a palette whose indices are labels",
        ),
        (
            city,
            lambda path: gray((4, 6)).convert("RGB").save(path),
            "mode RGB instead of L, gray values that are labels; write it with CityscapesSub",
        ),
        (city, lambda path: gray((6, 4)).save(path), "is 4x6 but its image is 6x4"),
        (
            city,
            lambda path: gray((4, 6), 18).save(path),
            r"has the value 18, which is not a label of Cityscapes \(these are 7 to 8, 11 to 13,",
        ),
        (
            city,
            lambda path: path.with_name(f"{BERLIN}_x.png").write_bytes(b""),
            f"{BERLIN}_x.png: doesn't belong to any image of the submission; remove it",
        ),
    ],
)
def test_check_reports_the_file_and_its_fault(tmp_path, make, spoil, message):
    submission = make(tmp_path)
    fill(submission)
    assert submission.check(progress=False) == len(submission.images)
    spoil(submission.path(list(submission.images)[-1]))
    with pytest.raises(ValueError, match=message):
        submission.check(progress=False)


def test_other_faults_are_counted(tmp_path):
    with pytest.raises(ValueError, match=r"1.png: there is no such file; .* \(1 more like it.\)"):
        voc(tmp_path).check(progress=False)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: voc("out", competition="comp3"), "'comp3'; it must be 'comp5' .trained on VOC"),
        (
            lambda: ADE20KSubmission("out", {}),
            "images is empty; give the names and sizes of ADE20K",
        ),
        (
            lambda: CityscapesSubmission("out", {BERLIN: (512, 1024)}),
            f"{BERLIN}: the image is 1024x512 but Cityscapes' are 2048x1024; predict the full",
        ),
        (
            lambda: CityscapesSubmission("out", {"berlin_19": (1024, 2048)}),
            "'berlin_19' is not the name of a Cityscapes image, e.g.",
        ),
    ],
)
def test_invalid_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", ["../escaped", "/etc/passwd", "a/b", ""])
def test_names_cannot_lead_out_of_the_folder(name, tmp_path):
    with pytest.raises(ValueError, match="is a path, not a name; pass an image's file name"):
        ADE20KSubmission(tmp_path, {name: (2, 2)})


def test_every_flipped_byte_is_found_or_harmless(tmp_path):
    submission = ADE20KSubmission(tmp_path, {"a": (9, 7)})
    classes = np.random.default_rng(0).integers(0, 150, (9, 7))
    path = submission.write("a", classes)
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :])
        try:
            submission.check(progress=False)
        except ValueError:
            continue
        with Image.open(path) as image:
            np.testing.assert_array_equal(np.asarray(image), classes + 1)
