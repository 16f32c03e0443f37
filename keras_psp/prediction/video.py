"""The classes of a video's frames, as a video."""

import contextlib
import dataclasses
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keras_psp.data.images import is_url
from keras_psp.files import written_aside
from keras_psp.prediction.segmenter import Segmenter
from keras_psp.progress import with_bar
from keras_psp.visual.picture import PAPER, Legend, outline_width, overlay, share_entries

_LINES = 3  # of the legend, whose place every frame has
_LEAST = 0.9  # of the frames that a file announces; cuts may hide some
_PIXELS = 2**24  # of the frames that go to the network together


@dataclasses.dataclass(frozen=True)
class VideoSummary:
    """What `predict_video` wrote.

    Attributes:
        path: of the new video.
        width, height: of the frames it was made of, upright.
        frames: how many.
        class_shares: (num_classes,) float64, mean share of the pixels of all frames.
    """

    path: Path
    width: int
    height: int
    frames: int
    class_shares: np.ndarray


def predict_video(
    path: str | os.PathLike,
    output: str | os.PathLike,
    segmenter: Segmenter,
    *,
    class_names: Sequence[str],
    palette: np.ndarray,
    alpha: float = 0.5,
    batch_size: int = 4,
    progress: bool = True,
) -> VideoSummary:
    """Write a video tinted and outlined by class, above a legend of its frames' largest classes.

    H.264 in MP4 (MPEG-4 where PyAV has no encoder for it), each frame at the time it had; no
    sound. Some frames are held at a time, however long the video is. Needs the extra `video`.

    Args:
        path: of the video; whatever FFmpeg reads.
        output: path of the new one; replaced once it is whole.
        segmenter: what finds the classes.
        class_names: in index order.
        palette: (num_classes, 3) uint8, RGB.
        alpha: share of the colours, 0 to 1.
        batch_size: frames that go to the network together.
        progress: show a progress bar on stderr.

    Raises:
        ImportError: PyAV isn't installed.
        FileNotFoundError: there is no such file.
        ValueError: the file is no video, is broken, or has no frame; nothing is written.
        OSError: the new one can't be written.
    """
    av = _av(path)
    if is_url(path):
        raise ValueError(f"{path}: videos aren't fetched; download it and give the file.")
    if not os.path.exists(path):  # False also in a folder that can't be read
        raise FileNotFoundError(f"{path}: there is no such file.")
    counts = np.zeros(len(class_names), np.int64)
    frames, size = 0, (0, 0)
    with written_aside(Path(output)) as draft, contextlib.ExitStack() as stack:
        source = stack.enter_context(_opened(av, path))
        if not source.streams.video:
            raise ValueError(f"{path}: has no pictures: it's sound, or broken; give another file.")
        stream = source.streams.video[0]
        stream.thread_type = "AUTO"
        decoded = _frames(av, source, path)
        if progress:
            decoded = with_bar(decoded, f"Predicting {Path(path).name}", stream.frames or None)
        writer = None
        for group in _groups(decoded, batch_size):
            found = segmenter.classes([image for _, image in group])
            for (frame, image), classes in zip(group, found, strict=True):
                if writer is None:
                    size = image.shape[:2]
                    with _writing(av, output):
                        writer = _Writer(
                            av, stack, draft, stream, size, class_names, alpha, palette
                        )
                if image.shape[:2] != size:
                    raise ValueError(
                        f"{path}: its frames change from {size[1]}x{size[0]} to "
                        f"{image.shape[1]}x{image.shape[0]}; convert it to one size before."
                    )
                of_frame = np.bincount(classes.ravel(), minlength=len(counts))
                with _writing(av, output):
                    writer.add(frame, image, classes, of_frame / classes.size)
                counts += of_frame
                frames += 1
        if writer is None:
            raise ValueError(f"{path}: has no frame that can be read; copy or download it again.")
        if frames < _LEAST * stream.frames:
            raise ValueError(
                f"{path}: breaks off after {frames} of {stream.frames} frames; copy or download it "
                "again."
            )
        with _writing(av, output):
            writer.end()
    return VideoSummary(Path(output), size[1], size[0], frames, counts / counts.sum())


def _av(path) -> Any:
    try:
        import av
    except ImportError:
        raise ImportError(
            f'{path}: reading videos needs PyAV; pip install "keras-psp[video]".'
        ) from None
    return av


def _opened(av, path):
    try:
        return av.open(os.fspath(path))
    except (av.FFmpegError, OSError) as error:
        raise _broken(path, error) from error


def _broken(path, error):
    reason = getattr(error, "strerror", None) or str(error)
    return ValueError(f"{path}: is a broken video, or none ({reason}); copy or download it again.")


@contextlib.contextmanager
def _writing(av, path):
    """FFmpeg's errors of the output are of no kind, or ValueErrors as those of broken videos."""
    try:
        yield
    except av.FFmpegError as error:
        if isinstance(error, OSError | MemoryError):
            raise
        raise OSError(
            f"{path} can't be written ({error.strerror}); give another output."
        ) from error


def _frames(av, source, path):
    """Frames and their pictures, upright."""
    try:
        for frame in source.decode(video=0):
            image = frame.to_ndarray(format="rgb24")
            # Telephones write how far it's turned to the left.
            quarters = round(getattr(frame, "rotation", 0) / 90) % 4
            yield frame, np.ascontiguousarray(np.rot90(image, quarters))
    except (av.FFmpegError, OSError) as error:
        raise _broken(path, error) from error


def _groups(decoded, batch_size):
    """Lists of as many frames as the network takes at a time."""
    decoded = iter(decoded)
    for frame, image in decoded:
        most = max(1, min(batch_size, _PIXELS // (image.size // 3)))
        yield [(frame, image), *itertools.islice(decoded, most - 1)]


class _Writer:
    """Frames above a legend of as many lines on each."""

    def __init__(self, av, stack, path, source, size, class_names, alpha, palette):
        height, width = size
        self._av, self._names, self._alpha, self._palette = av, class_names, alpha, palette
        self._outline = outline_width(height, width)
        font_size = max(12, width // 45)
        self._font, self._gap = ImageFont.load_default(font_size), max(6, font_size // 2)
        # Room for the widest name, so that entries don't jump.
        widest = Legend([(f"{name}  99.9 %", PAPER) for name in class_names], self._font, self._gap)
        width = max(width, widest.step + self._gap)
        self._per_line = widest.per_line(width)
        self._frame_height = height
        height += 2 * self._gap + _LINES * widest.line
        # H.264 halves the colours' resolution.
        self._size = width + width % 2, height + height % 2
        self._container = stack.enter_context(av.open(str(path), "w"))
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        rate = source.average_rate or source.guessed_rate or 25
        self._stream = self._container.add_stream(codec, rate=rate)
        self._stream.width, self._stream.height = self._size
        self._stream.pix_fmt = "yuv420p"
        if source.time_base:
            self._stream.codec_context.time_base = source.time_base
        self._last = None

    def add(self, frame, image, classes, shares):
        tinted = overlay(
            image,
            classes,
            self._palette,
            alpha=self._alpha,
            outline=self._outline,
            ignore_class=-1,
        )
        paper = Image.new("RGB", self._size, PAPER)
        paper.paste(Image.fromarray(tinted), ((self._size[0] - tinted.shape[1]) // 2, 0))
        # In the order of the classes: one by size would change from frame to frame.
        largest = np.sort(np.argsort(-shares, kind="stable")[: _LINES * self._per_line])
        shown = {int(index): shares[index] for index in largest if shares[index]}
        entries = share_entries(shown, self._names, self._palette, -1)
        legend = Legend(entries, self._font, self._gap)
        legend.draw(ImageDraw.Draw(paper), self._frame_height + self._gap, self._per_line)
        made = self._av.VideoFrame.from_ndarray(np.asarray(paper), format="rgb24")
        # A time must come, and after the last: broken files lack or repeat some.
        if frame.pts is not None and (self._last is None or frame.pts > self._last):
            made.pts, made.time_base = frame.pts, frame.time_base
            self._last = frame.pts
        elif self._last is not None:
            return
        self._container.mux(self._stream.encode(made))

    def end(self):
        self._container.mux(self._stream.encode(None))
