"""Readers of input images: any format, depth and orientation, from disk or the network."""

import contextlib
import functools
import http.client
import io
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from keras_psp.files import printable

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".dib", ".gif", ".webp"),
    *(".tif", ".tiff", ".jp2", ".ppm", ".pgm", ".pnm", ".avif", ".heic", ".heif"),
)
"""Suffixes by which images are found in folders; their format is recognized by the content."""

DEVIATIONS = {
    "orientation": "have an EXIF orientation and are turned upright; their labels must be "
    "upright too",
    "transparency": "have transparent pixels, which are blended with white; save three bands if "
    "the fourth isn't transparency",
    "extra band": "have a fourth band, which is dropped",
    "16 bits": "have 16 bits per channel, which are reduced to 8",
    "range": "hold values outside 0 to 255, which are scaled in each image to span this range",
    "not finite": "hold NaN, which becomes black, or infinity, which becomes the nearest number",
    "colors": "aren't RGB but CMYK or Lab, which are converted",
    "profile": "have a color profile other than sRGB, which is ignored",
    "frames": "have several frames or pages, of which the first is read",
}
"""How images can differ from plain 8-bit RGB, and what `read_image` does with them."""

MAX_PIXELS = 89_478_485
"""A quarter of a gibibyte as RGB; above it, Pillow warns of decompression bombs, too."""

MAX_BYTES, TIMEOUT = 100_000_000, 30.0  # of a download; seconds between two packets
_LONGEST_DOWNLOAD = 10 * TIMEOUT

# Pillow's other readers are for exotic or vector formats; its EPS reader runs a program.
# HEIF is available if pillow-heif's opener is registered.
_FORMATS = (
    *("AVIF", "BMP", "DIB", "GIF", "HEIF", "ICO", "JPEG", "JPEG2000", "MPO", "PNG", "PPM"),
    *("TIFF", "WEBP"),
)
# Tags of EXIF 2.3 and TIFF 6.0.
_ORIENTATION = 0x0112
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns the stored image upright, by EXIF orientation."""

_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*")
# Black point compensation, so that ink's black is not gray. Pillow names it from 10.3 on
# (ImageCms.Flags).
_BLACK_POINT = 0x2000


def read_image(
    source: Any,
    *,
    max_pixels: int = MAX_PIXELS,
    name: str | None = None,
    deviations: list[str] | None = None,
) -> np.ndarray:
    """Reads an image as a viewer shows it, as (height, width, 3) uint8 RGB.

    Training, evaluation, prediction and Beam jobs all read RGB images with this function:

    - The format is recognized by the content; the first frame or page is read.
    - The image is rotated according to its EXIF orientation, and transparent pixels are blended
      with white.
    - CMYK and Lab are converted to sRGB, if possible by the file's color profile. RGB is kept
      as stored.
    - 16 bits per channel are scaled to 8 (65535 becomes 255). A 16-bit image that only uses the
      lowest twelve bits is refused, because it would become almost black.
    - Floats from 0 to 1, and other numbers from 0 to 255, are taken to span the full range.
      Otherwise the smallest value becomes black and the largest white; NaN is black.

    Args:
        source: a path; an http or https address, from which at most 100 MB are downloaded;
            the bytes of a file; a PIL image; or an array of numbers, (height, width) or
            (height, width, 1, 3 or 4 channels).
        max_pixels: images with more pixels are refused; by default Pillow's limit. For more than
            twice `PIL.Image.MAX_IMAGE_PIXELS`, raise that as well.
        name: what errors call the image; by default its path or address.
        deviations: a list to which the keys of `DEVIATIONS` that apply are appended.

    Raises:
        FileNotFoundError: if there is no such file.
        ConnectionError: if a download fails.
        TypeError: if the source is none of these.
        ValueError: if the content is broken, too large, or not an image.
    """
    found: list[str] = [] if deviations is None else deviations
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels, found)
    if isinstance(source, Image.Image):
        return _decoded(source, name or "the PIL image", max_pixels, found)
    name = name or source_name(source)
    with _opened(io.BytesIO(content_of(source, name)), name) as image:
        return _decoded(image, name, max_pixels, found)


def content_of(source: Any, name: str) -> bytes:
    """Returns the content of a file from its path, its address or its bytes."""
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if is_url(source):
        return download(source)
    if isinstance(source, str | os.PathLike):
        return read_bytes(source)
    raise TypeError(
        f"{name} isn't an image; give a path, an address, bytes, a PIL image or an array."
    )


def image_size(path: str | os.PathLike) -> tuple[int, int]:
    """Returns (height, width) of an image as `read_image` reads it, without reading its pixels."""
    name = os.fspath(path)
    with _open(path, name) as file, _opened(file, name) as image:
        return sizes(image)[1]


def read_bytes(path: str | os.PathLike) -> bytes:
    """Returns a file's content; raises a FileNotFoundError or a ValueError that names it."""
    with _open(path, os.fspath(path)) as file:
        return file.read()


@contextlib.contextmanager
def _open(path, name):
    try:
        if os.path.isdir(path):
            raise ValueError(f"{name}: is a folder; give a file, or the folder to `predict`.")
        with open(os.path.expanduser(path), "rb") as file:
            yield file
    except FileNotFoundError:
        raise FileNotFoundError(f"{name}: there is no such file.") from None
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(
            f"{name}: can't be read ({reason}); check the disk and the permissions."
        ) from error


def is_url(source: Any) -> bool:
    """Whether a source is an http or https address."""
    return isinstance(source, str) and source.lower().startswith(("http://", "https://"))


def source_name(source: Any) -> str:
    """Returns what messages and tables call a source."""
    if isinstance(source, bytes | bytearray | memoryview):
        return f"{len(source)} bytes"
    if isinstance(source, str | os.PathLike):
        return printable(source)
    return f"an object of type {type(source).__name__}"


def download(url: str, *, max_bytes: int = MAX_BYTES, timeout: float = TIMEOUT) -> bytes:
    """Downloads an http or https address, in which spaces and non-ASCII letters are encoded.

    Raises ConnectionError if the download fails or stalls for `timeout` seconds, and ValueError if
    it is larger than `max_bytes`.
    """
    encoded = urllib.parse.quote(url, safe="%/:=&?~#+!$,;'@()*[]")
    request = urllib.request.Request(encoded, headers={"User-Agent": "keras_psp"})
    deadline = time.monotonic() + _LONGEST_DOWNLOAD
    content = bytearray()
    try:
        opener = urllib.request.build_opener(_HttpRedirects)
        with opener.open(request, timeout=timeout) as response:
            while chunk := response.read1(1 << 16):
                content += chunk
                if len(content) > max_bytes:
                    raise ValueError(
                        f"{url}: is larger than {max_bytes / 1e6:.0f} MB; download it and give "
                        "the file."
                    )
                if time.monotonic() > deadline:
                    raise TimeoutError(f"not done after {_LONGEST_DOWNLOAD:.0f} s")
            if response.length:  # what is left of the length that the server announced
                raise ConnectionError(f"it ended early, {response.length} bytes are missing")
    except (OSError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", error)
        reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
        if isinstance(error, urllib.error.HTTPError):
            reason = f"HTTP {error.code} {reason}"
        raise ConnectionError(
            f"{url}: can't be downloaded ({' '.join(reason.split())}); check the address and the "
            "network, or download it by other means and give the file."
        ) from error
    return bytes(content)


class _HttpRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https only; urllib also follows them to ftp."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if not is_url(newurl):
            raise urllib.error.URLError(f"it redirects to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def error_reason(path: Any, error: Exception) -> str:
    """Returns Pillow's message without the path that some of them repeat."""
    return str(error).replace(repr(str(path)), "file") or type(error).__name__


def formats() -> list[str]:
    """Returns Pillow's names of the formats to read; other readers may run programs."""
    Image.init()
    return [known for known in _FORMATS if known in Image.OPEN]


def _opened(file, name):
    """Opens an image; its pixels are not read yet."""
    beginning = file.read(32)
    if not beginning:
        raise ValueError(f"{name}: is empty; copy or download it again.")
    file.seek(0)
    try:
        return Image.open(file, formats=formats())
    except Image.DecompressionBombError:
        allowed = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise ValueError(
            f"{name}: has more than {allowed:,} pixels, more than Pillow opens; make it smaller, "
            "or raise both max_pixels and PIL.Image.MAX_IMAGE_PIXELS if it can be trusted."
        ) from None
    except Exception as error:  # Pillow raises a dozen types on broken files
        raise ValueError(f"{name}: {_unknown(beginning, error)}") from error


def _unknown(beginning, error):
    """Returns why nothing can open a file, from its first bytes."""
    if beginning.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<"):
        return "is a web page or an SVG drawing; save the image itself."
    if beginning[4:8] == b"ftyp" and beginning[8:11] in (b"hei", b"hev", b"mif", b"msf"):
        return (
            "is a HEIC image, which Pillow can't read; save it as JPEG, or first call "
            "pillow_heif.register_heif_opener() of the package pillow-heif."
        )
    shown = beginning.split(b"\n")[0].strip().decode("ascii", "replace")
    if beginning.startswith((b"%PDF", b"%!")) or (shown.isprintable() and shown.isascii()):
        return f"is a text or document instead of an image (it begins with {shown!r})."
    if beginning.startswith(_MAGIC) and isinstance(error, Image.UnidentifiedImageError):
        return "is broken, or of a kind that Pillow can't read; save it again as JPEG or PNG."
    if not isinstance(error, Image.UnidentifiedImageError):
        return f"is broken ({error_reason('', error)}); copy or download it again."
    return (
        f"isn't an image that can be read (it begins with the bytes {beginning[:8].hex(' ')}); "
        "save it as JPEG or PNG."
    )


def _decoded(image, name, max_pixels, deviations):
    _check_size(name, image.width, image.height, max_pixels)
    try:
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # a phone's JPEG
            deviations.append("frames")
        stored = raw_mode(image)
        number, turn = loaded(image)
        image = _rgb(image, stored, deviations)
        if number != 1:
            deviations.append("orientation")
        return np.array(image if turn is None else image.transpose(turn))
    except TooDark as error:
        raise ValueError(f"{name}: {error}") from None
    except Exception as error:  # Pillow raises a dozen types on broken files
        reason = error_reason(name, error)
        raise ValueError(f"{name}: is broken ({reason}); copy or download it again.") from error


class TooDark(ValueError):
    """A 16-bit image that only uses the lowest bits."""

    def __init__(self, greatest):
        super().__init__(
            f"has 16 bits per channel but no value above {greatest}, so it would become almost "
            "black; divide it by the camera's largest value (4095 for 12 bits), multiply by 255, "
            "and save it with 8 bits."
        )


def _check_size(name, width, height, max_pixels):
    if width * height > max_pixels:
        raise ValueError(
            f"{name}: has {width}x{height} pixels, more than max_pixels={max_pixels:,}; make it "
            "smaller, or raise max_pixels if it can be trusted."
        )
    if width < 1 or height < 1:
        raise ValueError(f"{name}: has no pixels ({width}x{height}); copy or download it again.")


def orientation(image: Image.Image) -> int:
    """Returns the EXIF orientation of an opened image, 1 to 8."""
    try:
        number = image.getexif().get(_ORIENTATION)
    except Exception:  # the image is readable although its EXIF data isn't
        return 1
    return number if number in UPRIGHT else 1


def loaded(image: Image.Image) -> tuple[int, Image.Transpose | None]:
    """Loads an image's pixels.

    Returns:
        The EXIF orientation, and what turns the pixels upright; None if they are. Pillow turns
        TIFFs itself while it loads them, and then forgets their orientation.
    """
    number = orientation(image) if image.format == "TIFF" else None
    image.load()
    if number is not None:
        return number, None
    number = orientation(image)
    return number, UPRIGHT.get(number)


def sizes(image: Image.Image) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns (height, width) as stored and upright, of an image that isn't loaded yet."""
    stored = image.height, image.width
    if image.format == "TIFF":  # whose size Pillow may already have turned
        stored = image.tag_v2[_TIFF_HEIGHT], image.tag_v2[_TIFF_WIDTH]  # type: ignore[attr-defined]
    return stored, stored[::-1] if orientation(image) >= 5 else stored


def _rgb(image, stored, deviations):
    """Converts any of Pillow's modes to RGB."""
    mode = image.mode
    if mode.startswith(("I", "F")):
        values = np.asarray(image)
        # Before Pillow 10.3, 16-bit PNGs have mode I. The array is in the machine's byte order.
        if mode.startswith("I;16") or (mode == "I" and image.format == "PNG"):
            values = values.astype(np.uint16)
        return Image.fromarray(_to_8_bits(values, deviations)).convert("RGB")
    if stored.endswith(("16B", "16L", "16N")):  # of which Pillow keeps the high byte
        deviations.append("16 bits")
        greatest = max(high for _, high in _extrema(image))
        if 0 < greatest < 16:
            raise TooDark(256 * greatest + 255)
    if mode in ("CMYK", "LAB"):
        deviations.append("colors")
        return _by_profile(image)
    if _is_foreign(image.info.get("icc_profile")):
        deviations.append("profile")
    if mode == "RGBX":
        deviations.append("extra band")
    if mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        if mode == "La":
            image = image.convert("LA")
        image = image.convert("RGBA")
        if image.getextrema()[3][0] < 255:
            deviations.append("transparency")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def raw_mode(image: Any) -> str:
    """Returns Pillow's raw mode of a PNG or TIFF that isn't loaded yet, otherwise ""."""
    if image.format not in ("PNG", "TIFF") or not getattr(image, "tile", None):
        return ""
    args = image.tile[0][3]
    return args if isinstance(args, str) else str(args[0])


def _extrema(image):
    extrema = image.getextrema()
    return extrema if isinstance(extrema[0], tuple) else [extrema]


@functools.lru_cache(64)
def _is_foreign(profile):
    """Whether a color profile is readable and not that of sRGB."""
    if not profile:
        return False
    try:
        parsed = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return "srgb" not in ImageCms.getProfileDescription(parsed).lower()
    except (ImageCms.PyCMSError, OSError):
        return False


def _by_profile(image):
    """Converts CMYK or Lab to sRGB."""
    srgb = ImageCms.createProfile("sRGB")
    if image.mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        return ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    if profile := image.info.get("icc_profile"):
        try:
            return ImageCms.profileToProfile(
                image,
                ImageCms.ImageCmsProfile(io.BytesIO(profile)),
                srgb,
                renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
                outputMode="RGB",
                flags=_BLACK_POINT,
            )
        except (ImageCms.PyCMSError, OSError):  # a broken profile, or one of another device
            pass
    return image.convert("RGB")


def _to_8_bits(values, deviations):
    """Converts values of any type and range to uint8; see `read_image`."""
    if values.dtype == np.uint8:
        return values
    if values.dtype == bool:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype == np.uint16:
        deviations.append("16 bits")
        if 0 < (greatest := int(values.max())) < 4096:
            raise TooDark(greatest)
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise ValueError("no value is a finite number")
    if finite.size < values.size:
        deviations.append("not finite")
    least, greatest = float(finite.min()), float(finite.max())
    floats = np.nan_to_num(values.astype(np.float64), nan=least, posinf=greatest, neginf=least)
    if least >= 0 and greatest <= 255:
        scaled = floats * (255 if values.dtype.kind == "f" and greatest <= 1 else 1)
    else:
        deviations.append("range")
        scaled = (floats - least) * (255 / max(greatest - least, np.finfo(float).tiny))
    scaled[np.isnan(values)] = 0
    return np.rint(scaled).astype(np.uint8)


def _from_array(array, max_pixels, deviations):
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise ValueError(
            f"the array has shape {array.shape}; it must be (height, width), or (height, width, "
            "channels) with 1, 3 or 4 channels."
        )
    if array.dtype.kind not in "buif":
        raise ValueError(
            f"the array has dtype {array.dtype}; it must hold numbers, preferably uint8."
        )
    _check_size("the array", array.shape[1], array.shape[0], max_pixels)
    try:
        values = np.ascontiguousarray(_to_8_bits(array, deviations))
    except ValueError as error:
        raise ValueError(f"the array can't be scaled to 8 bits: {error}.") from None
    image = Image.fromarray(values[..., 0] if channels == 1 and array.ndim == 3 else values)
    return np.array(_rgb(image, "", deviations))
