"""Presets on hubs, against a server on 127.0.0.1 (`support.hub_stub`)."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import hub_stub
from support.networks import tiny_backbone

import keras_psp
from keras_psp import PSPNet
from keras_psp.cli import main
from keras_psp.weights import WeightsFileError
from keras_psp.weights.hubs.addresses import HubAddress, hub_address
from keras_psp.weights.opening import open_model
from keras_psp.weights.preset_folder import CONFIG, METADATA

ROOT = Path(keras_psp.__file__).parents[1]
IMAGE = np.random.default_rng(0).integers(0, 256, (1, 61, 57, 3)).astype("float32")
HF, KAGGLE = "hf://user/name", "kaggle://user/model/keras/small"
WEIGHTS = "model.weights.h5"
SETTINGS = {
    "class_names": ["sky", "road", "car"],
    "palette": [[1, 2, 3], [4, 5, 6], [7, 8, 9]],
    "mean": (1.0, 2.0, 3.0),
    "std": (4.0, 5.0, 6.0),
    "align_corners": False,
}


def needs(address):
    package = "huggingface_hub" if address.startswith("hf") else "kagglehub"
    pytest.importorskip(package, reason=f"{package} isn't installed")


def forget(monkeypatch):
    """Lets the libraries be imported again, since they read variables and keep connections."""
    for name in list(sys.modules):
        if name.split(".")[0] in ("huggingface_hub", "kagglehub", "kagglesdk"):
            monkeypatch.delitem(sys.modules, name)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The stub, to which both libraries are led; they read some variables when imported."""
    forget(monkeypatch)
    with hub_stub.hub() as server:
        for name, value in hub_stub.environment(server, tmp_path / "home").items():
            monkeypatch.setenv(name, value)
        (tmp_path / "home").mkdir()
        hub_stub.use_kaggle(server.url)
        yield server
    forget(monkeypatch)


@pytest.fixture(scope="module")
def model():
    backbone = tiny_backbone(num_stages=2, name="backbone")
    small = {"backbone": backbone, "bin_sizes": (1, 2), "aux_weight": 0, "fusion_filters": 8}
    return PSPNet(3, **small, **SETTINGS)


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "preset"
    model.save_to_preset(folder, license="apache-2.0", facts={"dataset": "CamVid"})
    return folder


@pytest.fixture
def published(hub, saved):
    """The files of a preset on both hubs."""
    files = {path.name: path.read_bytes() for path in saved.iterdir()}
    hub.commit("user/name", dict(files))
    hub.models["user/model"] = {"keras/small": [dict(files)]}
    return files


def files_on(hub, address):
    if address == HF:
        return hub.newest("user/name")
    return hub.models["user/model"]["keras/small"][-1]


def log_out(monkeypatch):
    for name in ("HF_TOKEN", "KAGGLE_API_TOKEN"):
        monkeypatch.delenv(name)


BOTH = pytest.mark.parametrize("address", [HF, KAGGLE], ids=["hf", "kaggle"])


@BOTH
def test_a_preset_makes_the_round_trip(hub, saved, model, tmp_path, address):
    needs(address)
    folder = tmp_path / "preset"
    folder.mkdir()
    for path in saved.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "thesis.txt").write_text("mine")
    page = keras_psp.upload_preset(address, folder)
    assert page.endswith(address.partition("://")[2])
    names = {CONFIG, METADATA, "README.md", WEIGHTS}
    on_hub = files_on(hub, address)
    assert {name for name in on_hub if name != ".gitattributes"} == names
    assert f'from_preset("{address}")' in on_hub["README.md"].decode()
    opened = PSPNet.from_preset(address)
    np.testing.assert_array_equal(opened(IMAGE), model(IMAGE))
    before, now = model.get_config(), opened.get_config()
    assert {key: now[key] for key in SETTINGS} == {key: before[key] for key in SETTINGS}
    assert not hub.asked_for("README.md") and not hub.asked_for("thesis.txt")
    np.testing.assert_array_equal(open_model(address)(IMAGE), model(IMAGE))
    assert PSPNet(num_classes=5, weights=address).num_classes == 5
    # A second time, its files come from the cache.
    assert len(hub.asked_for(WEIGHTS)) == 1
    if address == KAGGLE:
        assert hub.licenses == {"user/model/keras/small": "Apache 2.0"}


# The command as it is installed; kagglehub knows no address but Kaggle's.
COMMAND = """
import sys
sys.argv[0] = "keras-psp"
from support import hub_stub
hub_stub.use_kaggle(sys.argv.pop(1))
from keras_psp.cli import main
sys.exit(main())
"""


def start(hub, *arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    command = [sys.executable, "-c", COMMAND, hub.url, *map(str, arguments)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, env=environment, **quiet)


def kill_in_the_middle(hub, file, *arguments):
    """Starts a command and kills it while half of a file is transferred."""
    hub.stop_in = file
    process = start(hub, *arguments)
    try:
        assert hub.halfway.wait(60), process.poll()
        process.send_signal(signal.SIGKILL)
        assert process.wait(10) == -signal.SIGKILL
    finally:
        process.kill()
        process.wait()
        hub.stop_in = None
        hub.resume.set()


@BOTH
def test_an_upload_killed_midway_changes_nothing_and_completes_later(
    hub, published, saved, address
):
    needs(address)
    before = dict(files_on(hub, address))
    changed = saved.parent / "changed"
    opened = PSPNet.from_preset(saved)
    opened.get_layer("classifier").bias.assign([1, 2, 3])
    opened.save_to_preset(changed, license="mit")
    arguments = ("upload", changed, address)
    kill_in_the_middle(hub, WEIGHTS, *arguments)
    assert files_on(hub, address) == before
    assert len(hub.models["user/model"]["keras/small"]) == 1
    assert start(hub, *arguments).wait(60) == 0
    assert files_on(hub, address)[WEIGHTS] == (changed / WEIGHTS).read_bytes()
    np.testing.assert_array_equal(PSPNet.from_preset(address)(IMAGE), opened(IMAGE))
    # Copies of killed processes are removed.
    assert not list(Path(os.environ["KERAS_HOME"]).rglob("*.h5"))


@BOTH
def test_a_download_killed_midway_completes_again(hub, published, model, address):
    needs(address)
    kill_in_the_middle(hub, WEIGHTS, "fetch", address)
    assert start(hub, "fetch", address).wait(60) == 0
    requests = hub.asked_for(WEIGHTS)
    assert len(requests) > 1
    if address == KAGGLE:  # newer versions of huggingface_hub start a file again
        ranges = [requested for requested, status in requests if status == 206]
        assert ranges and all(int(text[6:-1]) > 0 for text in ranges)
    # What was complete before the kill isn't fetched again.
    assert len(hub.asked_for(CONFIG)) == len(hub.asked_for(METADATA)) == 1
    np.testing.assert_array_equal(PSPNet.from_preset(address)(IMAGE), model(IMAGE))


@BOTH
@pytest.mark.parametrize("file", [CONFIG, WEIGHTS])
def test_a_file_that_was_changed_on_the_hub_is_refused(hub, published, address, file):
    needs(address)
    content = bytearray(published[file])
    content[len(content) // 2] ^= 1
    if address == HF:
        hub.commit("user/name", {file: bytes(content)})
    else:
        hub.models["user/model"]["keras/small"].append({**published, file: bytes(content)})
    with pytest.raises(WeightsFileError, match=f"{address}: {file} has the SHA-256 .* delete"):
        PSPNet.from_preset(address)


@BOTH
def test_a_file_that_was_changed_in_the_cache_is_refused_until_it_is_deleted(
    hub, published, model, address
):
    needs(address)
    PSPNet.from_preset(address)
    home = Path(os.environ["HOME"])
    (path,) = (p for p in home.rglob(WEIGHTS) if p.resolve().stat().st_size > 1000)
    path.resolve().chmod(0o600)
    with open(path, "r+b") as file:
        file.seek(-100, os.SEEK_END)
        file.write(b"tampered")
    with pytest.raises(WeightsFileError, match=f"delete {path.resolve()} and get it again"):
        PSPNet.from_preset(address)
    path.resolve().unlink()
    if address == KAGGLE:  # which believes its own mark
        for mark in home.rglob(f"{WEIGHTS}.complete"):
            mark.unlink()
    np.testing.assert_array_equal(PSPNet.from_preset(address)(IMAGE), model(IMAGE))


@BOTH
def test_unlisted_files_and_paths_are_never_asked_for(hub, published, address):
    needs(address)
    metadata = json.loads(published[METADATA])
    files = {CONFIG: metadata["files"][CONFIG], "../../evil.py": metadata["files"][WEIGHTS]}
    changed = json.dumps({**metadata, "files": files}).encode()
    hub.commit("user/name", {METADATA: changed, "pytorch_model.bin": b"\x80"})
    hub.models["user/model"]["keras/small"].append({**published, METADATA: changed})
    with pytest.raises(WeightsFileError, match=r"lists ../../evil.py, which isn't a file of"):
        PSPNet.from_preset(address)
    fetched = {path.rpartition("/")[2] for _, path, _, _ in hub.requests if "." in path}
    assert {name for name in fetched if name.endswith((".py", ".bin", ".h5"))} == set()


@BOTH
def test_a_revision_stays_what_it_was(hub, published, model, address):
    needs(address)
    old = hub.repositories["user/name"][0][0]
    pinned = f"{HF}@{old}" if address == HF else f"{KAGGLE}/1"
    broken = {METADATA: b"{}"}
    hub.commit("user/name", broken)
    hub.models["user/model"]["keras/small"].append(broken)
    with pytest.raises(WeightsFileError, match="isn't a preset of keras_psp"):
        PSPNet.from_preset(address)
    np.testing.assert_array_equal(PSPNet.from_preset(pinned)(IMAGE), model(IMAGE))
    unknown = f"{HF}@v9" if address == HF else f"{KAGGLE}/9"
    message = "has no revision 'v9'" if address == HF else "there is no such model or version"
    with pytest.raises(FileNotFoundError, match=message):
        PSPNet.from_preset(unknown)
    with pytest.raises(ValueError, match="uploads make a new revision, so leave out its name"):
        keras_psp.upload_preset(pinned, "preset")


@BOTH
def test_private_presets_need_the_hubs_own_login(hub, published, saved, monkeypatch, address):
    needs(address)
    hub.private |= {"user/name", "user/model"}
    assert PSPNet.from_preset(address).num_classes == 3
    log_out(monkeypatch)
    monkeypatch.setenv("HF_HOME", os.environ["HOME"] + "/empty")
    monkeypatch.setenv("KAGGLEHUB_CACHE", os.environ["HOME"] + "/empty")
    forget(monkeypatch)
    hub_stub.use_kaggle(hub.url)
    error, message = {
        HF: (FileNotFoundError, "no such repository, or it is private; .* `hf auth login`"),
        KAGGLE: (PermissionError, r"Kaggle denies access; log in with kagglehub.login\(\)"),
    }[address]
    with pytest.raises(error, match=message):
        PSPNet.from_preset(address)
    error = PermissionError if address == KAGGLE else (PermissionError, FileNotFoundError)
    with pytest.raises(error, match=r"`hf auth login`|kagglehub.login\(\)"):
        keras_psp.upload_preset(address, saved)


@BOTH
def test_unknown_repositories_are_named(hub, address):
    needs(address)
    with pytest.raises(FileNotFoundError, match=f"{address}: there is no such"):
        PSPNet.from_preset(address)


def test_a_gated_repository_says_what_to_do(hub, published):
    needs(HF)
    hub.gated.add("user/name")
    with pytest.raises(
        PermissionError, match=r"accept the terms on https://huggingface.co/user/na"
    ):
        PSPNet.from_preset(HF)


def offline(hub, monkeypatch):
    """Both hubs can't be reached; newer versions of huggingface_hub would try for half a minute."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.shutdown()
    hub.server_close()
    forget(monkeypatch)
    hub_stub.use_kaggle(hub.url)


@BOTH
def test_presets_in_the_cache_open_offline(hub, published, model, monkeypatch, address):
    needs(address)
    PSPNet.from_preset(address)
    offline(hub, monkeypatch)
    if address == KAGGLE:  # which asks for the newest version
        with pytest.raises(ConnectionError, match=f"name the version, e.g. {address}/1"):
            PSPNet.from_preset(address)
        address = f"{KAGGLE}/1"
    np.testing.assert_array_equal(PSPNet.from_preset(address)(IMAGE), model(IMAGE))
    other = address.replace("user", "other")
    with pytest.raises(ConnectionError, match=r"can't be fetched|can't be reached"):
        PSPNet.from_preset(other)


FOUND = {
    "one of keras-hub 0.2 (ResNetBackbone)": {
        METADATA: {"keras_hub_version": "0.2"},
        CONFIG: {"class_name": "ResNetBackbone"},
    },
    "a bert model of transformers": {CONFIG: {"model_type": "bert"}, "pytorch_model.bin": {}},
    "a folder of pytorch_model.bin": {"pytorch_model.bin": {}},
}


@pytest.mark.parametrize("found", FOUND)
def test_what_a_repository_has_in_place_of_a_preset_is_named(hub, found):
    needs(HF)
    files = {name: json.dumps(content).encode() for name, content in FOUND[found].items()}
    hub.commit("user/name", files)
    with pytest.raises(WeightsFileError) as raised:
        PSPNet.from_preset(HF)
    # Of metadata.json, nothing else is fetched to find out.
    assert f"{HF} isn't a preset of keras_psp but " in str(raised.value)
    if METADATA not in files:
        assert found in str(raised.value)
    assert not hub.asked_for("pytorch_model.bin")


@BOTH
def test_a_missing_library_names_its_extra(saved, monkeypatch, address):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    extra = address.partition(":")[0]
    with pytest.raises(ImportError, match=rf'{address} needs .*pip install "keras-psp\[{extra}\]"'):
        PSPNet.from_preset(address)
    with pytest.raises(ImportError, match=rf'pip install "keras-psp\[{extra}\]"'):
        keras_psp.upload_preset(address, saved)


def test_the_card_on_the_hub_is_kept_unless_it_is_to_be_replaced(hub, published, saved, tmp_path):
    needs(HF)
    hub.commit("user/name", {"README.md": b"# Mine", "model.safetensors": b"old"})
    keras_psp.upload_preset(HF, saved)
    assert hub.newest("user/name")["README.md"] == b"# Mine"
    assert "model.safetensors" not in hub.newest("user/name")
    without = tmp_path / "without"
    shutil.copytree(saved, without)
    (without / "README.md").unlink()
    keras_psp.upload_preset(HF, without)
    assert hub.newest("user/name")["README.md"] == b"# Mine"
    keras_psp.upload_preset(HF, saved, replace_card=True)
    assert b"CamVid" in hub.newest("user/name")["README.md"]


def test_a_card_in_another_encoding_is_named(hub, saved, tmp_path):
    needs(HF)
    folder = tmp_path / "edited"
    shutil.copytree(saved, folder)
    (folder / "README.md").write_bytes("# K\u00fcste".encode("latin-1"))
    with pytest.raises(ValueError, match=r"README\.md isn't UTF-8, as hubs require"):
        keras_psp.upload_preset(HF, folder)
    assert hub.requests == []


def test_new_repositories_are_public_unless_they_are_to_be_private(hub, saved):
    needs(HF)
    keras_psp.upload_preset("hf://user/open", saved)
    keras_psp.upload_preset("hf://user/hidden", saved, private=True)
    assert hub.private == {"user/hidden"}


def test_what_is_uploaded_is_checked_first(hub, saved, tmp_path):
    with pytest.raises(ValueError, match="uri is 'runs/mine'; give hf://USER/NAME or kaggle://"):
        keras_psp.upload_preset("runs/mine", saved)
    with pytest.raises(FileNotFoundError, match="doesn't exist; save_to_preset writes one"):
        keras_psp.upload_preset(HF, tmp_path / "nothing")
    (tmp_path / "x.pth").touch()
    with pytest.raises(WeightsFileError, match="isn't a preset of keras_psp but a folder of"):
        keras_psp.upload_preset(HF, tmp_path)
    assert hub.requests == []


def test_files_that_differ_from_their_digests_are_not_uploaded(hub, saved, tmp_path):
    needs(HF)
    folder = tmp_path / "preset"
    folder.mkdir()
    for path in saved.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / WEIGHTS).write_bytes(b"other")
    with pytest.raises(WeightsFileError, match=f"preset: {WEIGHTS} has the SHA-256"):
        keras_psp.upload_preset(HF, folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(WeightsFileError, match=f"preset lacks {WEIGHTS}"):
        keras_psp.upload_preset(HF, folder)
    assert hub.requests == []


def test_kaggle_knows_a_list_of_licenses(hub, model, tmp_path):
    needs(KAGGLE)
    model.save_to_preset(tmp_path / "preset", license="my own")
    with pytest.raises(ValueError, match="license='my own' isn't one that Kaggle has; choose"):
        keras_psp.upload_preset(KAGGLE, tmp_path / "preset")
    assert hub.requests == []


def test_addresses():
    assert hub_address("hf://user/name") == HubAddress("hf", "user/name")
    assert hub_address(Path("hf://user/name@v1.0")) == HubAddress("hf", "user/name", "v1.0")
    assert hub_address("kaggle://u/m/keras/v/3") == HubAddress("kaggle", "u/m/keras/v", "3")
    for text in ("hf://user/name@refs/pr/1", "kaggle://u/m/keras/v/3", "kaggle://u/m/keras/v"):
        assert str(hub_address(text)) == text
    for other in ("user/name", "runs/hf", "gs://bucket/a", "hf", "C:/hf", 3, None):
        assert hub_address(other) is None


@pytest.mark.parametrize(
    "text",
    ["hf://name", "hf://a/b/c", "hf://a/b@", "hf://../b", "hf://a/b@../c", "hf://a/b?x=1", "hf:///a",
     "hf://a/", "kaggle://a/b", "kaggle://a/b/keras/v/0", "kaggle://a/b/keras/v/1/2",
     "kaggle://a/b/keras/v/x", "hf://a/-b"],
)  # fmt: skip
def test_wrong_addresses_are_refused_with_their_form(text):
    for opened in (PSPNet.from_preset, open_model, lambda name: PSPNet(weights=name)):
        with pytest.raises(ValueError, match=r"isn't an address of a preset; write (hf|kaggle)://"):
            opened(text)


def test_a_wrong_address_is_an_error_of_one_line(capsys):
    assert main(["fetch", "hf://name"]) == 1
    assert capsys.readouterr().err.startswith("keras-psp: 'hf://name' isn't an address of a preset")
