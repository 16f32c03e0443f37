"""Good, odd and broken image files, and how each must be read.

`tests/data/test_images.py` asserts it; `benchmarks/odd_images.py` prints a table.
"""

import dataclasses
import io
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin

WIDTH, HEIGHT = 48, 32
RED, GREEN, BLUE, GRAY = (230, 20, 20), (20, 200, 60), (30, 40, 210), (120, 120, 120)
FOUR = (RED, GREEN, BLUE, GRAY)  # top left, top right, bottom left, bottom right
WHITE, BLACK = (255, 255, 255), (0, 0, 0)


@dataclasses.dataclass(frozen=True)
class Case:
    """A file and how it must be read.

    Attributes:
        file: its name; it may also be a folder, or missing.
        what: what it is.
        write: writes it to a path.
        colors: at the centers of the four quarters, row by row; None if it must be refused.
        size: (width, height).
        within: largest difference of a color, of 255.
        refused: a part of the error message.
    """

    file: str
    what: str
    write: Callable[[Path], object]
    colors: Sequence[tuple[int, int, int]] | None = None
    size: tuple[int, int] = (WIDTH, HEIGHT)
    within: int = 0
    refused: str = ""


def quarters(*colors, width=WIDTH, height=HEIGHT):
    """Returns four quarters of the given colors, (height, width, channels) uint8."""
    rows = np.array(colors, np.uint8).reshape(2, 2, -1)
    return rows.repeat(height // 2, axis=0).repeat(width // 2, axis=1)


def four_colors(*colors):
    return Image.fromarray(quarters(*(colors or FOUR)))


def quarter_colors(image):
    """Returns the colors at the centers of the quarters, row by row."""
    height, width = image.shape[:2]
    ys, xs = (height // 4, height * 3 // 4), (width // 4, width * 3 // 4)
    return [tuple(image[y, x].tolist()) for y in ys for x in xs]


def as_expected(case, image):
    """Whether an image that was read without an error is as it should be."""
    if case.colors is None or image.shape != (case.size[1], case.size[0], 3):
        return False
    off = np.abs(np.array(quarter_colors(image)) - np.array(case.colors)).max()
    return image.dtype == np.uint8 and off <= case.within


def saved(image, **options):
    return lambda path: image.save(path, **options)


def content(data):
    return lambda path: path.write_bytes(data)


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(values, color_type, *, bits=8, size=None, chunks=()):
    """Writes a PNG by hand (ISO 15948), because Pillow can't write 16-bit colors."""

    def chunk(name, body):
        checksum = zlib.crc32(name + body)
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", checksum)

    height, width = values.shape[:2] if size is None else size[::-1]
    rows = b"".join(b"\0" + row.astype(">u2" if bits == 16 else "u1").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def oriented(orientation):
    """Writes a rotated or mirrored image that shows FOUR according to its EXIF orientation."""
    stored = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,  # the inverse of a rotation to the right
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(four_colors().transpose(stored), exif=exif, quality=100, subsampling=0)


def cmyk_profile():
    """Writes a color profile (ICC.1:2001-04) in which cyan prints green.

    It is an 8-bit table from the 16 mixtures of four inks to Lab.
    """
    lab = bytearray()
    for mixture in range(16):
        # The first ink changes slowest, the last one fastest.
        cyan, black = mixture & 8, mixture & 1
        lightness, a, b = (0, 0, 0) if black else (60, -60, 50) if cyan else (100, 0, 0)
        lab += bytes((round(lightness * 2.55), a + 128, b + 128))
    ramp = bytes(range(256))
    unit = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    table = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + unit + ramp * 4 + bytes(lab) + ramp * 3
    table += bytes(-len(table) % 4)
    header = struct.pack(
        ">I4sI4s4s4s12s4s4sI4s4sQI3i4s44s",
        *(128 + 4 + 12 + len(table), b"lcms", 0x02100000, b"prtr", b"CMYK", b"Lab ", bytes(12)),
        *(b"acsp", bytes(4), 0, bytes(4), bytes(4), 0, 0, 0xF6D6, 0x10000, 0xD32D, bytes(4)),
        bytes(44),
    )
    return header + struct.pack(">I4sII", 1, b"A2B0", 144, len(table)) + table


def animation(kind):
    def write(path):
        four_colors().save(
            path, kind, save_all=True, append_images=[four_colors(*FOUR[::-1])], **lossless
        )

    lossless = {"lossless": True} if kind == "WEBP" else {}
    return write


def _transparent():
    image = four_colors().convert("RGBA")
    image.putalpha(Image.fromarray(quarters([255], [0], [255], [128])[..., 0]))
    return image


def _palette(**options):
    image = Image.fromarray(quarters([0], [1], [2], [3])[..., 0], "L").convert("P")
    image.putpalette(np.array(FOUR, np.uint8).tobytes())
    image.info.update(options)
    return image


def _key():
    info = {"transparency": GREEN}
    return saved(four_colors(), **info)


def _lab(path):
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    ImageCms.profileToProfile(four_colors(), *profiles, outputMode="LAB").save(path)


def _cut(data, share):
    return data[: int(share * len(data))]


def _wrong_checksum():
    data = bytearray(encoded(four_colors(), "PNG"))
    data[data.index(b"IDAT") + 8] ^= 0xFF
    return bytes(data)


def _much_text():
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "x" * 80_000_000, zip=True)
    return encoded(four_colors(), "PNG", pnginfo=info)


_SPECKLED = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 300, 3), "uint8"))
GRAYS = [(value,) * 3 for value in (0, 64, 128, 255)]
_GRAY = Image.fromarray(quarters([0], [64], [128], [255])[..., 0])
_CMYK = quarters((0, 255, 255, 0), (255, 0, 0, 0), (0, 0, 0, 255), (0, 0, 0, 0))
_CMYK = Image.frombytes("CMYK", (WIDTH, HEIGHT), _CMYK.tobytes())
_INKS = (255, 0, 0), (0, 255, 255), BLACK, WHITE
_WIDE = quarters(*FOUR).astype(np.uint16) * 257
_ALPHA = np.dstack([_WIDE, quarters([255], [0], [255], [128]).astype(np.uint16) * 257])
# On white, nothing is left of the second color and half of the fourth.
_ON_WHITE = RED, WHITE, BLUE, (187, 187, 187)
_RATIOS = quarters([0], [64], [128], [255])[..., 0] / np.float32(255)
_HEIGHTS = quarters([0], [1], [2], [4])[..., 0].astype(np.float32) * 500 - 1000
_HOLED = np.where(_HEIGHTS == -500, np.float32("nan"), _HEIGHTS)

CASES = [
    Case("plain.jpg", "JPEG", saved(four_colors(), quality=100, subsampling=0), FOUR, within=3),
    Case(
        "progressive.jpg",
        "progressive JPEG",
        saved(four_colors(), progressive=True),
        FOUR,
        within=6,
    ),
    *(
        Case(f"exif_{n}.{suffix}", f"EXIF orientation {n}", oriented(n), FOUR, within=3)
        for suffix in ("jpg", "tif")
        for n in range(2, 9)
    ),
    Case(
        "broken_exif.jpg",
        "invalid EXIF",
        saved(
            four_colors(), exif=b"Exif\0\0II*\0\xff\xff\xff\xffrubbish", quality=100, subsampling=0
        ),
        FOUR,
        within=3,
    ),
    Case("rgb_16.png", "PNG, 16 bits per channel", content(png(_WIDE, 2, bits=16)), FOUR, within=1),
    Case(
        "rgba_16.png", "16 bits, with alpha", content(png(_ALPHA, 6, bits=16)), _ON_WHITE, within=1
    ),
    Case(
        "gray_16.png",
        "gray PNG, 16 bits",
        content(png(np.asarray(_GRAY).astype(np.uint16) * 257, 0, bits=16)),
        GRAYS,
    ),
    Case(
        "gray_16.tif",
        "gray TIFF, 16 bits",
        saved(Image.fromarray(np.asarray(_GRAY).astype(np.uint16) * 257)),
        GRAYS,
    ),
    Case("ratios.tif", "float TIFF, 0 to 1", saved(Image.fromarray(_RATIOS)), GRAYS),
    Case(
        "heights.tif",
        "float TIFF, -1000 to 1000, NaN",
        saved(Image.fromarray(_HOLED)),
        [BLACK, BLACK, (128,) * 3, WHITE],
    ),
    Case(
        "counts.tif",
        "TIFF of 32-bit integers, 0 to 255",
        saved(Image.fromarray(np.asarray(_GRAY).astype(np.int32))),
        GRAYS,
    ),
    Case("cmyk.jpg", "CMYK, no profile", saved(_CMYK, quality=100), _INKS, within=4),
    Case("cmyk.tif", "CMYK TIFF", saved(_CMYK), _INKS),
    Case(
        "cmyk_profile.jpg",
        "CMYK, profile that maps cyan to a green",
        saved(_CMYK, quality=100, icc_profile=cmyk_profile()),
        [WHITE, (0, 169, 42), BLACK, WHITE],
        within=4,
    ),
    Case(
        "cmyk_broken_profile.jpg",
        "CMYK, invalid profile",
        saved(_CMYK, quality=100, icc_profile=b"rubbish" * 30),
        _INKS,
        within=4,
    ),
    Case("lab.tif", "Lab TIFF", _lab, FOUR, within=3),
    Case("palette.png", "palette", saved(_palette()), FOUR),
    Case(
        "palette_clear.png",
        "palette, one entry transparent",
        saved(_palette(), transparency=1),
        [RED, WHITE, BLUE, GRAY],
    ),
    Case("gray.png", "gray", saved(_GRAY), GRAYS),
    Case(
        "gray_alpha.png",
        "gray with alpha",
        saved(_transparent().convert("LA")),
        [(83,) * 3, WHITE, (56,) * 3, (187,) * 3],
        within=2,
    ),
    Case("rgba.png", "with alpha", saved(_transparent()), _ON_WHITE, within=1),
    Case("key.png", "one color means transparent", _key(), [RED, WHITE, BLUE, GRAY]),
    Case(
        "one_bit.png",
        "1 bit",
        saved(_GRAY.point(lambda value: 255 * (value > 100)).convert("1")),
        [BLACK, BLACK, WHITE, WHITE],
    ),
    Case("animated.gif", "animated GIF", animation("GIF"), FOUR),
    Case("animated.webp", "animated WebP", animation("WEBP"), FOUR),
    Case("animated.png", "animated PNG", animation("PNG"), FOUR),
    Case("pages.tif", "TIFF of two pages", animation("TIFF"), FOUR),
    Case("plain.bmp", "BMP", saved(four_colors()), FOUR),
    Case("plain.jp2", "JPEG 2000", saved(four_colors(), irreversible=False), FOUR),
    Case("one_pixel.png", "one pixel", saved(Image.new("RGB", (1, 1), RED)), [RED] * 4, (1, 1)),
    Case("png.jpg", "PNG named .jpg", content(encoded(four_colors(), "PNG")), FOUR),
    Case("no_suffix", "PNG without a suffix", content(encoded(four_colors(), "PNG")), FOUR),
    Case("picture.txt", "PNG named .txt", content(encoded(four_colors(), "PNG")), FOUR),
    Case(
        "trailing.png",
        "PNG with trailing garbage",
        content(encoded(four_colors(), "PNG") + b"rubbish" * 99),
        FOUR,
    ),
    Case(
        "large.png",
        "100 megapixels in a small file",
        content(png(np.zeros((1, 1)), 0, size=(10_000, 10_000))),
        refused="has 10000x10000 pixels, more than max_pixels=89,478,485",
    ),
    Case(
        "bomb.png",
        "3.6 gigapixels in 70 bytes",
        content(png(np.zeros((1, 1)), 0, size=(60_000, 60_000))),
        refused="has more than 178,956,970 pixels, more than Pillow opens",
    ),
    Case("text_bomb.png", "80 MB of text inside", content(_much_text()), refused="is broken"),
    Case(
        "truncated.jpg",
        "half a JPEG",
        content(_cut(encoded(_SPECKLED, "JPEG"), 0.5)),
        refused="is broken (image file is truncated",
    ),
    Case(
        "truncated.png",
        "half a PNG",
        content(_cut(encoded(_SPECKLED, "PNG"), 0.5)),
        refused="is broken (",
    ),
    Case("checksum.png", "PNG, wrong checksum", content(_wrong_checksum()), refused="is broken ("),
    Case("empty.jpg", "empty", content(b""), refused="is empty; copy or download it again."),
    Case(
        "text.jpg",
        "text named .jpg",
        content(b"Not a picture, only these words.\nAnd more."),
        refused="is a text or document instead of an image (it begins with 'Not a picture,",
    ),
    Case(
        "page.jpg",
        "a web page named .jpg",
        content(b"<!DOCTYPE html><title>404</title>"),
        refused="is a web page or an SVG drawing",
    ),
    Case(
        "drawing.svg",
        "SVG",
        content(b'<svg xmlns="http://www.w3.org/2000/svg"/>'),
        refused="is a web page or an SVG drawing",
    ),
    Case(
        "paper.pdf", "PDF", content(b"%PDF-1.7\n%\xe2\xe3\n"), refused="(it begins with '%PDF-1.7'"
    ),
    Case(
        "program.eps",
        "EPS (a program)",
        content(encoded(four_colors(), "EPS")),
        refused="is a text or document",
    ),
    Case(
        "telephone.heic",
        "HEIC",
        content(struct.pack(">I", 24) + b"ftypheic" + bytes(12)),
        refused="is a HEIC image, which Pillow can't read",
    ),
    Case(
        "noise.jpg",
        "random bytes",
        content(np.random.default_rng(0).bytes(500)),
        refused="isn't an image that can be read (it begins with the bytes ",
    ),
    Case(
        "no_width.png",
        "0 pixels wide",
        content(png(np.zeros((4, 0)), 2, size=(0, 4))),
        refused="is broken, or of a kind that Pillow can't read",
    ),
    Case("folder.jpg", "a folder", lambda path: path.mkdir(), refused="is a folder"),
    Case("missing.jpg", "missing file", lambda path: None, refused="there is no such file"),
]


def written(case, folder):
    """Writes a case's file into the folder and returns its path."""
    path = Path(folder) / case.file
    case.write(path)
    return path
