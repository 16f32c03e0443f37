import pytest
from support import datasets

from keras_psp import data
from keras_psp.data.sets.registry import SETS


def test_every_data_set_is_listed_on_one_line():
    known = data.list_datasets()
    assert {*SETS, "folder", "list"} < set(known)
    assert all("\n" not in line for line in known.values())
    assert known["cityscapes"].endswith("train 2,975, val 500, test 1,525, train_extra 19,998")


def test_an_environment_variable_is_the_default_root(tmp_path, monkeypatch):
    (tmp_path / "ade20k").mkdir()
    datasets.ade20k(tmp_path / "ade20k")
    monkeypatch.setenv("KERAS_PSP_DATA", str(tmp_path))
    assert data.load("ade20k", complete=False).count("train") == 3
    with pytest.raises(ValueError, match="CamVid comes from https://") as caught:
        data.load("camvid")
    # The last line is the sentence about what was given.
    assert str(caught.value).splitlines()[-1] == (
        f"{tmp_path / 'camvid'}: no such folder; give the one that holds all of this."
    )


def test_error_without_a_folder_says_where_to_get_the_files(monkeypatch):
    monkeypatch.delenv("KERAS_PSP_DATA", raising=False)
    for name, entry in SETS.items():
        with pytest.raises(ValueError) as caught:
            data.load(name)
        message = str(caught.value)
        assert message.startswith(entry.help())
        assert message.splitlines()[-1].startswith(
            f"{name}: no folder is given; pass root=..., or set KERAS_PSP_DATA to a"
        )


def test_a_path_is_not_taken_for_a_name(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="nowhere: no such folder; give the folder of the images"):
        data.load(f"{tmp_path}/nowhere")
    with pytest.raises(ValueError, match="file: is a file; give a folder"):
        data.load(f"{tmp_path}/file")
    with pytest.raises(ValueError, match=r"the data set is 's3://b/data', an address"):
        data.load("s3://b/data")
    with pytest.raises(ValueError, match="Data set 'citiscapes' is unknown; choose ade20k, "):
        data.load("citiscapes")


def test_one_split_is_a_sequence_of_examples(tmp_path):
    datasets.ade20k(tmp_path)
    val = data.load("ade20k", "val", root=tmp_path, complete=False)
    assert isinstance(val, data.Split)
    assert len(val) == 2 and val.num_classes == 150
    assert val[1][1].shape == (datasets.HEIGHT, datasets.WIDTH)
    with pytest.raises(
        ValueError, match=r"Split 'trainval' is unknown; ADE20K in .* has train, val, test\.$"
    ):
        data.load("ade20k", "trainval", root=tmp_path, complete=False)


def test_a_folder_of_your_own(tmp_path):
    for i in range(3):
        datasets.save(tmp_path / "images" / f"{i}.jpg", datasets.random_image(i))
        datasets.save(tmp_path / "labels" / f"{i}.png", datasets.labels("camvid"))
    source = data.load("folder", root=tmp_path)
    assert isinstance(source, data.ImageFolder)
    assert source.num_classes == 12
    assert len(data.load("folder", "all", root=tmp_path, ignore_class=11)) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "kitti"}, "Data set 'kitti' is unknown; choose ade20k, "),
        ({"name": "folder"}, r"load\('folder'\) needs root="),
        ({"name": "list"}, r"load\('list'\) needs root="),
        ({"name": "ade20k", "sbd": "x"}, "ade20k takes no argument 'sbd'; it takes none"),
        ({"name": "voc2012", "classes": "x"}, "takes no argument 'classes'; it takes sbd"),
    ],
)
def test_invalid_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        data.load(**arguments)


def test_home_folders_are_expanded_and_addresses_refused(tmp_path, monkeypatch):
    datasets.write_example(tmp_path / "aerial", "a")
    datasets.camvid(tmp_path / "camvid")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data.load("folder", root="~/aerial").root == tmp_path / "aerial"
    assert data.ImageFolder("~/aerial").count("all") == 1
    assert data.load("camvid", root="~/camvid", complete=False).count("train") == 2
    monkeypatch.setenv("KERAS_PSP_DATA", "~")
    assert data.load("camvid", complete=False).count("train") == 2
    for name in ("folder", "camvid", "labelme"):
        with pytest.raises(ValueError, match=r"root is 'gs:.*', an address; give a local path"):
            data.load(name, root="gs://bucket/data")
