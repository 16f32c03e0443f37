import pytest
from PIL import Image

from keras_psp.data import training_batches
from keras_psp.data.pairs import ImagePairs

SIZE = (6, 4)  # width, height


def test_values_in_files_become_classes(source):
    masks = [int(source.example("train", i)[1][0, 0]) for i in range(4)]
    assert masks == [0, 1, 255, 0]
    assert source.label_values == (1, 2, 3)
    images, stacked = source.arrays("train", progress=False)
    assert images.shape == (4, 4, 6, 3)
    assert stacked[:, 0, 0].tolist() == masks
    assert [int(mask[0, 0]) for _, mask in source.examples("train")] == masks
    assert source.sizes("train") == [(4, 6)] * 4


def test_values_are_the_classes_without_a_lookup(unlabeled):
    assert unlabeled.label_values == (0, 1)
    assert unlabeled.example("train", 1)[1].tolist() == [[1] * 6] * 4


def test_a_value_that_is_not_in_the_lookup_is_named(tmp_path, source):
    Image.new("L", SIZE, 7).save(tmp_path / "scene1_label.png")
    with pytest.raises(
        ValueError, match=r"scene1_label.png: label value 7 doesn't occur in Scenes \(0 to 3\)"
    ):
        source.example("train", 1)


def test_unknown_split_lists_the_known_ones(source):
    with pytest.raises(ValueError, match=r"Split 'test' is unknown; Scenes has train, val\."):
        source.count("test")


def test_palette_needs_one_color_per_class(source):
    pairs = {"train": source.paths("train")}
    with pytest.raises(ValueError, match="palette has 1 colors but there are 2 classes"):
        _ = ImagePairs(pairs, class_names=("a", "b"), palette=[[1, 2, 3]]).palette
    assert ImagePairs(pairs, class_names=("a", "b")).palette.shape == (2, 3)


def damage(tmp_path):
    (tmp_path / "scene0.png").write_bytes(b"")
    Image.new("L", (5, 9), 1).save(tmp_path / "scene3_label.png")


def test_check_names_the_first_fault_and_counts_the_others(tmp_path, source):
    assert source.check(progress=False) == 5
    damage(tmp_path)
    with pytest.raises(ValueError, match=r"scene0.png: is empty.*\(1 more like it\.\)"):
        source.check(progress=False)
    assert source.check("val", progress=False) == 1


def test_check_can_leave_faults_out(tmp_path, source, capsys):
    damage(tmp_path)
    assert len(source.sizes("val")) == 1
    assert source.check("train", progress=False, skip=True) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Scenes: left out 2 of 4 examples with a fault:"
    assert "scene0.png: is empty" in lines[1] and "mask is 5x9" in lines[2]
    assert [image.name for image, _ in source.paths("train")] == ["scene1.png", "scene2.png"]
    assert [path.name for path, _ in source.skipped] == ["scene0.png", "scene3.png"]
    assert "is empty" in source.skipped[0][1]
    assert "mask is 5x9 but its image is 6x4" in source.skipped[1][1]
    assert source.arrays("train", progress=False)[1][:, 0, 0].tolist() == [1, 255]
    # A second look finds no more faults.
    assert source.check("train", progress=False, skip=True) == 2
    assert "left out" not in capsys.readouterr().err


def test_check_names_three_of_many_faults(tmp_path, source, capsys):
    for i in range(4):
        (tmp_path / f"scene{i}.png").write_bytes(b"")
    source.check("train", progress=False, skip=True)
    first, *reasons, last = capsys.readouterr().err.splitlines()
    assert first == "Scenes: left out 4 of 4 examples with a fault:"
    assert reasons == [
        f"    {tmp_path / f'scene{i}.png'}: is empty; copy or download it again." for i in range(3)
    ]
    assert last == "    and 1 more, which `keras-psp check` lists"
    with pytest.raises(
        ValueError,
        match=r"'train' of Scenes is empty: every example was left out because of a fault; the "
        r"first, .*scene0.png: is empty; copy or download it again\.$",
    ):
        source.count("train")


def test_check_reads_images_without_labels_too(tmp_path, unlabeled):
    assert unlabeled.check("test", progress=False) == 2
    (tmp_path / "scene1.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"scene1.png: is empty"):
        unlabeled.check("test", progress=False)


def test_unlabeled_splits_have_images(unlabeled):
    assert unlabeled.labeled("train") and not unlabeled.labeled("test")
    assert unlabeled.image("test", 1)[0, 0].tolist() == [1, 20, 30]
    assert [int(image[0, 0, 0]) for image in unlabeled.images("test")] == [0, 1]


@pytest.mark.parametrize(
    "read",
    [
        lambda source: source.example("test", 0),
        lambda source: source.examples("test"),
        lambda source: source.arrays("test", progress=False),
    ],
)
def test_labels_of_an_unlabeled_split_are_refused(unlabeled, read):
    with pytest.raises(
        ValueError, match=r"'test' of Scenes has no labels.*image\(\) or images\(\)"
    ):
        read(unlabeled)


def test_training_on_an_unlabeled_split_is_refused(unlabeled):
    with pytest.raises(Exception, match="'test' of Scenes has no labels"):
        next(iter(training_batches(unlabeled, split="test", batch_size=2, crop_size=4)))
