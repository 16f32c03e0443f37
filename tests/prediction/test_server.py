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


def test_a_submission_of_other_images_or_into_another_folder_is_refused(tmp_path):
    datasets.voc2012(tmp_path / "voc")
    source = data.load("voc2012", root=tmp_path / "voc", complete=False)
    model = random_network(21)

    def submitted():
        return submit(source, model, "voc2012", tmp_path / "out", progress=False)

    submission = submitted()
    first, second = (submission.path(name) for name in submission.images)
    first.unlink()
    before = second.stat().st_mtime_ns
    submitted()  # predicts only what is missing
    assert first.exists() and second.stat().st_mtime_ns == before
    image = source.paths("test")[1][0]
    content = image.read_bytes()
    Image.fromarray(np.asarray(Image.open(image))[::-1]).save(image)
    with pytest.raises(
        ValueError,
        match="out holds files of other images: 1 of 2 images in split 'test' were changed "
        r"\(first JPEGImages/2008_000008.jpg\); choose another output",
    ):
        submitted()
    image.write_bytes(content)
    settings = tmp_path / "out" / "submission.json"
    stored = settings.read_text()
    settings.write_text(stored.replace("test", "tesl"))
    with pytest.raises(ValueError, match=r"submission.json is damaged \(wrong checksum\); restore"):
        submitted()
    settings.write_text(stored)
    image.write_bytes(content[:2000])
    with pytest.raises(ValueError, match=r"2008_000008.jpg: ") as raised:
        submitted()
    assert "copy" in str(raised.value)
    with pytest.raises(ValueError, match=r"voc is not empty .* and contains no submission"):
        submit(source, model, "voc2012", tmp_path / "voc", progress=False)
    with pytest.raises(ValueError, match=r"archive is 'gs:.*', an address"):
        submit(source, model, "voc2012", tmp_path / "new", archive="gs://bucket/results.tgz")
