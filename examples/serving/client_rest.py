"""Ask TensorFlow Serving for the classes of photographs, by REST, with Python alone.

    python examples/serving/client_rest.py street.jpg --model pspnet

Writes street.classes.png, the class of every pixel. With --about, the file
saved_models/pspnet/1/assets.extra/keras_psp.json, the classes have their colours.
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
    """No answer, or another than classes."""


def class_maps(contents, *, url, model, timeout):
    """Of JPEG or PNG files' bytes, the classes of their pixels as PNG files' bytes."""
    instances = [{"b64": base64.b64encode(content).decode()} for content in contents]
    body = json.dumps({"signature_name": "serve_bytes", "instances": instances}).encode()
    address = f"{url}/v1/models/{urllib.parse.quote(model, safe='')}:predict"
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            found = json.load(answer)
        maps = [base64.b64decode(prediction["b64"]) for prediction in found["predictions"]]
    except urllib.error.HTTPError as error:
        raise ServerError(f"{address}: HTTP {error.code}, {_reason(error)}") from None
    except (OSError, http.client.HTTPException) as error:  # no connection, or a timeout
        reason = getattr(error, "reason", None) or error
        raise ServerError(f"{address}: {reason}; is the server there?") from None
    except (ValueError, KeyError, TypeError):
        raise ServerError(f"{address}: the answer is no list of predictions.") from None
    return one_each(maps, contents, address)


def one_each(maps, contents, address):
    """The class maps, if they are one PNG a photograph."""
    if len(maps) != len(contents) or not all(content.startswith(PNG) for content in maps):
        raise ServerError(f"{address}: the answer isn't one PNG a photograph.")
    return maps


def coloured(png, palette):
    """A grey PNG of 8 bits with colours in place of its shades, the pixels untouched."""
    header = bytearray(png[16:29])
    if header[8:10] != b"\x08\x00":  # 16 bits, of more than 256 classes
        return png
    header[9] = 3
    colours = bytes(value for colour in palette[:256] for value in colour)
    return PNG + _chunk(b"IHDR", bytes(header)) + _chunk(b"PLTE", colours) + png[33:]


def _chunk(name, content):
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def _reason(error):
    try:
        return json.load(error)["error"]
    except (OSError, ValueError, KeyError, TypeError):
        return error.reason


def command(class_maps, description, where, server):
    """Write the class map of each photograph; 1 if one has none.

    Args:
        class_maps: see above.
        description: of the command.
        where: name of the argument that says where the server is.
        server: its default.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(f"--{where}", default=server)
    parser.add_argument("photographs", type=Path, nargs="+", help="JPEG or PNG files")
    parser.add_argument("--model", default="pspnet")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds")
    parser.add_argument("--about", type=Path, help="keras_psp.json, for colours")
    options = parser.parse_args()
    try:
        palette = options.about and json.loads(options.about.read_text("utf-8"))["palette"]
    except (OSError, ValueError, KeyError) as error:
        raise SystemExit(f"--about {options.about} is no keras_psp.json: {error}") from None
    given = {key: getattr(options, key) for key in (where, "model", "timeout")}
    failed = 0
    for path in options.photographs:
        try:  # one request each: an error is then of that photograph
            (png,) = class_maps([path.read_bytes()], **given)
        except (ServerError, OSError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            failed += 1
            continue
        target = path.with_name(f"{path.name}.classes.png")
        target.write_bytes(coloured(png, palette) if palette else png)
        print(target)
    return int(failed > 0)


def main():
    """By REST."""
    return command(class_maps, __doc__.splitlines()[0], "url", "http://localhost:8501")


if __name__ == "__main__":
    raise SystemExit(main())
