"""A data set judged: figures beside those of a plain loop, stops, files, the command line."""

import csv
import json

import datasets
import keras
import numpy as np
import pytest
from PIL import Image

import keras_psp
from keras_psp import PSPNet, data
from keras_psp.cli import main
from keras_psp.data.sets.cityscapes_labels import label_ids
from keras_psp.evaluation import CityscapesMeasures, tally
from keras_psp.metrics.confusion import confusion_matrix
from keras_psp.prediction import Segmenter, submit
from keras_psp.prediction.examples import _names


def network(num_classes, **arguments):
    keras.utils.set_random_seed(num_classes)
    made = PSPNet(
        num_classes=num_classes,
        backbone="resnet18",
        bin_sizes=(1, 2),
        fusion_filters=8,
        aux_weight=0,
        **arguments,
    )
    classifier = made.get_layer("classifier")
    classifier.kernel.assign(np.random.default_rng(0).normal(size=classifier.kernel.shape))
    return made


@pytest.fixture(scope="module")
def model():
    return network(11)


@pytest.fixture
def camvid(tmp_path):
    datasets.camvid(tmp_path / "camvid")
    # Labels as they would be, so that pixels are right now and then.
    generator = np.random.default_rng(0)
    for path in (tmp_path / "camvid" / "testannot").iterdir():
        values = generator.integers(0, 12, (6, 8)).astype("uint8").repeat(8, 0).repeat(8, 1)
        Image.fromarray(values).save(path)
    return data.load("camvid", root=tmp_path / "camvid", complete=False)


def counted(model, source, split, **protocol):
    """The confusion matrix by a loop over pixels of a label."""
    total = np.zeros((model.num_classes, model.num_classes), int)
    for index in range(source.count(split)):
        image, mask = source.example(split, index)
        (classes,) = Segmenter(model, **protocol).classes([image])
        for label in range(model.num_classes):
            for found in range(model.num_classes):
                total[label, found] += np.sum((mask == label) & (classes == found))
    return total


PROTOCOL = {"crop": 33, "flip": True, "scales": (0.75, 1.0), "base_size": 60}


def test_figures_are_those_of_a_plain_loop(model, camvid, tmp_path, capsys):
    output = tmp_path / "found"
    found = keras_psp.evaluate(
        camvid, model, split="test", output=output, save_predictions=True, boundary=True, **PROTOCOL
    )
    expected = counted(model, camvid, "test", **PROTOCOL)
    np.testing.assert_array_equal(found.measures.confusion[:, :-1], expected)
    inter = np.diag(expected)
    union = expected.sum(0) + expected.sum(1) - inter
    assert found.mean_iou == pytest.approx(np.mean(inter[union > 0] / union[union > 0]))
    assert found.pixel_accuracy == pytest.approx(inter.sum() / expected.sum())
    assert "mean IoU" in str(found) and "evaluating" in capsys.readouterr().err
    found.print()
    assert "boundary IoU" in capsys.readouterr().out

    assert found.names == ["test_0", "test_1"]
    rows = list(csv.DictReader((output / "images.csv").open()))
    assert [row["name"] for row in rows] == found.names
    summary = json.loads((output / "evaluation.json").read_text())
    assert summary["mean_iou"] == found.mean_iou
    assert summary["crop"] == 33
    errors = json.loads((output / "errors.json").read_text())
    assert errors["wrong"] == expected.sum() - inter.sum() == sum(errors["pixels"].values())
    matrix = list(csv.reader((output / "confusion.csv").open()))
    assert np.array([row[1:-1] for row in matrix[1:]], int).tolist() == expected.tolist()
    page = (output / "report.html").read_text("utf-8")
    assert "bicyclist" in page and "test_1" in page and "<h1>CamVid test</h1>" in page
    with Image.open(output / "predictions" / "test_0.png") as picture:
        image, _ = camvid.example("test", 0)
        np.testing.assert_array_equal(picture, Segmenter(model, **PROTOCOL).classes([image])[0])


@pytest.mark.parametrize("kind", ["split", "pairs", "tf.data", "scenes"])
def test_kinds_of_data(camvid, kind):
    if kind == "scenes":
        source = data.GeneratedScenes(image_size=(48, 64), counts={"train": 1, "val": 3})
        judge, pairs = network(source.num_classes), list(zip(*source.arrays("val"), strict=True))
        given = source
    else:
        judge, pairs = network(11), [camvid.example("val", index) for index in range(2)]
        whole = data.load("camvid", "val", root=camvid.root, complete=False)
        given = {"split": whole, "pairs": iter(pairs), "tf.data": camvid.examples("val")}[kind]
    found = keras_psp.evaluate(given, judge, progress=False)
    counts = sum(
        confusion_matrix(mask, classes, judge.num_classes, ignore_class=255)
        for (_, mask), classes in zip(
            pairs, Segmenter(judge).classes([image for image, _ in pairs]), strict=True
        )
    )
    np.testing.assert_array_equal(found.measures.confusion, counts)


def test_a_stopped_evaluation_goes_on_and_counts_nothing_twice(model, tmp_path, monkeypatch):
    source = data.GeneratedScenes(image_size=(48, 64), counts={"train": 1, "val": 5})
    judge = network(source.num_classes)
    output = tmp_path / "found"
    options = {"output": output, "progress": False, "batch_size": 1, "boundary": True}
    whole = keras_psp.evaluate(source, judge, **{**options, "output": tmp_path / "whole"})
    add = tally.Tally.add
    seen = []

    def stopping(self, name, *arguments):
        seen.append(name)
        if len(seen) == 4:
            raise KeyboardInterrupt
        add(self, name, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(tally.Tally, "add", stopping)
        with pytest.raises(KeyboardInterrupt):
            keras_psp.evaluate(source, judge, **options)
    with monkeypatch.context() as patch:
        patch.setattr(tally.Tally, "add", lambda *given: seen.append(given[1]) or add(*given))
        again = keras_psp.evaluate(source, judge, **options)
    assert seen == ["000000", "000001", "000002", "000003", "000003", "000004"]
    np.testing.assert_array_equal(again.measures.confusion, whole.measures.confusion)
    np.testing.assert_array_equal(again.mean_ious, whole.mean_ious)
    assert again.error_groups.result().pixels == whole.error_groups.result().pixels
    np.testing.assert_array_equal(again.boundary.unions, whole.boundary.unions)
    with pytest.raises(ValueError, match="holds an evaluation with flip=False, not True; choose"):
        keras_psp.evaluate(source, judge, **options, flip=True)


def test_an_image_cut_short_is_counted_once(tmp_path, monkeypatch):
    source = data.GeneratedScenes(image_size=(48, 64), counts={"train": 1, "val": 3})
    judge = network(source.num_classes)
    options = {"output": tmp_path / "found", "progress": False, "batch_size": 1, "report": False}
    monkeypatch.setattr(tally, "SECONDS_BETWEEN_SAVES", 0.0)
    update, updated = tally.ErrorGroups.update, []

    def interrupted(groups, *arguments):
        update(groups, *arguments)
        updated.append(groups)
        if len(updated) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tally.ErrorGroups, "update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            keras_psp.evaluate(source, judge, **options)
    found = keras_psp.evaluate(source, judge, **options)
    assert found.error_groups.result().images == 3
    assert found.error_groups.result().labeled == found.measures.confusion.sum()


def test_other_data_of_the_same_size_is_refused(model, tmp_path):
    output = tmp_path / "found"
    first, second = ([pair(label=label)] * 2 for label in (0, 1))
    keras_psp.evaluate(first, model, output=output, progress=False)
    page = (output / "report.html").read_text("utf-8")
    again = keras_psp.evaluate(first, model, output=output, progress=False)
    assert again.names == ["000000", "000001"]
    assert (output / "report.html").read_text("utf-8").count("data:image") == page.count(
        "data:image"
    )
    with pytest.raises(ValueError, match="holds an evaluation with data="):
        keras_psp.evaluate(second, model, output=output, progress=False)


def test_cityscapes_has_its_own_measures(tmp_path):
    datasets.cityscapes(tmp_path / "cityscapes")
    source = data.load("cityscapes", root=tmp_path / "cityscapes", complete=False)
    judge = network(19)
    output = tmp_path / "found"
    found = keras_psp.evaluate(source, judge, output=output, progress=False)
    expected = CityscapesMeasures()
    for index in range(2):
        image, mask = source.example("val", index)
        (classes,) = Segmenter(judge).classes([image])
        expected.update(label_ids(mask), label_ids(classes), source.instances("val", index))
    np.testing.assert_equal(found.cityscapes.class_iiou, expected.class_iiou)
    np.testing.assert_array_equal(found.cityscapes.confusion, expected.confusion)
    assert (output / "cityscapes.json").exists()
    assert "iIoU" in (output / "report.html").read_text("utf-8")
    again = keras_psp.evaluate(source, judge, output=output, progress=False)  # from its state
    np.testing.assert_equal(again.cityscapes.class_iiou, expected.class_iiou)
    assert again.cityscapes.images == 2


def test_names_that_files_share_get_their_folders():
    assert _names(["a/x.png", "a/y.png"]) == ["x", "y"]
    assert _names(["r/a/x.png", "r/b/x.png"]) == ["a/x", "b/x"]


def pair(height=20, width=30, label=0, mask_height=20):
    return np.zeros((height, width, 3), "uint8"), np.full((mask_height, width), label, "uint8")


@pytest.mark.parametrize(
    ("dataset", "arguments", "message"),
    [
        ([pair(mask_height=21)], {}, r"000000: the mask is \(21, 30\) but the image is \(20, 30\)"),
        ([pair(), pair(label=11)], {}, "000001: the mask has the value 11, but there are 11"),
        ([], {}, "the data set is empty; there is nothing to evaluate"),
        ([pair()], {"save_predictions": True}, "save_predictions=True needs an output folder"),
        ([pair()], {"limit": 0}, "limit is 0; it must be an integer >= 1"),
    ],
)
def test_wrong_data_and_arguments(model, dataset, arguments, message):
    with pytest.raises(ValueError, match=message):
        keras_psp.evaluate(dataset, model, progress=False, **arguments)


def test_data_of_other_classes_or_without_labels(model, tmp_path):
    source = data.GeneratedScenes(image_size=(48, 64), counts={"train": 1, "val": 1})
    with pytest.raises(
        ValueError, match="the network has 11 classes but the data has 14; evaluate it"
    ):
        keras_psp.evaluate(source, model)
    datasets.voc2012(tmp_path)
    voc = data.load("voc2012", root=tmp_path, complete=False)
    with pytest.raises(ValueError, match="split 'test' has no labels; choose another split"):
        keras_psp.evaluate(voc, network(21), split="test")


def test_without_a_model_it_is_the_one_in_the_package_at_its_size():
    source = data.GeneratedScenes(counts={"test": 1})
    found = keras_psp.evaluate(source, split="test", progress=False)
    assert found.settings["base_size"] == 192


def test_a_submission_for_a_server(tmp_path, capsys):
    datasets.voc2012(tmp_path / "voc")
    judge = network(21)
    judge.save(tmp_path / "judge.keras")
    output = tmp_path / "out"
    arguments = ["submit", "voc2012", "--data", str(tmp_path / "voc"), "--partial"]
    arguments += ["--model", str(tmp_path / "judge.keras"), "--output", str(output)]
    arguments += ["--archive", str(tmp_path / "results.tgz"), "--competition", "comp5"]
    assert main(arguments) == 0
    assert "2 files written and checked" in capsys.readouterr().out
    files = sorted((output / "results/VOC2012/Segmentation/comp5_test_cls").iterdir())
    source = data.load("voc2012", root=tmp_path / "voc", complete=False)
    for index, file in enumerate(files):
        with Image.open(file) as picture:
            assert picture.mode == "P"
            (expected,) = Segmenter(judge).classes([source.image("test", index)])
            np.testing.assert_array_equal(picture, expected)
    before = files[1].stat().st_mtime_ns
    files[0].unlink()
    assert main([*arguments, "--quiet"]) == 0  # goes on: only what is missing
    assert files[0].exists() and files[1].stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="holds files with flip=False, not True; choose another"):
        submit(source, judge, "voc2012", output, flip=True, competition="comp5")
    with pytest.raises(ValueError, match=r"results.rar: the archive must end in"):
        submit(source, judge, "voc2012", output, archive="results.rar")
    with pytest.raises(ValueError, match="server='camvid' is unknown; choose ade20k, cityscapes"):
        submit(source, judge, "camvid", output)
    with pytest.raises(
        ValueError, match="the network has 21 classes but Cityscapes has 19; choose"
    ):
        submit(source, judge, "cityscapes", output)


def test_the_command_line(model, camvid, tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    model.save(folder / "best.keras")
    (folder / "recipe.json").write_text(json.dumps({"image_size": [36, 48]}))
    arguments = ["evaluate", "camvid", "--data", str(camvid.root), "--partial", "--split", "test"]
    arguments += ["--model", str(folder), "--output", str(tmp_path / "found"), "--limit", "1"]
    assert main([*arguments, "--multi-scale", "--crop", "33", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert "bicyclist" in out and "mean IoU" in out and "report.html" in out
    assert "base_size=48, as in training" in err
    summary = json.loads((tmp_path / "found" / "evaluation.json").read_text())
    assert (summary["images"], summary["flip"], len(summary["scales"])) == (1, True, 6)
    assert summary["base_size"] == 48
    assert main([*arguments, "--multi-scale", "--scales", "1"]) == 1
    assert "leave out --scales" in capsys.readouterr().err
    arguments = ["submit", "cityscapes", "--data", ".", "--model", "m", "--output", "o"]
    assert main([*arguments, "--competition", "comp5"]) == 1
    assert "--competition is only for voc2012, not cityscapes" in capsys.readouterr().err
