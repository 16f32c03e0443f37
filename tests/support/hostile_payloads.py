"""What strangers send in place of a picture: broken, huge and hostile bytes.

`tests/export/test_to_saved_model.py` asserts that each is an error and the next good picture
answered; `benchmarks/hostile_payloads.py` prints the table.
"""

import dataclasses
import io
import struct
import zipfile
import zlib

import numpy as np
from PIL import Image


@dataclasses.dataclass(frozen=True)
class Payload:
    """Bytes, and a part of the error that is due."""

    what: str
    content: bytes
    refused: str


def picture(width=61, height=57):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def encoded(array, kind, **options):
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind, **options)
    return file.getvalue()


def chunk(name, content):
    """Of a PNG."""
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def png(width, height, data=b"", *, first=b""):
    """A PNG of 8-bit RGB whose header says what it is told to."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    content = chunk(b"IDAT", zlib.compress(data, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + first + header + content


def jpeg_saying(width, height):
    """A JPEG whose header says another size."""
    content = bytearray(encoded(picture(), "JPEG"))
    start = content.index(b"\xff\xc0") + 5
    content[start : start + 4] = struct.pack(">HH", height, width)
    return bytes(content)


def scan_bomb(times=10_000):
    """A progressive JPEG, 4000x4000, that repeats its last scan."""
    content = encoded(np.full((4000, 4000, 3), 127, np.uint8), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * times + content[-2:]


def archive():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as into:
        into.writestr("../../picture.png", bytes(10**6))
    return file.getvalue()


def payloads():
    """All of them."""
    good_png, good_jpeg = encoded(picture(), "PNG"), encoded(picture(), "JPEG")
    wrong_checksum = bytearray(good_png)
    wrong_checksum[-20] ^= 0xFF
    noise = np.random.default_rng(1).bytes(10_000)
    neither, few = "is no JPEG and no PNG", "send at most 16,777,216 pixels"
    return [
        Payload("nothing", b"", neither),
        Payload("text", b"Not a picture, only these words.", neither),
        Payload("a web page", b"<!doctype html><img src=a.png>", neither),
        Payload("random bytes", noise, neither),
        Payload("random bytes after JPEG's first", b"\xff\xd8\xff" + noise, "Invalid JPEG data"),
        Payload("random bytes after PNG's first", good_png[:8] + noise, "without a header"),
        Payload("GIF", encoded(picture(), "GIF"), neither),
        Payload("BMP", encoded(picture(), "BMP"), neither),
        Payload("zip file with a path upwards", archive(), neither),
        Payload("half a JPEG", good_jpeg[: len(good_jpeg) // 2], "Invalid JPEG data"),
        Payload("half a PNG", good_png[: len(good_png) // 2], "Invalid PNG data"),
        Payload("20 bytes of a PNG", good_png[:20], "ends within its header"),
        Payload("PNG with a wrong checksum", bytes(wrong_checksum), "Invalid PNG data"),
        Payload("PNG bomb, 20000x20000", png(20_000, 20_000, bytes(60_001 * 20_000)), "at most"),
        Payload("PNG of 65 bytes, 4096x4097", png(4096, 4097), few),
        Payload("PNG, 4294967295 pixels wide", png(2**32 - 1, 1), "send at least 41 a side"),
        Payload(
            "PNG that says 4000x4000, has 1 row", png(4000, 4000, bytes(12_001)), "Invalid PNG"
        ),
        Payload("JPEG that says 65500x65500", jpeg_saying(65_500, 65_500), "at most 16,384"),
        Payload("JPEG that says 0x0", jpeg_saying(0, 0), "Invalid JPEG data"),
        Payload("JPEG of 10,000 scans", scan_bomb(), "more than 100 scans"),
        Payload("1x1", encoded(picture(1, 1), "PNG"), "image is 1x1 pixels; send at least 41"),
        Payload("50x300000, 15 megapixels", png(300_000, 50), "send at most 16,384 a side"),
        Payload(
            "PNG, second header inside",
            png(60, 60, first=chunk(b"tEXt", b"a\0" + png(60, 60))),
            "without a header",
        ),
        Payload("half a second picture", good_png[:-30] + good_png, "Invalid PNG data"),
    ]
