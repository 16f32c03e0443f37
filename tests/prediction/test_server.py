import numpy as np
import pytest
from PIL import Image
from support import datasets
from support.networks import random_network

from keras_psp import data
from keras_psp.prediction import Segmenter, submit


def test_submission_has_the_predictions_and_checks_its_arguments(tmp_path):
    datasets.voc2012(tmp_path / "voc")
    source = data.load("voc2012", root=tmp_path / "voc", complete=False)
    model = random_network(21)
    output = tmp_path / "output"
    submit(source, model, "voc2012", output, competition="comp5", progress=False)
    files = sorted((output / "results/VOC2012/Segmentation/comp5_test_cls").iterdir())
    assert len(files) == 2
    for index, file in enumerate(files):
        with Image.open(file) as prediction:
            assert prediction.mode == "P"
            (expected,) = Segmenter(model).classes([source.image("test", index)])
            np.testing.assert_array_equal(prediction, expected)
    with pytest.raises(ValueError, match="holds files with flip=False, not True; choose another"):
        submit(source, model, "voc2012", output, flip=True, competition="comp5")
    with pytest.raises(ValueError, match=r"results.rar: the archive must end in"):
        submit(source, model, "voc2012", output, archive="results.rar")
    with pytest.raises(TypeError, match="unexpected keyword argument 'scale'"):
        submit(source, model, "voc2012", output, scale=2)
    with pytest.raises(ValueError, match="server='camvid' is unknown; choose ade20k, cityscapes"):
        submit(source, model, "camvid", output)
    with pytest.raises(
        ValueError, match="the network has 21 classes but Cityscapes has 19; choose"
    ):
        submit(source, model, "cityscapes", output)
