import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from support import datasets

from keras_psp.data.label_files import by_stem, read_mask, read_mat

HEIGHT, WIDTH = 4, 6


def write_gray_png(path, *, bits, values):
    """A grayscale PNG of 1, 2, 4, 8 or 16 bits, written by hand from the standard."""
    rows = b""
    for row in values:
        text = "".join(f"{value:0{bits}b}" for value in row)
        text += "0" * (-len(text) % 8)
        rows += b"\0" + int(text, 2).to_bytes(len(text) // 8, "big")

    def chunk(kind, data):
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", len(values[0]), len(values), bits, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def test_palette_labels_are_read_as_indices(tmp_path):
    label = Image.new("P", (2, 1))
    label.putpalette([0, 0, 0, 255, 255, 255, 128, 0, 0, 7, 7, 7])
    label.putdata([3, 2])
    label.save(tmp_path / "label.png")
    assert read_mask(tmp_path / "label.png").tolist() == [[3, 2]]


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_gray_labels_of_any_depth_are_read_as_numbers(tmp_path, bits):
    values = [[0, 1, 1], [1, 0, min(2**bits - 1, 255)]]
    write_gray_png(tmp_path / "label.png", bits=bits, values=values)
    mask = read_mask(tmp_path / "label.png")
    assert mask.tolist() == values
    assert mask.dtype == np.uint8


def test_16_bit_label_beyond_8_bits_is_refused(divided):
    path = divided / "train" / "labels" / "train0.png"
    write_gray_png(path, bits=16, values=[[0, 300]])
    assert datasets.fault(divided).startswith(f"{path}: label value 300 doesn't fit 8 bits")


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
def test_lossy_labels_are_refused_under_any_name(divided, format):
    path = divided / "train" / "labels" / "train0.png"
    Image.fromarray(np.zeros((48, 64), np.uint8)).save(path, format)
    message = datasets.fault(divided)
    assert message.startswith(f"{path}: label is a {format} file, whose compression changes")
    assert "export the labels as PNG" in message


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_labels_with_an_orientation_are_refused(divided, format):
    path = divided / "train" / "labels" / "train0.png"
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(np.zeros((48, 64), np.uint8)).save(path, format, exif=exif)
    assert datasets.fault(divided).startswith(f"{path}: label has an EXIF orientation; save it")


def test_programs_are_not_run_to_read_a_label(divided):
    path = divided / "train" / "labels" / "train0.png"
    Image.fromarray(np.zeros((48, 64), np.uint8)).save(path, "EPS")
    assert "cannot identify image file" in datasets.fault(divided)


def test_matlab_matrices_are_read_through_structs(tmp_path):
    savemat = pytest.importorskip("scipy.io", reason="needs SciPy").savemat
    values = np.array([[0, 1, 2], [3, 20, 255]], np.uint8)
    savemat(tmp_path / "a.mat", {"S": values.astype(float)})
    savemat(tmp_path / "b.mat", {"GTcls": {"Segmentation": values, "Boundaries": 1}})
    np.testing.assert_array_equal(read_mat(tmp_path / "a.mat", "S"), values)
    np.testing.assert_array_equal(read_mat(tmp_path / "b.mat", "GTcls", "Segmentation"), values)
    savemat(tmp_path / "row.mat", {"S": values[:1]})
    assert read_mat(tmp_path / "row.mat", "S").shape == (1, 3)


@pytest.mark.parametrize("values", [[[0.5, 1]], [[256, 1]], [[-1, 1]]])
def test_matrices_with_other_numbers_are_refused(tmp_path, values):
    savemat = pytest.importorskip("scipy.io", reason="needs SciPy").savemat
    savemat(tmp_path / "a.mat", {"S": np.array(values)})
    with pytest.raises(ValueError, match=r"a.mat: S isn't a matrix of whole numbers from 0 to 255"):
        read_mat(tmp_path / "a.mat", "S")


def test_damaged_mat_files_are_named(tmp_path):
    savemat = pytest.importorskip("scipy.io", reason="needs SciPy").savemat
    (tmp_path / "a.mat").write_bytes(b"<html>")
    savemat(tmp_path / "b.mat", {"T": np.zeros((2, 2))})
    for name in ("a.mat", "b.mat"):
        with pytest.raises(ValueError, match=rf"{name}: can't be read"):
            read_mat(tmp_path / name, "S")


def test_error_without_scipy_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scipy.io", None)
    with pytest.raises(ImportError, match=r'a.mat: .* pip install "keras-psp\[mat\]"'):
        read_mat(tmp_path / "a.mat", "S")


def test_names_that_differ_only_in_the_suffix_are_refused(tmp_path):
    for suffix in (".jpg", ".png"):
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / f"a{suffix}")
    with pytest.raises(ValueError, match=r"a\.jpg has the same name but for the suffix"):
        by_stem(tmp_path, (".jpg", ".png"))
