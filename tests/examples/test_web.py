import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
WEB = ROOT / "examples" / "web"
sys.path[:0] = [str(WEB), str(ROOT / "benchmarks")]
import serve  # noqa: E402
import web_page  # noqa: E402

PACKAGES = Path(os.environ.get("KERAS_PSP_WEB_PACKAGES", WEB / "node_modules"))
NAMES = ["<i>red</i>", "green", "blue"]
PALETTE = [[200, 40, 40], [40, 200, 40], [40, 40, 200]]


def texts():
    return {path.name: path.read_text("utf-8") for path in WEB.glob("*.*") if path.is_file()}


# Without a browser.


def test_the_page_refers_only_to_files_that_exist():
    page = texts()["index.html"]
    named = [name for name in re.findall(r'(?:src|href)="([^"]+)"', page) if name != "data:,"]
    named += re.findall(r'new URL\("([\w.]+)", import', texts()["app.js"])
    assert sorted(named) == ["app.js", "style.css", "worker.js"]
    assert all((WEB / name).is_file() for name in named)


def test_every_element_that_the_script_uses_is_in_the_page():
    asked = set(re.findall(r'\bat\("([\w-]+)"\)', texts()["app.js"]))
    assert asked <= set(re.findall(r'id="([\w-]+)"', texts()["index.html"]))


@pytest.mark.parametrize("name", ["index.html", "app.js", "worker.js", "style.css"])
def test_nothing_is_fetched_from_another_server(name):
    assert not re.search(r"https?://|(?<!:)//[\w-]+\.\w", re.sub(r"//( |$).*", "", texts()[name]))


def test_text_never_becomes_html():
    scripts = texts()["app.js"] + texts()["worker.js"]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", scripts)
    assert "default-src 'none'" in texts()["index.html"]


@pytest.mark.parametrize("name", ["app.js", "worker.js"])
def test_the_scripts_are_javascript(name, tmp_path):
    if shutil.which("node") is None:
        pytest.skip("node is missing")
    module = tmp_path / f"{Path(name).stem}.mjs"  # the suffix makes it a module for node
    module.write_text(texts()[name], "utf-8")
    subprocess.run(["node", "--check", str(module)], check=True, capture_output=True)


def test_the_package_depends_only_on_the_engine():
    package = json.loads(texts()["package.json"])
    assert list(package["dependencies"]) == ["onnxruntime-web"]
    assert "devDependencies" not in package


def test_the_server_sends_types_and_headers_but_no_other_folders(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"network")
    with web_page.served(tmp_path / "model.onnx", tmp_path) as address:
        with urllib.request.urlopen(address + "app.js") as answer:
            assert answer.headers["content-type"] == "text/javascript"
            assert answer.headers["cross-origin-opener-policy"] == "same-origin"
            assert answer.headers["cross-origin-embedder-policy"] == "require-corp"
        with urllib.request.urlopen(address + "model.onnx") as answer:
            assert answer.read() == b"network"
        for path in ("../quickstart.py", "%2e%2e/quickstart.py", "node_modules/", "absent"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(address + path)


def test_the_server_hides_dot_files_and_links_to_other_places(tmp_path):
    folder, secret = tmp_path / "folder", tmp_path / "secret.txt"
    (folder / ".git").mkdir(parents=True)
    secret.write_text("secret")
    (folder / ".git" / "config").write_text("secret")
    (folder / ".env").write_text("secret")
    (folder / "link.txt").symlink_to(secret)
    (folder / "a.txt").write_text("open")
    with serve.server(folder, port=0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://localhost:{server.server_port}/"
        with urllib.request.urlopen(address + "a.txt") as answer:
            assert answer.read() == b"open"
        for path in (".env", "%2eenv", ".git/config", "link.txt"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(address + path)
        server.shutdown()


def test_the_server_names_a_missing_model(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["serve.py", "--model", str(tmp_path / "absent.onnx")])
    with pytest.raises(SystemExit, match=r"absent\.onnx is missing; export one"):
        serve.main()


# In headless Chromium, with an untrained network: the class is the brightest channel.


def network(path, *, size):
    """Writes such a network to an ONNX file in the format of `export.onnx`."""
    onnx = pytest.importorskip("onnx")
    helper, kinds = onnx.helper, onnx.TensorProto
    sides = size or ("height", "width")
    image = helper.make_tensor_value_info("image", kinds.UINT8, [1, *sides, 3])
    classes = helper.make_tensor_value_info("classes", kinds.UINT8, [1, *sides])
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=kinds.FLOAT),
        helper.make_node("ArgMax", ["floats"], ["index"], axis=3, keepdims=0),
        helper.make_node("Cast", ["index"], ["classes"], to=kinds.UINT8),
    ]
    graph = helper.make_graph(nodes, "brightest", [image], [classes])
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="test"
    )
    about = {
        "network": "brightest channel",
        "num_classes": 3,
        "class_names": NAMES,
        "palette": PALETTE,
        "input": {"name": "image", "dtype": "uint8", "shape": [1, *(size or (None, None)), 3]},
        "output": {"name": "classes", "dtype": "uint8"},
    }
    entry = model.metadata_props.add()
    entry.key, entry.value = "keras_psp", json.dumps(about)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="module")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing")
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("Chromium is missing")
    if not (PACKAGES / "onnxruntime-web").is_dir():
        pytest.skip("onnxruntime-web is missing: run `npm install` in examples/web")
    with playwright.sync_playwright() as started:
        fake = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox", *fake])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium):
    """A function that opens the page; errors, and requests to other servers, fail the test."""
    errors, pages = [], []

    def opened(address):
        page = chromium.new_page(viewport={"width": 1000, "height": 800})
        pages.append(page)
        page.set_default_timeout(60_000)
        web_page.watch(page, address, errors)
        page.goto(address)
        page.wait_for_selector("#choose:enabled, #error:visible")
        return page

    yield opened
    for page in pages:
        page.close()
    assert not errors


def png(pixels, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png", **options)
    return file.getvalue()


def halves(height=48, width=64):
    """An image whose left three quarters are green and the rest blue."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width * 3 // 4, 1] = image[:, width * 3 // 4 :, 2] = 200
    return image


def test_a_dropped_image_shows_its_classes_legend_and_files(open_page, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    with web_page.served(network(tmp_path / "m.onnx", size=(48, 64)), PACKAGES) as address:
        page = open_page(address)
        # numpy and ONNX both take the first of equal values
        classes = web_page.dropped(page, png(image), "<img src=x onerror=alert(1)>.png")
        np.testing.assert_array_equal(classes, image.argmax(-1))
        assert "<img src=x" in page.text_content("#status")

        shares = np.bincount(classes.ravel(), minlength=3) / classes.size
        order = np.argsort(-shares)
        rows = page.locator("#legend li").all()
        expected = [f"{NAMES[index]}{100 * shares[index]:.1f} %" for index in order]
        assert [row.text_content() for row in rows] == expected
        color = (
            rows[0].locator("i").evaluate("element => getComputedStyle(element).backgroundColor")
        )
        assert color == "rgb({}, {}, {})".format(*PALETTE[order[0]])

        with page.expect_download() as download:
            page.click("#save-classes")
        saved = np.asarray(Image.open(download.value.path()).convert("RGB"))
        np.testing.assert_array_equal(saved, image.argmax(-1)[..., None].repeat(3, -1))
        page.fill("#opacity", "100")
        with page.expect_download() as download:
            page.click("#save-overlay")
        saved = np.asarray(Image.open(download.value.path()).convert("RGB"))
        np.testing.assert_array_equal(saved, np.array(PALETTE)[image.argmax(-1)])

        assert float(page.text_content("#milliseconds")) >= 0
        assert "ONNX Runtime Web" in page.text_content("#engine")


def test_pointer_and_arrow_keys_name_the_class(open_page, tmp_path):
    with web_page.served(network(tmp_path / "m.onnx", size=(48, 64)), PACKAGES) as address:
        page = open_page(address)
        web_page.dropped(page, png(halves()), "halves.png")
        box = page.locator("#view").bounding_box()
        page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 10)
        assert page.text_content("#tip") == page.text_content("#under") == "blue"
        page.focus("#view")
        page.keyboard.press("ArrowLeft")  # from the center
        assert page.text_content("#under") == "green"
        assert page.text_content(".under-pointer span") == "green"


def test_any_size_and_exif_orientation(open_page, tmp_path):
    with web_page.served(network(tmp_path / "m.onnx", size=None), PACKAGES) as address:
        page = open_page(address)
        exif = Image.Exif()
        exif[0x0112] = 6  # stored rotated: upright it is 40 wide, and its left side is at the top
        classes = web_page.dropped(page, png(halves(40, 100), exif=exif), "lying.png")
        assert classes.shape == (100, 40)
        assert (classes[:75] == 1).all() and (classes[75:] == 2).all()
        page.select_option("#size", "256")
        classes = web_page.dropped(page, png(halves(300, 1024)), "large.png")
        assert classes.shape == (75, 256)


def test_a_fixed_size_keeps_the_proportions(open_page, tmp_path):
    with web_page.served(network(tmp_path / "m.onnx", size=(48, 64)), PACKAGES) as address:
        page = open_page(address)
        classes = web_page.dropped(page, png(halves(128, 128)), "square.png")
        assert classes.shape == (48, 48)  # without the padding to 64
        assert (classes[:, :35] == 1).all() and (classes[:, 37:] == 2).all()
        assert page.text_content("#sizes") == "128x128, segmented at 48x48"


def test_the_camera_starts_and_stops(open_page, tmp_path):
    with web_page.served(network(tmp_path / "m.onnx", size=(48, 64)), PACKAGES) as address:
        page = open_page(address)
        page.click("#camera")
        page.wait_for_selector("#result[data-run]:not([data-run='1']), #error:visible")
        assert page.text_content("#camera") == "Stop the camera"
        page.click("#camera")
        assert page.text_content("#camera") == "Start the camera"
        # An image after the camera is shown, whatever was in progress.
        classes = web_page.dropped(page, png(halves()), "halves.png")
        page.wait_for_timeout(300)
        assert page.evaluate("segmentation.width") == classes.shape[1] == 64
        assert page.text_content("#status").startswith("halves")


def test_errors_are_shown_on_the_page(open_page, tmp_path):
    model = network(tmp_path / "m.onnx", size=(48, 64))
    with web_page.served(model, PACKAGES, isolated=False) as address:
        page = open_page(address)
        assert "1 thread. " in page.text_content("#engine")
        assert "doesn't isolate this page" in page.text_content("#engine")
        page.set_input_files("#file", {"name": "a.txt", "mimeType": "image/png", "buffer": b"no"})
        page.wait_for_selector("#error:visible")
        assert page.text_content("#error").startswith("a.txt isn't an image")
        web_page.dropped(page, png(halves()), "halves.png")
        assert page.is_hidden("#error")
    model.write_bytes(model.read_bytes()[:-20])
    with web_page.served(model, PACKAGES) as address:
        assert "isn't an ONNX file" in open_page(address).text_content("#error")


def test_the_page_names_the_command_for_a_missing_model(chromium, tmp_path):
    with web_page.served(tmp_path / "absent.onnx", PACKAGES) as address:
        page = chromium.new_page()
        page.goto(address)
        page.wait_for_selector("#error:visible")
        assert "There is no model.onnx" in page.text_content("#error")
        page.close()
