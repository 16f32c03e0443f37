import pytest
from PIL import Image
from support import datasets

from keras_psp.data.pairs import ImagePairs


@pytest.fixture
def flat(tmp_path):
    """A folder of 10 examples without splits, with the classes 0, 1 and 2."""
    for index in range(10):
        datasets.write_example(tmp_path, f"scene{index}", value=index % 3)
    return tmp_path


@pytest.fixture
def divided(tmp_path):
    """A folder with 3 examples in train and 2 in val, and three class names."""
    for split, count in (("train", 3), ("val", 2)):
        for index in range(count):
            datasets.write_example(tmp_path / split, f"{split}{index}", value=index)
    (tmp_path / "classes.txt").write_text("sky\nroad\ncar\n")
    return tmp_path


def write_pairs(folder, values, *, prefix="scene"):
    pairs = []
    for i, value in enumerate(values):
        image, label = folder / f"{prefix}{i}.png", folder / f"{prefix}{i}_label.png"
        Image.new("RGB", (6, 4), (i, 20, 30)).save(image)
        Image.new("L", (6, 4), value).save(label)
        pairs.append((image, label))
    return pairs


@pytest.fixture
def source(tmp_path):
    """A source with 4 training and 1 validation example, and a lookup."""
    return ImagePairs(
        {
            "train": write_pairs(tmp_path, [1, 2, 0, 1]),
            "val": write_pairs(tmp_path, [3], prefix="v"),
        },
        class_names=("sky", "road", "car"),
        lookup={0: 255, 1: 0, 2: 1, 3: 2},
        title="Scenes",
    )


@pytest.fixture
def unlabeled(tmp_path):
    """A source whose test split has no labels."""
    pairs = write_pairs(tmp_path, [0, 1])
    return ImagePairs(
        {"train": pairs, "test": [(image, None) for image, _ in pairs]},
        class_names=("sky", "road"),
        title="Scenes",
    )
