"""Checkpoints with the tensor names and shapes of each project, written down by hand.

Independent of keras_psp's own tables: from the state dicts that the projects' networks
have. Only the numbers are random.
"""

import collections

import numpy as np

_SUMS = ("mean", "var")
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def kernel(*shape):
    """Random, small enough for a deep network's sums."""
    random = np.random.default_rng(shape[0] + 7 * shape[1])
    return random.standard_normal(shape, "float32") * np.float32(0.03)


def norm(channels, prefix, names=("weight", "bias", "running_mean", "running_var")):
    """A BatchNorm's four vectors."""
    random = np.random.default_rng(channels)
    values = random.uniform(0.5, 1.5, (4, channels)).astype("float32")
    return {f"{prefix}.{name}": value for name, value in zip(names, values, strict=True)}


def torch_norm(channels, prefix):
    return {**norm(channels, prefix), f"{prefix}.num_batches_tracked": np.array(100)}


def residual(depth, channels, prefix="", normalization=torch_norm):
    """layer1 to layer4 of a ResNet as torch names them."""
    tensors = {}
    expansion = 4 if depth >= 50 else 1
    for stage, (count, width) in enumerate(zip(BLOCKS[depth], (64, 128, 256, 512), strict=True), 1):
        for block in range(count):
            unit = f"{prefix}layer{stage}.{block}."
            if expansion == 4:
                sizes = [(width, channels, 1), (width, width, 3), (4 * width, width, 1)]
            else:
                sizes = [(width, channels, 3), (width, width, 3)]
            for number, (out, into, size) in enumerate(sizes, 1):
                tensors[f"{unit}conv{number}.weight"] = kernel(out, into, size, size)
                tensors |= normalization(out, f"{unit}bn{number}")
            out = expansion * width
            if block == 0 and (stage > 1 or channels != out):
                tensors[f"{unit}downsample.0.weight"] = kernel(out, channels, 1, 1)
                tensors |= normalization(out, f"{unit}downsample.1")
            channels = out
    return tensors


def deep_stem(widths, places, normalization=torch_norm):
    """Three 3x3 convolutions under the given (convolution, norm) names."""
    tensors, channels = {}, 3
    for (conv, bn), width in zip(places, widths, strict=True):
        tensors[f"{conv}.weight"] = kernel(width, channels, 3, 3)
        tensors |= normalization(width, bn)
        channels = width
    return tensors


def plain_stem(prefix=""):
    """One 7x7 convolution."""
    return {f"{prefix}conv1.weight": kernel(64, 3, 7, 7), **torch_norm(64, f"{prefix}bn1")}


def mmsegmentation(depth=50, num_classes=19, plain=False):
    """The state dict of mmsegmentation's pspnet_r{depth}(b)-d8."""
    places = [(f"backbone.stem.{n}", f"backbone.stem.{n + 1}") for n in (0, 3, 6)]
    tensors = plain_stem("backbone.") if plain else deep_stem((32, 32, 64), places)
    tensors |= residual(depth, 64, "backbone.")
    features = 2048 if depth >= 50 else 512
    width = features // 4
    for level in range(4):
        module = f"decode_head.psp_modules.{level}.1."
        tensors[f"{module}conv.weight"] = kernel(width, features, 1, 1)
        tensors |= torch_norm(width, f"{module}bn")
    tensors["decode_head.bottleneck.conv.weight"] = kernel(width, 2 * features, 3, 3)
    tensors |= torch_norm(width, "decode_head.bottleneck.bn")
    tensors["decode_head.conv_seg.weight"] = kernel(num_classes, width, 1, 1)
    tensors["decode_head.conv_seg.bias"] = np.arange(num_classes, dtype="float32")
    tensors["auxiliary_head.convs.0.conv.weight"] = kernel(width // 2, features // 2, 3, 3)
    tensors |= torch_norm(width // 2, "auxiliary_head.convs.0.bn")
    tensors["auxiliary_head.conv_seg.weight"] = kernel(num_classes, width // 2, 1, 1)
    tensors["auxiliary_head.conv_seg.bias"] = np.ones(num_classes, "float32")
    return collections.OrderedDict(tensors)


def semseg(depth=50, num_classes=21):
    """The state dict of semseg's PSPNet."""
    tensors = deep_stem((64, 64, 128), [(f"layer0.{n}", f"layer0.{n + 1}") for n in (0, 3, 6)])
    tensors |= residual(depth, 128)
    for level in range(4):
        tensors[f"ppm.features.{level}.1.weight"] = kernel(512, 2048, 1, 1)
        tensors |= torch_norm(512, f"ppm.features.{level}.2")
    for head, into, out in (("cls", 4096, 512), ("aux", 1024, 256)):
        tensors[f"{head}.0.weight"] = kernel(out, into, 3, 3)
        tensors |= torch_norm(out, f"{head}.1")
        tensors[f"{head}.4.weight"] = kernel(num_classes, out, 1, 1)
        tensors[f"{head}.4.bias"] = np.ones(num_classes, "float32")
    return tensors


def csail_encoder(depth=18):
    """encoder_epoch_20.pth, with the sums of its own BatchNorm."""

    def normalization(channels, prefix):
        sums = {
            f"{prefix}._tmp_running_{name}": np.ones(channels, "f4") for name in ("mean", "var")
        }
        return {**norm(channels, prefix), **sums, f"{prefix}._running_iter": np.ones(1, "f4")}

    places = [(f"conv{n}", f"bn{n}") for n in (1, 2, 3)]
    tensors = deep_stem((64, 64, 128), places, normalization)
    return tensors | residual(depth, 128, normalization=normalization)


def csail_decoder(num_classes=150, features=512):
    """decoder_epoch_20.pth of ppm_deepsup."""
    tensors = {}
    for level in range(4):
        tensors[f"ppm.{level}.1.weight"] = kernel(512, features, 1, 1)
        tensors |= norm(512, f"ppm.{level}.2")
    tensors["conv_last.0.weight"] = kernel(512, features + 2048, 3, 3)
    tensors |= norm(512, "conv_last.1")
    tensors["conv_last.4.weight"] = kernel(num_classes, 512, 1, 1)
    tensors["conv_last.4.bias"] = np.ones(num_classes, "float32")
    tensors["cbr_deepsup.0.weight"] = kernel(features // 4, features // 2, 3, 3)
    tensors |= norm(features // 4, "cbr_deepsup.1")
    tensors["conv_last_deepsup.weight"] = kernel(num_classes, features // 4, 1, 1)
    tensors["conv_last_deepsup.bias"] = np.ones(num_classes, "float32")
    return tensors


def smp(depth=18, num_classes=5, features=128):
    """The state dict of segmentation_models.pytorch's PSPNet."""
    tensors = plain_stem("encoder.") | residual(depth, 64, "encoder.")
    for level in range(4):
        block = f"decoder.psp.blocks.{level}.pool.1."
        tensors[f"{block}0.weight"] = kernel(features // 4, features, 1, 1)
        if level == 0:
            tensors[f"{block}0.bias"] = np.ones(features // 4, "float32")
        else:
            tensors |= torch_norm(features // 4, f"{block}1")
    tensors["decoder.conv.0.weight"] = kernel(512, 2 * features, 1, 1)
    tensors |= torch_norm(512, "decoder.conv.1")
    tensors["segmentation_head.0.weight"] = kernel(num_classes, 512, 3, 3)
    tensors["segmentation_head.0.bias"] = np.ones(num_classes, "float32")
    return tensors


def gluoncv(depth=50, num_classes=21):
    """What save_parameters writes of gluon-cv's PSPNet."""

    def normalization(channels, prefix):
        return norm(channels, prefix, ("gamma", "beta", "running_mean", "running_var"))

    places = [("conv1.0", "conv1.1"), ("conv1.3", "conv1.4"), ("conv1.6", "bn1")]
    tensors = deep_stem((64, 64, 128), places, normalization)
    tensors |= residual(depth, 128, normalization=normalization)
    for level in (1, 2, 3, 4):
        tensors[f"head.psp.conv{level}.0.weight"] = kernel(512, 2048, 1, 1)
        tensors |= normalization(512, f"head.psp.conv{level}.1")
    for head, into, out in (("head", 4096, 512), ("auxlayer", 1024, 256)):
        tensors[f"{head}.block.0.weight"] = kernel(out, into, 3, 3)
        tensors |= normalization(out, f"{head}.block.1")
        tensors[f"{head}.block.4.weight"] = kernel(num_classes, out, 1, 1)
        tensors[f"{head}.block.4.bias"] = np.ones(num_classes, "float32")
    return tensors


def caffe(num_classes=150, *, auxiliary=False):
    """Blobs of the PSPNet50 of the Caffe original."""
    tensors = {}

    def unit(name, *shape):
        tensors[f"{name}/0"] = kernel(*shape)
        values = np.random.default_rng(shape[0]).uniform(0.5, 1.5, (4, 1, shape[0], 1, 1))
        for index, value in enumerate(values.astype("float32")):
            tensors[f"{name}/bn/{index}"] = value

    unit("conv1_1_3x3_s2", 64, 3, 3, 3)
    unit("conv1_2_3x3", 64, 64, 3, 3)
    unit("conv1_3_3x3", 128, 64, 3, 3)
    channels = 128
    for stage, (count, width) in enumerate(zip(BLOCKS[50], (64, 128, 256, 512), strict=True), 2):
        for block in range(1, count + 1):
            unit(f"conv{stage}_{block}_1x1_reduce", width, channels, 1, 1)
            unit(f"conv{stage}_{block}_3x3", width, width, 3, 3)
            unit(f"conv{stage}_{block}_1x1_increase", 4 * width, width, 1, 1)
            if block == 1:
                unit(f"conv{stage}_1_1x1_proj", 4 * width, channels, 1, 1)
            channels = 4 * width
    for bins in (1, 2, 3, 6):
        unit(f"conv5_3_pool{bins}_conv", 512, 2048, 1, 1)
    unit("conv5_4", 512, 4096, 3, 3)
    tensors["conv6/0"] = kernel(num_classes, 512, 1, 1)
    tensors["conv6/1"] = np.ones(num_classes, "float32")
    if auxiliary:
        unit("conv4_7", 256, 1024, 3, 3)
        tensors["conv6_1/0"] = kernel(num_classes, 256, 1, 1)
        tensors["conv6_1/1"] = np.ones(num_classes, "float32")
    return tensors


def randomize(model):
    """Sets random biases and statistics in place of zeros and ones."""
    random = np.random.default_rng(1)
    for layer in model.layers:
        for variable in layer.weights:
            if variable.name in ("bias", "beta", "moving_mean"):
                variable.assign(random.normal(0, 0.1, variable.shape))
            elif variable.name in ("gamma", "moving_variance"):
                variable.assign(random.uniform(0.5, 1.5, variable.shape))
