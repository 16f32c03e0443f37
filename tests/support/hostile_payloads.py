"""What strangers may send instead of an image: broken, huge and hostile bytes.

`tests/export/test_to_saved_model.py` asserts that each is an error and that the next valid image
is segmented; `benchmarks/hostile_payloads.py` prints the table.
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
    """Bytes, and a part of the expected error."""

    what: str
    content: bytes
    refused: str


def noise(width=61, height=57):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def encoded(array, kind, **options):
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind, **options)
    return file.getvalue()


def chunk(name, content):
    """A chunk of a PNG."""
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def png(width, height, data=b"", *, first=b""):
    """An 8-bit RGB PNG whose header has this size, whatever its data."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    content = chunk(b"IDAT", zlib.compress(data, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + first + header + content


def jpeg_with_header(width, height):
    """A JPEG whose header has a wrong size."""
    content = bytearray(encoded(noise(), "JPEG"))
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
        into.writestr("../../image.png", bytes(10**6))
    return file.getvalue()


def payloads():
    """All payloads."""
    good_png, good_jpeg = encoded(noise(), "PNG"), encoded(noise(), "JPEG")
    wrong_checksum = bytearray(good_png)
    wrong_checksum[-20] ^= 0xFF
    random = np.random.default_rng(1).bytes(10_000)
    neither, few = "is neither JPEG nor PNG", "send at most 16,777,216 pixels"
    return [
        Payload("nothing", b"", neither),
        Payload("text", b"Not an image, only these words.", neither),
        Payload("HTML", b"<!doctype html><img src=a.png>", neither),
        Payload("random bytes", random, neither),
        Payload("random bytes after a JPEG's start", b"\xff\xd8\xff" + random, "Invalid JPEG data"),
        Payload("random bytes after a PNG's start", good_png[:8] + random, "without a header"),
        Payload("GIF", encoded(noise(), "GIF"), neither),
        Payload("BMP", encoded(noise(), "BMP"), neither),
        Payload("zip file with a path to a parent folder", archive(), neither),
        Payload("half a JPEG", good_jpeg[: len(good_jpeg) // 2], "Invalid JPEG data"),
        Payload("half a PNG", good_png[: len(good_png) // 2], "Invalid PNG data"),
        Payload("20 bytes of a PNG", good_png[:20], "ends within its header"),
        Payload("PNG with a wrong checksum", bytes(wrong_checksum), "Invalid PNG data"),
        Payload("PNG bomb, 20000x20000", png(20_000, 20_000, bytes(60_001 * 20_000)), "at most"),
        Payload("PNG of 65 bytes, 4096x4097", png(4096, 4097), few),
        Payload("PNG, 4294967295 pixels wide", png(2**32 - 1, 1), "send at least 41 per side"),
        Payload(
            "PNG header of 4000x4000, 1 row",
            png(4000, 4000, bytes(12_001)),
            "Invalid PNG",
        ),
        Payload("JPEG header of 65500x65500", jpeg_with_header(65_500, 65_500), "at most 16,384"),
        Payload("JPEG header of 0x0", jpeg_with_header(0, 0), "Invalid JPEG data"),
        Payload("JPEG of 10,000 scans", scan_bomb(), "more than 100 scans"),
        Payload("1x1", encoded(noise(1, 1), "PNG"), "image is 1x1 pixels; send at least 41"),
        Payload("50x300000, 15 megapixels", png(300_000, 50), "send at most 16,384 per side"),
        Payload(
            "PNG with a second header",
            png(60, 60, first=chunk(b"tEXt", b"a\0" + png(60, 60))),
            "without a header",
        ),
        Payload("PNG with half of a second one", good_png[:-30] + good_png, "Invalid PNG data"),
    ]
