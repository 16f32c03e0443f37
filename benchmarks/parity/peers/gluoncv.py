"""Peer: the PSPNets of gluoncv's model zoo on MXNet, with random weights.

    git clone https://github.com/dmlc/gluon-cv
    python3.11 -m venv venv  # apart: MXNet needs an old numpy, gluoncv refuses torch 2
    venv/bin/pip install mxnet==1.9.1 "numpy==1.23.5" "pandas<2.1" "matplotlib<3.8" "scipy<1.11"
    venv/bin/pip install "opencv-python-headless<4.8" pillow tqdm portalocker pyyaml yacs autocfg
    alias peer="venv/bin/python benchmarks/parity/peers/gluoncv.py --repository gluon-cv"
    peer --list
    peer --variant psp_resnet50_ade --output out

gluoncv is imported whole, nothing is stubbed. The scores are `PSPNet.predict`'s, which takes any
size; `evaluate` (the forward pass) always resizes to the size given to the constructor, and the
pyramid to an eighth of it, so that it wants multiples of 8.

Each model comes with its auxiliary head and without (`_no_aux`). Of the other forms, `_float16`
is what scripts/segmentation/train.py leaves with `--dtype float16`, `_save_params` a file of
MXNet's deprecated call, `_collect` one of `collect_params().save`, `_export` one of
`gluoncv.utils.export_block` with its symbol.
"""

import sys

import common
import numpy as np

MODELS = {
    "psp_resnet50_ade": ("ade20k", "resnet50"),
    "psp_resnet101_ade": ("ade20k", "resnet101"),
    "psp_resnet101_voc": ("pascal_voc", "resnet101"),
    "psp_resnet101_coco": ("coco", "resnet101"),
    "psp_resnet101_citys": ("citys", "resnet101"),
}
FORMS = ("_float16", "_save_params", "_collect", "_export")
VARIANTS = [
    *(name + suffix for name in MODELS for suffix in ("", "_no_aux")),
    *("psp_resnet50_ade" + form for form in FORMS),
]


def randomize(network, seed):
    """Random weights, biases and BatchNorm statistics, as common.randomize_torch's."""
    import mxnet as mx

    random = np.random.default_rng(seed)
    # Names as in the checkpoint; the other names of parameters depend on what was built before.
    for name, parameter in network._collect_params_with_prefix().items():
        shape = parameter.shape
        if name.endswith(("gamma", "running_var")):
            values = random.uniform(0.5, 1.5, shape)
            if name.endswith("bn3.gamma"):
                values *= 0.25  # the residual sum would grow through 33 blocks
        elif name.endswith(("beta", "running_mean", "bias")):
            values = random.normal(0, 0.1, shape)
        else:
            # He's deviation: the maps keep their spread through the network. Zero mean: what all
            # places share (maps after ReLU are positive) does not drown what they differ in.
            values = random.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape)
            values -= values.mean((1, 2, 3), keepdims=True)
        parameter.set_data(mx.nd.array(values, dtype="float32"))


def save(network, options, form):
    """The checkpoint's file names."""
    from gluoncv.utils import export_block

    path = options.output / f"{options.variant}.params"
    if form == "_export":
        # docs/tutorials/deployment/export_network.py; the graph is that of one image size.
        export_block(str(path.with_suffix("")), network, data_shape=(480, 480, 3))
        return [f"{path.stem}-0000.params", f"{path.stem}-symbol.json"]
    if form == "_save_params":
        network.save_params(str(path))
    elif form == "_collect":
        network.collect_params().save(str(path))
    else:
        # scripts/segmentation/train.py, save_checkpoint
        network.save_parameters(str(path))
    return [path.name]


def main():
    # None: as many as the model's dataset has.
    options = common.arguments(__doc__.splitlines()[0], VARIANTS, num_classes=None)
    # First, as this script bears the package's name.
    sys.path.insert(0, str(options.repository))
    import gluoncv
    import mxnet as mx
    from gluoncv.data import datasets
    from gluoncv.data.transforms.presets.segmentation import test_transform
    from gluoncv.model_zoo import PSPNet

    form = next((form for form in FORMS if options.variant.endswith(form)), "")
    name = options.variant.removesuffix("_no_aux").removesuffix(form)
    dataset, backbone = MODELS[name]
    options.num_classes = options.num_classes or datasets[dataset].NUM_CLASS
    # As gluoncv.model_zoo.get_psp does it, but for any number of classes.
    network = PSPNet(
        options.num_classes,
        backbone=backbone,
        aux=not options.variant.endswith("_no_aux"),
        pretrained_base=False,
    )
    network.collect_params().initialize(force_reinit=True)
    network(mx.nd.zeros((1, 3, 480, 480)))  # the backbone's shapes are known from here on
    randomize(network, options.seed)
    if form == "_float16":
        network.cast("float16")
    files = save(network, options, form)
    network.cast("float32")
    network.hybridize(active=False)  # `export_block` froze the graph at 480x480

    def logits(pixels):
        # docs/tutorials/segmentation/demo_psp.py: RGB, 0..1, ImageNet's mean and deviation
        # (gluoncv/data/transforms/presets/segmentation.py).
        scores = network.predict(test_transform(mx.nd.array(pixels[0], dtype="uint8"), mx.cpu()))
        return scores.asnumpy().transpose(0, 2, 3, 1)

    what = (
        f"PSPNet.predict of gluoncv {gluoncv.__version__} on MXNet {mx.__version__}, "
        f"{backbone}, {datasets[dataset].__name__}'s classes"
    )
    common.write(options, family="gluoncv", files=files, logits=logits, what=what)


if __name__ == "__main__":
    main()
