"""ImageNet ResNets with one 7x7 stem: torchvision, timm, and keras.applications.

torchvision/models/resnet.py and timm/models/resnet.py share their tensor names.
keras/src/applications/resnet.py (version 1) has named layers, strides in the 1x1
convolution, another epsilon, and biases, which are folded into the BatchNorms.
"""

from keras_psp.imagenet import CAFFE_NORMALIZATION
from keras_psp.weights.names import KERAS, Family, torch_residual

TORCHVISION = Family(
    name="torchvision, timm",
    title="an ImageNet ResNet of torchvision or timm",
    signs=["conv1.weight", "bn1.weight", "layer4.0.conv1.weight"],
    parts={"stem": [("conv1", "bn1")], **torch_residual()},
    ignored=[r"fc\.(weight|bias)"],
)

APPLICATIONS = Family(
    name="keras.applications",
    title="an ImageNet ResNet of keras.applications",
    signs=["conv1_conv/kernel", "conv4_block1_0_conv/kernel"],
    parts={
        "stem": [("conv1_conv", "conv1_bn")],
        "block": [
            (f"conv{{stage2}}_block{{block1}}_{n}_conv", f"conv{{stage2}}_block{{block1}}_{n}_bn")
            for n in (1, 2, 3)
        ],
        "shortcut": ("conv{stage2}_block{block1}_0_conv", "conv{stage2}_block{block1}_0_bn"),
    },
    suffixes=KERAS,
    ignored=[r"(predictions|probs|fc1000)/(kernel|bias)"],
    backbone={"stride_in_1x1": True, "epsilon": 1.001e-5},
    network=CAFFE_NORMALIZATION,
)
