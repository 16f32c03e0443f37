"""The model card of a preset: README.md, with the header that Hugging Face reads."""

import json
import re
from collections.abc import Mapping
from typing import Any

from keras_psp.layers.resnet import DilatedResNet
from keras_psp.models.arrays import image_scale
from keras_psp.models.checks import smallest_side
from keras_psp.models.classes import class_names_of, palette_of
from keras_psp.models.pspnet import PSPNet
from keras_psp.version import __version__
from keras_psp.weights.preset_folder import PLACE

_IDENTIFIER = re.compile("[a-z0-9][a-z0-9.+-]*")  # of a license on Hugging Face


def card(model: PSPNet, *, license: str | None, facts: Mapping[str, Any]) -> str:
    """Returns the card: use, classes, figures, training, license.

    Args:
        model: the network.
        license: name of the license of the weights.
        facts: those of `checked_facts`.
    """
    parts = [
        f"---\n{_header(license, facts)}\n---\n",
        f"# {_title(model, facts)}\n",
        "A [PSPNet](https://arxiv.org/abs/1612.01105) for semantic segmentation, saved by "
        f"[keras_psp](https://github.com/keras-psp/keras_psp) {__version__}. It gives each pixel "
        f"of an image one of {model.num_classes} classes.\n",
        _use(model),
        _figures(facts),
        _training(facts),
        _network(model),
        _classes(model),
        _license(license),
    ]
    return "\n".join(part for part in parts if part)


def _header(license, facts):
    """Returns the header in YAML, of which JSON is a subset."""
    header: dict[str, Any] = {
        "library_name": "keras_psp",
        "pipeline_tag": "image-segmentation",
        "tags": ["keras", "pspnet", "semantic-segmentation"],
    }
    if license is not None:
        name = license.casefold().replace(" ", "-")
        known = _IDENTIFIER.fullmatch(name) is not None
        header |= {"license": name if known else "other"}
        if not known:
            header["license_name"] = license
    if {"dataset", "mean_iou"} <= facts.keys():
        dataset = {"name": facts["dataset"], "type": _slug(facts["dataset"])}
        if "split" in facts:
            dataset["split"] = facts["split"]
        metric = {"type": "mean_iou", "name": "mean IoU", "value": round(facts["mean_iou"], 4)}
        result = {
            "task": {"type": "image-segmentation", "name": "Semantic segmentation"},
            "dataset": dataset,
            "metrics": [metric],
        }
        header["model-index"] = [{"name": "PSPNet", "results": [result]}]
    return "\n".join(f"{key}: {json.dumps(value)}" for key, value in header.items())


def _title(model, facts):
    title = f"PSPNet, {_backbone(model)}"
    return f"{title}, {_text(facts['dataset'])}" if "dataset" in facts else title


def _backbone(model):
    if isinstance(model.backbone, DilatedResNet):
        return f"ResNet-{model.backbone.depth}"
    return _text(model.backbone.features.name)


def _use(model):
    images = f"Images are RGB, 0 to {image_scale(model) or 255}"
    if model.input_channels != 3:
        images = f"Images have {model.input_channels} bands, in the units of the training images"
    return f"""\
## Use

```python
import keras_psp

model = keras_psp.PSPNet.from_preset("{PLACE}")
result = keras_psp.predict("photo.jpg", model)  # result.classes: one index per pixel
result.save("predictions")  # an overlay with a legend, and the classes
```

or `keras-psp predict photo.jpg --model {PLACE}`. To train it further on your own classes:
`keras-psp train folder --data photos/ --output runs/mine --weights {PLACE}`. {images};
normalization is part of the network.
"""


def _figures(facts):
    if "mean_iou" not in facts:
        return ""
    where = _text(facts.get("dataset", "the validation images"))
    split = f", split {_text(facts['split'])}" if "split" in facts else ""
    return f"## Figures\n\nMean IoU {facts['mean_iou']:.2%} on {where}{split}, at a single scale.\n"


def _training(facts):
    rows = {
        "data": facts.get("dataset"),
        "training images": facts.get("training_images"),
        "epochs": facts.get("epochs"),
        "crops": _pixels(facts.get("crop_size")),
        "images resized to": _pixels(facts.get("image_size")),
        "initial weights": facts.get("weights"),
        "recipe": facts.get("recipe"),
    }
    lines = [f"- {name}: {_text(value)}" for name, value in rows.items() if value is not None]
    if "command" in facts:
        lines += ["", f"    {' '.join(facts['command'].split())}"]
    return "\n".join(["## Training", "", *lines, ""]) if lines else ""


def _network(model):
    normalization = model.get_layer("normalization").get_config()
    height, width = model.input_shape[1:3]
    size = f"{height or 'any'} x {width or 'any'}, at least {smallest_side(model)} per side"
    rows = {
        "backbone": f"{_backbone(model)}, output stride {model.backbone.output_stride}",
        "bins of the pyramid": ", ".join(map(str, model.bin_sizes)) or "none",
        "parameters": f"{model.count_params():,}",
        "image size (height x width)": size,
        "mean, std": f"{_numbers(normalization['mean'])}; {_numbers(normalization['std'])} "
        f"({normalization['channel_order']})",
    }
    return "\n".join(["## Network", "", *(f"- {k}: {v}" for k, v in rows.items()), ""])


def _classes(model):
    rows = enumerate(zip(class_names_of(model), palette_of(model).tolist(), strict=True))
    lines = [f"| {i} | {_text(name)} | {', '.join(map(str, c))} |" for i, (name, c) in rows]
    return "\n".join(["## Classes", "", "| index | class | color |", "|---:|---|---|", *lines, ""])


def _license(license):
    if license is None:
        return "## License\n\nNot stated; ask the author before you use it.\n"
    return f"## License\n\n{_text(license)}, as stated by the author.\n"


def _pixels(size):
    return None if size is None else " x ".join(map(str, size))


def _numbers(values):
    return ", ".join(f"{value:g}" for value in values)


def _slug(text):
    return re.sub("[^a-z0-9]+", "-", text.casefold()).strip("-") or "other"


def _text(value):
    """A value on one line of Markdown, without markup."""
    line = " ".join(str(value).split())
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", line)
