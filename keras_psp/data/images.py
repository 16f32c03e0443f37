"""Photographs as people have them: any format, depth and orientation, from disk or the net."""

import http.client
import io
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms

READABLE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".dib", ".gif", ".webp"),
    *(".tif", ".tiff", ".jp2", ".ppm", ".pgm", ".pnm", ".avif", ".heic", ".heif"),
)
"""Names that are taken for photographs in folders; what a file is, its content tells."""

MAX_PIXELS = 89_478_485
"""A quarter of a gibibyte as RGB, from which Pillow too warns of decompression bombs."""

MAX_BYTES, TIMEOUT = 100_000_000, 30.0  # of what is fetched; seconds, between two answers
_PATIENCE = 10 * TIMEOUT

# Pillow's other readers are for exotic or vector formats; its EPS runs a program.
# HEIF comes with pillow-heif, where its opener is registered.
_FORMATS = (
    *("AVIF", "BMP", "DIB", "GIF", "HEIF", "ICO", "JPEG", "JPEG2000", "MPO", "PNG", "PPM"),
    *("TIFF", "WEBP"),
)
# EXIF 2.3, tag 0x0112: how the stored picture becomes upright.
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*")
_WHITE = (255, 255, 255, 255)


def read_input_image(source: Any, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """A photograph as the eye is meant to see it.

    Rotated as its EXIF says. Transparent pixels are laid on white. Of animations, and of
    files of several pages, the first. CMYK and Lab go to sRGB by the file's colour profile,
    without one by Pillow's formula; RGB stays as stored, as in training. 16 bits a channel
    become 8 by range (65535 is 255). Of floats and 32-bit integers, 0 to 1 (floats) and 0 to
    255 are taken for the full range; other values go from the least, black, to the greatest,
    white; NaN is black. The content tells the format, whatever the name.

    Args:
        source: a path; an address (http, https), of which 100 MB at most are fetched; the
            bytes of a file; a PIL image; or an array, (height, width), (height, width, 1),
            3 or 4 channels, uint8, uint16, bool or float, ranges as above.
        max_pixels: the most that are read; by default 89,478,485, as Pillow has it. From
            twice `PIL.Image.MAX_IMAGE_PIXELS` on, that must be raised too.

    Returns:
        (height, width, 3) uint8, RGB.

    Raises:
        FileNotFoundError: there is no such file.
        ConnectionError: an address doesn't answer, or with something else.
        ValueError: what is there is broken, too large, or no photograph.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels)
    if isinstance(source, Image.Image):
        return _decoded(source, "the PIL image", max_pixels)
    name = source_name(source)
    if isinstance(source, bytes | bytearray | memoryview):
        content: Any = bytes(source)
    elif is_url(source):
        content = download(str(source))
    elif isinstance(source, str | os.PathLike):
        content = None
    else:
        raise TypeError(
            f"{name} is no photograph; give a path, an address, bytes, a PIL image or an array."
        )
    if content is not None:
        return _from_file(io.BytesIO(content), name, max_pixels)
    path = Path(source)
    try:
        if path.is_dir():
            raise ValueError(f"{name}: is a folder; give a file, or the folder to `predict`.")
        with path.open("rb") as file:
            return _from_file(file, name, max_pixels)
    except FileNotFoundError:
        raise FileNotFoundError(f"{name}: there is no such file.") from None
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"{name}: can't be read ({reason}); check the disk and rights.") from error


def is_url(source: Any) -> bool:
    """Whether it's an http or https address."""
    return isinstance(source, str) and source.lower().startswith(("http://", "https://"))


def source_name(source: Any) -> str:
    """What messages and tables call a photograph."""
    if isinstance(source, bytes | bytearray | memoryview):
        return f"{len(source)} bytes"
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return f"an object of type {type(source).__name__}"


def download(url: str, *, max_bytes: int = MAX_BYTES, timeout: float = TIMEOUT) -> bytes:
    """What an http or https address answers with.

    Args:
        url: the address; spaces and letters beyond ASCII are encoded.
        max_bytes: the most that is fetched.
        timeout: seconds until a server that is silent is given up.

    Raises:
        ConnectionError: one sentence with the address.
        ValueError: it is larger than max_bytes.
    """
    encoded = urllib.parse.quote(url, safe="%/:=&?~#+!$,;'@()*[]")
    request = urllib.request.Request(encoded, headers={"User-Agent": "keras_psp"})
    end = time.monotonic() + _PATIENCE
    found = bytearray()
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            while chunk := answer.read1(1 << 16):
                found += chunk
                if len(found) > max_bytes:
                    raise ValueError(
                        f"{url}: is larger than {max_bytes / 1e6:.0f} MB; download it and give "
                        "the file."
                    )
                if time.monotonic() > end:
                    raise TimeoutError(f"not done after {_PATIENCE:.0f} s")
            lacking = answer.length  # of the length that the server announced
            if lacking:
                raise ConnectionError(f"broke off, {lacking} bytes are missing")
    except urllib.error.HTTPError as error:
        reason = f"HTTP {error.code} {error.reason}"
    except urllib.error.URLError as error:
        reason = str(getattr(error.reason, "strerror", None) or error.reason)
    except (OSError, http.client.HTTPException) as error:
        reason = str(error) or type(error).__name__
    else:
        return bytes(found)
    raise ConnectionError(
        f"{url}: can't be fetched ({reason}); check the address and the network, or download "
        "it and give the file."
    )


def error_reason(path: Any, error: Exception) -> str:
    """What went wrong, in Pillow's words, without the path that it repeats in some."""
    return str(error).replace(repr(str(path)), "file") or type(error).__name__


def _from_file(file, name, max_pixels):
    beginning = file.read(32)
    if not beginning:
        raise ValueError(f"{name}: is empty; copy or download it again.")
    try:
        Image.init()
        image = Image.open(file, formats=[known for known in _FORMATS if known in Image.OPEN])
    except Image.DecompressionBombError:
        allowed = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise ValueError(
            f"{name}: has more than {allowed:,} pixels, more than Pillow opens; make it smaller, "
            "or raise both max_pixels and PIL.Image.MAX_IMAGE_PIXELS if it can be trusted."
        ) from None
    except Exception as error:  # Pillow raises a dozen types on broken files
        raise ValueError(f"{name}: {_unknown(beginning, error)}") from error
    with image:
        return _decoded(image, name, max_pixels)


def _unknown(beginning, error):
    """Why nothing could open it, from its first bytes."""
    text = beginning.lstrip(b"\xef\xbb\xbf \r\n\t")
    if text.startswith(b"<"):
        return "is a web page or SVG drawing, no photograph; save the picture itself."
    if beginning[4:8] == b"ftyp" and beginning[8:11] in (b"hei", b"hev", b"mif", b"msf"):
        return (
            "is a HEIC picture, which Pillow can't read; save it as JPEG, or call "
            "pillow_heif.register_heif_opener() of the package pillow-heif before."
        )
    shown = beginning.split(b"\n")[0].strip().decode("ascii", "replace")
    if beginning.startswith((b"%PDF", b"%!")) or (shown.isprintable() and shown.isascii()):
        return f"is text or a document, no photograph (it begins with {shown!r})."
    if beginning.startswith(_MAGIC) and isinstance(error, Image.UnidentifiedImageError):
        return "is broken, or of a kind that Pillow can't read; save it anew as JPEG or PNG."
    if not isinstance(error, Image.UnidentifiedImageError):
        reason = error_reason("", error)
        return f"is broken ({reason}); copy or download it again."
    return (
        f"is no photograph that can be read (it begins with the bytes {beginning[:8].hex(' ')}); "
        "save it as JPEG or PNG."
    )


def _decoded(image, name, max_pixels):
    _check_size(name, image.width, image.height, max_pixels)
    try:
        image.load()
        upright = _UPRIGHT.get(_orientation(image))
        image = _rgb(image)
        if upright is not None:
            image = image.transpose(upright)
        return np.array(image)
    except Exception as error:  # Pillow raises a dozen types on broken files
        reason = error_reason(name, error)
        raise ValueError(f"{name}: is broken ({reason}); copy or download it again.") from error


def _check_size(name, width, height, max_pixels):
    if width * height > max_pixels:
        raise ValueError(
            f"{name}: has {width}x{height} pixels, more than max_pixels={max_pixels:,}; make it "
            "smaller, or raise max_pixels if it can be trusted."
        )
    if width < 1 or height < 1:
        raise ValueError(f"{name}: has no pixels ({width}x{height}); copy or download it again.")


def _orientation(image):
    try:
        return image.getexif().get(_ORIENTATION)
    except Exception:  # a picture is worth more than its broken EXIF
        return None


def _rgb(image):
    """Any of Pillow's modes as RGB."""
    if image.mode.startswith("I;16"):
        return _grey(_to_8_bits(np.asarray(image).astype(np.uint16)))
    if image.mode in ("I", "F"):
        return _grey(_to_8_bits(np.asarray(image)))
    if image.mode in ("CMYK", "LAB"):
        return _by_profile(image)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        if image.mode == "La":
            image = image.convert("LA")
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, _WHITE)
        image = Image.alpha_composite(paper, image)
    return image.convert("RGB")


def _grey(values):
    return Image.fromarray(values).convert("RGB")


# Black point compensation: ink's black is no grey. Pillow names it from 10.3 on (ImageCms.Flags).
_BLACK_POINT = 0x2000


def _by_profile(image):
    """CMYK or Lab to sRGB."""
    profile = image.info.get("icc_profile")
    srgb = ImageCms.createProfile("sRGB")
    if image.mode == "LAB":
        own = ImageCms.createProfile("LAB")
        return ImageCms.profileToProfile(image, own, srgb, outputMode="RGB")
    if profile:
        try:
            return ImageCms.profileToProfile(
                image,
                ImageCms.ImageCmsProfile(io.BytesIO(profile)),
                srgb,
                renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
                outputMode="RGB",
                flags=_BLACK_POINT,
            )
        except (ImageCms.PyCMSError, OSError):  # a broken profile, or another device's
            pass
    return image.convert("RGB")


def _to_8_bits(values):
    """Grey or colour values of any type and range as uint8; see `read_input_image`."""
    if values.dtype == np.uint8:
        return values
    if values.dtype == bool:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype == np.uint16:
        # Rounded to the nearest, in integers.
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise ValueError("no value is a finite number")
    least, greatest = float(finite.min()), float(finite.max())
    floats = np.nan_to_num(values.astype(np.float64), nan=least, posinf=greatest, neginf=least)
    if least >= 0 and greatest <= 255:
        scaled = floats * (255 if values.dtype.kind == "f" and greatest <= 1 else 1)
    else:
        scaled = (floats - least) * (255 / max(greatest - least, np.finfo(float).tiny))
    scaled[np.isnan(values)] = 0
    return np.rint(scaled).astype(np.uint8)


def _from_array(array, max_pixels):
    name = "the array"
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise ValueError(
            f"the array has shape {array.shape}; it must be (height, width), or (height, width, "
            "channels) with 1, 3 or 4 channels."
        )
    if array.dtype.kind not in "buif":
        raise ValueError(f"the array has dtype {array.dtype}; it must be numbers, best uint8.")
    _check_size(name, array.shape[1], array.shape[0], max_pixels)
    try:
        values = np.ascontiguousarray(_to_8_bits(array))
    except ValueError as error:
        raise ValueError(f"the array can't be shown: {error}.") from None
    image = Image.fromarray(values[..., 0] if channels == 1 and array.ndim == 3 else values)
    return np.array(_rgb(image))
