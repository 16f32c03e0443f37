"""Writes checkpoints and logits of the PSPNets in gluoncv's model zoo on MXNet.

    git clone https://github.com/dmlc/gluon-cv
    python3.11 -m venv venv  # separate: MXNet needs an old numpy, gluoncv refuses torch 2
    venv/bin/pip install mxnet==1.9.1 "numpy==1.23.5" "pandas<2.1" "matplotlib<3.8" "scipy<1.11"
    venv/bin/pip install "opencv-python-headless<4.8" pillow tqdm portalocker pyyaml yacs autocfg
    alias peer="venv/bin/python benchmarks/parity/peers/gluoncv.py --repository gluon-cv"
    peer --list
    peer --variant psp_resnet50_ade --output out

gluoncv is imported without stubs. The scores are those of `PSPNet.predict`, which accepts any
size; `evaluate` (the forward pass) always resizes to the size given to the constructor, and the
pyramid to an eighth of it, so that it needs multiples of 8.

Each model has variants with its auxiliary head and without (`_no_aux`). `_float16` is the file
that scripts/segmentation/train.py writes with `--dtype float16`, `_save_params` one of MXNet's
deprecated call, `_collect` one of `collect_params().save`, `_export` one of
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
    """Sets random weights, biases and BatchNorm statistics, as common.randomize_torch does."""
    import mxnet as mx

    random = np.random.default_rng(seed)
    # Names as in the checkpoint; other names depend on the networks built before.
    for name, parameter in network._collect_params_with_prefix().items():
        shape = parameter.shape
        if name.endswith(("gamma", "running_var")):
            values = random.uniform(0.5, 1.5, shape)
            if name.endswith("bn3.gamma"):
                values *= 0.25  # so that the residual sum doesn't explode in 33 blocks
        elif name.endswith(("beta", "running_mean", "bias")):
            values = random.normal(0, 0.1, shape)
        else:
            # He's deviation, so that feature maps keep their variance through the network. Zero
            # mean, so that the positive mean after ReLU doesn't dominate the differences.
            values = random.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape)
            values -= values.mean((1, 2, 3), keepdims=True)
        parameter.set_data(mx.nd.array(values, dtype="float32"))


def save(network, options, form):
    """Saves the checkpoint and returns its file names."""
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
    # None: the number of classes of the model's dataset.
    options = common.arguments(__doc__.splitlines()[0], VARIANTS, num_classes=None)
    # First, since this script has the package's name.
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
    # As in gluoncv.model_zoo.get_psp, but for any number of classes.
    network = PSPNet(
        options.num_classes,
        backbone=backbone,
        aux=not options.variant.endswith("_no_aux"),
        pretrained_base=False,
    )
    network.collect_params().initialize(force_reinit=True)
    network(mx.nd.zeros((1, 3, 480, 480)))  # determines the backbone's shapes
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
