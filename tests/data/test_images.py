import contextlib
import http.server
import io
import threading
import time

import numpy as np
import pytest
from PIL import Image
from support import odd_images

from keras_psp.data import images
from keras_psp.data.images import download, read_input_image

FOUR = odd_images.FOUR


@pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize("case", odd_images.CASES, ids=lambda case: case.file)
def test_odd_files(case, tmp_path):
    path = odd_images.written(case, tmp_path)
    if not case.refused:
        image = read_input_image(path)
        assert image.flags.writeable
        assert odd_images.as_expected(case, image), odd_images.quarter_colors(image)
        return
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        read_input_image(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and case.refused in message
    assert message.endswith(".") and "\n" not in message


def test_there_are_thirty_cases_with_different_names():
    names = [case.file for case in odd_images.CASES]
    assert len(names) == len(set(names)) >= 30


def test_bytes_and_pil_images_are_read_like_files():
    data = odd_images.encoded(odd_images.four_colors(), "PNG")
    assert odd_images.quarter_colors(read_input_image(data)) == list(FOUR)
    assert odd_images.quarter_colors(read_input_image(odd_images.four_colors())) == list(FOUR)
    with pytest.raises(ValueError, match=r"4 bytes: isn't an image .* bytes ff 00 ff 00"):
        read_input_image(b"\xff\0\xff\0")
    with pytest.raises(ValueError, match="the PIL image: has no pixels"):
        read_input_image(Image.new("RGB", (0, 5)))


@pytest.mark.parametrize(
    ("array", "corner"),
    [
        (np.full((2, 3), 7, np.uint8), 7),
        (np.full((2, 3, 1), 7, np.uint8), 7),
        (np.full((2, 3, 3), 257 * 9, np.uint16), 9),
        (np.full((2, 3, 3), 0.2, np.float32), 51),
        (np.full((2, 3, 3), 99.6), 100),
        (np.full((2, 3, 3), 99), 99),
        (np.ones((2, 3), bool), 255),
        # Half transparent black is on white 127 or 128.
        (np.full((2, 3, 4), (0, 0, 0, 127), np.uint8), 128),
    ],
)
def test_arrays_of_all_kinds(array, corner):
    image = read_input_image(array)
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
        read_input_image(array)


def test_other_objects_are_refused():
    with pytest.raises(TypeError, match="an object of type int isn't an image; give a path"):
        read_input_image(3)


def test_max_pixels_is_the_limit(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (20, 10)).save(path)
    assert read_input_image(path, max_pixels=200).shape == (10, 20, 3)
    with pytest.raises(ValueError, match=r"a.png: has 20x10 pixels, more than max_pixels=199"):
        read_input_image(path, max_pixels=199)
    with pytest.raises(ValueError, match="the array: has 20x10 pixels"):
        read_input_image(np.zeros((10, 20, 3)), max_pixels=199)


def test_an_unreadable_file_is_named(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"x")

    def fail(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", fail)
    with pytest.raises(ValueError, match=r"a.png: can't be read \(Permission denied\); check"):
        read_input_image(path)


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = odd_images.encoded(odd_images.four_colors(), "PNG")
        if self.path == "/missing.png":
            self.send_error(404)
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
    image = read_input_image(f"{server}/a photo, with ümlaut.png?size=1")
    assert odd_images.quarter_colors(image) == list(FOUR)


def test_failed_downloads_are_named(server):
    with pytest.raises(
        ConnectionError, match=r"missing.png: can't be downloaded \(HTTP 404 Not Found"
    ):
        read_input_image(f"{server}/missing.png")
    with pytest.raises(ConnectionError, match=r"half.png: .*99 bytes are missing|99 more expected"):
        read_input_image(f"{server}/half.png")
    with pytest.raises(ConnectionError, match=r"slow.png: can't be downloaded \(timed out\)"):
        download(f"{server}/slow.png", timeout=0.2)
    with pytest.raises(ValueError, match=r"a.png: is larger than 0 MB; download it"):
        download(f"{server}/a.png", max_bytes=9)
    server = "http://127.0.0.1:1"
    with pytest.raises(
        ConnectionError, match=r"1/a.png: can't be downloaded \(Connection refused\)"
    ):
        read_input_image(f"{server}/a.png")


def test_a_download_that_takes_too_long_is_aborted(server, monkeypatch):
    monkeypatch.setattr(images, "_LONGEST_DOWNLOAD", -1.0)
    with pytest.raises(ConnectionError, match=r"not done after -1 s"):
        download(f"{server}/a.png")


def test_a_training_image_is_read_as_stored(tmp_path):
    # Masks fit the stored image, which training doesn't rotate.
    from keras_psp.data.label_files import read_training_image

    path = tmp_path / "a.jpg"
    odd_images.oriented(6)(path)
    assert read_training_image(path).shape == (48, 32, 3)
    assert read_input_image(path).shape == (32, 48, 3)


def test_a_pil_image_is_not_changed(tmp_path):
    image = Image.open(io.BytesIO(odd_images.encoded(odd_images.four_colors(), "GIF")))
    read_input_image(image)
    assert image.mode == "P"
