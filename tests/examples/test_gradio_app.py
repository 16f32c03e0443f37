import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.networks import tiny_pspnet

import keras_psp

APP = Path(__file__).parents[2] / "examples" / "gradio_app.py"


def opened_app():
    spec = importlib.util.spec_from_file_location("gradio_app", APP)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model():
    return tiny_pspnet(
        3,
        class_names=["road", "<b>sky</b>", "tree"],
        palette=[(200, 0, 0), (0, 200, 0), (0, 0, 200)],
    )


@pytest.fixture(scope="module")
def client(model, tmp_path_factory):
    """A client of the running app."""
    pytest.importorskip("gradio", reason="the demo needs gradio")
    gradio_client = pytest.importorskip("gradio_client")
    patch = pytest.MonkeyPatch()
    patch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
    patch.setenv("HF_HUB_OFFLINE", "1")
    app = opened_app().demo(model)
    _, address, _ = app.launch(
        prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", ssr_mode=False
    )
    downloads = tmp_path_factory.mktemp("downloads")
    yield gradio_client.Client(address, verbose=False, download_files=str(downloads))
    app.close()
    patch.undo()


def test_a_request_returns_what_predict_returns(client, model, tmp_path):
    from gradio_client import handle_file

    photo = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    given = handle_file(tmp_path / "photo.png")
    seen, legend = client.predict(given, "1", True, 256, 1.0, api_name="/segment")[:2]

    expected = keras_psp.predict(photo, model, base_size=256, flip=True)
    # With opacity 1, the overlay is the class map in its colors.
    colors = np.asarray(Image.open(seen["path"] if isinstance(seen, dict) else seen))
    np.testing.assert_array_equal(colors[..., :3], expected.palette[expected.classes])
    for name, share in expected.shares.items():
        shown = name.replace("<", "&lt;").replace(">", "&gt;")
        assert f"<span>{shown}</span>{share:.1%}" in legend
    assert "<b>sky" not in legend


def test_errors_are_sentences(client, tmp_path):
    from gradio_client import handle_file
    from gradio_client.exceptions import AppError

    with pytest.raises(AppError, match="Choose an image first"):
        client.predict(None, "1", False, 256, 0.5, api_name="/segment")
    Image.fromarray(np.zeros((5200, 5200, 3), np.uint8)).save(tmp_path / "large.png")
    large = handle_file(tmp_path / "large.png")
    with pytest.raises(AppError, match=r"The image: .*25"):
        client.predict(large, "1", False, 256, 0.5, api_name="/segment")


def test_a_missing_model_exits_with_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gradio_app.py", str(tmp_path / "absent.keras")])
    with pytest.raises(SystemExit, match="there is no such file"):
        opened_app().main()
