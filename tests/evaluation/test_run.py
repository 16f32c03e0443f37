import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import datasets
from support.datasets import random_camvid
from support.networks import random_network, tiny_predictor

import keras_psp
from keras_psp import data
from keras_psp.data.sets.cityscapes_labels import label_ids
from keras_psp.evaluation import CityscapesMeasures, Reliability
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


def pair(height=20, width=30, label=0, mask_height=20, dtype="uint8"):
    return np.zeros((height, width, 3), "uint8"), np.full((mask_height, width), label, dtype)


def test_measures_match_a_plain_loop(model, camvid, tmp_path, capsys):
    evaluation = keras_psp.evaluate(
        camvid, model, split="test", output=tmp_path / "out", save_predictions=True, **PROTOCOL
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
    with Image.open(tmp_path / "out" / "predictions" / "test_0.png") as prediction:
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


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_whole_numbers_of_any_type_are_classes(model, dtype):
    confusion = keras_psp.evaluate([pair(label=1)], model, progress=False).measures.confusion
    same = keras_psp.evaluate([pair(label=1, dtype=dtype)], model, progress=False)
    np.testing.assert_array_equal(same.measures.confusion, confusion)


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
        ([pair(label=1.5, dtype="float32")], {}, "000000: the mask has the value 1.5; class"),
        ([pair(label=np.nan, dtype="float32")], {}, "000000: the mask has the value nan; "),
        ([pair(label="road", dtype="U4")], {}, "000000: the mask has dtype <U4; it must be"),
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
    first, *others = source.class_names
    network = tiny_predictor(14, class_names=[*others, first])
    with pytest.raises(ValueError, match=f"class 0 is '{others[0]}' in the network but '{first}'"):
        keras_psp.evaluate(source, network)
    datasets.voc2012(tmp_path)
    voc = data.load("voc2012", root=tmp_path, complete=False)
    with pytest.raises(ValueError, match="split 'test' has no labels; choose another split"):
        keras_psp.evaluate(voc, random_network(21), split="test")


@pytest.fixture
def folder(tmp_path, model):
    """Four labeled images in a folder's split "val", and a function that evaluates them."""
    for index in range(4):
        datasets.write_example(tmp_path / "data" / "val", f"{index}", value=index)
    names = [f"class {index}" for index in range(model.num_classes)]

    def evaluate(*, where="data", names=names, **options):
        options = {"output": tmp_path / "out", "base_size": 64, "report": False, **options}
        source = data.ImageFolder(tmp_path / where, class_names=names)
        return keras_psp.evaluate(source, model, progress=False, error_groups=False, **options)

    return tmp_path, names, evaluate


def test_an_evaluation_of_other_data_is_not_repeated(folder):
    tmp_path, names, evaluate = folder
    first = evaluate(limit=3)
    (tmp_path / "data").rename(tmp_path / "moved")
    assert evaluate(limit=3, where="moved").mean_iou == first.mean_iou
    labels = tmp_path / "moved" / "val" / "labels"
    (labels / "3.png").write_bytes((labels / "2.png").read_bytes())  # beyond the limit
    assert evaluate(limit=3, where="moved").mean_iou == first.mean_iou
    with pytest.raises(ValueError, match="out holds an evaluation with images=3, not 4; choose"):
        evaluate(where="moved")
    other = [*names[1:], names[0]]
    with pytest.raises(ValueError, match="holds an evaluation of other data: class 0 is 'class 1'"):
        evaluate(limit=3, where="moved", names=other)
    # The size and date of a corrected label may be the same as before.
    times = os.stat(labels / "0.png")
    Image.new("L", (6, 4), 5).save(labels / "0.png")
    os.utime(labels / "0.png", ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(
        ValueError,
        match="out holds an evaluation of other data: 1 of 3 labels in split 'val' were changed "
        r"\(first val/images/0.png\); choose another output",
    ):
        evaluate(limit=3, where="moved")


def test_an_output_with_other_files_or_the_data_itself_is_refused(folder, model):
    tmp_path, _, evaluate = folder
    for output in (tmp_path / "data", tmp_path / "data" / "val", tmp_path):
        before = sorted(output.rglob("*"))
        with pytest.raises(ValueError, match=r"is not empty \(.*\) and contains no evaluation"):
            evaluate(output=output)
        assert sorted(output.rglob("*")) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "report.html").write_text("mine")
    evaluation = evaluate(output=None)
    for use in (lambda path: evaluate(output=path), evaluation.save):
        with pytest.raises(ValueError, match=r"mine is not empty \(report.html\) and contains no"):
            use(tmp_path / "mine")
    assert (tmp_path / "mine" / "report.html").read_text() == "mine"
    with pytest.raises(ValueError, match=r"report.html is a file; the output must be a"):
        evaluate(output=tmp_path / "mine" / "report.html")
    with pytest.raises(ValueError, match=r"output is 's3:.*', an address; give a local path"):
        evaluate(output="s3://bucket/out")
    # Drafts of a killed process are removed from a folder of our own.
    evaluate()
    (tmp_path / "out" / ".state.npz-abc_1234").mkdir()
    (tmp_path / "out" / ".state.npz-abc_1234" / "new.npz").touch()
    evaluate()
    assert not list((tmp_path / "out").glob(".*"))


def test_damaged_files_of_an_evaluation_are_named(folder, capsys):
    tmp_path, _, evaluate = folder
    first = evaluate(save_predictions=True)
    for name, remedy in (
        ("state.npz", "remove it to evaluate again."),
        ("settings.json", "remove it to evaluate again, or choose another output."),
    ):
        path = tmp_path / "out" / name
        for content in (b"", path.read_bytes()[:200], b"PK\3\4", b"{}\xff"):
            path.write_bytes(content)
            with pytest.raises(ValueError) as raised:
                evaluate(save_predictions=True)
            assert str(raised.value).startswith(f"{path} is damaged (")
            assert str(raised.value).endswith(remedy) and "\n" not in str(raised.value)
        path.unlink()
        assert evaluate(save_predictions=True).mean_iou == first.mean_iou
    (tmp_path / "out" / "predictions" / "1.png").write_bytes(b"")
    (tmp_path / "out" / "predictions" / "2.png").unlink()
    capsys.readouterr()
    evaluate(save_predictions=True)
    message = "1.png: is missing or was changed (2 of 4 predictions are); remove state.npz"
    assert message in capsys.readouterr().err


def test_predictions_that_a_finished_evaluation_did_not_save_are_reported(folder, capsys):
    tmp_path, _, evaluate = folder
    evaluate(limit=2)
    evaluate(limit=2, save_predictions=True)
    message = "0.png: is missing or was changed (2 of 2 predictions are); remove state.npz"
    assert message in capsys.readouterr().err
    (tmp_path / "out" / "state.npz").unlink()
    evaluate(limit=2, save_predictions=True)
    assert len(list((tmp_path / "out" / "predictions").iterdir())) == 2


def test_a_state_of_an_earlier_version_is_evaluated_again(folder, capsys):
    tmp_path, _, evaluate = folder
    first = evaluate()
    (tmp_path / "out" / "settings.json").unlink()
    np.savez(tmp_path / "out" / "state.npz", confusion=np.eye(11), names=["0"])
    assert evaluate().names == first.names
    assert "state.npz: has no settings.json and can't be compared; evaluating again" in (
        capsys.readouterr().err
    )


def test_a_damaged_log_of_the_training_leaves_the_report_without_curves(folder, tmp_path, capsys):
    _, _, evaluate = folder
    run = tmp_path / "run"
    run.mkdir()
    random_network(11).save(run / "best.keras")
    (run / "log.csv").write_text("epoch,step\n1,x\n")
    source = data.ImageFolder(tmp_path / "data", class_names=[str(i) for i in range(11)])
    keras_psp.evaluate(source, run, output=tmp_path / "out", base_size=64, progress=False)
    assert "log.csv is damaged (" in (err := capsys.readouterr().err)
    assert "the report has no curves" in err
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize("kind", ["pairs", "generator"])
def test_examples_in_memory_that_changed_are_not_evaluated_from_the_old_state(
    model, tmp_path, kind
):
    def evaluate(pairs):
        given = pairs if kind == "pairs" else iter(pairs)
        return keras_psp.evaluate(given, model, output=tmp_path / "out", progress=False)

    pairs = [pair(), pair(), pair()]
    first = evaluate(pairs)
    assert evaluate(pairs).mean_iou == first.mean_iou
    with pytest.raises(ValueError, match="the image or mask of 000001 was changed; choose"):
        evaluate([pairs[0], pair(label=3), pairs[2]])
    with pytest.raises(ValueError, match=r"with images=3, not 2|of 3 images, but there are 2"):
        evaluate(pairs[:2])


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


def test_calibration_is_counted_per_labeled_pixel_and_resumed(model, camvid, tmp_path):
    options = {"split": "test", "calibration": True, "error_groups": False, "crop": 33}
    keras_psp.evaluate(camvid, model, output=tmp_path / "out", limit=2, **options)
    evaluation = keras_psp.evaluate(camvid, model, output=tmp_path / "out", limit=2, **options)
    expected = 0
    for index in range(2):
        image, mask = camvid.example("test", index)
        probabilities = Segmenter(model, crop=33).probabilities(image)
        labeled = mask != camvid.ignore_class
        part = Reliability()
        right = probabilities.argmax(-1) == mask
        part.update(probabilities.max(-1)[labeled], right[labeled])
        expected = part if index == 0 else expected + part
    assert evaluation.reliability.counts.sum() == evaluation.measures.confusion.sum()
    assert evaluation.reliability.error == pytest.approx(expected.error, abs=1e-4)
    assert evaluation.reliability.mean_accuracy == pytest.approx(evaluation.pixel_accuracy)
    assert (tmp_path / "out" / "reliability.csv").read_text().count("\n") == 16
    with pytest.raises(ValueError, match="with calibration=True, not False; choose another"):
        keras_psp.evaluate(
            camvid, model, output=tmp_path / "out", limit=2, **{**options, "calibration": False}
        )
