"""PSPNets by name: those of mmsegmentation (configs/pspnet/README.md there), and our own."""

import dataclasses
import difflib
import functools
import io
import json
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import keras

from keras_psp import labels
from keras_psp.files import put_in_place
from keras_psp.models.pspnet import PSPNet
from keras_psp.weights import store
from keras_psp.weights.compact import open_compact
from keras_psp.weights.conversion import build
from keras_psp.weights.families.mmsegmentation import (
    MMSEGMENTATION,
    MMSEGMENTATION_PLAIN,
    backbone_options,
)
from keras_psp.weights.files import read_checkpoint
from keras_psp.weights.files.errors import naming

# Goes up when a conversion changes, so that files of an older keras_psp aren't taken.
_CONVERSION = 1
_STRIDES = {8: (1, 2, 1, 1), 32: (1, 2, 2, 2)}


@dataclasses.dataclass(frozen=True)
class Preset:
    """One trained network.

    Attributes:
        name: mmsegmentation's own, or in its manner.
        backbone: "resnet18", "resnet50" or "resnet101".
        stem: "3x3" for the three convolutions of ResNetV1c, "7x7" for one.
        output_stride: 8 or 32.
        crop: (height, width) of the training crops.
        dataset: what it was trained and judged on.
        labels: of `keras_psp.labels`.
        align_corners: of all its upsampling.
        iterations: steps of training.
        mean_iou, mean_iou_multi_scale: published, in percent; None where not given. Of a network
            that comes with this package measured here (benchmarks/results/boxed_model.md).
        url: of the checkpoint; empty for a network that comes with this package.
        base_size: longer side that it sees pictures best at, in pixels; None for any.
    """

    name: str
    backbone: str
    stem: str
    output_stride: int
    crop: tuple[int, int]
    dataset: str
    labels: str
    align_corners: bool
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
    def family(self):
        """The table of its tensors' names."""
        return MMSEGMENTATION_PLAIN if self.stem == "7x7" else MMSEGMENTATION

    @property
    def box(self) -> Path | None:
        """The network's file, if it comes with this package."""
        return None if self.url else Path(__file__).parent / "boxed" / f"{self.name}.npz"

    @property
    def size(self) -> int | None:
        """Bytes of the checkpoint, None until it is fetched."""
        path = self.box or store.folder() / Path(self.url).name
        return path.stat().st_size if path.exists() else None

    def build(self, **options) -> PSPNet:
        """The network of a checkpoint, with random weights."""
        known = labels.labels(self.labels)
        # All these networks keep the dilations of output stride 8, whatever the strides.
        backbone = {
            **self.family.backbone,
            **backbone_options(_STRIDES[self.output_stride], (1, 1, 2, 4)),
            "depth": int(self.backbone.removeprefix("resnet")),
            "stem_filters": (64,) if self.stem == "7x7" else (32, 32, 64),
        }
        arguments = {
            "num_classes": self.num_classes,
            "align_corners": self.align_corners,
            "class_names": known.class_names,
            "palette": known.palette,
            "backbone": backbone,
        }
        return build(arguments, options)


class PresetTable(tuple):
    """Presets that print as a table."""

    def __rich__(self):
        """For `rich.print`."""
        import rich.table

        table = rich.table.Table(
            title=f"{len(self)} preset{'s' * (len(self) != 1)}", title_justify="left"
        )
        # A name is there to be copied: never folded.
        for column in ("name", "backbone", "data set"):
            table.add_column(column, no_wrap=True)
        for column in ("crop", "classes", "mIoU", "ms+flip", "MB"):
            table.add_column(column, justify="right", no_wrap=True)
        for preset in self:
            shown = (preset.mean_iou, preset.mean_iou_multi_scale)
            table.add_row(
                preset.name,
                f"{preset.backbone} {preset.stem} /{preset.output_stride}",
                preset.dataset,
                f"{preset.crop[0]}x{preset.crop[1]}",
                str(preset.num_classes),
                *("-" if value is None else f"{value:.2f}" for value in shown),
                "?" if preset.size is None else f"{preset.size / 1e6:.0f}",
            )
        return table

    def __repr__(self):
        """The table as text."""
        import rich.console

        text = io.StringIO()
        rich.console.Console(file=text, width=200).print(self)
        return text.getvalue().rstrip()


@functools.cache
def _all() -> dict[str, Preset]:
    text = resources.files("keras_psp.weights").joinpath("presets.json").read_text("utf-8")
    rows = json.loads(text)
    return {row["name"]: Preset(**{**row, "crop": tuple(row["crop"])}) for row in rows}


def list_presets(dataset: str | None = None) -> PresetTable:
    """The networks that `PSPNet.from_preset` knows; prints as a table.

    Args:
        dataset: only those of one data set, as "ade20k" or "Cityscapes".

    Raises:
        ValueError: for a data set that none was trained on.
    """
    presets = _all().values()
    if dataset is None:
        return PresetTable(presets)
    wanted = dataset.casefold().replace("_", "").replace(" ", "").replace("-", "")
    chosen = [
        preset
        for preset in presets
        for name in {preset.labels, preset.dataset}
        if name.casefold().replace("_", "").replace(" ", "").replace("-", "") == wanted
    ]
    if not chosen:
        known = dict.fromkeys(preset.labels for preset in presets)
        raise ValueError(f"dataset={dataset!r} has no preset; choose one of {', '.join(known)}.")
    return PresetTable(dict.fromkeys(chosen))


def preset_names() -> list[str]:
    """Names of all presets."""
    return list(_all())


def find_preset(name: str) -> Preset:
    """The preset of a name.

    Raises:
        ValueError: naming those that are like it.
    """
    if name in _all():
        return _all()[name]
    near = difflib.get_close_matches(name, _all(), n=3, cutoff=0.4)
    raise ValueError(
        f"there is no preset {name!r}; the nearest are {', '.join(near)}."
        if near
        else f"there is no preset {name!r}; keras_psp.list_presets() shows all."
    )


def open_preset(name: str) -> PSPNet:
    """The network with its trained weights; others' are fetched and converted the first time."""
    preset = find_preset(name)
    if preset.box:
        return open_compact(preset.box)
    source = Path(preset.url).name
    kept = store.folder() / f"{Path(source).stem}.v{_CONVERSION}.keras"
    if kept.exists():
        try:
            return keras.models.load_model(kept, compile=False, safe_mode=True)
        except Exception as error:  # damaged since; Keras' errors are of many kinds
            print(f"{kept} can't be opened ({error}); converting again", file=sys.stderr)
    path = store.fetched(preset.url)
    # Kept in full precision, whatever this process computes in.
    model = converted(preset, path, dtype="float32")
    try:
        with store.workspace() as work:
            draft = work / kept.name
            model.save(draft)
            put_in_place(draft, kept)
    except OSError as error:  # a full disk, a cache of somebody else's
        print(f"{kept} can't be kept ({error}); it's converted each time", file=sys.stderr)
    return model


def converted(preset: Preset, path: Path, **options: Any) -> PSPNet:
    """The preset's network with the weights of its checkpoint."""
    checkpoint = read_checkpoint(path)
    print(f"converting {path.name}", file=sys.stderr)
    model = preset.build(**options)
    with naming(path):
        preset.family.load(model, checkpoint.tensors)
    return model
