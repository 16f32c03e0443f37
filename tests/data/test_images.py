import contextlib
import http.server
import io
import struct
import threading
import time
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms
from support import odd_images

from keras_psp.data import images
from keras_psp.data.images import download, image_size, read_image

FOUR = odd_images.FOUR


@pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize("case", odd_images.CASES, ids=lambda case: case.file)
def test_odd_files(case, tmp_path):
    path = odd_images.written(case, tmp_path)
    if not case.refused:
        image = read_image(path)
        assert image.flags.writeable
        assert odd_images.as_expected(case, image), odd_images.quarter_colors(image)
        return
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        read_image(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and case.refused in message
    assert message.endswith(".") and "\n" not in message


def test_there_are_thirty_cases_with_different_names():
    names = [case.file for case in odd_images.CASES]
    assert len(names) == len(set(names)) >= 30


def test_bytes_and_pil_images_are_read_like_files():
    data = odd_images.encoded(odd_images.four_colors(), "PNG")
    assert odd_images.quarter_colors(read_image(data)) == list(FOUR)
    assert odd_images.quarter_colors(read_image(odd_images.four_colors())) == list(FOUR)
    with pytest.raises(ValueError, match=r"4 bytes: isn't an image .* bytes ff 00 ff 00"):
        read_image(b"\xff\0\xff\0")
    with pytest.raises(ValueError, match="the PIL image: has no pixels"):
        read_image(Image.new("RGB", (0, 5)))


@pytest.mark.parametrize(
    ("array", "corner"),
    [
        (np.full((2, 3), 7, np.uint8), 7),
        (np.full((2, 3, 1), 7, np.uint8), 7),
        (np.full((2, 3, 3), 257 * 19, np.uint16), 19),
        (np.full((2, 3, 3), 0.2, np.float32), 51),
        (np.full((2, 3, 3), 99.6), 100),
        (np.full((2, 3, 3), 99), 99),
        (np.ones((2, 3), bool), 255),
        # Half transparent black is on white 127 or 128.
        (np.full((2, 3, 4), (0, 0, 0, 127), np.uint8), 128),
    ],
)
def test_arrays_of_all_kinds(array, corner):
    image = read_image(array)
    assert image.shape == (2, 3, 3) and image.dtype == np.uint8
    assert image[0, 0].tolist() == [corner] * 3


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 3, 2)), r"shape \(2, 3, 2\); it must be \(height, width\)"),
        (np.zeros(4), r"shape \(4,\)"),
        (np.zeros((0, 3, 3)), "the array: has no pixels"),
        (np.full((2, 3), "a"), "dtype <U1; it must hold numbers"),
        (np.full((2, 3), np.nan), "can't be scaled to 8 bits: no value is a finite number"),
    ],
)
def test_wrong_arrays_are_named(array, message):
    with pytest.raises(ValueError, match=message):
        read_image(array)


def test_other_objects_are_refused():
    with pytest.raises(TypeError, match="an object of type int isn't an image; give a path"):
        read_image(3)


def test_max_pixels_is_the_limit(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (20, 10)).save(path)
    assert read_image(path, max_pixels=200).shape == (10, 20, 3)
    with pytest.raises(ValueError, match=r"a.png: has 20x10 pixels, more than max_pixels=199"):
        read_image(path, max_pixels=199)
    with pytest.raises(ValueError, match="the array: has 20x10 pixels"):
        read_image(np.zeros((10, 20, 3)), max_pixels=199)


def test_an_unreadable_file_is_named(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"x")

    def fail(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(images, "open", fail, raising=False)
    with pytest.raises(ValueError, match=r"a.png: can't be read \(Permission denied\); check"):
        read_image(path)


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = odd_images.encoded(odd_images.four_colors(), "PNG")
        if self.path == "/missing.png":
            self.send_error(404)
            return
        if self.path in ("/moved.png", "/loop.png"):
            self.send_response(302)
            there = "ftp://127.0.0.1/a.png" if self.path == "/moved.png" else self.path
            self.send_header("Location", there)
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", len(body) + 99 * (self.path == "/half.png"))
        self.end_headers()
        if self.path == "/slow.png":
            time.sleep(1)
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_url_is_downloaded(server):
    image = read_image(f"{server}/a photo, with ümlaut.png?size=1")
    assert odd_images.quarter_colors(image) == list(FOUR)


def test_failed_downloads_are_named(server):
    with pytest.raises(
        ConnectionError, match=r"missing.png: can't be downloaded \(HTTP 404 Not Found"
    ):
        read_image(f"{server}/missing.png")
    with pytest.raises(ConnectionError, match=r"moved.png: .*\(it redirects to ftp://127.0.0.1/a"):
        read_image(f"{server}/moved.png")
    with pytest.raises(ConnectionError, match=r"loop.png: [^\n]*infinite loop[^\n]*the file\.$"):
        read_image(f"{server}/loop.png")
    with pytest.raises(ConnectionError, match=r"half.png: .*99 bytes are missing|99 more expected"):
        read_image(f"{server}/half.png")
    with pytest.raises(ConnectionError, match=r"slow.png: can't be downloaded \(timed out\)"):
        download(f"{server}/slow.png", timeout=0.2)
    with pytest.raises(ValueError, match=r"a.png: is larger than 0 MB; download it"):
        download(f"{server}/a.png", max_bytes=9)
    server = "http://127.0.0.1:1"
    with pytest.raises(
        ConnectionError, match=r"1/a.png: can't be downloaded \(Connection refused\)"
    ):
        read_image(f"{server}/a.png")


def test_a_download_that_takes_too_long_is_aborted(server, monkeypatch):
    monkeypatch.setattr(images, "_LONGEST_DOWNLOAD", -1.0)
    with pytest.raises(ConnectionError, match=r"not done after -1 s"):
        download(f"{server}/a.png")


def write_deep_png(path, values, colors):
    """A 16-bit PNG, gray (colors=0) or RGB (2), of 2x1 pixels."""

    def chunk(kind, data):
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", 2, 1, 16, colors, 0, 0, 0)
    samples = [value for value in values for _ in range(3 if colors else 1)]
    pixels = zlib.compress(b"\0" + struct.pack(f">{len(samples)}H", *samples))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("colors", [0, 2])
def test_16_bits_become_8_unless_only_the_lowest_are_used(tmp_path, colors):
    path, deviations = tmp_path / "deep.png", []
    write_deep_png(path, [0, 65535], colors)
    assert read_image(path, deviations=deviations)[0].tolist() == [[0] * 3, [255] * 3]
    assert deviations == ["16 bits"]
    write_deep_png(path, [0, 4000], colors)  # of a camera with 12 bits
    with pytest.raises(ValueError, match=r"deep.png: has 16 bits .* value above 4\d{3}, .*4095"):
        read_image(path)


def orientation(number):
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


NIGHT = Image.new("L", (2, 2), 9)
NEAR_INFRARED = Image.new("RGBA", (2, 2), (9, 9, 9, 80))


@pytest.mark.parametrize(
    "image,suffix,options,expected",
    [
        (Image.new("RGB", (2, 2)), "png", {}, []),
        (Image.new("RGBA", (2, 2), (9, 9, 9, 255)), "png", {}, []),
        (NEAR_INFRARED, "tif", {}, ["transparency"]),
        (Image.new("P", (2, 2)), "png", {"transparency": 0}, ["transparency"]),
        (Image.new("CMYK", (2, 2)), "jpg", {}, ["colors"]),
        (Image.new("RGB", (2, 2)), "jpg", {"exif": orientation(6)}, ["orientation"]),
        (Image.new("RGB", (2, 2)), "tif", {"exif": orientation(6)}, ["orientation"]),
        (Image.new("RGB", (2, 2)), "jpg", {"exif": orientation(1)}, []),
        (Image.new("L", (2, 2)), "gif", {"save_all": True, "append_images": [NIGHT]}, ["frames"]),
        (Image.fromarray(np.float32([[-1, 300]])), "tif", {}, ["range"]),
        (Image.fromarray(np.float32([[np.nan, 200]])), "tif", {}, ["not finite"]),
        (Image.fromarray(np.float32([[-np.inf, 300, 1]])), "tif", {}, ["not finite", "range"]),
    ],
)  # fmt: skip
def test_what_is_unusual_is_reported(tmp_path, image, suffix, options, expected):
    path, deviations = tmp_path / f"image.{suffix}", []
    image.save(path, **options)
    read_image(path, deviations=deviations)
    assert deviations == expected
    assert all(key in images.DEVIATIONS for key in deviations)


def test_a_color_profile_other_than_srgb_is_reported(tmp_path):
    path, deviations = tmp_path / "image.png", []
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("RGB", (2, 2)).save(path, icc_profile=srgb)
    read_image(path, deviations=deviations)
    assert not deviations
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    Image.new("RGB", (2, 2)).save(path, icc_profile=lab)
    read_image(path, deviations=deviations)
    assert deviations == ["profile"]


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
@pytest.mark.parametrize("number", [2, 3, 6, 8])
def test_the_size_is_that_of_the_upright_image(tmp_path, number, suffix):
    path = tmp_path / f"a.{suffix}"
    odd_images.oriented(number)(path)
    assert image_size(path) == read_image(path).shape[:2]


def test_a_pil_image_is_not_changed(tmp_path):
    image = Image.open(io.BytesIO(odd_images.encoded(odd_images.four_colors(), "GIF")))
    read_image(image)
    assert image.mode == "P"
