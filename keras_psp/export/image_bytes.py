"""JPEG and PNG bytes in, class maps as PNG out, using TensorFlow's own operations only.

A server's requests come from strangers. Size and format are read from the first bytes, and
unsuitable images are refused with an explanation before anything is decoded.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_psp.export.graph import MAX_PIXELS, MAX_SIDE, Signature, class_dtype
from keras_psp.models.checks import smallest_side
from keras_psp.models.pspnet import PSPNet

MAX_SCANS = 100
"""Most scans of a JPEG. Progressive ones have about ten; each passes over the whole image."""

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_END_OF_HEADER = 33  # signature, length, "IHDR", 13 bytes, checksum


def bytes_function(
    model: PSPNet,
    network: Callable[..., dict[str, Any]],
    signature: Signature,
    max_pixels: int = MAX_PIXELS,
) -> Callable[[Any], dict[str, Any]]:
    """Returns `saved_model`'s "serve_bytes", given the network's `inference_function`."""
    smallest = 1 if signature.image_size else smallest_side(model)

    def classes_png(content):
        content = _checked(content, smallest, max_pixels)
        jpeg = _begins(content, _JPEG)
        image = tf.cond(jpeg, lambda: jpeg_pixels(content), lambda: png_pixels(content))
        size = tf.unstack(tf.shape(image)[:2])
        if signature.image_size:
            image = tf.image.resize(image, signature.image_size, antialias=True)
            image = tf.cast(tf.round(image), "uint8")
        classes = network(image[None], "classes", size)["classes"][0]
        # encode_png reads the number of channels from the shape.
        return tf.io.encode_png(tf.cast(classes, class_dtype(model.num_classes))[..., None])

    def serve_bytes(image_bytes):
        # One at a time: images differ in size, and the memory limit is for one.
        class_maps = tf.map_fn(
            classes_png, image_bytes, fn_output_signature="string", parallel_iterations=1
        )
        return {"classes_png_bytes": class_maps}

    return serve_bytes


def checked_images(images: Any, smallest: int) -> Any:
    """Adds checks of (batch, height, width, channels) images to a traced function."""
    batch, height, width, _ = tf.unstack(tf.shape(images))
    empty = tf.strings.format("image is {} without any image", tf.shape(images))
    images = _required(images, (batch > 0, empty))
    return _size_checked(images, height, width, smallest, None)


def _required(value, *checks):
    """Returns the tensor, or raises the message of any (condition, message) that is false."""
    with tf.control_dependencies([tf.debugging.Assert(check, [text]) for check, text in checks]):
        return tf.identity(value)


def _size_checked(value, height, width, smallest, max_pixels):
    height, width = tf.cast(height, "int64"), tf.cast(width, "int64")
    size = ["image is ", tf.as_string(width), "x", tf.as_string(height)]
    shortest, longest = tf.minimum(height, width), tf.maximum(height, width)
    checks = [
        (shortest >= smallest, f" pixels; send at least {smallest} per side."),
        (longest <= MAX_SIDE, f" pixels; send at most {MAX_SIDE:,} per side."),
    ]
    if max_pixels is not None:
        checks.append((height * width <= max_pixels, f"; send at most {max_pixels:,} pixels."))
    checks = [(check, tf.strings.join([*size, remedy])) for check, remedy in checks]
    return _required(value, *checks)


def _checked(content, smallest, max_pixels):
    """Returns the bytes if their header is that of a JPEG or PNG of a supported size."""
    jpeg, png = _begins(content, _JPEG), _begins(content, _PNG)
    message = "image_bytes is neither JPEG nor PNG by its first bytes; send one of these."
    content = _required(content, (jpeg | png, message))
    height, width = tf.cond(jpeg, lambda: _jpeg_size(content), lambda: _png_size(content))
    return _size_checked(content, height, width, smallest, max_pixels)


def _begins(content, magic):
    return tf.equal(tf.strings.substr(content, 0, len(magic)), magic)


def _jpeg_size(content):
    raw = tf.io.decode_raw(content, "uint8")
    # Within a scan 255 is followed by 0; elsewhere the pair is rare.
    scans = tf.math.count_nonzero((raw[:-1] == 0xFF) & (raw[1:] == 0xDA))
    many = f"image_bytes is a JPEG of more than {MAX_SCANS} scans; save it as a baseline JPEG."
    shape = tf.image.extract_jpeg_shape(_required(content, (scans <= MAX_SCANS, many)))
    return tf.cast(shape[0], "int64"), tf.cast(shape[1], "int64")


def _png_size(content):
    """Reads IHDR, which libpng accepts only as the first chunk."""
    message = "image_bytes is a PNG that ends within its header; send all of it."
    content = _required(content, (tf.strings.length(content) >= _END_OF_HEADER, message))
    message = "image_bytes is a PNG without a header (IHDR); save the image again."
    content = _required(content, (tf.equal(tf.strings.substr(content, 12, 4), b"IHDR"), message))
    sides = tf.io.decode_raw(tf.strings.substr(content, 16, 8), "int32", little_endian=False)
    sides = tf.bitwise.bitwise_and(tf.cast(sides, "int64"), 2**32 - 1)
    return sides[1], sides[0]


def jpeg_pixels(content: Any) -> Any:
    """Decodes a JPEG to (height, width, 3) uint8, ignoring its EXIF orientation."""
    # As Pillow decodes; the default is faster and rougher.
    return tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE")


def png_pixels(content: Any) -> Any:
    """Decodes a PNG to (height, width, 3) uint8, transparent pixels on white."""
    image = tf.io.decode_png(content, channels=4)
    colors, alpha = image[..., :3], image[..., 3:]
    # TensorFlow fills absent alpha with the largest number of the file's depth: 3 for 2 bits.
    depth = tf.io.decode_raw(tf.strings.substr(content, 24, 1), "uint8")[0]
    filled = tf.bitwise.left_shift(1, tf.minimum(tf.cast(depth, "int32"), 8)) - 1

    def on_white():
        share = tf.cast(alpha, "float32") / 255
        return tf.cast(tf.round(255 + (tf.cast(colors, "float32") - 255) * share), "uint8")

    opaque = tf.reduce_all(tf.equal(tf.cast(alpha, "int32"), filled))
    return tf.cond(opaque, lambda: colors, on_white)
