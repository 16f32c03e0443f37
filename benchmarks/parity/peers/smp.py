"""Writes checkpoints and logits of segmentation_models.pytorch's PSPNet.

    git clone https://github.com/qubvel-org/segmentation_models.pytorch
    python benchmarks/parity/peers/smp.py --repository segmentation_models.pytorch \
        --variant resnet34 --output out

Needs torch, torchvision, timm, safetensors and huggingface_hub. VARIANT.pth is written by
torch.save(model.state_dict()), pretrained/ by model.save_pretrained(), from which the reference
is run. PSPNet's default `upsampling=8` fits its default `encoder_depth=3`; -depth4 and -depth5
would return 1/2 and 1/4 of the image's size with it, so they are built with upsampling=16 and
32. Heights and widths must be multiples of 2**depth (base/model.py).

torchvision's wheels on PyPI are built for CUDA. With a torch for the CPU its operators don't
load and the import fails, although ResNets don't use them; they are then declared here without
an implementation.
"""

import sys

import common

VARIANTS = {  # encoder_name, encoder_depth, upsampling
    "resnet18": ("resnet18", 3, 8),
    "resnet34": ("resnet34", 3, 8),
    "resnet50": ("resnet50", 3, 8),
    "resnet101": ("resnet101", 3, 8),
    "resnet50-depth4": ("resnet50", 4, 16),
    "resnet50-depth5": ("resnet50", 5, 32),
}


def main():
    options = common.arguments(
        __doc__.splitlines()[0], list(VARIANTS), sizes=("480x480", "256x320")
    )
    if options.repository is None:
        raise SystemExit("--repository is needed: a checkout of segmentation_models.pytorch")
    # Replaces this folder in the search path.
    sys.path[0] = str(options.repository)
    torchvision = common.import_torchvision()
    import segmentation_models_pytorch as smp
    import torch

    encoder_name, depth, upsampling = VARIANTS[options.variant]
    model = smp.PSPNet(
        encoder_name=encoder_name,
        encoder_depth=depth,
        encoder_weights=None,
        classes=options.num_classes,
        upsampling=upsampling,
    )
    common.randomize_torch(model, options.seed)
    common.calm_residuals(model)

    file = f"{options.variant}.pth"
    common.save_torch(options, file, model.state_dict())
    model.save_pretrained(options.output / "pretrained")
    model = smp.from_pretrained(str(options.output / "pretrained")).eval()

    def logits(pixels):
        # get_preprocessing_params would download these; they are in its
        # tests/test_preprocessing.py.
        images = smp.encoders.preprocess_input(
            pixels,
            mean=[0.485, 0.456, 0.406],
            std=[0.229, 0.224, 0.225],
            input_space="RGB",
            input_range=[0, 1],
        )
        images = torch.from_numpy(images).float().permute(0, 3, 1, 2)
        return model.predict(images).permute(0, 2, 3, 1).numpy()

    common.write(
        options,
        family="smp",
        files=[file, "pretrained/model.safetensors"],
        logits=logits,
        what=f"segmentation_models_pytorch {smp.__version__} PSPNet, encoder_name={encoder_name}, "
        f"encoder_depth={depth}, upsampling={upsampling}, in evaluation mode; torchvision "
        f"{torchvision.__version__}, torch {torch.__version__}",
    )


if __name__ == "__main__":
    main()
