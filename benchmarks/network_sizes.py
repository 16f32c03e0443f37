"""Computes parameters, feature map sizes and multiply-adds of every depth.

    python benchmarks/network_sizes.py > network_sizes.md

The networks are built but not run: the numbers come from their variables and from the output
shapes of their layers. A multiply-add counts as two operations.
"""

import argparse

import keras
from measure import environment, progress

import keras_psp
from keras_psp.layers.resnet import BLOCKS, pooled_shape

CLASSES = 150


def maps(backbone, side):
    """Yields (name, output shape) of the stem, its pooling and each stage."""
    shape = (1, side, side, 3)
    for conv in backbone.stem:
        shape = conv.compute_output_shape(shape)
    yield "stem", shape
    shape = pooled_shape(shape)
    yield "pool", shape
    for number, blocks in enumerate(backbone.stages, start=2):
        for block in blocks:
            shape = block.compute_output_shape(shape)
        yield f"stage {number}", shape


def convolution(kernel, shape):
    """Operations of a convolution with this output shape."""
    height, width, channels, filters = kernel
    return 2 * height * width * channels * filters * shape[1] * shape[2]


def backbone_operations(backbone, side):
    """Operations of the backbone's convolutions."""
    shape, total = (1, side, side, 3), 0
    for unit in backbone.stem:
        shape = unit.compute_output_shape(shape)
        total += convolution(unit.conv.kernel.shape, shape)
    shape = pooled_shape(shape)
    for block in (block for blocks in backbone.stages for block in blocks):
        before = shape
        for unit in block.convs:
            shape = unit.compute_output_shape(shape)
            total += convolution(unit.conv.kernel.shape, shape)
        if block.shortcut is not None:
            after = block.shortcut.compute_output_shape(before)
            total += convolution(block.shortcut.conv.kernel.shape, after)
    return total


def fusion_operations(channels, level, filters, bins, side):
    """Operations of the 3x3 fusion: plain, and the parts of the factorized form."""
    plain = convolution((3, 3, channels + len(bins) * level, filters), (1, side, side))
    parts = {
        "features": convolution((3, 3, channels, filters), (1, side, side)),
        "products": sum(convolution((1, 1, level, 9 * filters), (1, b, b)) for b in bins),
        "rows": sum(2 * side * (3 * b) ** 2 * filters for b in bins),
        "columns": 2 * side * side * 3 * sum(bins) * filters,
    }
    return plain, parts


def row(depth, side):
    """Prints a row of the first table and returns the values for the others."""
    progress(f"PSPNet-{depth}")
    model = keras_psp.PSPNet(CLASSES, backbone=f"resnet{depth}")
    auxiliary = model.get_layer("auxiliary_head").count_params()
    pyramid = model.get_layer("pyramid_pooling")
    shapes = dict(maps(model.backbone, side))
    _, height, _, channels = shapes["stage 5"]
    level, filters = pyramid.reductions[0].conv.filters, pyramid.fusion.filters
    plain, parts = fusion_operations(channels, level, filters, pyramid.bin_sizes, height)
    rest = backbone_operations(model.backbone, side)
    rest += sum(convolution((1, 1, channels, level), (1, b, b)) for b in pyramid.bin_sizes)
    rest += convolution((1, 1, filters, CLASSES), shapes["stage 5"])
    fused = sum(parts.values())
    print(
        f"| {depth} | {', '.join(map(str, BLOCKS[depth]))} | {channels} | "
        f"{model.backbone.count_params() / 1e6:.1f} | "
        f"{(model.count_params() - auxiliary) / 1e6:.1f} | {model.count_params() / 1e6:.1f} | "
        f"{(rest + plain) / 1e9:.1f} | {(rest + fused) / 1e9:.1f} |",
        flush=True,
    )
    keras.utils.clear_session()
    return shapes, plain, parts


def main():
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=473, help="image side [473]")
    side = parser.parse_args().size
    print(f"{CLASSES} classes, one image of {side}x{side}. {environment([])}.\n")
    print(
        "| depth | blocks | features | parameters of the backbone, M | of the network, M | with "
        "the auxiliary head, M | GFLOP, plain fusion | GFLOP, factorized |"
    )
    print("|---|---|---|---|---|---|---|---|")
    rows = {depth: row(depth, side) for depth in BLOCKS}
    print("\n| map of PSPNet-50 | output stride 8 | 16 | 32 |\n|---|---|---|---|")
    strides = [dict(maps(keras_psp.DilatedResNet(50, output_stride=s), side)) for s in (8, 16, 32)]
    for name in strides[0]:
        shapes = ("{}x{}x{}".format(*stride[name][1:]) for stride in strides)
        print(f"| {name} | {' | '.join(shapes)} |")
    _, plain, parts = rows[50]
    print("\n| fusion of PSPNet-50 | GFLOP |\n|---|---|")
    print(f"| plain: 3x3 over features and levels | {plain / 1e9:.2f} |")
    for name, operations in parts.items():
        print(f"| factorized: {name} | {operations / 1e9:.2f} |")
    print(f"| factorized, total | {sum(parts.values()) / 1e9:.2f} |")


if __name__ == "__main__":
    main()
