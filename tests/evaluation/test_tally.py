import numpy as np
import pytest
from support.networks import random_network

import keras_psp
from keras_psp import data
from keras_psp.evaluation import tally


@pytest.fixture(scope="module")
def model():
    return random_network(14)


def scenes(count):
    return data.GeneratedScenes(image_size=(48, 64), counts={"train": 1, "val": count})


def constant_pairs(label):
    return [(np.zeros((20, 30, 3), "uint8"), np.full((20, 30), label, "uint8"))] * 2


def test_interrupted_evaluation_resumes_and_counts_each_image_once(model, tmp_path, monkeypatch):
    source = scenes(5)
    options = {"progress": False, "batch_size": 1, "boundary": True}
    whole = keras_psp.evaluate(source, model, output=tmp_path / "whole", **options)
    options["output"] = tmp_path / "interrupted"
    add = tally.Tally.add
    seen = []

    def interrupted(self, name, *arguments):
        seen.append(name)
        if len(seen) == 4:
            raise KeyboardInterrupt
        add(self, name, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(tally.Tally, "add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            keras_psp.evaluate(source, model, **options)
    with monkeypatch.context() as patch:
        patch.setattr(tally.Tally, "add", lambda *given: seen.append(given[1]) or add(*given))
        resumed = keras_psp.evaluate(source, model, **options)
    assert seen == ["000000", "000001", "000002", "000003", "000003", "000004"]
    np.testing.assert_array_equal(resumed.measures.confusion, whole.measures.confusion)
    np.testing.assert_array_equal(resumed.mean_ious, whole.mean_ious)
    assert resumed.error_groups.result().pixels == whole.error_groups.result().pixels
    np.testing.assert_array_equal(resumed.boundary.unions, whole.boundary.unions)
    with pytest.raises(ValueError, match="holds an evaluation with flip=False, not True; choose"):
        keras_psp.evaluate(source, model, **options, flip=True)


def test_partly_counted_image_is_counted_once(model, tmp_path, monkeypatch):
    options = {"output": tmp_path, "progress": False, "batch_size": 1, "report": False}
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
            keras_psp.evaluate(scenes(3), model, **options)
    evaluation = keras_psp.evaluate(scenes(3), model, **options)
    assert evaluation.error_groups.result().images == 3
    assert evaluation.error_groups.result().labeled == evaluation.measures.confusion.sum()


def test_resume_keeps_the_report_and_refuses_other_data_of_the_same_size(model, tmp_path):
    keras_psp.evaluate(constant_pairs(0), model, output=tmp_path, progress=False)
    page = (tmp_path / "report.html").read_text("utf-8")
    resumed = keras_psp.evaluate(constant_pairs(0), model, output=tmp_path, progress=False)
    assert resumed.names == ["000000", "000001"]
    new_page = (tmp_path / "report.html").read_text("utf-8")
    assert new_page.count("data:image") == page.count("data:image")
    with pytest.raises(ValueError, match="of other data: the image or mask of 000000 was"):
        keras_psp.evaluate(constant_pairs(1), model, output=tmp_path, progress=False)
