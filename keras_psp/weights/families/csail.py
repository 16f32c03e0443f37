"""CSAILVision/semantic-segmentation-pytorch (mit_semseg/models/models.py and resnet.py).

A network is two files, encoder_epoch_N.pth and decoder_epoch_N.pth. Their tensors get the
prefixes "encoder." and "decoder." here.
"""

from keras_psp.weights.names import Family, torch_residual

CSAIL = Family(
    name="CSAILVision",
    title="a PPM network of CSAILVision",
    signs=["encoder.conv3.weight", "decoder.ppm.0.1.weight"],
    parts={
        "stem": [(f"encoder.conv{n}", f"encoder.bn{n}") for n in (1, 2, 3)],
        **torch_residual("encoder."),
        "level": ("decoder.ppm.{level}.1", "decoder.ppm.{level}.2"),
        "fusion": ("decoder.conv_last.0", "decoder.conv_last.1"),
        "classifier": "decoder.conv_last.4",
        "auxiliary": ("decoder.cbr_deepsup.0", "decoder.cbr_deepsup.1"),
        "auxiliary_classifier": "decoder.conv_last_deepsup",
    },
    # Sums of its synchronized BatchNorm (mit_semseg/lib/nn/modules/batchnorm.py).
    ignored=[r".*\._tmp_running_(mean|var)", r".*\._running_iter", r"encoder\.fc\.(weight|bias)"],
    backbone={"contract_dilation": True},
    network={"align_corners": False},
)
