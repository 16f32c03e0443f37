"""Trained PSPNets by name: those of mmsegmentation (configs/pspnet/README.md), and our own.

Keras is imported when a network is built, so that the table can be read without it.
"""

import dataclasses
import difflib
import functools
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_psp import labels
from keras_psp.files import cache_folder

if TYPE_CHECKING:
    from keras_psp.models.pspnet import PSPNet
    from keras_psp.weights.names import Family

_STRIDES = {8: (1, 2, 1, 1), 32: (1, 2, 2, 2)}


@dataclasses.dataclass(frozen=True)
class Preset:
    """A trained network that `PSPNet.from_preset` can open.

    Attributes:
        name: mmsegmentation's name, or one of the same form.
        backbone: "resnet18", "resnet50" or "resnet101".
        stem: "3x3" for the three convolutions of ResNetV1c, "7x7" for one.
        output_stride: 8 or 32.
        crop: (height, width) of the training crops.
        dataset: the data set of training and evaluation.
        labels: a name of `keras_psp.labels`.
        align_corners: how the network upsamples.
        parameters: number of weights, with the auxiliary head.
        iterations: number of training steps.
        mean_iou, mean_iou_multi_scale: published, in percent; None if not published. For
            the bundled network, measured by benchmarks/bundled_model.py.
        url: URL of the checkpoint; empty for a network that comes with this package.
        base_size: longer side, in pixels, of the images that the network predicts best;
            None for any.

    Example:
        preset = keras_psp.list_presets("ade20k")[0]
        print(preset.name, preset.num_classes, preset.mean_iou)
    """

    name: str
    backbone: str
    stem: str
    output_stride: int
    crop: tuple[int, int]
    dataset: str
    labels: str
    align_corners: bool
    parameters: int
    iterations: int
    mean_iou: float | None
    mean_iou_multi_scale: float | None
    url: str
    base_size: int | None = None

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(labels.labels(self.labels).class_names)

    @property
    def family(self) -> "Family":
        """The table of its tensors' names."""
        from keras_psp.weights.families.mmsegmentation import MMSEGMENTATION, MMSEGMENTATION_PLAIN

        return MMSEGMENTATION_PLAIN if self.stem == "7x7" else MMSEGMENTATION

    @property
    def bundled_file(self) -> Path | None:
        """The network's file if it comes with this package, else None."""
        return None if self.url else Path(__file__).parent / "bundled" / f"{self.name}.npz"

    @property
    def size(self) -> int | None:
        """Size of the checkpoint in bytes; None until it is fetched."""
        path = self.bundled_file or cache_folder() / Path(self.url).name
        return path.stat().st_size if path.exists() else None

    def build(self, **options: Any) -> "PSPNet":
        """Builds the checkpoint's network with random weights; `options` as in `convert`."""
        from keras_psp.weights.conversion import build
        from keras_psp.weights.families.mmsegmentation import backbone_options

        # All these networks keep the dilations of output stride 8, whatever their strides.
        backbone = {
            **self.family.backbone,
            **backbone_options(_STRIDES[self.output_stride], (1, 1, 2, 4)),
            "depth": int(self.backbone.removeprefix("resnet")),
            "stem_filters": (64,) if self.stem == "7x7" else (32, 32, 64),
        }
        label_set = labels.labels(self.labels)
        arguments = {
            "num_classes": self.num_classes,
            "align_corners": self.align_corners,
            "class_names": label_set.class_names,
            "palette": label_set.palette,
            "backbone": backbone,
        }
        return build(arguments, **options)


class PresetTable(tuple[Preset, ...]):
    """A tuple of presets that prints as a table."""

    def __rich__(self):
        import rich.table

        title = f"{len(self)} preset{'s' * (len(self) != 1)}"
        table = rich.table.Table(title=title, title_justify="left")
        for column in ("name", "backbone", "data set"):  # never wrapped, so they can be copied
            table.add_column(column, no_wrap=True)
        for column in ("crop", "classes", "mIoU", "ms+flip", "MB"):
            table.add_column(column, justify="right", no_wrap=True)
        for preset in self:
            scores = (preset.mean_iou, preset.mean_iou_multi_scale)
            table.add_row(
                preset.name,
                f"{preset.backbone} {preset.stem} /{preset.output_stride}",
                preset.dataset,
                f"{preset.crop[0]}x{preset.crop[1]}",
                str(preset.num_classes),
                *("-" if score is None else f"{score:.2f}" for score in scores),
                f"{(preset.size or 4 * preset.parameters) / 1e6:.0f}",
            )
        return table

    def __repr__(self):
        import rich.console

        text = io.StringIO()
        rich.console.Console(file=text, width=200).print(self)
        return text.getvalue().rstrip()


@functools.cache
def all_presets() -> dict[str, Preset]:
    """Returns every preset by name."""
    rows = json.loads(Path(__file__).with_name("presets.json").read_text("utf-8"))
    return {row["name"]: Preset(**{**row, "crop": tuple(row["crop"])}) for row in rows}


def list_presets(dataset: str | None = None) -> PresetTable:
    """Lists the networks that `PSPNet.from_preset` knows; prints as a table.

    Args:
        dataset: lists only those of one data set, e.g. "ade20k" or "Cityscapes".

    Raises:
        ValueError: if there are none for this data set.
    """
    presets = all_presets().values()
    if dataset is None:
        return PresetTable(presets)
    chosen = [p for p in presets if _plain(dataset) in (_plain(p.labels), _plain(p.dataset))]
    if not chosen:
        known = dict.fromkeys(preset.labels for preset in presets)
        raise ValueError(f"dataset={dataset!r} has no preset; choose one of {', '.join(known)}.")
    return PresetTable(chosen)


def _plain(name):
    return name.casefold().translate(str.maketrans("", "", "_ -"))


def find_preset(name: str) -> Preset:
    """Returns a preset by name; if there is none, the error suggests similar ones."""
    presets = all_presets()
    if name in presets:
        return presets[name]
    near = ", ".join(difflib.get_close_matches(name, presets, n=3, cutoff=0.4))
    remedy = f"the nearest are {near}" if near else "keras_psp.list_presets() shows all"
    raise ValueError(f"there is no preset {name!r}; {remedy}.")
