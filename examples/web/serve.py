"""Serve this folder to a browser, so that WebAssembly may use several threads.

    python serve.py                 # http://localhost:8000, for this machine alone
    python serve.py --port 8080 --model ../../saved_models/pspnet.onnx

Threads need a page that is isolated from others' (https://web.dev/articles/coop-coep), which two
headers ask for; `python -m http.server` doesn't send them, and the page then runs on one thread.
"""

import argparse
import functools
import http.server
import sys
from pathlib import Path

HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    # index.html has a stricter one; this is for the worker, which no page's policy reaches.
    "Content-Security-Policy": "default-src 'self' blob: data:; style-src 'self'; "
    "script-src 'self' blob: 'wasm-unsafe-eval'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",  # asks whether a file has changed, for 304 or the new one
}


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files with right types and `HEADERS`, some from elsewhere; no lists of folders."""

    # Windows takes types from its registry, where .js is often text/plain.
    extensions_map = {
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
        ".onnx": "application/octet-stream",
        ".tflite": "application/octet-stream",
    }
    protocol_version = "HTTP/1.1"

    def __init__(self, *args, files=(), isolated=True, **options):
        self._files, self._isolated = dict(files), isolated
        super().__init__(*args, **options)

    def translate_path(self, path):
        found = Path(super().translate_path(path))  # without "..", below the folder
        first, *rest = found.relative_to(self.directory).parts or ("",)
        return str(Path(self._files[first], *rest) if first in self._files else found)

    def list_directory(self, path):
        self.send_error(404, "No list of this folder")

    def end_headers(self):
        for name, value in HEADERS.items():
            if self._isolated or not name.startswith("Cross-Origin"):
                self.send_header(name, value)
        super().end_headers()

    def log_message(self, format, *args):
        pass


def server(folder, *, host="localhost", port=8000, files=(), isolated=True):
    """A server of a folder, to be started with `serve_forever`.

    Args:
        folder: what is served.
        host, port: where; 0 is any free port.
        files: {name: path} of files and folders that lie elsewhere, as "model.onnx".
        isolated: send the headers that threads need.
    """
    folder = str(Path(folder).resolve())
    handler = functools.partial(Handler, directory=folder, files=files, isolated=isolated)
    return http.server.ThreadingHTTPServer((host, port), handler)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--host", default="localhost", help="0.0.0.0 for all of the network")
    parser.add_argument("--model", type=Path, help="default: model.onnx in this folder")
    options = parser.parse_args()
    folder = Path(__file__).resolve().parent
    model = options.model or folder / "model.onnx"
    if not model.is_file():
        sys.exit(f"{model} is missing; export one, see README.md.")
    if not (folder / "node_modules").is_dir():
        sys.exit(f"{folder / 'node_modules'} is missing; run `npm install` in {folder}.")
    try:
        found = server(
            folder, host=options.host, port=options.port, files={"model.onnx": model.resolve()}
        )
    except OSError as error:
        sys.exit(f"port {options.port}: {error.strerror}; choose another with --port.")
    print(f"http://{options.host}:{found.server_port}/ (Ctrl+C ends)")
    try:
        found.serve_forever()
    except KeyboardInterrupt:
        found.server_close()


if __name__ == "__main__":
    main()
