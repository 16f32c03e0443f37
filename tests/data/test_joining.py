import numpy as np
import pytest
from support import datasets

from keras_psp.data import (
    GeneratedScenes,
    ImageFolder,
    JoinedPairs,
    batch_examples,
    load,
    training_batches,
)
from keras_psp.data.division import split_parts
from keras_psp.data.identity import data_difference, data_identity
from keras_psp.data.report import examine


@pytest.fixture
def cityscapes(tmp_path):
    datasets.cityscapes(tmp_path / "cityscapes")
    return load("cityscapes", root=tmp_path / "cityscapes", complete=False)


def folder(root, values, **options):
    for index, value in enumerate(values):
        datasets.write_example(root / "train", f"{root.name}{index}", value=value, size=(64, 48))
    options = {"class_names": ("road", "roof", "tree"), **options}
    return ImageFolder(root, **options)


def test_names_of_splits_join_and_repeat_them():
    assert split_parts("train") == ["train"]
    assert split_parts("2*train+train_extra") == ["train", "train", "train_extra"]
    assert split_parts(" train + 1*val ") == ["train", "val"]
    for wrong in ("", "train+", "0*train", "x*train", "2*", "-1*train", "1.5*train"):
        with pytest.raises(ValueError, match=r"must be the name of a split, or a whole\s+number"):
            split_parts(wrong)


def test_fine_and_coarse_labels_are_one_training_set(cityscapes):
    fine, coarse = cityscapes.paths("train"), cityscapes.paths("train_extra")
    joined = "2*train+train_extra"
    assert cityscapes.paths(joined) == fine + fine + coarse
    assert cityscapes.paths(joined) is cityscapes.paths(joined)  # read for every example
    assert cityscapes.count(joined) == len(cityscapes.sizes(joined)) == 2 * len(fine) + len(coarse)
    _, mask = cityscapes.example(joined, -1)
    np.testing.assert_array_equal(mask, datasets.expected_mask("cityscapes"))
    taken = batch_examples(cityscapes, split=joined, batch_size=8, epoch=0, step=0)
    assert sorted(taken) == list(range(8))
    assert not cityscapes.labeled("train+test")
    with pytest.raises(ValueError, match="Split 'valid' is unknown"):
        cityscapes.paths("train+valid")


def test_left_out_files_leave_joined_splits_too(cityscapes):
    (image, _), *rest = cityscapes.paths("train")
    assert cityscapes.paths("train+val")[0][0] == image
    cityscapes.leave_out({str(image): "broken"}, 5)
    assert cityscapes.paths("train+val") == rest + cityscapes.paths("val")


def test_folders_are_joined_and_trained_on(tmp_path):
    one = folder(tmp_path / "one", [0, 1])
    other = folder(tmp_path / "other", [2, 200, 7], label_map={200: 0, 7: "ignore"}, ignore_class=9)
    source = JoinedPairs([one, other])
    assert source.class_names == ("road", "roof", "tree")
    assert source.splits == ("train",)
    first = [int(mask[0, 0]) for _, mask in source.examples("train")]
    assert first == [0, 1, 2, 0, 255]  # the second folder ignores 9, the joined source 255
    assert examine(source, progress=False).count == 5
    datasets.train(source)


def test_too_few_images_to_divide_are_joined_without_empty_splits(tmp_path):
    parts = []
    for value, name in enumerate(("one", "other")):
        datasets.write_example(tmp_path / name, name, value=value, size=(64, 48))
        parts.append(ImageFolder(tmp_path / name, class_names=("road", "roof", "tree")))
    source = JoinedPairs(parts)
    assert source.splits == ("all", "train")
    source.check(progress=False)
    assert source.count("train") == 2


def test_another_reading_of_a_part_is_noticed(tmp_path):
    one = folder(tmp_path / "one", [0, 1])
    folder(tmp_path / "other", [2, 200])

    def identity(mapped):
        other = ImageFolder(
            tmp_path / "other", class_names=one.class_names, label_map={200: mapped}
        )
        source = JoinedPairs([one, other])
        examined = examine(source, progress=False).examined
        return data_identity(source, ["train"], examined)

    assert not data_difference(identity(0), identity(0))
    assert "1 of 4 labels in split 'train' were changed" in data_difference(
        identity(0), identity(1)
    )


def test_extra_sources_keep_names_of_their_own(tmp_path):
    datasets.voc2012(tmp_path / "voc")
    datasets.coco(tmp_path / "coco")
    voc = load("voc2012", root=tmp_path / "voc", complete=False)
    coco = load("coco", root=tmp_path / "coco", classes="voc2012", complete=False)
    source = JoinedPairs([voc], {"coco": coco})
    assert source.splits == (*voc.splits, "coco:train", "coco:val")
    assert source.count("train+2*coco:train") == voc.count("train") + 2 * coco.count("train")
    for split, part, own in (("train", voc, "train"), ("coco:val", coco, "val")):
        for index in range(part.count(own)):
            np.testing.assert_array_equal(
                source.example(split, index)[1], part.example(own, index)[1]
            )
    batches = training_batches(source, split="train+coco:train", batch_size=2, crop_size=41)
    images, masks = next(iter(batches))
    assert images.shape == (2, 41, 41, 3) and masks.shape == (2, 41, 41)


def test_labels_of_annotation_files_are_found(tmp_path):
    from support import label_tools

    examples = label_tools.scenes(4)
    label_tools.labelme(tmp_path / "one", examples[:2])
    label_tools.labelme(tmp_path / "two", examples[2:])
    names = tuple(load("labelme", root=tmp_path / "one").class_names)
    parts = [load("labelme", root=tmp_path / name, class_names=names) for name in ("one", "two")]
    source = JoinedPairs(parts)
    label = source.paths("all")[-1][1]
    assert source.label_file(label) == parts[1].label_file(label)
    assert data_identity(source, ["all"])["splits"]["all"]


def test_what_cannot_be_joined_is_refused(tmp_path):
    one = folder(tmp_path / "one", [0, 1])
    with pytest.raises(ValueError, match=r"two can't be joined with .*one: 2 classes, not 3"):
        JoinedPairs([one, folder(tmp_path / "two", [0, 1], class_names=("road", "roof"))])
    with pytest.raises(ValueError, match=r"class 1 is 'roofs', not 'roof'\. Give both the same"):
        JoinedPairs([one, folder(tmp_path / "three", [0], class_names=("road", "roofs", "tree"))])
    with pytest.raises(ValueError, match="is in two of the joined sources; give each folder once"):
        JoinedPairs([one, folder(tmp_path / "one", [0, 1])])
    with pytest.raises(TypeError, match="a GeneratedScenes can't be joined"):
        JoinedPairs([one, GeneratedScenes()])
