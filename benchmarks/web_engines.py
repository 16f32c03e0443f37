"""Compares ONNX Runtime Web and LiteRT.js in headless Chromium on one network.

    python -m pip install playwright onnxruntime && apt-get install chromium
    (cd /tmp/engines && npm install onnxruntime-web @litertjs/core)
    python benchmarks/web_engines.py model.onnx model.tflite --packages /tmp/engines --runs 10

Both files contain the same network for one uint8 image of a fixed size with output "classes". The
engines alternate, and every class map is compared with that of onnxruntime in Python.
"""

import argparse
import json
import shutil
import statistics
import sys
import threading
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "web"))

PAGE = """<!doctype html><meta charset="utf-8"><script type="importmap">{"imports": {
"@litertjs/core": "/node_modules/@litertjs/core/dist/index.js",
"@litertjs/wasm-utils": "/node_modules/@litertjs/wasm-utils/dist/index.js"}}</script>"""

ADAPTER = """navigator.gpu?.requestAdapter().then(adapter => adapter &&
  `${adapter.info.vendor} ${adapter.info.architecture} ${adapter.info.description}`)"""

# Loads an engine and defines window.run, from pixels to [milliseconds, class map].
OPEN = {
    "ONNX Runtime Web": """async ({shape, threads, provider}) => {
      const dist = "/node_modules/onnxruntime-web/dist/";
      const name = provider === "webgpu" ? "ort.webgpu.bundle.min.mjs" : "ort.wasm.bundle.min.mjs";
      const ort = await import(dist + name);
      ort.env.wasm.wasmPaths = dist;
      ort.env.wasm.numThreads = threads;
      const model = new Uint8Array(await (await fetch("/model.onnx")).arrayBuffer());
      const begin = performance.now();
      const session = await ort.InferenceSession.create(model, {executionProviders: [provider]});
      window.opening = performance.now() - begin;
      window.run = async pixels => {
        const begin = performance.now();
        const outputs = await session.run({image: new ort.Tensor("uint8", pixels, shape)});
        const classes = await outputs[session.outputNames[0]].getData();
        return [performance.now() - begin, Array.from(classes)];
      };
    }""",
    "LiteRT.js": """async ({shape, threads, provider}) => {
      const lite = await import("@litertjs/core");
      await lite.loadLiteRt("/node_modules/@litertjs/core/wasm/",
        {threads: threads > 1, jspi: provider === "webgpu"});
      const model = new Uint8Array(await (await fetch("/model.tflite")).arrayBuffer());
      const begin = performance.now();
      const compiled = await lite.loadAndCompile(model,
        {accelerator: provider, cpuOptions: {numThreads: threads}});
      window.opening = performance.now() - begin;
      window.run = async pixels => {
        const begin = performance.now();
        const tensor = new lite.Tensor(pixels, shape);
        const outputs = await compiled.run(tensor);
        const on_host = provider === "wasm" ? outputs[0] : await outputs[0].moveTo("wasm");
        const classes = on_host.toTypedArray().slice();
        const milliseconds = performance.now() - begin;
        tensor.delete(); on_host.delete();
        return [milliseconds, Array.from(classes)];
      };
    }""",
}


def main():
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("onnx", type=Path)
    parser.add_argument("tflite", type=Path)
    parser.add_argument("--packages", type=Path, required=True, help="folder with node_modules")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--webgpu", action="store_true", help="also WebGPU if available")
    options = parser.parse_args()
    try:
        import onnxruntime
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        sys.exit(f"{error.name} is missing; run: python -m pip install playwright onnxruntime")
    import serve

    reference = onnxruntime.InferenceSession(options.onnx)
    shape = reference.get_inputs()[0].shape
    # Blobs, because a network predicts a single class for noise.
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1, 6, 8, 3), np.uint8).repeat(-(-shape[1] // 6), 1)
    image = image.repeat(-(-shape[2] // 8), 2)[:, : shape[1], : shape[2]]
    expected = reference.run(None, {"image": image})[0].ravel()
    print(f"{shape[1]}x{shape[2]}, {len(np.unique(expected))} classes in the map", file=sys.stderr)

    files = {"model.onnx": options.onnx.resolve(), "model.tflite": options.tflite.resolve()}
    served = serve.server(options.packages, port=0, files=files)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    address = f"http://localhost:{served.server_port}/"
    print("| engine | on | threads | median ms (min to max) | opening, ms | equal to Python |")
    print("|---|---|---|---|---|---|")
    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("google-chrome")
        arguments = ["--no-sandbox"] + ["--enable-unsafe-webgpu"] * options.webgpu
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        context = browser.new_context()
        # The server's policy forbids the import map that LiteRT.js needs.
        headers = {key: value for key, value in serve.HEADERS.items() if "Origin" in key}
        blank = {"body": PAGE, "content_type": "text/html", "headers": headers}
        context.route("**/blank", lambda route: route.fulfill(**blank))
        page = context.new_page()
        page.goto(address + "blank")
        gpu = page.evaluate(ADAPTER)
        print(f"Chromium {browser.version}, WebGPU: {gpu or 'absent'}", file=sys.stderr)
        page.close()
        kinds = [("wasm", threads) for threads in options.threads]
        for provider, threads in kinds + [("webgpu", 1)] * bool(options.webgpu and gpu):
            settings = {"shape": shape, "threads": threads, "provider": provider}
            for engine, (spent, opening, classes) in measured(
                context, address + "blank", settings, image, options.runs
            ).items():
                print(
                    f"| {engine} | {provider} | {threads} | {statistics.median(spent):.0f} "
                    f"({min(spent):.0f} to {max(spent):.0f}) | {opening:.0f} "
                    f"| {np.mean(classes == expected):.4%} |",
                    flush=True,
                )
        browser.close()
    for name in ("onnxruntime-web", "@litertjs/core"):
        package = options.packages / "node_modules" / name / "package.json"
        print(name, json.loads(package.read_text())["version"], file=sys.stderr)


def measured(context, address, settings, image, runs):
    """{engine: (milliseconds of each run, milliseconds of opening, class map)}."""
    pages, spent, classes = {}, {}, {}
    pixels = json.dumps(image.ravel().tolist())
    for engine, code in OPEN.items():
        pages[engine] = context.new_page()
        pages[engine].goto(address)
        pages[engine].evaluate(code, settings)
    for turn in range(runs + 1):
        for engine, page in pages.items():
            milliseconds, classes[engine] = page.evaluate(f"run(new Uint8Array({pixels}))")
            if turn:  # the first run is a warm-up
                spent.setdefault(engine, []).append(milliseconds)
    results = {}
    for engine, page in pages.items():
        results[engine] = spent[engine], page.evaluate("opening"), np.array(classes[engine])
        page.close()
    return results


if __name__ == "__main__":
    main()
