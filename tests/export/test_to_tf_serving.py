import json
from pathlib import Path

import numpy as np
import pytest
from support import c_session, hostile_payloads

from keras_psp import export
from keras_psp.export import to_tf_serving, warmup


@pytest.fixture(scope="module")
def version(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "pspnet"
    return export.tf_serving(model, folder, warmup_sizes=[(64, 48), (41, 41)])


def logs(version):
    """The warm-up requests, read by tensorflow-serving-api."""
    import tensorflow as tf

    api = pytest.importorskip(
        "tensorflow_serving.apis.prediction_log_pb2",
        reason="tensorflow-serving-api isn't installed",
    )
    file = version / "assets.extra" / "tf_serving_warmup_requests"
    records = tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
    return [api.PredictionLog.FromString(record) for record in records]


def test_a_version_contains_metadata(version):
    assert version.name == "1"
    assert [path.name for path in version.parent.iterdir()] == ["1"]
    about = json.loads((version / "assets.extra" / "keras_psp.json").read_text("utf-8"))
    assert about["num_classes"] == 4


def test_warmup_is_read_by_the_official_messages(version):
    import tensorflow as tf

    requests = []
    for log in logs(version):
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        assert request.model_spec.name == "pspnet"
        ((name, tensor),) = request.inputs.items()
        requests.append((request.model_spec.signature_name, name, tf.make_ndarray(tensor).shape))
    assert requests == [
        ("serving_default", "image", (1, 64, 48, 3)),
        ("serve_bytes", "image_bytes", (2,)),
        ("serving_default", "image", (1, 41, 41, 3)),
        ("serve_bytes", "image_bytes", (2,)),
    ]


def test_warmup_replays_through_the_c_loader(version):
    import tensorflow as tf

    with c_session.CSession(version) as session:
        for log in logs(version):
            request = log.predict_log.request
            ((_, tensor),) = request.inputs.items()
            # The C++ reader repeats a single value over the shape, as the server does.
            value = tf.io.parse_tensor(tensor.SerializeToString(), tensor.dtype).numpy()
            if value.dtype == object:
                assert len(session(request.model_spec.signature_name, list(value))) == 2
            else:
                assert (value == 127).all()
                classes = session(request.model_spec.signature_name, value)
                assert classes.shape == value.shape[:3]


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_warmup_images_take_few_bytes(dtype):
    import tensorflow as tf

    (images, _) = warmup.warmup_requests([(1024, 2048)], batch_size=2, input_dtype=dtype)
    log = warmup.prediction_log("pspnet", images)
    assert len(log) < 100
    # Lengths beyond 127 take several bytes.
    long = warmup.prediction_log("n" * 100_000, images)
    api = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    for content, name in ((log, "pspnet"), (long, "n" * 100_000)):
        request = api.PredictionLog.FromString(content).predict_log.request
        assert request.model_spec.name == name
        np.testing.assert_array_equal(tf.make_ndarray(request.inputs["image"]), images.value)


def test_a_failing_version_is_never_published(model, tmp_path, monkeypatch):
    def refuse(path, requests):
        raise ValueError("wrong answer")

    monkeypatch.setattr(to_tf_serving, "replay", refuse)
    with pytest.raises(ValueError, match="wrong answer"):
        export.tf_serving(model, tmp_path / "pspnet", image_size=(48, 48))
    assert list((tmp_path / "pspnet").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"warmup_sizes": [(40, 40)]}, r"\(40, 40\); give sizes from 41 to 16,384 pixels per side"),
        ({"warmup_sizes": [(5000, 5000)]}, "at most 16,777,216 in all"),
        ({"warmup_sizes": [(64, 64)] * 501}, "has 501 sizes; give at most 500"),
        ({"warmup_sizes": [64]}, r"warmup_sizes\[0\] is 64; it must be a sequence of 2 values"),
        (
            {"warmup_sizes": [(64, 64)], "image_size": (48, 48)},
            r"has \(64, 64\) but image_size=\(48, 48\); leave warmup_sizes out",
        ),
        ({"max_pixels": -1, "warmup_sizes": []}, "max_pixels is -1; it must be an integer >= 1"),
        ({"image_size": (40, 48)}, "use images of at least 41 pixels"),
    ],
)
def test_invalid_arguments_are_errors_and_nothing_is_written(model, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        export.tf_serving(model, tmp_path / "pspnet", **arguments)
    assert not list(tmp_path.glob("pspnet/*"))


def models(folder, *names):
    for name in names:
        (folder / name / "1").mkdir(parents=True)
    return folder


def test_server_files_are_read_by_the_official_messages(tmp_path):
    from google.protobuf import text_format

    api = pytest.importorskip(
        "tensorflow_serving.config.model_server_config_pb2",
        reason="tensorflow-serving-api isn't installed",
    )
    folder = models(tmp_path, "pspnet", "pspnet-0.5", "no model", ".draft-x")
    (tmp_path / "empty").mkdir()
    written = export.server_files(folder)
    assert sorted(path.name for path in written) == [
        "batching_parameters.txt",
        "docker-compose.gpu.yml",
        "docker-compose.yml",
        "models.config",
        "monitoring.config",
    ]
    text = (folder / "models.config").read_text()
    config = text_format.Parse(text, api.ModelServerConfig()).model_config_list.config
    assert [(model.name, model.base_path, model.model_platform) for model in config] == [
        ("pspnet", "/models/pspnet", "tensorflow"),
        ("pspnet-0.5", "/models/pspnet-0.5", "tensorflow"),
    ]
    assert config[0].model_version_policy.latest.num_versions == 1


def test_docker_compose_starts_the_server_with_these_files(tmp_path):
    yaml = pytest.importorskip("yaml")
    folder = models(tmp_path, "pspnet")
    export.server_files(folder)
    service = yaml.safe_load((folder / "docker-compose.yml").read_text())["services"]["serving"]
    assert service["volumes"] == [".:/models:ro"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    files = [flag.split("/models/")[1] for flag in service["command"] if "/models/" in flag]
    assert files == ["models.config", "monitoring.config"]
    example = Path(__file__).parents[2] / "examples" / "serving" / "docker-compose.yml"
    assert example.read_text() == (folder / "docker-compose.yml").read_text()
    export.server_files(folder, batching=True, replace=True)
    service = yaml.safe_load((folder / "docker-compose.yml").read_text())["services"]["serving"]
    assert "--batching_parameters_file=/models/batching_parameters.txt" in service["command"]


def test_the_gpu_file_reserves_one_for_the_same_service(tmp_path):
    yaml = pytest.importorskip("yaml")
    folder = models(tmp_path, "pspnet")
    export.server_files(folder)
    text = (folder / "docker-compose.gpu.yml").read_text()
    services = yaml.safe_load(text)["services"]
    server = yaml.safe_load((folder / "docker-compose.yml").read_text())["services"]
    assert services.keys() == server.keys()
    assert "gpu}" in services["serving"]["image"]
    (device,) = services["serving"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    example = Path(__file__).parents[2] / "examples" / "serving" / "docker-compose.gpu.yml"
    assert example.read_text() == text


def test_edited_server_files_are_kept(tmp_path):
    folder = models(tmp_path, "pspnet")
    export.server_files(folder)
    export.server_files(folder)
    (folder / "monitoring.config").write_text("mine")
    with pytest.raises(FileExistsError, match=r"monitoring.config has other contents; replace"):
        export.server_files(folder)
    assert (folder / "monitoring.config").read_text() == "mine"
    export.server_files(folder, replace=True)
    assert "prometheus" in (folder / "monitoring.config").read_text()
    with pytest.raises(ValueError, match="has no model with a version; export one to it first"):
        export.server_files(tmp_path / "absent")


def test_requests_are_messages_of_the_official_messages(version, model):
    """A PredictRequest becomes tensors for the signature's inputs, as in the server."""
    import tensorflow as tf

    api = pytest.importorskip(
        "tensorflow_serving.apis.predict_pb2", reason="tensorflow-serving-api isn't installed"
    )
    image = hostile_payloads.noise()
    request = api.PredictRequest()
    request.model_spec.signature_name = "serving_default"
    request.inputs["image"].CopyFrom(tf.make_tensor_proto(image[None]))
    request = api.PredictRequest.FromString(request.SerializeToString())
    loaded = tf.saved_model.load(str(version))
    inputs = {name: tf.constant(tf.make_ndarray(proto)) for name, proto in request.inputs.items()}
    outputs = loaded.signatures[request.model_spec.signature_name](**inputs)
    answer = api.PredictResponse()
    for name, tensor in outputs.items():
        answer.outputs[name].CopyFrom(tf.make_tensor_proto(tensor.numpy()))
    answer = api.PredictResponse.FromString(answer.SerializeToString())
    classes = tf.make_ndarray(answer.outputs["classes"])
    assert np.mean(classes == model.predict_classes(image[None], verbose=0)) > 0.999
