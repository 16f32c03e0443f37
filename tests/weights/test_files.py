import collections
import struct
import zipfile

import h5py
import keras
import numpy as np
import pytest
from support import writers

from keras_psp.weights import WeightsFileError, read_checkpoint
from keras_psp.weights.files import file_format
from keras_psp.weights.files.torch_file import read_torch

random = np.random.default_rng(0)


def tensors():
    return {
        "conv.weight": random.normal(size=(4, 3, 3, 3)).astype("float32"),
        "conv.bias": random.normal(size=4).astype("float16"),
        "norm.num_batches_tracked": np.array(7),
    }


def read_pickle(path, pickled):
    """Reads a pickle as the list of tensors in a file."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
    return read_checkpoint(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_torch_files_of_both_formats_are_read(tmp_path, legacy):
    expected = tensors()
    content = {"state_dict": collections.OrderedDict(expected), "epoch": 3}
    writers.write_torch(tmp_path / "a.pth", content, legacy=legacy)
    checkpoint = read_checkpoint(tmp_path / "a.pth")
    assert (checkpoint.format, checkpoint.meta["epoch"]) == ("torch", 3)
    assert list(checkpoint.tensors) == list(expected)
    for name, value in expected.items():
        assert checkpoint.tensors[name].shape == value.shape
        np.testing.assert_array_equal(np.asarray(checkpoint.tensors[name]), value)


def test_tensors_of_torch_save_are_read_exactly(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is an optional package")
    values = {
        "transposed": torch.randn(4, 5).t(),
        "part": torch.randn(10)[3:7],
        "bfloat16": torch.randn(3).to(torch.bfloat16),
        "half": torch.randn(6).half(),
        "scalar": torch.tensor(3),
        "empty": torch.zeros(0, 2),
    }
    values["parameter"] = torch.nn.Parameter(values["part"])
    for zipped in (True, False):
        path = tmp_path / f"{zipped}.pth"
        torch.save(values, path, _use_new_zipfile_serialization=zipped)
        read = read_torch(path)
        for name, value in values.items():
            np.testing.assert_array_equal(
                np.asarray(read[name], "float32"), value.detach().float().numpy()
            )


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_the_prefixes_of_data_parallel_and_torch_compile_are_removed(tmp_path, prefix):
    content = {f"{prefix}{name}": value for name, value in tensors().items()}
    writers.write_torch(tmp_path / "a.pth", content)
    assert list(read_checkpoint(tmp_path / "a.pth").tensors) == list(tensors())


def test_a_state_dict_may_have_any_name_but_must_be_the_only_one(tmp_path):
    writers.write_torch(tmp_path / "a.pth", {"net": tensors(), "epoch": 3, "optimizer": {"lr": 1}})
    checkpoint = read_checkpoint(tmp_path / "a.pth")
    assert list(checkpoint.tensors) == list(tensors()) and checkpoint.meta["epoch"] == 3
    writers.write_torch(tmp_path / "b.pth", {"net": tensors(), "ema": tensors()})
    with pytest.raises(WeightsFileError, match="contains several state dicts, net, ema; save the"):
        read_checkpoint(tmp_path / "b.pth")


def test_a_prefix_of_some_names_is_kept(tmp_path):
    content = {"module.a": np.ones(1, "float32"), "b": np.ones(1, "float32")}
    writers.write_torch(tmp_path / "a.pth", content)
    assert list(read_checkpoint(tmp_path / "a.pth").tensors) == ["module.a", "b"]


def test_training_checkpoints_may_hold_numpy_numbers_and_paths(tmp_path):
    scalar = writers.Call(
        "numpy.core.multiarray", "scalar", writers.Call("numpy", "dtype", "f8"), b"\0" * 8
    )
    content = {
        "state_dict": tensors(),
        "best": scalar,
        "args": writers.Call("argparse", "Namespace"),
    }
    writers.write_torch(tmp_path / "a.pth", content)
    assert len(read_checkpoint(tmp_path / "a.pth").tensors) == 3


def test_training_checkpoints_may_hold_mmengines_log(tmp_path):
    # message_hub: HistoryBuffers, whose state names their methods (mmengine/logging,
    # `__getstate__`). Protocol 2 writes a method as getattr(class, name).
    buffer = writers.Name("mmengine.logging.history_buffer", "HistoryBuffer")
    method = writers.Call("__builtin__", "getattr", buffer, "mean")
    log = {"train/loss": {"statistics_methods": {"mean": method}}}
    writers.write_torch(tmp_path / "a.pth", {"state_dict": tensors(), "message_hub": log})
    assert len(read_checkpoint(tmp_path / "a.pth").tensors) == 3


def test_getattr_in_a_pickle_gets_nothing(tmp_path):
    storage = writers.Name("torch", "FloatStorage")
    got = writers.Call("__builtin__", "getattr", storage, "__class__")
    writers.write_torch(tmp_path / "a.pth", {"state_dict": tensors(), "got": got})
    got = read_checkpoint(tmp_path / "a.pth").meta["got"]
    assert not callable(got) and "__class__" not in repr(got)


def test_mxnet_files_are_read(tmp_path):
    expected = {"conv.weight": tensors()["conv.weight"], "half": tensors()["conv.bias"]}
    named = {f"arg:pspnet12_{name}": value for name, value in expected.items()}
    for magic in (0xF993FAC9, 0xF993FACA):
        writers.write_mxnet(tmp_path / "a.params", named, magic=magic)
        checkpoint = read_checkpoint(tmp_path / "a.params")
        assert checkpoint.format == "mxnet"
        assert list(checkpoint.tensors) == list(expected)
        for name, value in expected.items():
            np.testing.assert_array_equal(np.asarray(checkpoint.tensors[name]), value)


def test_caffe_files_are_read(tmp_path):
    expected = {
        "conv1/0": tensors()["conv.weight"],
        "conv1/1": np.arange(4, dtype="float32"),
        "conv1/bn/0": np.ones((1, 4, 1, 1), "float32"),
    }
    for packed in (True, False):
        writers.write_caffe(tmp_path / "a.caffemodel", expected, packed=packed)
        checkpoint = read_checkpoint(tmp_path / "a.caffemodel")
        assert checkpoint.format == "caffe"
        assert list(checkpoint.tensors) == list(expected)
        for name, value in expected.items():
            np.testing.assert_array_equal(np.asarray(checkpoint.tensors[name]), value)


def test_safetensors_and_npz_files_are_read(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy", reason="safetensors is optional")
    expected = {"conv.weight": tensors()["conv.weight"]}
    safetensors.save_file(expected, tmp_path / "a.safetensors")
    np.savez(tmp_path / "a.npz", **expected)
    for name, kind in (("a.safetensors", "safetensors"), ("a.npz", "npz")):
        checkpoint = read_checkpoint(tmp_path / name)
        assert checkpoint.format == kind
        np.testing.assert_array_equal(checkpoint.tensors["conv.weight"], expected["conv.weight"])


# --- Hostile and broken files ---------------------------------------------------


def hostile_pickle(path):
    writers.write_torch(path, {"a": writers.Call("posix", "system", f"touch {path}.ran")})


def hostile_legacy_pickle(path):
    writers.write_torch(path, {"a": writers.Call("builtins", "eval", "1+1")}, legacy=True)


def bare_hostile_pickle(path):
    path.write_bytes(b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00trueq\x00\x85R.")


def zip_slip(path):
    writers.write_torch(path, tensors())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../evil.py", "print()")


def truncated_zip(path):
    writers.write_torch(path, tensors())
    path.write_bytes(path.read_bytes()[:-200])


def truncated_legacy(path):
    writers.write_torch(path, tensors(), legacy=True)
    path.write_bytes(path.read_bytes()[:-40])


def web_page(path):
    path.write_text("\n<!DOCTYPE html><html><body>Quota exceeded</body></html>")


def lfs_pointer(path):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")


def empty(path):
    path.touch()


def whole_model(path):
    writers.write_torch(path, writers.Call("torch.nn.modules.container", "Sequential"))


def torchscript(path):
    writers.write_torch(path, tensors())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/constants.pkl", b"")


def tensor_past_its_storage(path):
    array = np.zeros(4, "float32")
    writers.write_torch(path, {"a": array}, legacy=True)
    content = path.read_bytes()
    # The shape (4,) becomes (100,): K\x04\x85 is BININT1 4, TUPLE1.
    assert content.count(b"K\x04\x85") == 1
    path.write_bytes(content.replace(b"K\x04\x85", b"Kd\x85"))


def truncated_mxnet(path):
    writers.write_mxnet(path, {"a": np.zeros((8, 8), "float32")})
    path.write_bytes(path.read_bytes()[:100])


def truncated_caffe(path):
    writers.write_caffe(path, {"a/0": np.zeros((8, 8), "float32")})
    path.write_bytes(path.read_bytes()[:100])


def truncated_safetensors(path):
    path.write_bytes(struct.pack("<Q", 30) + b'{"a": {"dtype": "F32", "shape": [9')


def noise(path):
    path.write_bytes(b"\x03" * 4096)


def object_npz(path):
    np.savez(path.with_suffix(".npz"), a=np.array([{"x": 1}], dtype=object))
    path.with_suffix(".npz").rename(path)


BROKEN = [
    (hostile_pickle, "asks to run posix.system, which weights never need; nothing was run"),
    (hostile_legacy_pickle, "asks to run builtins.eval, which weights never need; nothing was run"),
    (bare_hostile_pickle, "asks to run posix.system, which weights never need; nothing was run"),
    (zip_slip, r"its entry '../../evil.py' points outside the archive; nothing was written"),
    (truncated_zip, "is truncated; download it again|damaged or truncated"),
    (truncated_legacy, "numbers are missing; it is truncated, download it again"),
    (web_page, "is a web page, not weights: .* download it again in a browser"),
    (lfs_pointer, "is a Git LFS pointer, not the weights; run `git lfs pull`"),
    (empty, "is empty; download it again"),
    (whole_model, r"contains a whole pickled model \(torch.nn.modules.container.Sequential\)"),
    (torchscript, "is a TorchScript archive, which is code; save model.state_dict"),
    (truncated_mxnet, "is truncated; download it again"),
    (truncated_caffe, "is truncated"),
    (truncated_safetensors, "isn't a weights file of a supported|damaged or truncated"),
    (noise, "isn't a weights file of a supported format: PyTorch"),
    (object_npz, "damaged or truncated|contains no tensors"),
]


@pytest.mark.parametrize(("make", "message"), BROKEN, ids=[make.__name__ for make, _ in BROKEN])
def test_hostile_and_broken_files_are_refused_in_one_sentence(tmp_path, make, message):
    path = tmp_path / "weights.pth"
    make(path)
    with pytest.raises(WeightsFileError, match=message) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    # Nothing was executed, nothing was written.
    assert [entry.name for entry in tmp_path.iterdir()] == ["weights.pth"]


def test_a_tensor_that_extends_past_its_storage_is_refused(tmp_path):
    path = tmp_path / "weights.pth"
    tensor_past_its_storage(path)
    with pytest.raises(WeightsFileError, match="extends past its storage"):
        read_checkpoint(path)


def test_a_pickle_cannot_change_the_reader(tmp_path):
    # BUILD sets attributes of an object; here of a name itself, and of a storage.
    state = b"}X\x05\x00\x00\x00dtypeX\x03\x00\x00\x00<f8sb."
    for made in (
        b"ctorch\nFloatStorage\n",
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQ",
    ):
        with pytest.raises(WeightsFileError, match=r"change the reader's internals|damaged"):
            read_pickle(tmp_path / "a.pth", b"\x80\x02" + made + state)
    writers.write_torch(tmp_path / "b.pth", {"a": np.ones(3, "float32")})
    assert read_checkpoint(tmp_path / "b.pth").tensors["a"].shape == (3,)


@pytest.mark.parametrize(
    ("pickled", "message"),
    [
        (b"\x80\x02K\x01r\x00\x00\x00\x10.", "requests too much memory"),
        (b"\x80\x02}" + b")" + b"\x85" * 200_000 + b"K\x01s.", "nested too deeply"),
        (b"\x80\x02" + b"]" * 300 + b"a" * 299 + b".", "nested too deeply"),
        (b"\x80\x02" + b"K\x010" * 6_000_000 + b"K\x01.", "is too large"),
        (b"\x80\x02cos\n\x1b[31mline two.system\n.", r"run os.\\x1b\[31mline two.system, which"),
    ],
    ids=["memo", "key", "list", "long", "escapes"],
)
def test_malicious_pickles_are_not_run(tmp_path, pickled, message):
    with pytest.raises(WeightsFileError, match=message) as caught:
        read_pickle(tmp_path / "a.pth", pickled)
    assert str(caught.value).isprintable()


def test_decompression_bombs_are_not_unpacked(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros((1 << 24,), "float32"))
    with pytest.raises(WeightsFileError, match=r"would unpack to \d+, which no weights do"):
        read_checkpoint(tmp_path / "a.npz")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["layer_names"] = ["a"]
        file.create_dataset("a/a/kernel:0", (1 << 24,), "f4", chunks=True)
    with pytest.raises(WeightsFileError, match=r"would unpack to \d+, which no weights do"):
        read_checkpoint(tmp_path / "a.h5")
    writers.write_torch(tmp_path / "a.pth", {"a": np.zeros((8, 8), "float32")})
    with (
        zipfile.ZipFile(tmp_path / "a.pth") as old,
        zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(WeightsFileError, match=r"compressed, which torch\.save never does"):
        read_checkpoint(tmp_path / "b.pth")


def test_an_h5_file_cannot_refer_to_other_files(tmp_path):
    (tmp_path / "secret").write_bytes(b"0123")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["layer_names"] = ["a"]
        external = [(str(tmp_path / "secret"), 0, 4)]
        file.create_dataset("a/a/kernel:0", (1,), "f4", external=external)
    with pytest.raises(WeightsFileError, match="refers to data in other files"):
        read_checkpoint(tmp_path / "a.h5")


def test_impossible_shapes_in_mxnet_files_are_refused(tmp_path):
    array = struct.pack("<Iii2q", 0xF993FAC9, 0, 2, -1, 40) + struct.pack("<iii", 1, 0, 0)
    (tmp_path / "a.params").write_bytes(struct.pack("<QQQ", 0x112, 0, 1) + array)
    with pytest.raises(WeightsFileError, match="impossible shape; it is damaged"):
        read_checkpoint(tmp_path / "a.params")


def test_folders_and_missing_files_are_reported(tmp_path):
    with pytest.raises(WeightsFileError, match="is a folder; pass the weights file in it"):
        file_format(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"none.pth doesn't exist"):
        file_format(tmp_path / "none.pth")


def test_a_keras_file_is_not_called_damaged(tmp_path):
    keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]).save(tmp_path / "a.keras")
    with pytest.raises(WeightsFileError, match=r"is a \.keras file, which holds a whole model"):
        read_checkpoint(tmp_path / "a.keras")
