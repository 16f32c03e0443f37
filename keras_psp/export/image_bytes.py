"""JPEG and PNG bytes in, class maps as PNG out, by TensorFlow's own operations alone.

What a server is sent comes from strangers. Size and kind are read from the first bytes and
refused in words before anything is decoded.
"""

from collections.abc import Callable
from typing import Any

from keras_psp.export.graph import Signature, class_dtype
from keras_psp.models.checks import smallest_side
from keras_psp.models.pspnet import PSPNet

MAX_PIXELS = 2**24
"""4096x4096, of a picture sent as bytes. A ResNet-50 takes 0.4 GB a megapixel on the CPU."""

MAX_SIDE = 2**14
"""Pixels. The matrix that upsamples a side grows with its square: 134 MB at 16,384."""

MAX_SCANS = 100
"""Of a JPEG. Progressive ones have about ten; each passes over the whole picture."""

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_END_OF_HEADER = 33  # signature, length, "IHDR", 13 bytes, checksum


def bytes_function(
    model: PSPNet,
    network: Callable[..., dict[str, Any]],
    signature: Signature,
    *,
    max_pixels: int = MAX_PIXELS,
) -> Callable[[Any], dict[str, Any]]:
    """The network as a TensorFlow function of pictures' bytes.

    Args:
        model: the network, for its number of classes and smallest image.
        network: of `folded_network`.
        signature: with an image_size pictures are resized to it (antialiased), whatever their
            shape, and the scores to the picture's own size.
        max_pixels: the most pixels of a picture.

    Returns:
        a function to trace, from (batch,) strings, JPEG or PNG of any sizes, to
        "classes_png_bytes" (batch,), each a grey PNG of class indices at its picture's size,
        of 8 bits, or 16 for more than 256 classes.
    """
    import tensorflow as tf

    smallest = 1 if signature.image_size else smallest_side(model)

    def classes_png(content):
        content = _checked(content, smallest, max_pixels)
        image = tf.cond(
            _begins(content, _JPEG), lambda: jpeg_pixels(content), lambda: png_pixels(content)
        )
        size = tf.unstack(tf.shape(image)[:2])
        if signature.image_size:
            image = tf.image.resize(image, signature.image_size, antialias=True)
            image = tf.cast(tf.round(image), "uint8")
        classes = network(image[None], "classes", size)["classes"][0]
        # PNGs of one channel say so in their shape.
        return tf.io.encode_png(tf.cast(classes, class_dtype(model.num_classes))[..., None])

    def serve_bytes(image_bytes):
        # One after another: they differ in size, and memory is for one.
        found = tf.map_fn(
            classes_png, image_bytes, fn_output_signature="string", parallel_iterations=1
        )
        return {"classes_png_bytes": found}

    return serve_bytes


def checked_images(images: Any, smallest: int) -> Any:
    """Images (batch, height, width, 3) of a traced function, refused where no answer can be right.

    Args:
        images: tensor of unknown size.
        smallest: pixels a side.
    """
    import tensorflow as tf

    batch, height, width, _ = tf.unstack(tf.shape(images))
    refused = tf.strings.format("image is {} without any image", tf.shape(images))
    filled = tf.debugging.Assert(batch > 0, [refused])
    with tf.control_dependencies([filled, *_size_checks(height, width, smallest, None)]):
        return tf.identity(images)


def _checked(content, smallest, max_pixels):
    """The bytes, once their beginning says JPEG or PNG of a good size."""
    import tensorflow as tf

    jpeg, png = _begins(content, _JPEG), _begins(content, _PNG)
    kind = tf.debugging.Assert(
        jpeg | png, ["image_bytes is no JPEG and no PNG by its first bytes; send one of these."]
    )
    with tf.control_dependencies([kind]):
        height, width = tf.cond(jpeg, lambda: _jpeg_size(content), lambda: _png_size(content))
    with tf.control_dependencies(_size_checks(height, width, smallest, max_pixels)):
        return tf.identity(content)


def _size_checks(height, width, smallest, max_pixels):
    """Assertions, each with a sentence of its own."""
    import tensorflow as tf

    height, width = tf.cast(height, "int64"), tf.cast(width, "int64")
    size = tf.strings.join(["image is ", tf.as_string(width), "x", tf.as_string(height)])
    least, most = tf.minimum(height, width), tf.maximum(height, width)

    def check(condition, remedy):
        return tf.debugging.Assert(condition, [tf.strings.join([size, remedy])])

    checks = [
        check(least >= smallest, f" pixels; send at least {smallest} a side."),
        check(most <= MAX_SIDE, f" pixels; send at most {MAX_SIDE:,} a side."),
    ]
    if max_pixels is not None:
        checks.append(check(height * width <= max_pixels, f"; send at most {max_pixels:,} pixels."))
    return checks


def _begins(content, magic):
    import tensorflow as tf

    return tf.equal(tf.strings.substr(content, 0, len(magic)), magic)


def _jpeg_size(content):
    import tensorflow as tf

    raw = tf.io.decode_raw(content, "uint8")
    # Within a scan 255 is followed by 0; elsewhere the pair is rare.
    scans = tf.math.count_nonzero((raw[:-1] == 0xFF) & (raw[1:] == 0xDA))
    few = tf.debugging.Assert(
        scans <= MAX_SCANS,
        [f"image_bytes is a JPEG of more than {MAX_SCANS} scans; save it anew as a plain one."],
    )
    with tf.control_dependencies([few]):
        shape = tf.image.extract_jpeg_shape(content)
    return tf.cast(shape[0], "int64"), tf.cast(shape[1], "int64")


def _png_size(content):
    """From IHDR, which libpng refuses anywhere but first."""
    import tensorflow as tf

    whole = tf.strings.length(content) >= _END_OF_HEADER
    header = tf.debugging.Assert(
        whole, ["image_bytes is a PNG that ends within its header; send all of it."]
    )
    with tf.control_dependencies([header]):
        content = tf.identity(content)
    named = tf.debugging.Assert(
        tf.equal(tf.strings.substr(content, 12, 4), b"IHDR"),
        ["image_bytes is a PNG without a header (IHDR); save it anew."],
    )
    with tf.control_dependencies([named]):
        sides = tf.io.decode_raw(tf.strings.substr(content, 16, 8), "int32", little_endian=False)
    sides = tf.bitwise.bitwise_and(tf.cast(sides, "int64"), 2**32 - 1)
    return sides[1], sides[0]


def jpeg_pixels(content: Any) -> Any:
    """A JPEG's (height, width, 3) uint8; its EXIF orientation is left alone."""
    import tensorflow as tf

    # As Pillow decodes; the default is faster and rougher.
    return tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE")


def png_pixels(content: Any) -> Any:
    """Decodes a PNG to (height, width, 3) uint8; transparent pixels become white."""
    import tensorflow as tf

    image = tf.io.decode_png(content, channels=4)
    colours, alpha = image[..., :3], image[..., 3:]
    # TensorFlow fills up absent alpha with the largest number of the file's depth, 3 of 2 bits.
    depth = tf.io.decode_raw(tf.strings.substr(content, 24, 1), "uint8")[0]
    filled = tf.bitwise.left_shift(1, tf.minimum(tf.cast(depth, "int32"), 8)) - 1

    def on_white():
        share = tf.cast(alpha, "float32") / 255
        return tf.cast(tf.round(255 + (tf.cast(colours, "float32") - 255) * share), "uint8")

    opaque = tf.reduce_all(tf.equal(tf.cast(alpha, "int32"), filled))
    return tf.cond(opaque, lambda: colours, on_white)
