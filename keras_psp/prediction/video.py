"""`predict_video`: writes the classes of a video's frames as a video."""

import contextlib
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keras_psp.data.images import is_url
from keras_psp.files import local_path, written_aside
from keras_psp.models.classes import class_names_of, palette_of
from keras_psp.prediction.outcomes import grouped
from keras_psp.prediction.segmenter import Segmenter
from keras_psp.progress import with_bar
from keras_psp.visual.legend import BACKGROUND, Legend, share_entries
from keras_psp.visual.overlays import outline_width, overlay

_LINES = 3  # of the legend, on every frame
_LEAST = 0.9  # of the frames that the file announces; edit lists may hide some


@dataclasses.dataclass(frozen=True)
class VideoSummary:
    """What `predict_video` wrote.

    `width` and `height` are those of the original frames, turned upright, in pixels;
    `class_shares`, (num_classes,) float64, has each class' share of the pixels of all frames.
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
    class_names: Sequence[str] | None = None,
    palette: np.ndarray | None = None,
    alpha: float = 0.5,
    progress: bool = True,
) -> VideoSummary:
    """Writes a video tinted and outlined by class, above a legend of each frame's classes.

    The format is H.264 in MP4 (MPEG-4 if PyAV has no H.264 encoder). Frames keep their timestamps;
    audio is dropped. Only a few frames are in memory at a time. Needs the extra `video`.

    Args:
        path: the video, in any format that FFmpeg reads.
        output: path of the new video. An existing file is replaced once the video is complete.
        segmenter: predicts the classes.
        class_names: names in index order; None for the model's.
        palette: (num_classes, 3) uint8, RGB; None for the model's.
        alpha: opacity of the class colors, 0 to 1.
        progress: show a progress bar on stderr.

    Raises:
        ImportError: if PyAV is not installed.
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not a video, is damaged, or has no frame; nothing is written.
        OSError: if the new video can't be written.

    Example:
        segmenter = open_segmenter("runs/mine", Protocol(base_size=512))
        predict_video("street.mp4", "classes.mp4", segmenter)
    """
    try:
        import av
    except ImportError:
        raise ImportError(
            f'{path}: reading videos needs PyAV; pip install "keras-psp[video]".'
        ) from None
    output = local_path("output", output)
    if is_url(path):
        raise ValueError(f"{path}: videos can't be read from an address; download it first.")
    if not os.path.exists(path):  # False also in a folder that can't be read
        raise FileNotFoundError(f"{path}: there is no such file.")
    if segmenter.model.input_channels != 3:
        raise ValueError(
            f"{path}: videos are RGB but the network takes {segmenter.model.input_channels} "
            "channels; give single images."
        )
    class_names = class_names_of(segmenter.model) if class_names is None else class_names
    palette = palette_of(segmenter.model) if palette is None else palette
    counts = np.zeros(len(class_names), np.int64)
    frames = 0
    size: tuple[int, ...] = ()
    with written_aside(output) as draft, contextlib.ExitStack() as stack:
        with _input_errors(av, path):
            source = stack.enter_context(av.open(os.fspath(path)))
        if not source.streams.video:
            raise ValueError(
                f"{path}: has no frames: it is audio only, or damaged; choose another file."
            )
        stream = source.streams.video[0]
        stream.thread_type = "AUTO"
        decoded = _frames(av, source, path)
        if progress:
            decoded = with_bar(decoded, f"Predicting {Path(path).name}", stream.frames or None)
        writer = None
        for group in grouped(decoded, segmenter.protocol.batch_size):
            masks = segmenter.classes([image for _, image in group])
            for (frame, image), classes in zip(group, masks, strict=True):
                size = size or image.shape[:2]
                if image.shape[:2] != size:
                    raise ValueError(
                        f"{path}: its frames change from {size[1]}x{size[0]} to "
                        f"{image.shape[1]}x{image.shape[0]}; convert it to one size first."
                    )
                frame_counts = np.bincount(classes.ravel(), minlength=len(counts))
                with _output_errors(av, output):
                    writer = writer or _Writer(
                        av, stack, draft, stream, size, class_names, alpha, palette
                    )
                    writer.add(frame, image, classes, frame_counts / classes.size)
                counts += frame_counts
                frames += 1
        if writer is None:
            raise ValueError(f"{path}: no frame can be read; copy or download it again.")
        if frames < _LEAST * stream.frames:
            raise ValueError(
                f"{path}: ends after {frames} of {stream.frames} frames; copy or download it again."
            )
        with _output_errors(av, output):
            writer.finish()
    return VideoSummary(output, size[1], size[0], frames, counts / counts.sum())


@contextlib.contextmanager
def _input_errors(av, path):
    """Turns errors of FFmpeg and the disk into ValueErrors with a remedy."""
    try:
        yield
    except (av.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(
            f"{path}: is damaged or not a video ({reason}); copy or download it again."
        ) from error


@contextlib.contextmanager
def _output_errors(av, path):
    """Turns FFmpeg's errors into OSErrors, so that they aren't taken for a damaged input."""
    try:
        yield
    except av.FFmpegError as error:
        if isinstance(error, OSError | MemoryError):
            raise
        raise OSError(
            f"{path} can't be written ({error.strerror}); choose another output."
        ) from error


def _frames(av, source, path):
    """Yields frames and their pixels, upright."""
    with _input_errors(av, path):
        for frame in source.decode(video=0):
            image = frame.to_ndarray(format="rgb24")
            # Phones record how far the frame is rotated to the left.
            quarters = round(getattr(frame, "rotation", 0) / 90) % 4
            yield frame, np.ascontiguousarray(np.rot90(image, quarters))


class _Writer:
    """Encodes overlays above a legend, which has the same height on every frame."""

    def __init__(self, av, stack, path, source, size, class_names, alpha, palette):
        height, width = size
        self._av, self._names, self._palette = av, class_names, palette
        self._style = {"alpha": alpha, "outline": outline_width(height, width)}
        font_size = max(12, width // 45)
        self._font, self._gap = ImageFont.load_default(font_size), max(6, font_size // 2)
        # Room for the longest name, so that entries stay in place.
        entries = [(f"{name}  99.9 %", BACKGROUND) for name in class_names]
        longest = Legend(entries, self._font, self._gap)
        width = max(width, longest.step + self._gap)
        self._per_line = longest.per_line(width)
        self._legend_top = height + self._gap
        height += 2 * self._gap + _LINES * longest.line
        # H.264 with halved color resolution needs even sides.
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

    def add(self, frame: Any, image: np.ndarray, classes: np.ndarray, shares: np.ndarray) -> None:
        """Encodes a frame, unless its time repeats an earlier one."""
        tinted = overlay(image, classes, self._palette, ignore_class=-1, **self._style)
        page = Image.new("RGB", self._size, BACKGROUND)
        page.paste(Image.fromarray(tinted), ((self._size[0] - tinted.shape[1]) // 2, 0))
        # In the order of the classes: the order by size would change from frame to frame.
        largest = np.sort(np.argsort(-shares, kind="stable")[: _LINES * self._per_line])
        shown = {int(index): shares[index] for index in largest if shares[index]}
        entries = share_entries(shown, self._names, self._palette, -1)
        legend = Legend(entries, self._font, self._gap)
        legend.draw(ImageDraw.Draw(page), self._legend_top, self._per_line)
        encoded = self._av.VideoFrame.from_ndarray(np.asarray(page), format="rgb24")
        # Times must increase, but damaged files lack or repeat some.
        if frame.pts is not None and (self._last is None or frame.pts > self._last):
            encoded.pts, encoded.time_base = frame.pts, frame.time_base
            self._last = frame.pts
        elif self._last is not None:
            return
        self._container.mux(self._stream.encode(encoded))

    def finish(self) -> None:
        """Encodes the frames still buffered."""
        self._container.mux(self._stream.encode(None))
