"""segmentation_models.pytorch (decoders/pspnet; encoders/resnet.py).

Its PSPNet is a different network: by default, the encoder ends after the second stage and
isn't dilated, the levels come before the features, the fusion is a 1x1 convolution and
the classifier a 3x3.
"""

from collections.abc import Mapping
from typing import Any

from keras_psp.weights.names import Family, torch_residual


def _family(stages):
    return Family(
        name="segmentation_models.pytorch",
        title=f"a PSPNet of segmentation_models.pytorch (encoder_depth={stages + 1})",
        signs=["decoder.psp.blocks.0.pool.1.0.weight", "encoder.layer1.0.conv1.weight"],
        parts={
            "stem": [("encoder.conv1", "encoder.bn1")],
            **torch_residual("encoder."),
            "level": ("decoder.psp.blocks.{level}.pool.1.0", "decoder.psp.blocks.{level}.pool.1.1"),
            "fusion": ("decoder.conv.0", "decoder.conv.1"),
            "classifier": "segmentation_head.0",
        },
        concatenation=(0, 1, 2, 3, "features"),
        # The file also contains the stages that aren't used.
        ignored=[rf"encoder\.layer{stage}\..*" for stage in range(stages + 1, 5)]
        + [r"encoder\.fc\.(weight|bias)"],
        backbone={"num_stages": stages, "output_stride": 4 * 2 ** (stages - 1)},
        network={"align_corners": True, "normalize_global": False, "dropout": 0.2},
    )


SMP = {stages: _family(stages) for stages in (2, 3, 4)}


def smp_family(tensors: Mapping[str, Any]) -> Family:
    """Returns the family of the encoder's depth, which the pyramid's input channels show."""
    channels = tensors["decoder.psp.blocks.0.pool.1.0.weight"].shape[1]
    bottleneck = "encoder.layer1.0.conv3.weight" in tensors
    stages = {1: 2, 2: 3, 4: 4}.get(channels // (512 if bottleneck else 128), 2)
    return SMP[stages]
