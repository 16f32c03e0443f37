import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import datasets
from support.datasets import random_camvid
from support.networks import random_network

import keras_psp
from keras_psp import data
from keras_psp.data.sets.cityscapes_labels import label_ids
from keras_psp.evaluation import CityscapesMeasures
from keras_psp.metrics.confusion import confusion_matrix
from keras_psp.prediction import Segmenter

PROTOCOL = {"crop": 33, "flip": True, "scales": (0.75, 1.0), "base_size": 60}


@pytest.fixture(scope="module")
def model():
    return random_network(11)


@pytest.fixture
def camvid(tmp_path):
    return random_camvid(tmp_path / "camvid")


def counted(model, source, split, **protocol):
    """The confusion matrix, by a loop over labels and predictions."""
    total = np.zeros((model.num_classes, model.num_classes), int)
    for index in range(source.count(split)):
        image, mask = source.example(split, index)
        (classes,) = Segmenter(model, **protocol).classes([image])
        for label in range(model.num_classes):
            for predicted in range(model.num_classes):
                total[label, predicted] += np.sum((mask == label) & (classes == predicted))
    return total


def pair(height=20, width=30, label=0, mask_height=20):
    return np.zeros((height, width, 3), "uint8"), np.full((mask_height, width), label, "uint8")


def test_measures_match_a_plain_loop(model, camvid, tmp_path, capsys):
    evaluation = keras_psp.evaluate(
        camvid, model, split="test", output=tmp_path, save_predictions=True, **PROTOCOL
    )
    expected = counted(model, camvid, "test", **PROTOCOL)
    np.testing.assert_array_equal(evaluation.measures.confusion[:, :-1], expected)
    inter = np.diag(expected)
    union = expected.sum(0) + expected.sum(1) - inter
    assert evaluation.mean_iou == pytest.approx(np.mean(inter[union > 0] / union[union > 0]))
    assert evaluation.pixel_accuracy == pytest.approx(inter.sum() / expected.sum())
    assert evaluation.error_groups.result().wrong == expected.sum() - inter.sum()
    assert evaluation.names == ["test_0", "test_1"]
    assert "evaluating" in capsys.readouterr().err
    with Image.open(tmp_path / "predictions" / "test_0.png") as prediction:
        image, _ = camvid.example("test", 0)
        np.testing.assert_array_equal(prediction, Segmenter(model, **PROTOCOL).classes([image])[0])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_not_utf_8_are_evaluated(model, camvid, tmp_path):
    image, label = camvid.paths("test")[0]
    other = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    os.rename(image, other)
    pairs = {"test": [(Path(other), label)]}
    source = data.ImagePairs(pairs, class_names=camvid.class_names, ignore_class=11)
    evaluation = keras_psp.evaluate(source, model, split="test", output=tmp_path / "out")
    assert evaluation.names == ["caf\\xe9"]
    assert "caf\\xe9" in (tmp_path / "out" / "report.html").read_text("utf-8")


@pytest.mark.parametrize("kind", ["split", "pairs", "tf.data", "scenes"])
def test_data_may_be_a_source_a_split_pairs_or_a_tf_dataset(camvid, kind):
    if kind == "scenes":
        given = data.GeneratedScenes(image_size=(48, 64), counts={"train": 1, "val": 3})
        model = random_network(given.num_classes)
        pairs = list(zip(*given.arrays("val"), strict=True))
    else:
        model, pairs = random_network(11), [camvid.example("val", index) for index in range(2)]
        split = data.load("camvid", "val", root=camvid.root, complete=False)
        given = {"split": split, "pairs": iter(pairs), "tf.data": camvid.examples("val")}[kind]
    evaluation = keras_psp.evaluate(given, model, progress=False)
    predictions = Segmenter(model).classes([image for image, _ in pairs])
    expected = sum(
        confusion_matrix(mask, classes, model.num_classes, ignore_class=255)
        for (_, mask), classes in zip(pairs, predictions, strict=True)
    )
    np.testing.assert_array_equal(evaluation.measures.confusion, expected)


def test_cityscapes_gets_the_measures_of_its_benchmark(tmp_path):
    datasets.cityscapes(tmp_path / "cityscapes")
    source = data.load("cityscapes", root=tmp_path / "cityscapes", complete=False)
    model = random_network(19)
    output = tmp_path / "output"
    evaluation = keras_psp.evaluate(source, model, output=output, progress=False)
    expected = CityscapesMeasures()
    for index in range(2):
        image, mask = source.example("val", index)
        (classes,) = Segmenter(model).classes([image])
        expected.update(label_ids(mask), label_ids(classes), source.instances("val", index))
    np.testing.assert_equal(evaluation.cityscapes.class_iiou, expected.class_iiou)
    np.testing.assert_array_equal(evaluation.cityscapes.confusion, expected.confusion)
    assert (output / "cityscapes.json").exists()
    assert "iIoU" in (output / "report.html").read_text("utf-8")
    resumed = keras_psp.evaluate(source, model, output=output, progress=False)
    np.testing.assert_equal(resumed.cityscapes.class_iiou, expected.class_iiou)
    assert resumed.cityscapes.images == 2


def test_error_groups_can_be_switched_off(model, tmp_path):
    evaluation = keras_psp.evaluate(
        [pair()], model, output=tmp_path, error_groups=False, progress=False
    )
    assert evaluation.error_groups is None
    assert not (tmp_path / "errors.json").exists()
    assert "Kinds of mistakes" not in (tmp_path / "report.html").read_text("utf-8")
    with pytest.raises(ValueError, match="holds an evaluation with error_groups=False, not True"):
        keras_psp.evaluate([pair()], model, output=tmp_path, progress=False)


def test_default_model_is_the_bundled_one_at_its_size():
    source = data.GeneratedScenes(counts={"test": 1})
    evaluation = keras_psp.evaluate(source, split="test", progress=False)
    assert evaluation.settings["base_size"] == 192


@pytest.mark.parametrize(
    ("pairs", "arguments", "message"),
    [
        ([pair(mask_height=21)], {}, r"000000: the mask is \(21, 30\) but the image is \(20, 30\)"),
        ([pair(), pair(label=11)], {}, "000001: the mask has the value 11, but there are 11"),
        ([], {}, "the data set is empty; there is nothing to evaluate"),
        ([pair()], {"save_predictions": True}, "save_predictions=True needs an output folder"),
        ([pair()], {"limit": 0}, "limit is 0; it must be an integer >= 1"),
    ],
)
def test_invalid_data_and_arguments_raise(model, pairs, arguments, message):
    with pytest.raises(ValueError, match=message):
        keras_psp.evaluate(pairs, model, progress=False, **arguments)


def test_unknown_arguments_are_named(model):
    with pytest.raises(TypeError, match="unexpected keyword argument 'scale'"):
        keras_psp.evaluate([], model, scale=2)


def test_data_with_other_classes_or_without_labels_raises(model, tmp_path):
    source = data.GeneratedScenes(image_size=(48, 64), counts={"train": 1, "val": 1})
    with pytest.raises(
        ValueError, match="the network has 11 classes but the data has 14; evaluate it"
    ):
        keras_psp.evaluate(source, model)
    datasets.voc2012(tmp_path)
    voc = data.load("voc2012", root=tmp_path, complete=False)
    with pytest.raises(ValueError, match="split 'test' has no labels; choose another split"):
        keras_psp.evaluate(voc, random_network(21), split="test")


def test_an_evaluation_of_other_labels_is_not_repeated(model, tmp_path):
    for index in range(3):
        datasets.write_example(tmp_path / "data" / "val", f"{index}", value=index)
    names = [f"class {index}" for index in range(model.num_classes)]

    def evaluate():
        source = data.ImageFolder(tmp_path / "data", class_names=names)
        options = {"output": tmp_path / "out", "base_size": 64, "error_groups": False}
        return keras_psp.evaluate(source, model, progress=False, report=False, **options)

    first = evaluate()
    assert evaluate().mean_iou == first.mean_iou
    path = tmp_path / "data" / "val" / "labels" / "0.png"
    Image.fromarray(np.full_like(np.asarray(Image.open(path)), 5)).save(path)
    with pytest.raises(ValueError, match="made from other images or labels: files were changed"):
        evaluate()


def test_a_faulty_label_is_named_before_the_evaluation(model, tmp_path, capsys):
    for index in range(3):
        datasets.write_example(tmp_path / "val", f"{index}", value=index)
    (tmp_path / "val" / "labels" / "2.png").write_bytes(b"")
    names = [f"class {index}" for index in range(model.num_classes)]
    source = data.ImageFolder(tmp_path, class_names=names)
    with pytest.raises(ValueError, match=r"2\.png: can't be read"):
        keras_psp.evaluate(source, model)
    assert "evaluating" not in capsys.readouterr().err
    assert keras_psp.evaluate(source, model, limit=2, base_size=64).measures.confusion.sum() > 0
