import importlib
import io
import os
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import hostile_payloads, serving_stubs
from support.networks import tiny_pspnet

from keras_psp import export

EXAMPLES = Path(__file__).parents[2] / "examples" / "serving"


@pytest.fixture(scope="module")
def model():
    return tiny_pspnet()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("exports") / "saved"
    export.saved_model(model, path)
    return path


def client(name, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module(name)


@pytest.fixture(params=["rest", "grpc"])
def class_maps(request, folder, monkeypatch):
    """A client's `class_maps`, connected to a stub."""
    if request.param == "rest":
        with serving_stubs.rest_stub(folder, "pspnet") as url:
            module = client("client_rest", monkeypatch)
            yield lambda contents, **options: module.class_maps(
                contents, **{"url": url, "model": "pspnet", "timeout": 60, **options}
            )
    else:
        pytest.importorskip("tensorflow_serving", reason="tensorflow-serving-api isn't installed")
        with serving_stubs.grpc_stub(folder, "pspnet") as address:
            module = client("client_grpc", monkeypatch)
            yield lambda contents, **options: module.class_maps(
                contents, **{"address": address, "model": "pspnet", "timeout": 60, **options}
            )


def test_clients_return_class_maps_and_the_errors_of_the_server(class_maps, model):
    first, second = hostile_payloads.noise(57, 61), hostile_payloads.noise(64, 41)
    contents = [hostile_payloads.encoded(image, "PNG") for image in (first, second)]
    for png, image in zip(class_maps(contents), (first, second), strict=True):
        expected = model.predict_classes(image[None], verbose=0)[0]
        assert np.mean(np.array(Image.open(io.BytesIO(png))) == expected) > 0.999
    with pytest.raises(Exception, match=r"(?s)(400|INVALID_ARGUMENT), .*is neither JPEG nor PNG"):
        class_maps([b"text"])
    with pytest.raises(Exception, match=r"(404|NOT_FOUND), Servable not found"):
        class_maps(contents, model="other")


@pytest.mark.parametrize("name", ["client_rest", "client_grpc"])
def test_clients_name_an_unreachable_server(name, monkeypatch):
    if name == "client_grpc":
        pytest.importorskip("tensorflow_serving", reason="tensorflow-serving-api isn't installed")
    module = client(name, monkeypatch)
    server = {"url": "http://127.0.0.1:9"} if name == "client_rest" else {"address": "127.0.0.1:9"}
    with pytest.raises(Exception, match=r"127.0.0.1:9.*(refused|UNAVAILABLE)"):
        module.class_maps([b""], model="pspnet", timeout=5, **server)


@pytest.mark.parametrize("name", ["client_rest", "client_grpc"])
def test_clients_time_out(name, monkeypatch):
    if name == "client_grpc":
        pytest.importorskip("tensorflow_serving", reason="tensorflow-serving-api isn't installed")
    module = client(name, monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        server = {"url": f"http://{address}"} if name == "client_rest" else {"address": address}
        with pytest.raises(module.ServerError, match=r"timed out|DEADLINE_EXCEEDED"):
            module.class_maps([b""], model="pspnet", timeout=0.5, **server)


def test_rest_client_writes_a_class_map_in_color(folder, tmp_path, monkeypatch, capsys, model):
    module = client("client_rest", monkeypatch)
    image = hostile_payloads.noise(57, 61)
    (tmp_path / "a.png").write_bytes(hostile_payloads.encoded(image, "PNG"))
    (tmp_path / "b.png").write_bytes(b"text")
    about = folder / "assets.extra" / "keras_psp.json"
    with serving_stubs.rest_stub(folder, "pspnet") as url:
        files = [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
        monkeypatch.setattr(sys, "argv", ["client", *files, "--url", url, "--about", str(about)])
        assert module.main() == 1
    assert "b.png: " in capsys.readouterr().err
    class_map = Image.open(tmp_path / "a.png.classes.png")
    expected = model.predict_classes(image[None], verbose=0)[0]
    assert class_map.mode == "P" and np.mean(np.array(class_map) == expected) > 0.999
    assert not (tmp_path / "b.png.classes.png").exists()


@pytest.mark.skipif(
    "TFS_URL" not in os.environ, reason="TFS_URL is not set to a TensorFlow Serving"
)
def test_rest_client_with_a_real_server(monkeypatch):
    """TFS_URL=http://localhost:8501 with the model "pspnet", or the one in TFS_MODEL."""
    module = client("client_rest", monkeypatch)
    server = {
        "url": os.environ["TFS_URL"],
        "model": os.environ.get("TFS_MODEL", "pspnet"),
        "timeout": 120,
    }
    good = hostile_payloads.encoded(hostile_payloads.noise(160, 128), "PNG")
    for payload in hostile_payloads.payloads():
        with pytest.raises(module.ServerError) as error:
            module.class_maps([payload.content], **server)
        assert payload.refused in str(error.value)
        (png,) = module.class_maps([good], **server)
        assert Image.open(io.BytesIO(png)).size == (160, 128)
