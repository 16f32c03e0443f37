import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("apache_beam", reason="Apache Beam is not installed; extra 'beam'")

import apache_beam
import numpy as np
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
from apache_beam.testing.util import assert_that, equal_to
from support.networks import tiny_pspnet

from keras_psp import beam
from keras_psp.beam import handler
from keras_psp.weights import convert
from keras_psp.weights.hubs import huggingface

CLASSES = ("sky", "sea", "boat")


def test_opens_a_network_on_another_file_system(network, bucket):
    bucket.files["memory://bucket/a.keras"] = network.read_bytes()
    assert handler.open_model("memory://bucket/a.keras").num_classes == 3
    with pytest.raises(ValueError, match=r"memory://bucket/b\.keras: can't be read"):
        handler.model_facts("memory://bucket/b.keras")


def test_the_handler_in_another_pipeline(network, by_hand):
    images = [np.full(shape, 150, np.uint8) for shape in ((6, 8, 3), (8, 6, 3), (6, 8, 3))]
    with apache_beam.Pipeline(runner="FnApiRunner") as pipe:
        shapes = (
            pipe
            | apache_beam.Create(list(enumerate(images)))
            | RunInference(KeyedModelHandler(beam.SegmentationHandler(network)))
            | apache_beam.Map(lambda pair: (pair[0], pair[1].inference.shape))
        )
        expected = [(index, image.shape[:2]) for index, image in enumerate(images)]
        assert_that(shapes, equal_to(expected))


def test_each_size_is_a_batch_and_only_the_bad_image_fails(by_hand):
    segmenter = by_hand(None)
    images = [np.full(shape, 150, np.uint8) for shape in ((6, 8, 3), (2, 8, 3), (6, 8, 3))]
    results = beam.SegmentationHandler("x.keras").run_inference(images, segmenter)
    assert segmenter.sizes == [[(6, 8, 3)] * 2, [(2, 8, 3)]]
    assert [type(result.inference).__name__ for result in results] == [
        "ndarray",
        "Failure",
        "ndarray",
    ]
    np.testing.assert_array_equal(results[2].inference, np.ones((6, 8)))
    segmenter = by_hand(None)
    results = handler._predict(segmenter, [images[0], images[1]])
    assert results[1] == beam.Failure(
        "prediction failed: images of less than 4 rows are too small"
    ) and isinstance(results[0], np.ndarray)


def test_threads_share_a_network(network):
    image = np.full((48, 64, 3), 99, np.uint8)
    with ThreadPoolExecutor(4) as threads:
        shared = beam.SegmentationHandler(network).load_model()
        maps = list(threads.map(lambda _: shared.classes([image])[0], range(12)))
    assert {classes.shape for classes in maps} == {(48, 64)}


def test_images_are_resized_as_in_training(network, tmp_path, bucket):
    shutil.copy(network, tmp_path / "last.keras")
    (tmp_path / "recipe.json").write_text(json.dumps({"image_size": [36, 48]}))
    files = {f"memory://bucket/run/{path.name}": path.read_bytes() for path in tmp_path.iterdir()}
    bucket.files.update(files)
    for model in (tmp_path, "memory://bucket/run"):
        protocol = beam.SegmentationHandler(model).protocol
        assert (protocol.base_size, protocol.antialias) == (48, True)
    for model, options in ((network, {}), (tmp_path, {"base_size": None})):
        assert beam.SegmentationHandler(model, **options).protocol.base_size is None


def test_the_network_in_the_folder_of_a_training_run(network, tmp_path):
    with pytest.raises(ValueError, match=r"neither a \.keras file nor a folder with best\.keras"):
        handler.model_facts(tmp_path)
    shutil.copy(network, tmp_path / "last.keras")
    facts = handler.model_facts(tmp_path)
    assert facts.model == str(tmp_path / "last.keras")
    assert (facts.num_classes, facts.class_names) == (3, CLASSES)
    assert handler.open_model(str(tmp_path)).num_classes == 3
    (tmp_path / "best.keras").write_text("no archive")
    with pytest.raises(ValueError, match=r"best\.keras: not a \.keras file of a PSPNet"):
        handler.model_facts(tmp_path)
    preset = handler.model_facts("pspnet_r50-d8_512x512_160k_ade20k")
    assert (preset.num_classes, preset.class_names[0]) == (150, "wall")


def test_presets_are_opened_from_folders_and_at_one_revision_of_a_hub(
    network, tmp_path, monkeypatch
):
    folder = tmp_path / "4f2a"
    model = convert(network, verbose=False)
    model.save_to_preset(folder)
    facts = handler.model_facts(folder)
    assert (facts.model, facts.class_names) == (str(folder), CLASSES)
    monkeypatch.setattr(huggingface, "download", lambda address: folder)
    on_hub = handler.model_facts("hf://user/name")
    assert on_hub.model == "hf://user/name@4f2a" and on_hub.digest == facts.digest
    for name in (facts.model, on_hub.model):
        image = np.zeros((1, 61, 57, 3), np.float32)
        np.testing.assert_array_equal(handler.open_model(name)(image), model(image))


def test_a_network_of_other_bands_is_refused(tmp_path):
    tiny_pspnet(input_channels=4).save(tmp_path / "a.keras")
    with pytest.raises(ValueError, match="takes 4 channels, but jobs on Beam read RGB only"):
        handler.model_facts(tmp_path / "a.keras")
    tiny_pspnet(input_channels=4).save_to_preset(tmp_path / "preset")
    with pytest.raises(ValueError, match="takes 4 channels, but jobs on Beam read RGB only"):
        handler.model_facts(tmp_path / "preset")
