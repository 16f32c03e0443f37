"""Tests and times examples/web in headless Chromium.

    python -m pip install playwright onnxruntime && apt-get install chromium
    (cd examples/web && npm install)
    python benchmarks/web_page.py model.onnx photo.jpg --output screenshots

Drops a photo on the page and compares its class map with that of onnxruntime in Python for the same
pixels. Fails if they differ in more than 1 of 1000 pixels, the page is wider than its window, texts
overlap, a script fails or the page requests anything from another server.
"""

import argparse
import base64
import io
import shutil
import statistics
import sys
import threading
from pathlib import Path

import numpy as np
from page_screenshots import OVERLAPS
from PIL import Image, ImageOps

WEB = Path(__file__).parents[1] / "examples" / "web"
sys.path.insert(0, str(WEB))

DROP = """([text, name]) => {
  const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name));
  document.getElementById("drop").dispatchEvent(
    new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
}"""


def main():
    """Prints the results; exit status 1 if something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--output", type=Path, required=True, help="folder of the screenshots")
    parser.add_argument("--runs", type=int, default=10, help="in steps of 5")
    parser.add_argument("--packages", type=Path, default=WEB / "node_modules")
    parser.add_argument("--on", choices=("wasm", "webgpu"), default="", help="chosen by the page")
    parser.add_argument("--threads", default="", help="maximum; chosen by the page")
    parser.add_argument("--not-isolated", action="store_true", help="without the isolation headers")
    options = parser.parse_args()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sys.exit("playwright is missing; run: python -m pip install playwright")
    options.output.mkdir(parents=True, exist_ok=True)
    wrong: list[str] = []
    isolated = not options.not_isolated
    with (
        served(options.model, options.packages, isolated=isolated) as address,
        sync_playwright() as playwright,
    ):
        path = shutil.which("chromium") or shutil.which("google-chrome")
        arguments = ["--no-sandbox"] + ["--enable-unsafe-webgpu"] * (options.on == "webgpu")
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(240_000)
        watch(page, address, wrong)
        page.goto(f"{address}?on={options.on}&threads={options.threads}")
        page.wait_for_selector("#choose:enabled, #error:visible")
        if page.is_visible("#error"):
            sys.exit(page.text_content("#error"))
        print(f"Chromium {browser.version}: {page.text_content('#engine')}")
        print(page.text_content("#model"))

        pixels, expected = reference(options.model, options.photo)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "png")
        classes = dropped(page, file.getvalue(), "exact.png")
        equal = np.mean(classes == expected)
        print(f"{pixels.shape[1]}x{pixels.shape[0]}: {equal:.4%} of pixels equal to Python's")
        if equal < 0.999:
            wrong.append("the class map differs from Python's")

        dropped(page, options.photo.read_bytes(), options.photo.name)
        while page.evaluate("segmentation.runs.length") <= options.runs:
            page.click("#again")
            page.wait_for_selector("#again:enabled")
        spent = page.evaluate("segmentation.runs")[1:]
        print(
            f"the network: median {statistics.median(spent):.0f} ms "
            f"({min(spent):.0f} to {max(spent):.0f}) of {len(spent)} runs after the first"
        )
        page.hover("#view", position={"x": 60, "y": 60})
        for name, width in (("desktop", 1280), ("phone", 375)):
            for scheme in ("light", "dark"):
                page.set_viewport_size({"width": width, "height": 900})
                page.emulate_media(color_scheme=scheme)
                page.screenshot(path=options.output / f"{name}-{scheme}.png", full_page=True)
                wide = page.evaluate("document.documentElement.scrollWidth")
                if wide > width:
                    wrong.append(f"{wide} pixels wide in a window of {width}")
                page.mouse.move(0, 0)  # hides the tooltip
                wrong += page.evaluate(OVERLAPS)
        browser.close()
    print("\n".join(dict.fromkeys(wrong)) or "ok")
    sys.exit(int(bool(wrong)))


class served:
    """Context that serves the page on a free port and returns its address.

    Args:
        model: an ONNX file.
        packages: a node_modules folder.
        isolated: whether to send the headers that threads need.
    """

    def __init__(self, model, packages, *, isolated=True):
        import serve

        files = {"model.onnx": Path(model).resolve(), "node_modules": Path(packages).resolve()}
        self._server = serve.server(WEB, port=0, files=files, isolated=isolated)

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://localhost:{self._server.server_port}/"

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


def watch(page, address, wrong):
    """Records errors and requests to other servers."""
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda line: wrong.append(f"{line.type}: {line.text}"))
    own = (address, f"blob:{address}", "data:")
    page.on("request", lambda request: request.url.startswith(own) or wrong.append(request.url))


def reference(model, photo):
    """The pixels of the photo for the network, and their class map from Python."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model)
    image = session.get_inputs()[0]
    resized = ImageOps.exif_transpose(Image.open(photo)).convert("RGB")
    _, height, width, _ = image.shape
    if isinstance(width, int):
        resized = resized.resize((width, height), Image.Resampling.BICUBIC)
    else:
        resized.thumbnail((512, 512))
    pixels = np.asarray(resized)
    batch = pixels[None].astype(np.float32 if "float" in image.type else np.uint8)
    return pixels, session.run(None, {image.name: batch})[0][0]


def dropped(page, data, name):
    """Drops a file on the page and returns the class map."""
    before = page.get_attribute("#result", "data-run")
    page.evaluate(DROP, [base64.b64encode(data).decode(), name])
    # The page's policy forbids the eval that wait_for_function uses.
    page.wait_for_selector(f'#result[data-run]:not([data-run="{before}"]), #error:visible')
    if page.is_visible("#error"):
        sys.exit(page.text_content("#error"))
    result = page.evaluate("({...segmentation, classes: Array.from(segmentation.classes)})")
    return np.array(result["classes"]).reshape(result["height"], result["width"])


if __name__ == "__main__":
    main()
