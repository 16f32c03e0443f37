import contextlib
import functools
import hashlib
import http.server
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from support import checkpoints, writers

import keras_psp
from keras_psp import PSPNet, data, labels
from keras_psp.weights import WeightsFileError, presets, store

IMAGE = np.random.default_rng(0).integers(0, 256, (1, 65, 57, 3)).astype("float32")
PUBLISHED = [preset for preset in keras_psp.list_presets() if preset.url]
BUNDLED = "pspnet_r18-d8_128x128_scenes"


def checkpoint_of(preset):
    """Tensors for a preset, by mmsegmentation's names."""
    depth = int(preset.backbone.removeprefix("resnet"))
    return checkpoints.mmsegmentation(depth, preset.num_classes, plain=preset.stem == "7x7")


def test_all_published_networks_are_listed():
    assert len({preset.name for preset in PUBLISHED}) == len(PUBLISHED) == 54
    for preset in PUBLISHED:
        assert len(store.digest(preset.url)) == 8
        assert Path(preset.url).name.startswith(preset.name)
        assert ("769x769" in preset.name) == preset.align_corners
        depth = preset.backbone.removeprefix("resnet")
        assert f"r{depth}-" in preset.name or f"r{depth}b-" in preset.name
        assert (preset.output_stride == 32) == ("-d32" in preset.name)
        assert preset.num_classes == len(labels.labels(preset.labels).palette)


def test_the_list_is_a_table_that_can_be_limited_to_a_data_set():
    table = keras_psp.list_presets("ADE20K")
    assert len(table) == 4 and {preset.num_classes for preset in table} == {150}
    assert "pspnet_r101-d8_512x512_160k_ade20k" in repr(table) and "45.35" in repr(table)
    assert len(keras_psp.list_presets("coco_stuff")) == len(keras_psp.list_presets("COCO-Stuff"))
    with pytest.raises(ValueError, match="dataset='kitti' has no preset; choose one of cityscapes"):
        keras_psp.list_presets("kitti")


# One preset of every architecture; benchmarks/parity/presets.py does all 54.
ARCHITECTURES = {(p.backbone, p.stem, p.output_stride, p.align_corners): p for p in PUBLISHED}


@pytest.mark.parametrize("preset", ARCHITECTURES.values(), ids=lambda preset: preset.name)
def test_every_architecture_loads_its_tensors_and_refuses_others(preset, tmp_path):
    tensors = checkpoint_of(preset)
    model = preset.build()
    preset.family.load(model, tensors)
    assert model.count_params() == preset.parameters
    assert model.class_names == list(labels.labels(preset.labels).class_names)
    size = 8 * preset.output_stride + 1
    logits = model(np.zeros((1, size, size, 3), "float32"))
    assert logits.shape == (1, size, size, preset.num_classes)
    key = "backbone.layer4.1.conv2.weight"
    kernel = tensors.pop(key)
    for wrong in ({}, {f"{key}s": kernel}, {key: kernel[:-1]}):
        with pytest.raises(WeightsFileError, match=key):
            preset.family.load(model, tensors | wrong)


# --- The bundled preset ---------------------------------------------------------


def test_the_bundled_preset_predicts_scenes_without_internet_access(monkeypatch):
    monkeypatch.setenv("KERAS_PSP_MIRROR", "http://127.0.0.1:1")
    preset = presets.find_preset(BUNDLED)
    assert preset.size < 15e6
    model = PSPNet.from_preset(BUNDLED)
    scenes = labels.labels("scenes")
    assert tuple(model.class_names) == tuple(scenes.class_names)
    assert tuple(map(tuple, model.palette)) == scenes.palette
    assert model.backbone.depth == 18 and model.backbone.output_stride == preset.output_stride
    source = data.GeneratedScenes(image_size=preset.crop, counts={"val": 16})
    assert keras_psp.evaluate(source, model, split="val", progress=False).pixel_accuracy > 0.85
    tuned = PSPNet(num_classes=3, weights=BUNDLED, backbone="resnet18")
    kernels = (model.backbone.weights[0], tuned.backbone.weights[0])
    np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, kernels))


# --- Fetching -------------------------------------------------------------------


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder; can be slowed down, so that a client can be killed during a download."""

    daemon_threads = True
    requests = 0
    delay = 0.0


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        self.server.requests += 1
        super().do_GET()

    def copyfile(self, source, outputfile):
        while chunk := source.read(1 << 20):
            outputfile.write(chunk)
            outputfile.flush()
            time.sleep(self.server.delay)


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A local server in place of the presets' host, and an empty cache."""
    folder = tmp_path / "host"
    folder.mkdir()
    server = Server(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("KERAS_PSP_MIRROR", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "cache"))
    server.folder = folder
    yield server
    server.shutdown()


def publish(host, monkeypatch, name="pspnet_r18-d8_512x1024_80k_cityscapes"):
    """Puts a checkpoint for the preset on the host, with its digest in its name."""
    preset = presets.find_preset(name)
    path = host.folder / "file.pth"
    writers.write_torch(path, {"meta": {}, "state_dict": checkpoint_of(preset)})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    url = preset.url.replace(store.digest(preset.url), digest)
    target = host.folder / url.split("/", 3)[3]
    target.parent.mkdir(parents=True)
    path.rename(target)
    changed = {**presets.all_presets(), name: presets.dataclasses.replace(preset, url=url)}
    monkeypatch.setattr(presets, "all_presets", lambda: changed)
    return changed[name], target


def cached():
    return sorted(entry.name for entry in store.folder().iterdir())


def test_a_preset_is_fetched_and_converted_once(host, monkeypatch, capsys):
    preset, _ = publish(host, monkeypatch)
    assert preset.size is None
    first = PSPNet.from_preset(preset.name)
    names = [f"{Path(preset.url).stem}.pth", f"{Path(preset.url).stem}.v1.keras"]
    assert cached() == names
    assert preset.size > 40e6
    assert first.class_names[0] == "road"
    second = PSPNet.from_preset(preset.name)
    assert host.requests == 1
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("converting") == 1
    np.testing.assert_array_equal(first(IMAGE), second(IMAGE))
    # If the conversion is missing or damaged, the checkpoint is converted again.
    (store.folder() / names[1]).write_bytes(b"PK\x03\x04 damaged")
    np.testing.assert_array_equal(PSPNet.from_preset(preset.name)(IMAGE), first(IMAGE))
    assert host.requests == 1
    assert PSPNet.from_preset(preset.name, num_classes=4).num_classes == 4


def test_a_folder_with_a_presets_name_does_not_hide_the_preset(host, monkeypatch, tmp_path):
    preset, _ = publish(host, monkeypatch)
    monkeypatch.chdir(tmp_path)
    (tmp_path / preset.name).mkdir()
    assert PSPNet.from_preset(preset.name).num_classes == 19


def test_conversions_are_cached_in_float32_under_any_dtype_policy(host, monkeypatch):
    preset, _ = publish(host, monkeypatch)
    keras.config.set_dtype_policy("float16")
    try:
        assert PSPNet.from_preset(preset.name).backbone.compute_dtype == "float16"
    finally:
        keras.config.set_dtype_policy("float32")
    model = PSPNet.from_preset(preset.name)
    assert {weight.dtype for weight in model.weights} == {"float32"}


def test_a_conversion_that_cannot_be_cached_is_returned(host, monkeypatch, capsys):
    preset, _ = publish(host, monkeypatch)
    monkeypatch.setattr(PSPNet, "save", lambda *args: (_ for _ in ()).throw(OSError("full")))
    assert PSPNet.from_preset(preset.name).num_classes == 19
    assert (
        "can't be saved (full); the checkpoint is converted at every use" in capsys.readouterr().err
    )


def test_without_internet_access_the_error_says_which_file_to_put_where(host, monkeypatch):
    preset, path = publish(host, monkeypatch)
    kept = path.read_bytes()
    path.unlink()
    target = store.folder() / path.name
    with pytest.raises(
        ConnectionError, match=f"File not found.*download it elsewhere and put it at {target}"
    ):
        PSPNet.from_preset(preset.name)
    assert cached() == []
    target.write_bytes(kept)
    assert PSPNet.from_preset(preset.name).num_classes == 19


def test_a_file_with_another_digest_is_refused(host, monkeypatch):
    preset, path = publish(host, monkeypatch)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsFileError, match=r"http.*truncated|http.*has the SHA-256"):
        PSPNet.from_preset(preset.name)
    assert cached() == []
    writers.write_torch(path, checkpoint_of(preset))
    with pytest.raises(WeightsFileError, match=r"http.* has the SHA-256 .* in its name"):
        PSPNet.from_preset(preset.name)
    path.write_text("<html>moved</html>")
    with pytest.raises(WeightsFileError, match=r"http.* is a web page, not weights"):
        PSPNet.from_preset(preset.name)


CHILD = """
import sys
import keras_psp
from keras_psp.weights import presets
old = presets.all_presets()
preset = presets.dataclasses.replace(old[sys.argv[1]], url=sys.argv[2])
presets.all_presets = lambda: {**old, preset.name: preset}
if len(sys.argv) > 3:
    from keras_psp.weights import store
    import contextlib, pathlib, time
    save = keras_psp.PSPNet.save
    def slow(self, path, *args, **kwargs):
        save(self, path, *args, **kwargs)
        pathlib.Path(path).write_bytes(pathlib.Path(path).read_bytes()[:1000])
        print("half", flush=True)
        time.sleep(60)
    keras_psp.PSPNet.save = slow
keras_psp.PSPNet.from_preset(sys.argv[1])
"""


@contextlib.contextmanager
def child(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(Path(keras_psp.__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_download_killed_midway_leaves_no_file_that_looks_complete(host, monkeypatch):
    preset, path = publish(host, monkeypatch)
    host.delay = 0.2
    with child(preset.name, preset.url) as process:
        deadline = time.time() + 120
        while not list(store.folder().glob(".incomplete-*/download/*")):
            assert time.time() < deadline and process.poll() is None
            time.sleep(0.1)
        time.sleep(0.5)
        process.send_signal(signal.SIGKILL)
    assert [name[:12] for name in cached()] == [".incomplete-"]
    host.delay = 0
    assert PSPNet.from_preset(preset.name).num_classes == 19
    assert cached() == [path.name, f"{path.stem}.v1.keras"]


def test_a_conversion_killed_midway_leaves_no_file_that_looks_complete(host, monkeypatch):
    preset, path = publish(host, monkeypatch)
    with child(preset.name, preset.url, "slow") as process:
        assert any(line == b"half\n" for line in process.stdout)
        process.send_signal(signal.SIGKILL)
    names = cached()
    assert path.name in names and f"{path.stem}.v1.keras" not in names
    assert PSPNet.from_preset(preset.name).num_classes == 19
    assert cached() == [path.name, f"{path.stem}.v1.keras"]
