import builtins
from types import SimpleNamespace

import numpy as np
import pytest
from support.networks import tiny_predictor

from keras_psp.prediction import Protocol, files, predict_files, predict_video, video

NAMES = ("dark", "light")
PALETTE = np.array([(200, 0, 0), (0, 200, 0)], np.uint8)


class ByBrightness:
    """Predicts class 1 where a frame is light, and records the sizes of the batches."""

    model = SimpleNamespace(
        num_classes=2, input_channels=3, class_names=NAMES, palette=PALETTE.tolist()
    )

    def __init__(self, batch_size=4):
        self.protocol = Protocol(batch_size=batch_size)
        self.sizes = []

    def classes(self, images):
        self.sizes.append(len(images))
        return [(image.mean(-1) > 127).astype(np.uint8) for image in images]


def film(path, frames=9, width=63 + 1, height=48, rate=12, options=None):
    """Frame k is white in its left k * 4 columns."""
    av = pytest.importorskip("av", reason="PyAV is not installed")
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate = 4_000_000
        for number in range(frames):
            image = np.zeros((height, width, 3), np.uint8)
            image[:, : 4 * number] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def frames_of(path):
    import av

    with av.open(str(path)) as container:
        return [
            (frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)
        ]


def test_frames_keep_their_number_time_and_classes(tmp_path):
    path = film(tmp_path / "film.mp4")
    segmenter = ByBrightness()
    summary = predict_video(path, tmp_path / "new.mp4", segmenter, progress=False)
    assert (summary.width, summary.height, summary.frames) == (64, 48, 9)
    # 0, 4, ... 32 of 64 columns are light.
    np.testing.assert_allclose(summary.class_shares, (0.75, 0.25), atol=0.02)
    assert segmenter.sizes == [4, 4, 1]
    encoded = frames_of(tmp_path / "new.mp4")
    np.testing.assert_allclose([time for time, _ in encoded], np.arange(9) / 12, atol=1e-3)
    last = encoded[8][1]
    assert last.shape[0] > 48 and last.shape[0] % 2 == last.shape[1] % 2 == 0
    left = (last.shape[1] - 64) // 2
    # The mean of the color and the frame: light green on the left, dark red on the right.
    np.testing.assert_allclose(last[24, left + 10], (127, 227, 127), atol=30)
    np.testing.assert_allclose(last[24, left + 54], (100, 0, 0), atol=30)
    assert (last[50:] < 100).all(-1).any()  # the legend's text
    assert [entry.name for entry in tmp_path.glob(".*")] == []


def test_a_long_video_is_never_in_memory_as_a_whole(tmp_path):
    path = film(tmp_path / "film.mp4", frames=40)
    segmenter = ByBrightness(batch_size=3)
    predict_video(path, tmp_path / "new.mp4", segmenter, progress=False)
    assert max(segmenter.sizes) == 3 and sum(segmenter.sizes) == 40


def test_damaged_videos_are_reported_and_nothing_is_written(tmp_path):
    pytest.importorskip("av", reason="PyAV is not installed")
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(ValueError, match=r"text.mp4: is damaged or not a video \("):
        predict_video(tmp_path / "text.mp4", tmp_path / "new.mp4", ByBrightness(), progress=False)
    whole = film(tmp_path / "film.mp4").read_bytes()
    (tmp_path / "half.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"half.mp4: has no frames: it is audio only, or damaged"):
        predict_video(tmp_path / "half.mp4", tmp_path / "new.mp4", ByBrightness(), progress=False)
    with pytest.raises(FileNotFoundError, match=r"none.mp4: there is no such file"):
        predict_video(tmp_path / "none.mp4", tmp_path / "new.mp4", ByBrightness(), progress=False)
    with pytest.raises(ValueError, match=r"a.mp4: videos can't be read from an address; down"):
        predict_video(
            "https://example.org/a.mp4", tmp_path / "new.mp4", ByBrightness(), progress=False
        )
    # With its index at the front, so that only the last frames are missing.
    data = film(tmp_path / "film.mp4", frames=200, options={"movflags": "faststart"}).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"cut.mp4: (ends after \d+ of 200|is damaged)"):
        predict_video(tmp_path / "cut.mp4", tmp_path / "new.mp4", ByBrightness(), progress=False)
    assert not (tmp_path / "new.mp4").exists()


def test_a_file_with_sound_only_is_reported(tmp_path):
    av = pytest.importorskip("av", reason="PyAV is not installed")
    with av.open(str(tmp_path / "song.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        silence = np.zeros((1, 1024), np.float32)
        frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(ValueError, match=r"song.mp4: has no frames: it is audio"):
        predict_video(tmp_path / "song.mp4", tmp_path / "new.mp4", ByBrightness(), progress=False)


def test_without_pyav_the_error_names_the_extra(tmp_path, monkeypatch):
    original = builtins.__import__

    def absent(name, *arguments, **options):
        if name == "av":
            raise ImportError(name)
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ImportError, match=r'needs PyAV; pip install "keras-psp\[video\]"'):
        predict_video(tmp_path / "film.mp4", tmp_path / "new.mp4", ByBrightness(), progress=False)


def test_errors_of_ffmpeg_about_the_output_do_not_blame_the_video(tmp_path, monkeypatch):
    av = pytest.importorskip("av", reason="PyAV is not installed")
    path = film(tmp_path / "film.mp4")

    def add(self, *arguments):
        raise av.error.InvalidDataError(1, "Invalid data")

    monkeypatch.setattr(video._Writer, "add", add)
    with pytest.raises(OSError, match=r"new.mp4 can't be written \(Invalid data\); choose another"):
        predict_video(path, tmp_path / "new.mp4", ByBrightness(), progress=False)


class ResourceExhaustedError(Exception):
    """Has the name of TensorFlow's error."""


@pytest.fixture
def network():
    return tiny_predictor(2, bin_sizes=(1,), class_names=NAMES)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FileNotFoundError("b.mp4: there is no such file."), "b.mp4: there is no such file."),
        (MemoryError(), "b.mp4: not enough memory; set crop=, base_size= or a smaller"),
        (ResourceExhaustedError("OOM"), "b.mp4: not enough memory; set crop=, base_size= or"),
    ],
)
def test_a_video_that_fails_does_not_stop_the_others(error, reason, network, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def fake(path, output, segmenter, **options):
        if path.name == "b.mp4":
            raise error
        assert segmenter.protocol.batch_size == 2
        output.touch()
        return video.VideoSummary(output, 64, 48, 9, np.array([0.5, 0.5]))

    monkeypatch.setattr(files, "predict_video", fake)
    summary = predict_files(["b.mp4", "c.mp4"], "out", network, batch_size=2, progress=False)
    ((origin, message),) = summary.failures
    assert (summary.done, origin) == (1, "b.mp4") and message.startswith(reason)


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left"), FileNotFoundError(2, "No space left")]
)
def test_an_unwritable_output_does_not_blame_the_video(error, network, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.mp4").write_text("a film")

    def fake(*arguments, **options):
        raise error

    monkeypatch.setattr(files, "predict_video", fake)
    with pytest.raises(
        OSError, match=r"b_overlay.mp4 can't be written \(No space left\); .*Free some"
    ):
        predict_files("b.mp4", "out", network, progress=False)


def test_an_error_in_the_code_does_not_blame_the_video(network, tmp_path, monkeypatch):
    def fake(*arguments, **options):
        raise ZeroDivisionError

    monkeypatch.setattr(files, "predict_video", fake)
    with pytest.raises(ZeroDivisionError):
        predict_files(tmp_path / "b.mp4", tmp_path / "out", network, progress=False)


def test_videos_and_images_share_a_folder_and_a_table(tmp_path, monkeypatch):
    import csv

    from PIL import Image

    from keras_psp.prediction import Segmenter

    monkeypatch.setattr(Segmenter, "classes", ByBrightness.classes)
    monkeypatch.setattr(Segmenter, "sizes", [], raising=False)
    model = tiny_predictor(2, bin_sizes=(1,), class_names=NAMES)
    film(tmp_path / "in.mp4")
    Image.new("RGB", (40, 30)).save(tmp_path / "in.png")
    (tmp_path / "half.mp4").write_text("not a video")
    inputs = [tmp_path / name for name in ("in.mp4", "half.mp4", "in.png")]
    summary = predict_files(inputs, tmp_path / "out", model, progress=False)
    assert summary.done == 2 and len(summary.failures) == 1
    with open(tmp_path / "out" / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["frames"] for row in rows] == ["9", "", ""]
    assert float(rows[0]["light"]) == pytest.approx(0.25, abs=0.02)
    assert "is damaged or not a video" in rows[1]["failure"]
    assert len({row["name"] for row in rows}) == 3
    again = predict_files(inputs, tmp_path / "out", model, progress=False)
    assert (again.done, again.skipped) == (0, 2)


def test_a_network_of_other_bands_is_refused(tmp_path):
    path = film(tmp_path / "a.mp4")
    segmenter = ByBrightness()
    segmenter.model = SimpleNamespace(input_channels=4)
    with pytest.raises(ValueError, match="videos are RGB but the network takes 4 channels"):
        predict_video(path, tmp_path / "b.mp4", segmenter)
