"""Serves this folder to a browser, so that WebAssembly can use several threads.

    python serve.py                 # http://localhost:8000, for this machine only
    python serve.py --port 8080 --model ../../saved_models/pspnet.onnx

Threads need an isolated page (https://web.dev/articles/coop-coep), requested by two headers.
`python -m http.server` doesn't send them, and the page then runs on one thread.
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
    # index.html has a stricter policy; this one is for the worker, which doesn't inherit it.
    "Content-Security-Policy": "default-src 'self' blob: data:; style-src 'self'; "
    "script-src 'self' blob: 'wasm-unsafe-eval'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",  # the browser asks whether a file has changed
}


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files with the right types and `HEADERS`, and no directory listings."""

    # Windows reads types from its registry, where .js is often text/plain.
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
        target = Path(super().translate_path(path))  # without "..", below the folder
        first, *rest = target.relative_to(self.directory).parts or ("",)
        return str(Path(self._files[first], *rest) if first in self._files else target)

    def send_head(self):
        """Answers only with files of the folders: nothing hidden, and no links out of them."""
        target = Path(self.translate_path(self.path))
        folders = map(Path, (self.directory, *self._files.values()))
        base = next(folder for folder in folders if target.is_relative_to(folder))
        hidden = any(part.startswith(".") for part in target.relative_to(base).parts)
        if hidden or not target.resolve().is_relative_to(base.resolve()):
            self.send_error(404, "File not found")
            return None
        return super().send_head()

    def list_directory(self, path):
        self.send_error(404, "No directory listing")

    def end_headers(self):
        for name, value in HEADERS.items():
            if self._isolated or not name.startswith("Cross-Origin"):
                self.send_header(name, value)
        super().end_headers()

    def log_message(self, format, *args):
        pass


def server(folder, *, host="localhost", port=8000, files=(), isolated=True):
    """Returns a server for a folder; start it with `serve_forever`.

    Args:
        folder: the folder to serve.
        host, port: the address; port 0 is any free port.
        files: {name: path} of files and folders in other places, e.g. "model.onnx".
        isolated: send the headers that threads need.
    """
    folder = str(Path(folder).resolve())
    handler = functools.partial(Handler, directory=folder, files=files, isolated=isolated)
    return http.server.ThreadingHTTPServer((host, port), handler)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--host", default="localhost", help="0.0.0.0 for the whole network")
    parser.add_argument("--model", type=Path, help="default: model.onnx in this folder")
    options = parser.parse_args()
    folder = Path(__file__).resolve().parent
    model = options.model or folder / "model.onnx"
    if not model.is_file():
        sys.exit(f"{model} is missing; export one, see README.md.")
    if not (folder / "node_modules").is_dir():
        sys.exit(f"{folder / 'node_modules'} is missing; run `npm install` in {folder}.")
    try:
        serving = server(
            folder, host=options.host, port=options.port, files={"model.onnx": model.resolve()}
        )
    except OSError as error:
        sys.exit(f"port {options.port}: {error.strerror}; choose another with --port.")
    print(f"http://{options.host}:{serving.server_port}/ (stop with Ctrl+C)")
    try:
        serving.serve_forever()
    except KeyboardInterrupt:
        serving.server_close()


if __name__ == "__main__":
    main()
