"""Miniature copies of the data sets, in the layouts of their archives.

Each maker writes images of 64x48 whose labels repeat the `VALUES` of its data set, row by row.
"""

import json
import re

import numpy as np
import pytest
from PIL import Image

from keras_psp import MeanIoU
from keras_psp.data import ImageFolder, load, training_batches
from support.networks import tiny_backbone, tiny_pspnet

WIDTH, HEIGHT = 64, 48

# Values in the label files, and the class indices that they must become.
VALUES = {
    "ade20k": {0: 255, 1: 0, 2: 1, 150: 149},
    "camvid": {0: 0, 10: 10, 11: 255},
    # cityscapesScripts, helpers/labels.py: id and trainId.
    "cityscapes": {
        **dict.fromkeys((*range(7), 9, 10, 14, 15, 16, 18, 29, 30), 255),
        **{7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10},
        **{24: 11, 25: 12, 26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18},
    },
    # Category ids of segments; 0 has no segment.
    "coco": {0: 255, 1: 0, 11: 10, 13: 11, 90: 79, 92: 80, 184: 116, 200: 132},
    # mmsegmentation, tools/convert_datasets/coco_stuff164k.py.
    "coco_stuff": {
        0: 0,
        10: 10,
        12: 11,
        24: 23,
        26: 24,
        64: 59,
        66: 60,
        91: 80,
        181: 170,
        255: 255,
    },
    "lmo": {0: 255, 1: 0, 33: 32},
    "pascal_context": {0: 0, 1: 1, 59: 59},
    "pascal_context_59": {0: 255, 1: 0, 59: 58},
    "voc2012": {0: 0, 1: 1, 20: 20, 255: 255},
    "oxford_iiit_pet": {1: 0, 2: 1, 3: 2},
}

COUNTS = {
    "ade20k": {"train": 3, "val": 2, "test": 2},
    "camvid": {"train": 2, "val": 2, "test": 2},
    "cityscapes": {"train": 3, "val": 2, "test": 2, "train_extra": 2},
    "coco": {"train": 2, "val": 2},
    "coco_stuff": {"train": 2, "val": 2},
    "lmo": {"train": 2, "test": 2},
    "pascal_context": {"train": 2, "val": 3},
    "pascal_context_59": {"train": 2, "val": 3},
    "voc2012": {"train": 5, "train_voc": 2, "val": 2, "trainval": 4, "test": 2},
}


def labels(name):
    """Returns a data set's values in turn, (HEIGHT, WIDTH) uint8."""
    return np.resize(np.array(list(VALUES[name]), np.uint8), (HEIGHT, WIDTH))


def expected_mask(name):
    """Returns the class indices of `labels(name)`."""
    return np.vectorize(VALUES[name].get)(labels(name)).astype(np.uint8)


def random_image(seed):
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def save_mat(path, **variables):
    from scipy.io import savemat

    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, variables)


def write_lines(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def ade20k(root):
    for folder, short, count in (("training", "train", 3), ("validation", "val", 2)):
        for i in range(1, count + 1):
            save(root / "images" / folder / f"ADE_{short}_{i:08}.jpg", random_image(i))
            save(root / "annotations" / folder / f"ADE_{short}_{i:08}.png", labels("ade20k"))
    for i in (1, 2):
        save(root / "release_test" / "testing" / f"ADE_test_{i:08}.jpg", random_image(i))


def camvid(root):
    for split in ("train", "val", "test"):
        for i in range(2):
            save(root / split / f"{split}_{i}.png", random_image(i))
            save(root / f"{split}annot" / f"{split}_{i}.png", labels("camvid"))
        write_lines(
            root / f"{split}.txt", [f"/SegNet/CamVid/{split}/{split}_{i}.png" for i in (0, 1)]
        )


def cityscapes(root):
    cities = {"train": ("aachen", "ulm"), "val": ("lindau",), "test": ("bonn",)}
    for split, names in cities.items():
        for city in names:
            for i in range(1 if city == "ulm" else 2):
                stem = f"{city}/{city}_{i:06}_000019"
                save(root / "leftImg8bit" / split / f"{stem}_leftImg8bit.png", random_image(i))
                mark = root / "gtFine" / split / f"{stem}_gtFine"
                save(mark.with_name(f"{mark.name}_labelIds.png"), labels("cityscapes"))
                save(mark.with_name(f"{mark.name}_color.png"), random_image(i))
                instances = labels("cityscapes").astype(np.uint16)
                instances[instances == 26] = 26_001  # the second car
                save(mark.with_name(f"{mark.name}_instanceIds.png"), instances)
    for i in (72, 73):
        stem = f"troisdorf/troisdorf_000000_{i:06}"
        save(root / "leftImg8bit" / "train_extra" / f"{stem}_leftImg8bit.png", random_image(i))
        save(
            root / "gtCoarse" / "train_extra" / f"{stem}_gtCoarse_labelIds.png",
            labels("cityscapes"),
        )


def coco(root):
    categories = labels("coco").astype(np.int64)
    for split in ("train2017", "val2017"):
        annotations = []
        for i in (1, 2):
            # Segment numbers need all three colors; 0 stays without segment.
            ids = np.where(categories > 0, categories * 70_001 + i, 0)
            colors = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1)
            save(root / split / f"{i:012}.jpg", random_image(i))
            save(
                root / "annotations" / f"panoptic_{split}" / f"{i:012}.png",
                colors.astype(np.uint8),
            )
            annotations.append(
                {
                    "file_name": f"{i:012}.png",
                    "image_id": i,
                    "segments_info": [
                        {"id": int(c) * 70_001 + i, "category_id": int(c), "iscrowd": 0}
                        for c in np.unique(categories)
                        if c
                    ],
                }
            )
        path = root / "annotations" / f"panoptic_{split}.json"
        path.write_text(json.dumps({"images": [], "annotations": annotations}))


def coco_stuff(root):
    for split in ("train2017", "val2017"):
        for i in (1, 2):
            save(root / split / f"{i:012}.jpg", random_image(i))
            save(root / "stuffthingmaps" / split / f"{i:012}.png", labels("coco_stuff"))


def lmo(root):
    folder = "spatial_envelope_256x256_static_8outdoorcategories"
    names = ("coast_bea1", "coast_bea2", "forest_for3", "forest_for4", "highway_bost181")
    for i, name in enumerate(names):
        save(root / "Images" / folder / f"{name}.jpg", random_image(i))
    for name in names[:4]:
        save_mat(root / "SemanticLabels" / folder / f"{name}.mat", S=labels("lmo"))
    write_lines(root / "TestSet1.txt", [f"{folder}\\{name}.jpg" for name in names[2:4]])


def pascal_context(root):
    for split, names in (("train", ("a1", "a2")), ("val", ("b1", "b2", "b3"))):
        for i, name in enumerate(names):
            save(root / "JPEGImages" / f"2008_{name}.jpg", random_image(i))
            save(root / "SegmentationClassContext" / f"2008_{name}.png", labels("pascal_context"))
        write_lines(
            root / "ImageSets" / "SegmentationContext" / f"{split}.txt",
            [f"2008_{name}" for name in names],
        )


def voc2012(root, *, augmentation="png"):
    """Images 0 and 1 are VOC's train, 2 and 3 its val, 4 to 6 SBD's, 7 and 8 its test."""
    names = [f"2008_{i:06}" for i in range(9)]
    lists = root / "ImageSets" / "Segmentation"
    for i, name in enumerate(names):
        save(root / "JPEGImages" / f"{name}.jpg", random_image(i))
    for name in names[:4]:
        label = Image.fromarray(labels("voc2012"))
        label.putpalette([0, 0, 0] + [200, 100, 50] * 255)  # becomes a palette PNG
        (root / "SegmentationClass").mkdir(exist_ok=True)
        label.save(root / "SegmentationClass" / f"{name}.png")
    for split, chosen in (
        ("train", names[:2]),
        ("val", names[2:4]),
        ("trainval", names[:4]),
        ("test", names[7:]),
    ):
        write_lines(lists / f"{split}.txt", chosen)
    without_void = np.where(labels("voc2012") == 255, 0, labels("voc2012")).astype(np.uint8)
    if augmentation == "png":
        for name in names[:7]:
            save(root / "SegmentationClassAug" / f"{name}.png", without_void)
        write_lines(lists / "trainaug.txt", sorted({*names[:2], *names[4:7]}))
    else:
        release = root.parent / "benchmark_RELEASE" / "dataset"
        for name in (*names[:1], *names[2:3], *names[4:7]):
            save_mat(release / "cls" / f"{name}.mat", GTcls={"Segmentation": without_void})
        write_lines(release / "train.txt", names[:3])
        write_lines(release / "val.txt", names[3:7])


MAKERS = {
    "ade20k": ade20k,
    "camvid": camvid,
    "cityscapes": cityscapes,
    "coco": coco,
    "coco_stuff": coco_stuff,
    "lmo": lmo,
    "pascal_context": pascal_context,
    "pascal_context_59": pascal_context,
    "voc2012": voc2012,
}


def prepare_pets(data_dir, *, file_format, values=None, image=None, trimap=None, called=None):
    """Prepares a miniature of TFDS' oxford_iiit_pet 4.0.0, or a set with other features."""
    import tensorflow_datasets as tfds

    mask = labels("oxford_iiit_pet") if values is None else values
    colors = image or tfds.features.Image(encoding_format="jpeg")
    trimap = trimap or tfds.features.Image(shape=(None, None, 1), use_colormap=True)

    with tfds.core.registered.skip_registration():

        class Pets(tfds.core.GeneratorBasedBuilder):
            name = called or "oxford_iiit_pet"
            VERSION = tfds.core.Version("4.0.0")

            def _info(self):
                return tfds.core.DatasetInfo(
                    builder=self,
                    features=tfds.features.FeaturesDict(
                        {
                            "image": colors,
                            "label": tfds.features.ClassLabel(num_classes=37),
                            "species": tfds.features.ClassLabel(num_classes=2),
                            "file_name": tfds.features.Text(),
                            "segmentation_mask": trimap,
                            "head_bbox": tfds.features.BBoxFeature(),
                        }
                    ),
                )

            def _split_generators(self, dl_manager):
                return {"train": self._generate_examples(3), "test": self._generate_examples(2)}

            def _generate_examples(self, count):
                for i in range(count):
                    yield (
                        i,
                        {
                            "image": random_image(i).astype(colors.np_dtype),
                            "label": 0,
                            "species": 0,
                            "file_name": f"{i}.jpg",
                            "segmentation_mask": mask[..., None],
                            "head_bbox": tfds.features.BBox(0.0, 0.0, 0.0, 0.0),
                        },
                    )

        builder = Pets(data_dir=data_dir, file_format=file_format)
    builder.download_and_prepare()


def random_camvid(folder):
    """A small copy of CamVid with random test labels, so that some predictions are correct."""
    camvid(folder)
    generator = np.random.default_rng(0)
    for path in (folder / "testannot").iterdir():
        values = generator.integers(0, 12, (6, 8)).astype("uint8").repeat(8, 0).repeat(8, 1)
        Image.fromarray(values).save(path)
    return load("camvid", root=folder, complete=False)


def train(source):
    """Trains a tiny PSPNet for one step, from the source's files to a mean IoU."""
    network = tiny_pspnet(
        source.num_classes,
        backbone=tiny_backbone(num_stages=2),
        bin_sizes=(1, 2),
        reduction=4,
        fusion_filters=8,
        aux_weight=0,
    )
    network.compile(metrics=[MeanIoU(source.num_classes)], run_eagerly=True)
    batches = training_batches(source, batch_size=2, crop_size=49)
    history = network.fit(batches, epochs=1, steps_per_epoch=1, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert 0 <= history["mean_iou"][0] <= 1


def write_example(root, name, *, value=1, suffix=".png", size=(6, 4)):
    """Writes an image and its label, all of one value, into images/ and labels/."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (10, 20, 30)).save(root / "images" / f"{name}{suffix}")
    Image.new("L", size, value).save(root / "labels" / f"{name}.png")


def fault(root, **arguments):
    """Returns the one-line message about what is wrong in a folder, which names the folder."""
    with pytest.raises(ValueError, match=re.escape(str(root))) as caught:
        ImageFolder(root, **arguments).check(progress=False)
    message = str(caught.value)
    assert "\n" not in message
    return message
