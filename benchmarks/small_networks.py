"""Measures a training step of PSPNets with small backbones, before and after they were sped up.

    python benchmarks/small_networks.py
    python benchmarks/small_networks.py --only mobilenet --strides 8 16 --rounds 3 --float32

"before" takes the network as keras.applications and efficientnet-lite-pytorch build it: BatchNorm
of Keras, which is several operations in training; the last 1x1 convolution, to 1280 channels (576
of MobileNetV3-Small), which the fusion then reads; and the auxiliary head after the expansion of
the last strided block. For ConvNeXt, it has grouped convolutions as Keras computes them. "after" is
`PSPNet(backbone=NAME)`. Eight random images of 353x473, 11 classes, float32 and bfloat16,
TensorFlow on all cores. The processes take turns, step by step; two steps of each don't count.
Ratios are medians over rounds.
"""

import argparse
import json
import os
import resource
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from measure import Worker, environment, progress, spread

NAMES = ("efficientnet_lite0", "mobilenet_v2", "mobilenet_v3_small", "convnext_tiny")
FORMS = (("before", "float32"), ("after", "float32"), ("after", "mixed_bfloat16"))
SIZE, BATCH = (353, 473), 8


def network(name, stride, form, policy):
    """The PSPNet in one of its forms."""
    import keras

    import keras_psp
    from keras_psp.layers import backbone
    from keras_psp.models.efficientnet_lite import efficientnet_lite
    from keras_psp.models.named_backbones import named_model

    if form == "after":
        return keras_psp.PSPNet(11, backbone=name, output_stride=stride, dtype=policy)
    if name.startswith("convnext"):
        backbone.is_per_channel = lambda layer: False
        return keras_psp.PSPNet(11, backbone=name, output_stride=stride, dtype=policy)
    backbone.BatchNormalization = keras.layers.BatchNormalization
    lite = name.startswith("efficientnet_lite")
    model = efficientnet_lite(int(name[-1]), head=True) if lite else named_model(name)
    depthwise = [x for x in model.layers if isinstance(x, keras.layers.DepthwiseConv2D)]
    expanded = backbone._maker([layer for layer in depthwise if max(layer.strides) > 1][-1])
    if isinstance(expanded, keras.layers.ZeroPadding2D):
        expanded = backbone._maker(expanded)
    names = (expanded.name, model.layers[-1].name)
    wide = backbone.DilatedBackbone(model, output_stride=stride, feature_layers=names, dtype=policy)
    return keras_psp.PSPNet(11, backbone=wide, dtype=policy)


def work(name, stride, form, policy):
    """Replies to every line with the seconds of one training step."""
    import keras
    import numpy as np
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    model = network(name, int(stride), form, policy)
    model.compile()
    model.optimizer.build(model.trainable_variables)
    rng = np.random.default_rng(0)
    images = tf.constant(rng.uniform(0, 255, (BATCH, *SIZE, 3)).astype("float32"))
    masks = tf.constant(rng.integers(0, 11, (BATCH, *SIZE)).astype("int32"))
    step = tf.function(lambda: model.train_step((images, masks))["loss"], autograph=False)
    for _ in range(2):
        assert np.isfinite(float(step()))
    print(json.dumps("ready"), flush=True)
    while True:
        try:
            input()
        except EOFError:
            return
        start = time.perf_counter()
        float(step())
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(json.dumps([seconds, peak]), flush=True)


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="backbones whose name has it")
    parser.add_argument("--strides", type=int, nargs="+", default=[16, 8])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--float32", action="store_true", help="leave bfloat16 out")
    parser.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(*options.work)
        return
    forms = [form for form in FORMS if form[1] == "float32" or not options.float32]
    print(environment(["tensorflow"]))
    print("\n| backbone, stride | form | ms per step (min to max) | of before | peak, GB |")
    print("|---|---|---|---|---|")
    for name in NAMES:
        if options.only and not any(text in name for text in options.only):
            continue
        for stride in options.strides:
            progress(f"{name}, output stride {stride}")
            workers = {form: Worker("--work", name, str(stride), *form) for form in forms}
            replies = {form: [] for form in forms}
            for _ in range(options.rounds):
                for form, worker in workers.items():
                    replies[form].append(worker())
            for worker in workers.values():
                worker.close()
            before = [seconds for seconds, _ in replies[forms[0]]]
            for form in forms:
                times = [seconds for seconds, _ in replies[form]]
                ratio = statistics.median(a / b for a, b in zip(times, before, strict=True))
                peak = max(memory for _, memory in replies[form])
                cells = (f"{name}, {stride}", ", ".join(form), spread([1e3 * t for t in times]))
                print(f"| {' | '.join(cells)} | {ratio:.2f} | {peak:.1f} |", flush=True)


if __name__ == "__main__":
    main()
