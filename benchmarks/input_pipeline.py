"""Measures images per second on one core: our augmentation, the usual steps, Albumentations.

    python benchmarks/input_pipeline.py
    python benchmarks/input_pipeline.py --files
    python benchmarks/input_pipeline.py --steady 20000

500x375 JPEGs and their PNG labels in memory become crops of 473x473 with scale 0.5 to 2, rotation
up to 10 degrees, blur, mirroring and cropping, with the probabilities of semseg. "In steps" is the
usual composition: the whole image is scaled, rotated, blurred, mirrored, padded and cropped.
Albumentations does the same if it is installed. The variants alternate. With --files, whole
`training_batches` of such files on all cores, with decoding and from memory. With --steady, one
epoch of that many files (the same images under other names), decoded as they are needed: the rate
of each tenth of the epoch, and the memory after it.
"""

import argparse
import io
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from measure import environment, progress, spread
from PIL import Image

from keras_psp import data
from keras_psp.data.augmentation import BLUR, augmented
from keras_psp.imagenet import IMAGENET_MEAN

CROP = (473, 473)
MEAN = np.array(IMAGENET_MEAN, "float32")
SETTINGS = {
    "crop": CROP,
    "scale": (0.5, 2.0),
    "mirror": True,
    "angles": (-10.0, 10.0),
    "blur": True,
    "fill": MEAN,
    "ignore_class": 255,
}


def encoded(count):
    """Returns JPEG and PNG bytes of generated scenes of 375x500."""
    source = data.GeneratedScenes(image_size=(375, 500), counts={"train": count})
    files = []
    for image, mask in source.examples("train").as_numpy_iterator():
        jpeg, png = io.BytesIO(), io.BytesIO()
        Image.fromarray(image).save(jpeg, "jpeg", quality=90)
        Image.fromarray(mask).save(png, "png")
        files.append((jpeg.getvalue(), png.getvalue()))
    return [list(column) for column in zip(*files, strict=True)]


def decoded(jpeg, png):
    """The decoded uint8 image and mask."""
    image = tf.io.decode_jpeg(jpeg, channels=3)
    return image, tf.io.decode_png(png, channels=1)[..., 0]


def in_steps(image, mask, draw):
    """The same augmentation as a sequence of tf.image and raw operations."""
    size = tf.cast(tf.shape(mask), tf.float32)
    scaled = tf.cast(tf.round(size * (0.5 + 1.5 * draw[0])), tf.int32)
    image = tf.image.resize(tf.cast(image, tf.float32), scaled)
    mask = tf.image.resize(tf.cast(mask, tf.int32)[..., None], scaled, "nearest")

    def rotated():
        angle = (20 * draw[5] - 10) * (np.pi / 180)
        cosine, sine = tf.cos(angle), tf.sin(angle)
        center = tf.cast(scaled, tf.float32) / 2
        x = center[1] - cosine * center[1] + sine * center[0]
        y = center[0] - sine * center[1] - cosine * center[0]
        transform = [[cosine, -sine, x, sine, cosine, y, 0.0, 0.0]]

        def warped(x, interpolation, value):
            return tf.raw_ops.ImageProjectiveTransformV3(
                images=x[None],
                transforms=tf.convert_to_tensor(transform),
                output_shape=scaled,
                interpolation=interpolation,
                fill_mode="CONSTANT",
                fill_value=value,
            )[0]

        return warped(image, "BILINEAR", float(MEAN.mean())), warped(mask, "NEAREST", 255.0)

    image, mask = tf.cond(draw[4] < 0.5, rotated, lambda: (image, mask))

    def blurred():
        kernel = np.outer(BLUR, BLUR)[:, :, None, None].repeat(3, axis=2)
        return tf.nn.depthwise_conv2d(image[None], kernel, [1, 1, 1, 1], "SAME")[0]

    image = tf.cond(draw[6] < 0.5, blurred, lambda: image)
    both = tf.concat([image - MEAN, tf.cast(mask, tf.float32) - 255], -1)
    both = tf.cond(draw[1] < 0.5, lambda: tf.image.flip_left_right(both), lambda: both)
    padding = tf.maximum(tf.constant(CROP) - scaled, 0)
    both = tf.pad(both, [[padding[0], 0], [padding[1], 0], [0, 0]])
    slack = tf.cast(tf.shape(both)[:2] - tf.constant(CROP), tf.float32)
    offset = tf.cast((slack + 1) * draw[2:4], tf.int32)
    both = tf.slice(both, [offset[0], offset[1], 0], [*CROP, 4])
    return both[..., :3] + MEAN, tf.cast(both[..., 3] + 255, tf.int32)


def tensorflow_call(stage, files, draws):
    """A call that processes every example with a stage on one core."""
    examples = [decoded(*pair) for pair in zip(*files, strict=True)]
    images, masks = (tf.stack(column) for column in zip(*examples, strict=True))
    inputs = (*files, draws) if stage.startswith(("decode", "whole")) else (images, masks, draws)
    steps = {
        "decode": lambda jpeg, png, draw: decoded(jpeg, png),
        "crops without blur": lambda i, m, d: augmented(i, m, d, **{**SETTINGS, "blur": False}),
        "crops": lambda i, m, d: augmented(i, m, d, **SETTINGS),
        "in steps": in_steps,
        "whole, keras_psp": lambda j, p, d: augmented(*decoded(j, p), d, **SETTINGS),
        "whole, in steps": lambda j, p, d: in_steps(*decoded(j, p), d),
    }
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    examples = tf.data.Dataset.from_tensor_slices(inputs).repeat().map(steps[stage])
    # One iterator for all rounds, because creating one takes as long as dozens of images.
    iterator = iter(examples.with_options(options))

    @tf.function
    def call():
        for _ in tf.range(len(draws)):
            next(iterator)

    return call


def albumentations_call(files, draws):
    """The same with Albumentations and OpenCV, or None if they are not installed."""
    del draws  # Albumentations draws its own random numbers
    try:
        import albumentations
        import cv2
    except ImportError:
        return None
    cv2.setNumThreads(1)
    steps = albumentations.Compose(
        [
            albumentations.RandomScale((-0.5, 1.0), p=1),
            albumentations.Rotate((-10, 10), border_mode=0, fill=tuple(MEAN), fill_mask=255, p=0.5),
            albumentations.GaussianBlur((5, 5), (1.1, 1.1), p=0.5),
            albumentations.HorizontalFlip(p=0.5),
            albumentations.PadIfNeeded(*CROP, border_mode=0, fill=tuple(MEAN), fill_mask=255),
            albumentations.RandomCrop(*CROP),
        ]
    )

    def call():
        for jpeg, png in zip(*files, strict=True):
            image = cv2.imdecode(np.frombuffer(jpeg, "u1"), cv2.IMREAD_COLOR)
            mask = cv2.imdecode(np.frombuffer(png, "u1"), cv2.IMREAD_GRAYSCALE)
            steps(image=cv2.cvtColor(image, cv2.COLOR_BGR2RGB), mask=mask)

    return call


STAGES = (
    "decode",
    "crops without blur",
    "crops",
    "in steps",
    "whole, keras_psp",
    "whole, in steps",
)


BATCHES = {"batch_size": 10, "crop_size": CROP, "rotate": 10, "blur": True}


def written(folder, files, count):
    """Writes the files, again under other names until there are `count`; returns their source."""
    for kind, suffix, contents in zip(("images", "labels"), ("jpg", "png"), files, strict=True):
        (Path(folder) / kind).mkdir()
        for number in range(count):
            path = Path(folder) / f"{kind}/{number:05}.{suffix}"
            path.write_bytes(contents[number % len(contents)])
    return data.ImageFolder(folder)


def from_files(options):
    """Prints images per second of training_batches on all cores, reading files."""
    with tempfile.TemporaryDirectory() as folder:
        source = written(folder, encoded(options.count), options.count)
        rates = {}
        # Not interleaved, because both would keep running in the background.
        for name, cache in (("with decoding", False), ("from memory", True)):
            progress(name)
            batches = iter(
                data.training_batches(source, split="all", cache=cache, epochs=10**6, **BATCHES)
            )
            rates[name] = []
            for repeat in range(options.repeats + 2):
                start = time.perf_counter()
                for _ in range(options.count // BATCHES["batch_size"]):
                    next(batches)
                if repeat > 1:  # the first two trace and fill the cache
                    rates[name].append(options.count / (time.perf_counter() - start))
            del batches
    print(f"{environment(['tensorflow'])}.\n\n| training_batches | images/s |\n|---|---|")
    for name, values in rates.items():
        print(f"| {name} | {spread(values)} |")
    return False


def steady(options):
    """Prints images per second and memory in each tenth of a long epoch."""
    with tempfile.TemporaryDirectory() as folder:
        progress(f"writing {options.steady} files")
        source = written(folder, encoded(options.count), options.steady)
        batches = iter(data.training_batches(source, split="all", cache=False, epochs=1, **BATCHES))
        next(batches)  # traces
        steps = (options.steady // BATCHES["batch_size"] - 1) // 10
        print(f"{environment(['tensorflow'])}.\n\n| images | images/s | memory |\n|---|---|---|")
        for tenth in range(10):
            start = time.perf_counter()
            for _ in range(steps):
                next(batches)
            images = steps * BATCHES["batch_size"]
            rate = images / (time.perf_counter() - start)
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            memory = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
            print(f"| {(tenth + 1) * images} | {rate:.0f} | {memory:.0f} MB |", flush=True)
    return False


def main():
    """Prints images per second of each stage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--files", action="store_true")
    parser.add_argument("--steady", type=int, metavar="FILES")
    options = parser.parse_args()
    if options.files:
        return from_files(options)
    if options.steady:
        return steady(options)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    files = encoded(options.count)
    draws = np.random.default_rng(0).random((options.count, 8), dtype="float32")
    calls = {stage: tensorflow_call(stage, files, draws) for stage in STAGES}
    albumentations = albumentations_call(files, draws)
    if albumentations is not None:
        calls["whole, albumentations"] = albumentations
    rates = {stage: [] for stage in calls}
    for repeat in range(options.repeats + 1):
        progress(f"round {repeat} of {options.repeats}")
        for stage, call in calls.items():
            start = time.perf_counter()
            call()
            if repeat:  # the first round traces
                rates[stage].append(options.count / (time.perf_counter() - start))
    print(f"{environment(['tensorflow'])}; one core.\n", file=sys.stdout)
    print("| stage | images/s, median (min to max) |")
    print("|---|---|")
    for stage, values in rates.items():
        print(f"| {stage} | {spread(values)} |")
    whole = {stage: statistics.median(rates[stage]) for stage in rates if "whole" in stage}
    ours = whole.pop("whole, keras_psp")
    for stage, rate in whole.items():
        print(f"\n{stage.removeprefix('whole, ')}: keras_psp is {ours / rate:.2f}x as fast.")
    return ours < 100


if __name__ == "__main__":
    raise SystemExit(main())
