import numpy as np
import pytest
from PIL import Image

from keras_psp.data import training_batches
from keras_psp.data.label_files import by_stem, read_mat
from keras_psp.data.pairs import ImagePairs
from keras_psp.data.split import Split

SIZE = (6, 4)  # width, height


def write_pairs(folder, values, *, prefix="scene"):
    pairs = []
    for i, value in enumerate(values):
        image, label = folder / f"{prefix}{i}.png", folder / f"{prefix}{i}_label.png"
        Image.new("RGB", SIZE, (i, 20, 30)).save(image)
        Image.new("L", SIZE, value).save(label)
        pairs.append((image, label))
    return pairs


@pytest.fixture
def source(tmp_path):
    return ImagePairs(
        {
            "train": write_pairs(tmp_path, [1, 2, 0, 1]),
            "val": write_pairs(tmp_path, [3], prefix="v"),
        },
        class_names=("sky", "road", "car"),
        lookup={0: 255, 1: 0, 2: 1, 3: 2},
        title="Scenes",
    )


@pytest.fixture
def blind(tmp_path):
    """A source whose test split has no labels."""
    pairs = write_pairs(tmp_path, [0, 1])
    return ImagePairs(
        {"train": pairs, "test": [(image, None) for image, _ in pairs]},
        class_names=("sky", "road"),
        title="Scenes",
    )


def test_values_in_files_become_classes(source):
    masks = [int(source.example("train", i)[1][0, 0]) for i in range(4)]
    assert masks == [0, 1, 255, 0]
    assert source.label_values == (1, 2, 3)
    images, stacked = source.arrays("train", progress=False)
    assert images.shape == (4, 4, 6, 3)
    assert stacked[:, 0, 0].tolist() == masks
    assert [int(mask[0, 0]) for _, mask in source.examples("train")] == masks
    assert source.sizes("train") == [(4, 6)] * 4


def test_values_are_the_classes_without_a_lookup(blind):
    assert blind.label_values == (0, 1)
    assert blind.example("train", 1)[1].tolist() == [[1] * 6] * 4


def test_a_value_that_is_not_in_the_lookup_is_named(tmp_path, source):
    Image.new("L", SIZE, 7).save(tmp_path / "scene1_label.png")
    with pytest.raises(
        ValueError, match=r"scene1_label.png: label value 7 doesn't occur in Scenes \(0 to 3\)"
    ):
        source.example("train", 1)


def test_unknown_splits_are_answered_with_the_known(source):
    with pytest.raises(ValueError, match=r"Split 'test' is unknown; Scenes has train, val\."):
        source.count("test")


def test_palette_needs_a_colour_a_class(tmp_path):
    pairs = {"train": write_pairs(tmp_path, [0])}
    with pytest.raises(ValueError, match="palette has 1 colors but there are 2 classes"):
        _ = ImagePairs(pairs, class_names=("a", "b"), palette=[[1, 2, 3]]).palette
    assert ImagePairs(pairs, class_names=("a", "b")).palette.shape == (2, 3)


# --- check ------------------------------------------------------------------------


def damage(tmp_path):
    (tmp_path / "scene0.png").write_bytes(b"")
    Image.new("L", (5, 9), 1).save(tmp_path / "scene3_label.png")


def test_check_names_the_first_fault_and_counts_the_others(tmp_path, source):
    assert source.check(progress=False) == 5
    damage(tmp_path)
    with pytest.raises(ValueError, match=r"scene0.png: can't be read .*\(1 more like it\.\)"):
        source.check(progress=False)
    assert source.check("val", progress=False) == 1


def test_check_can_leave_faults_out(tmp_path, source, capsys):
    damage(tmp_path)
    assert len(source.sizes("val")) == 1
    assert source.check(progress=False, skip=True) == 3
    assert capsys.readouterr().err == (
        "Scenes: left out 2 of 5 examples with a fault: scene0.png, scene3.png; "
        "source.skipped has the reasons.\n"
    )
    assert [image.name for image, _ in source.paths("train")] == ["scene1.png", "scene2.png"]
    assert [path.name for path, _ in source.skipped] == ["scene0.png", "scene3.png"]
    assert "can't be read" in source.skipped[0][1]
    assert "mask is 5x9 but its image is 6x4" in source.skipped[1][1]
    assert source.arrays("train", progress=False)[1][:, 0, 0].tolist() == [1, 255]
    # A second look finds nothing more and says nothing.
    assert source.check(progress=False, skip=True) == 3
    assert capsys.readouterr().err == ""


def test_three_names_of_many_are_told(tmp_path, source, capsys):
    for i in range(4):
        (tmp_path / f"scene{i}.png").write_bytes(b"")
    source.check("train", progress=False, skip=True)
    assert (
        "left out 4 of 4 examples with a fault: scene0.png, scene1.png, scene2.png and 1 more;"
        in (capsys.readouterr().err)
    )
    with pytest.raises(
        ValueError, match=r"'train' of Scenes is empty: check\(skip=True\) left out"
    ):
        source.count("train")


def test_check_reads_images_without_labels_too(tmp_path, blind):
    assert blind.check("test", progress=False) == 2
    (tmp_path / "scene1.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"scene1.png: can't be read"):
        blind.check("test", progress=False)


# --- splits without labels --------------------------------------------------------


def test_unlabelled_splits_give_their_images(blind):
    assert blind.labeled("train") and not blind.labeled("test")
    assert blind.image("test", 1)[0, 0].tolist() == [1, 20, 30]
    assert [int(image[0, 0, 0]) for image in blind.images("test")] == [0, 1]


@pytest.mark.parametrize(
    "read",
    [
        lambda source: source.example("test", 0),
        lambda source: source.examples("test"),
        lambda source: source.arrays("test", progress=False),
    ],
)
def test_labels_of_an_unlabelled_split_are_refused(blind, read):
    with pytest.raises(
        ValueError, match=r"'test' of Scenes has no labels.*image\(\) or images\(\)"
    ):
        read(blind)


def test_training_on_an_unlabelled_split_says_so(blind):
    with pytest.raises(Exception, match="'test' of Scenes has no labels"):
        next(iter(training_batches(blind, split="test", batch_size=2, crop_size=4)))


# --- Split ------------------------------------------------------------------------


def test_split_is_a_sequence(source):
    train = Split(source, "train")
    assert len(train) == 4
    assert [int(mask[0, 0]) for _, mask in train] == [0, 1, 255, 0]
    np.testing.assert_array_equal(train[-1][0], source.example("train", 3)[0])
    assert [int(mask[0, 0]) for _, mask in train[1:3]] == [1, 255]
    with pytest.raises(IndexError):
        _ = train[4]
    assert train.paths() == source.paths("train")
    assert (train.class_names, train.ignore_class, train.num_classes) == (
        source.class_names,
        255,
        3,
    )
    np.testing.assert_array_equal(train.palette, source.palette)
    assert [int(mask[0, 0]) for _, mask in train.examples()] == [0, 1, 255, 0]
    assert repr(train) == "<Split 'train': 4 examples, 3 classes>"


def test_split_is_no_source(source):
    with pytest.raises(TypeError, match=r"pass its \.source and split='train'"):
        training_batches(Split(source, "train"), batch_size=2, crop_size=4)


def test_split_without_labels_has_masks_of_none(blind):
    test = Split(blind, "test")
    assert not test.labeled
    image, mask = test[1]
    assert image.shape == (4, 6, 3) and mask is None


def test_split_must_exist(source):
    with pytest.raises(ValueError, match="Split 'dev' is unknown"):
        Split(source, "dev")


# --- .mat -------------------------------------------------------------------------


def test_matlab_matrices_are_read_through_structs(tmp_path):
    savemat = pytest.importorskip("scipy.io", reason="needs SciPy").savemat
    values = np.array([[0, 1, 2], [3, 20, 255]], np.uint8)
    savemat(tmp_path / "a.mat", {"S": values.astype(float)})
    savemat(tmp_path / "b.mat", {"GTcls": {"Segmentation": values, "Boundaries": 1}})
    np.testing.assert_array_equal(read_mat(tmp_path / "a.mat", "S"), values)
    np.testing.assert_array_equal(read_mat(tmp_path / "b.mat", "GTcls", "Segmentation"), values)
    savemat(tmp_path / "row.mat", {"S": values[:1]})
    assert read_mat(tmp_path / "row.mat", "S").shape == (1, 3)


@pytest.mark.parametrize("values", [[[0.5, 1]], [[256, 1]], [[-1, 1]]])
def test_matrices_of_other_numbers_are_refused(tmp_path, values):
    savemat = pytest.importorskip("scipy.io", reason="needs SciPy").savemat
    savemat(tmp_path / "a.mat", {"S": np.array(values)})
    with pytest.raises(ValueError, match=r"a.mat: S isn't a matrix of whole numbers from 0 to 255"):
        read_mat(tmp_path / "a.mat", "S")


def test_damaged_mat_files_are_named(tmp_path):
    savemat = pytest.importorskip("scipy.io", reason="needs SciPy").savemat
    (tmp_path / "a.mat").write_bytes(b"<html>")
    savemat(tmp_path / "b.mat", {"T": np.zeros((2, 2))})
    for name in ("a.mat", "b.mat"):
        with pytest.raises(ValueError, match=rf"{name}: can't be read"):
            read_mat(tmp_path / name, "S")


def test_scipy_is_asked_for_by_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scipy.io", None)
    with pytest.raises(ImportError, match=r'a.mat: .* pip install "keras-psp\[mat\]"'):
        read_mat(tmp_path / "a.mat", "S")


def test_names_that_differ_in_the_suffix_alone_are_refused(tmp_path):
    for suffix in (".jpg", ".png"):
        Image.new("RGB", SIZE).save(tmp_path / f"a{suffix}")
    with pytest.raises(ValueError, match=r"a\.jpg has the same name but for the suffix"):
        by_stem(tmp_path, (".jpg", ".png"))
