"""gluon-cv (gluoncv/model_zoo/pspnet.py, fcn.py and resnetv1b.py, resnet*_v1s)."""

from keras_psp.weights.names import MXNET, Family, Suffixes, torch_residual

_BACKBONE = {"contract_dilation": True}
_NETWORK = {"align_corners": True}

# Files of gluon-cv 0.3, whose pyramid had bins up to 4 instead of 6 (until its commit
# f7c1d9e2), by the hash in their names (model_store.py); shapes don't show it.
_BINS_TO_FOUR = ("0c42cb73", "eaaa87eb", "3f1cce66", "09e79ac5", "77e69422", "0f49fb59")


def _describe(checkpoint, arguments):
    del arguments
    old = any(code in checkpoint.path.name for code in _BINS_TO_FOUR)
    return {"bin_sizes": (1, 2, 3, 4)} if old else {}


GLUONCV = Family(
    name="gluon-cv",
    title="a PSPNet of gluon-cv",
    signs=["head.psp.conv1.0.weight", "head.block.4.weight"],
    parts={
        "stem": [("conv1.0", "conv1.1"), ("conv1.3", "conv1.4"), ("conv1.6", "bn1")],
        **torch_residual(),
        "level": ("head.psp.conv{level1}.0", "head.psp.conv{level1}.1"),
        "fusion": ("head.block.0", "head.block.1"),
        "classifier": "head.block.4",
        "auxiliary": ("auxlayer.block.0", "auxlayer.block.1"),
        "auxiliary_classifier": "auxlayer.block.4",
    },
    suffixes=MXNET,
    ignored=[r"fc\.(weight|bias)"],
    backbone=_BACKBONE,
    network=_NETWORK,
    describe=_describe,
)


def _exported(block, index=0):
    """Names of a convolution and a BatchNorm in a block that numbers its layers."""
    return (f"{block}_conv{index}", f"{block}_batchnorm{index}")


# Files of net.export and collect_params().save, without the prefix "pspnet0_".
GLUONCV_EXPORTED = Family(
    name="gluon-cv exported",
    title="an exported PSPNet of gluon-cv",
    signs=["_psphead0_conv0_weight", "resnetv1s_conv0_weight"],
    parts={
        "stem": [_exported("resnetv1s", index) for index in (0, 1, 2)],
        "block": [_exported("resnetv1s_layers{stage}", "{index}")] * 3,
        "shortcut": _exported("resnetv1s_down{stage}"),
        "level": _exported("_pyramidpooling0_hybridsequential{level}"),
        "fusion": _exported("_psphead0"),
        "classifier": "_psphead0_conv1",
        "auxiliary": _exported("_fcnhead0_hybridsequential0"),
        "auxiliary_classifier": "_fcnhead0_hybridsequential0_conv1",
    },
    suffixes=Suffixes("_weight", "_bias", "_gamma", "_beta", "_running_mean", "_running_var"),
    # The preprocessing of export_block: ImageNet's mean and deviation.
    ignored=[r"_defaultpreprocess0_init_(mean|scale)", r"resnetv1s_dense0_(weight|bias)"],
    backbone=_BACKBONE,
    network=_NETWORK,
)
