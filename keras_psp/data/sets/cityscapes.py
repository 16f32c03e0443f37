"""Cityscapes, with fine and coarse labels."""

from pathlib import Path

import numpy as np

from keras_psp.data.label_files import opened, read_mask
from keras_psp.data.pairs import Pair, matched
from keras_psp.data.sets import cityscapes_labels
from keras_psp.data.sets.published import VOID, DataSet, PublishedSet

CITYSCAPES_IDS = tuple(label.id for label in cityscapes_labels.CLASSES)
CITYSCAPES_LOOKUP = {
    **dict.fromkeys(range(len(cityscapes_labels.LABELS)), VOID),
    **{value: index for index, value in enumerate(CITYSCAPES_IDS)},
}
"""The class of each label id."""

# A black image, which many have deleted because a notice on the download page advised it.
_BLACK = "troisdorf/troisdorf_000000_000073"


class Cityscapes(PublishedSet):
    """Cityscapes, which also has instance labels."""

    def instances(self, split: str, index: int) -> np.ndarray:
        """Returns instance ids for the instance-level IoU, (height, width) int32.

        Pixels of instances have 1000 * label id + number, others the label id, as in
        `*_instanceIds.png` and cityscapesScripts' evaluation.
        """
        path = self.instance_file(split, index)
        with opened(path) as image:
            values = np.asarray(image)
        if values.ndim != 2:
            raise ValueError(f"{path}: has colors instead of instance ids; unpack it again.")
        return values.astype(np.int32)

    def instance_file(self, split: str, index: int) -> Path:
        """Returns the path of an example's instance ids."""
        label = self.paths(split)[index][1]
        if label is None:
            raise ValueError(f"Split {split!r} of {self._title} has no instance labels.")
        path = label.with_name(label.name.rsplit("_", 1)[0] + "_instanceIds.png")
        if not path.is_file():
            raise ValueError(
                f"{path}: no such file; unpack gtFine_trainvaltest.zip (gtCoarse.zip for "
                "train_extra) again."
            )
        return path


def open_cityscapes(entry: DataSet, root: Path, *, complete: bool) -> PublishedSet:
    home = entry.find_home(root, "leftImg8bit", "cityscapes")
    pairs: dict[str, list[Pair]] = {}
    lacking: dict[str, int] = {}
    for split in ("train", "val", "test", "train_extra"):
        folder = home / "leftImg8bit" / split
        if not folder.is_dir():
            continue
        images = _by_city(folder, "_leftImg8bit.png")
        if split == "test":  # its published labels are void except for the ego vehicle
            pairs[split] = [(images[name], None) for name in sorted(images)]
            continue
        kind = "gtCoarse" if split == "train_extra" else "gtFine"
        annotations = home / kind / split
        if not annotations.is_dir():
            raise ValueError(
                f"{annotations}: no such folder; unpack "
                f"{'gtCoarse.zip' if kind == 'gtCoarse' else 'gtFine_trainvaltest.zip'} there, "
                f"or move {folder} away."
            )
        labels = _by_city(annotations, f"_{kind}_labelIds.png")
        labels = labels or _by_city(annotations, f"_{kind}_labelTrainIds.png")
        if split == "train_extra" and _BLACK not in images:
            labels.pop(_BLACK, None)
            lacking[split] = 1
        pairs[split] = matched(
            images,
            labels,
            image_folder=folder,
            label_at=(annotations, f"_{kind}_labelIds.png"),
            complete=complete,
        )
    return Cityscapes(
        entry,
        home,
        pairs,
        complete=complete,
        lookup=CITYSCAPES_LOOKUP,
        read_label=_read_cityscapes,
        lacking=lacking,
    )


def _by_city(folder, ending):
    """Maps `CITY/NAME` to the files with this ending in the cities' folders."""
    return {
        f"{path.parent.name}/{path.name.removesuffix(ending)}": path
        for path in sorted(folder.glob(f"*/*{ending}"))
        if not path.name.startswith(".")
    }


def _read_cityscapes(path):
    """Reads label ids; train ids are converted so that one table serves both."""
    values = read_mask(path)
    if not path.name.endswith("_labelTrainIds.png"):
        return values
    wrong = values[(values >= len(CITYSCAPES_IDS)) & (values != VOID)]
    if wrong.size:
        raise ValueError(
            f"{path}: label value {wrong[0]} isn't a trainId (0 to 18, 255); write the file "
            "again with csCreateTrainIdLabelImgs, or remove it if _labelIds.png exists."
        )
    return cityscapes_labels.label_ids(values)
