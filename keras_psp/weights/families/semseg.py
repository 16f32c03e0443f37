"""semseg, the authors' PyTorch code (hszhao/semseg, model/pspnet.py and model/resnet.py)."""

from keras_psp.weights.names import Family, torch_residual

SEMSEG = Family(
    name="semseg",
    title="a PSPNet of semseg",
    signs=["ppm.features.0.1.weight", "cls.4.weight"],
    parts={
        "stem": [("layer0.0", "layer0.1"), ("layer0.3", "layer0.4"), ("layer0.6", "layer0.7")],
        **torch_residual(),
        "level": ("ppm.features.{level}.1", "ppm.features.{level}.2"),
        "fusion": ("cls.0", "cls.1"),
        "classifier": "cls.4",
        "auxiliary": ("aux.0", "aux.1"),
        "auxiliary_classifier": "aux.4",
    },
    network={"align_corners": True},
)

# For example initmodel/resnet50_v2.pth (model/resnet.py, deep_base).
SEMSEG_IMAGENET = Family(
    name="semseg ImageNet",
    title="an ImageNet ResNet of semseg",
    signs=["conv1.weight", "conv3.weight", "layer4.0.conv1.weight"],
    parts={"stem": [("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")], **torch_residual()},
    ignored=[r"fc\.(weight|bias)"],
)
