"""Segments images with TensorFlow Serving over REST; needs only Python.

    python examples/serving/client_rest.py street.jpg --model pspnet

Writes street.jpg.classes.png, the class of each pixel. With --about
saved_models/pspnet/1/assets.extra/keras_psp.json, it has the colors of the classes.
"""

import argparse
import base64
import http.client
import json
import struct
import sys
import urllib.error
import urllib.parse
import urllib.request
import zlib
from pathlib import Path

PNG = b"\x89PNG\r\n\x1a\n"


class ServerError(Exception):
    """The server didn't answer with class maps."""


def class_maps(contents, *, url, model, timeout):
    """Returns the class maps of encoded images.

    Args:
        contents: bytes of JPEG or PNG files.
        url: the server's address.
        model: the network's name.
        timeout: seconds.

    Returns:
        Bytes of one PNG file per image.
    """
    instances = [{"b64": base64.b64encode(content).decode()} for content in contents]
    body = json.dumps({"signature_name": "serve_bytes", "instances": instances}).encode()
    address = f"{url}/v1/models/{urllib.parse.quote(model, safe='')}:predict"
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            predictions = json.load(answer)["predictions"]
        maps = [base64.b64decode(prediction["b64"]) for prediction in predictions]
    except urllib.error.HTTPError as error:
        raise ServerError(f"{address}: HTTP {error.code}, {_reason(error)}") from None
    except (OSError, http.client.HTTPException) as error:  # no connection, or a timeout
        reason = getattr(error, "reason", None) or error
        raise ServerError(f"{address}: {reason}; is the server running?") from None
    except (ValueError, KeyError, TypeError):
        raise ServerError(f"{address}: the answer isn't a list of predictions.") from None
    return checked_maps(maps, contents, address)


def checked_maps(maps, contents, address):
    """Returns the class maps, checked to be one PNG per image."""
    if len(maps) != len(contents) or not all(content.startswith(PNG) for content in maps):
        raise ServerError(f"{address}: the answer isn't one PNG per image.")
    return maps


def colored(png, palette):
    """Adds a palette to an 8-bit grayscale PNG without changing its pixels."""
    header = bytearray(png[16:29])
    if header[8:10] != b"\x08\x00":  # 16 bits, for more than 256 classes
        return png
    header[9] = 3
    colors = bytes(value for color in palette[:256] for value in color)
    return PNG + _chunk(b"IHDR", bytes(header)) + _chunk(b"PLTE", colors) + png[33:]


def _chunk(name, content):
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def _reason(error):
    try:
        return json.load(error)["error"]
    except (OSError, ValueError, KeyError, TypeError):
        return error.reason


def command(class_maps, description, where, server):
    """Writes the class map of each image; returns 1 if one failed.

    Args:
        class_maps: the client's function.
        description: of the command.
        where: name of the argument for the server's address.
        server: its default.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(f"--{where}", default=server)
    parser.add_argument("images", type=Path, nargs="+", help="JPEG or PNG files")
    parser.add_argument("--model", default="pspnet")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds")
    parser.add_argument("--about", type=Path, help="keras_psp.json, for colors")
    options = parser.parse_args()
    try:
        palette = options.about and json.loads(options.about.read_text("utf-8"))["palette"]
    except (OSError, ValueError, KeyError) as error:
        raise SystemExit(f"--about {options.about} isn't a keras_psp.json: {error}") from None
    settings = {key: getattr(options, key) for key in (where, "model", "timeout")}
    failed = 0
    for path in options.images:
        try:  # one request each, so that an error only concerns this image
            (png,) = class_maps([path.read_bytes()], **settings)
        except (ServerError, OSError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            failed += 1
            continue
        target = path.with_name(f"{path.name}.classes.png")
        target.write_bytes(colored(png, palette) if palette else png)
        print(target)
    return int(failed > 0)


def main():
    return command(class_maps, __doc__.splitlines()[0], "url", "http://localhost:8501")


if __name__ == "__main__":
    raise SystemExit(main())
