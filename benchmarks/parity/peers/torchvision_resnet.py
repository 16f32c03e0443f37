"""Writes a checkpoint of torchvision's ResNet and its features at output stride 16 and 32.

    python benchmarks/parity/peers/torchvision_resnet.py --variant resnet50 --output out

Needs torch and torchvision; --repository is ignored. reference.npz contains, instead of logits,
`features_HxW` (layer4) and `auxiliary_HxW` (layer3), (1, h, w, channels), without dilation: the
sides are ceil(H / 32) and ceil(H / 16).

torchvision's wheels on PyPI are built for CUDA. With a torch for the CPU its operators don't
load and the import fails, although ResNets don't use them; they are then declared here without
an implementation.
"""

import json

import common
import numpy as np

VARIANTS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")


def main():
    options = common.arguments(__doc__.splitlines()[0], VARIANTS, num_classes=1000)
    torchvision = common.import_torchvision()
    import torch

    torch.manual_seed(options.seed)  # for fc; the other weights are set below
    model = torchvision.models.get_model(options.variant, num_classes=options.num_classes).eval()
    common.randomize_torch(model, options.seed)
    common.calm_residuals(model)

    file = f"{options.variant}.pth"
    common.save_torch(options, file, model.state_dict())

    maps = {}
    for name, layer in {"features": model.layer4, "auxiliary": model.layer3}.items():
        layer.register_forward_hook(
            lambda _, inputs, output, name=name: maps.update({name: output})
        )
    # Only the preset's mean and deviation, not its resize and crop.
    preset = torchvision.models.get_model_weights(options.variant).DEFAULT.transforms()
    mean, deviation = (torch.tensor(v)[:, None, None] for v in (preset.mean, preset.std))

    arrays = {}
    for height, width in options.sizes:
        pixels = common.image(height, width, options.seed)
        # transforms/_presets.py, ImageClassification: RGB, 0..1, then mean and deviation.
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255.0
        with torch.no_grad():
            model((images - mean) / deviation)
        arrays[f"image_{height}x{width}"] = pixels
        for name, tensor in maps.items():
            arrays[f"{name}_{height}x{width}"] = tensor.permute(0, 2, 3, 1).numpy()
    np.savez(options.output / "reference.npz", **arrays)
    facts = {
        "family": "torchvision",
        "variant": options.variant,
        "files": [file],
        "num_classes": options.num_classes,
        "what": f"torchvision {torchvision.__version__} {options.variant} in evaluation mode, "
        f"outputs of layer4 and layer3; torch {torch.__version__}",
    }
    (options.output / "facts.json").write_text(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
