"""Writes a checkpoint and logits of mmsegmentation's PSPNet.

    git clone --branch v0.30.0 https://github.com/open-mmlab/mmsegmentation
    pip install "setuptools<81" wheel yapf==0.40.1 prettytable matplotlib
    pip install --no-build-isolation mmcv==1.7.2
    python benchmarks/parity/peers/mmsegmentation.py \
        --repository mmsegmentation --variant r50-d8 --output out

Builds the network from the project's configs/pspnet with its own code, and saves it with
mmcv's `save_checkpoint` and the metadata that tools/train.py passes. SyncBN is converted to BN
by mmcv's function, as in tools/test.py. Needs torch and the pure-Python mmcv 1.x. Two modules
are replaced by stubs: `mmcv.ops`, the compiled part, which other heads and losses import, and
`torchvision` if it isn't installed, from which mmcv only reads URLs.
"""

import importlib.machinery
import os
import sys
import types

import common
import numpy as np
import torch

CITYSCAPES = "512x1024_80k_cityscapes"
VARIANTS = {
    **{
        name: f"pspnet_{name}_{CITYSCAPES}"
        for name in (
            *("r18-d8", "r50-d8", "r101-d8", "r18b-d8", "r50b-d8", "r101b-d8"),
            *("r50-d32", "r50b-d32"),
        )
    },
    # align_corners=True in the heads.
    "r50-d8-769": "pspnet_r50-d8_769x769_80k_cityscapes",
    "r18b-d8-769": "pspnet_r18b-d8_769x769_80k_cityscapes",
    # Half-precision convolutions, as mmcv wrote them before torch 1.6.
    "r101-d8-fp16": f"pspnet_r101-d8_fp16_{CITYSCAPES}",
    # A numpy number in the metadata, which evaluation with save_best adds.
    "r18-d8-best": f"pspnet_r18-d8_{CITYSCAPES}",
}


def stub(name):
    """Adds a module in which every name is None."""
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    module.__path__ = []
    module.__file__ = __file__  # torch looks for the source of modules
    module.__getattr__ = lambda attribute: None
    sys.modules[name] = module


def prepare(repository):
    sys.path.insert(0, str(repository))
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):  # RuntimeError: built for another torch
        stub("torchvision")
    stub("mmcv.ops")


def build(options):
    """Returns the configuration and the network, as in mmseg/apis/inference.py:30-41."""
    import mmcv
    from mmcv.cnn.utils import revert_sync_batchnorm
    from mmseg.models import build_segmentor

    config = mmcv.Config.fromfile(
        str(options.repository / "configs" / "pspnet" / f"{VARIANTS[options.variant]}.py")
    )
    config.model.decode_head.num_classes = options.num_classes
    config.model.auxiliary_head.num_classes = options.num_classes
    text = config.pretty_text
    config.model.pretrained = None
    config.model.train_cfg = None
    network = build_segmentor(config.model, test_cfg=config.get("test_cfg"))
    network = revert_sync_batchnorm(network)
    common.randomize_torch(network, options.seed)
    # So that the residual sum doesn't explode.
    names = {"BasicBlock": "bn2", "Bottleneck": "bn3"}
    blocks = [m for m in network.backbone.modules() if type(m).__name__ in names]
    with torch.no_grad():
        for block in blocks:
            getattr(block, names[type(block).__name__]).weight *= len(blocks) ** -0.5
    return config, text, network.eval()


def meta(options, text):
    """The metadata of tools/train.py:177-233 and mmcv/runner/iter_based_runner.py."""
    import mmseg
    from mmseg.datasets import ADE20KDataset, CityscapesDataset

    known = {len(data.CLASSES): data for data in (CityscapesDataset, ADE20KDataset)}
    if options.num_classes in known:
        classes = known[options.num_classes].CLASSES
        palette = known[options.num_classes].PALETTE
    else:
        classes = tuple(f"class {i}" for i in range(options.num_classes))
        palette = [[i, i, i] for i in range(options.num_classes)]
    messages = {"last_ckpt": "./work_dirs/pspnet/iter_72000.pth"}
    if options.variant.endswith("-best"):
        # mmseg/datasets/custom.py:480 by mmcv/runner/hooks/evaluation.py:336
        messages["best_score"] = np.round(np.mean([74.87, 74.88]), 2) / 100.0
        messages["best_ckpt"] = "./work_dirs/pspnet/best_mIoU_iter_72000.pth"
    return {
        "env_info": f"sys.platform: linux\nPyTorch: {torch.__version__}",
        "seed": options.seed,
        "exp_name": f"{VARIANTS[options.variant]}.py",
        "mmseg_version": mmseg.__version__,
        "config": text,
        "CLASSES": classes,
        "PALETTE": palette,
        "hook_msgs": messages,
        "epoch": 215,
        "iter": 80000,
    }


def main():
    options = common.arguments(__doc__, tuple(VARIANTS), num_classes=19)
    options.repository = options.repository.resolve()
    prepare(options.repository)
    import mmcv
    from mmcv.runner import save_checkpoint
    from mmcv.runner.fp16_utils import patch_norm_fp32
    from mmseg.datasets.pipelines import Compose

    config, text, network = build(options)
    if options.variant.endswith("-fp16"):
        # mmcv/runner/fp16_utils.py, wrap_fp16_model for torch before 1.6
        network.half()
        patch_norm_fp32(network)
    files = ["iter_80000.pth"]
    path = options.output / files[0]
    save_checkpoint(network, os.fspath(path), meta=meta(options, text))
    if options.legacy:
        # tools/publish_model.py loads and saves again; torch before 1.6 wrote this format.
        saved = torch.load(path, map_location="cpu", weights_only=False)
        common.save_legacy(options, files[0], saved)
    network.float()

    # The pipeline of the configuration (configs/_base_/datasets/cityscapes.py) without its
    # resizing and flipping: mean and deviation in units of pixels, BGR converted to RGB.
    steps = config.data.test.pipeline[1].transforms
    pipeline = Compose([step for step in steps if step.type in ("Normalize", "ImageToTensor")])

    @torch.no_grad()
    def logits(pixels):
        # mmcv reads images as BGR.
        inputs = pipeline({"img": np.ascontiguousarray(pixels[0, :, :, ::-1])})["img"]
        # mmseg/models/segmentors/encoder_decoder.py: the input of the softmax in `inference`.
        return network.encode_decode(inputs[None], None).permute(0, 2, 3, 1).numpy()

    what = (
        f"mmsegmentation EncoderDecoder.encode_decode of {VARIANTS[options.variant]}.py in eval "
        f"mode, mmcv {mmcv.__version__}, torch {torch.__version__}"
    )
    common.write(options, family="mmsegmentation", files=files, logits=logits, what=what)


if __name__ == "__main__":
    main()
