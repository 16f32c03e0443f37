"""The steps that gpu_rows.py measures: each maker compiles a step and returns a call of it.

A job is a namespace of the attributes of gpu.py's `Job`, with the side of the images, `size`.
"""

import sys
import types

CLASSES, IGNORED = 150, 255
POLICIES = {"bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}  # others: float32
CHUNKS = (2**20, 2**23, 2**26)  # of the loss, in class scores


def planned(executable):
    """Bytes of one run as the compiler of JAX plans them: arguments, results and temporaries."""
    plan = executable.memory_analysis()
    kept = plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes
    return kept + plan.temp_size_in_bytes


def ours(job, **compiled):
    """Our network, compiled to be trained, and one batch of random images and masks.

    `compiled` are arguments of `compile`.
    """
    import keras
    import numpy as np

    import keras_psp

    keras.utils.set_random_seed(0)
    options = {"remat": job.remat} if job.remat else {}
    policy = POLICIES.get(job.precision, "float32")
    model = keras_psp.PSPNet(CLASSES, backbone=f"resnet{job.depth}", dtype=policy, **options)
    model.compile(**compiled)
    model.optimizer.build(model.trainable_variables)
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (job.batch, job.size, job.size, 3)).astype("float32")
    masks = rng.integers(0, CLASSES, images.shape[:-1]).astype("int32")
    return model, images, masks


def jax_training(model, images, masks, *, lower_only=False):
    """The compiled training step on JAX; only lowered, shapes in place of arrays are enough."""
    import jax

    state = tuple(
        [v.value for v in variables]
        for variables in (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        )
    )
    lowered = jax.jit(model.train_step, donate_argnums=0).lower(state, (images, masks))
    if lower_only:
        return lowered
    executable = lowered.compile()

    def step():
        nonlocal state
        logs, state = executable(state, (images, masks))
        return logs

    step.executable = executable
    return step


def jax_steps(job):
    import jax

    model, images, masks = ours(job)
    images, masks = jax.device_put((images, masks))
    view = model.views.classes

    def inference():
        variables = [
            [v.value for v in vs] for vs in (view.trainable_variables, view.non_trainable_variables)
        ]

        def classes(trainable, others, images):
            return view.stateless_call(trainable, others, images, training=False)[0]

        executable = jax.jit(classes).lower(*variables, images).compile()

        def step():
            return executable(*variables, images)

        step.executable = executable
        return step

    return {"inference": inference, "training": lambda: jax_training(model, images, masks)}


def torch_steps(job):
    import torch
    from keras import ops

    model, images, masks = ours(job)
    images, masks = ops.convert_to_tensor(images), ops.convert_to_tensor(masks)
    wrap = torch.compile if "compile" in job.form else lambda function: function
    if job.smoke and "compile" in job.form:
        wrap = smoke_compile

    def inference():
        classes = wrap(lambda: model.views.classes(images, training=False))
        return torch.no_grad()(classes)

    def training():
        # Keras' jit_compile compiles the whole step, which fails in TorchDynamo.
        model.call = wrap(model.call)
        return lambda: model.train_step((images, masks))

    return {"inference": inference, "training": training}


def smoke_compile(function):
    """torch.compile without generating code, which takes minutes on a CPU."""
    import torch

    return torch.compile(function, backend="aot_eager")


def tensorflow_steps(job):
    import tensorflow as tf

    model, images, masks = ours(job)
    images, masks = tf.constant(images), tf.constant(masks)
    options = {"jit_compile": "XLA" in job.form, "autograph": False}
    return {
        "inference": lambda: tf.function(
            lambda: model.views.classes(images, training=False), **options
        ),
        "training": lambda: tf.function(lambda: model.train_step((images, masks)), **options),
    }


def authors_steps(job):
    """Their network and the loop of tool/train.py, with automatic mixed precision."""
    import torch

    sys.path.insert(0, job.semseg)
    from model.pspnet import PSPNet

    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    criterion = torch.nn.CrossEntropyLoss(ignore_index=IGNORED)
    network = PSPNet(
        layers=max(50, job.depth), classes=CLASSES, criterion=criterion, pretrained=False
    )
    network = network.to(device)
    images = torch.randn(job.batch, 3, job.size, job.size, device=device)  # normalized
    masks = torch.randint(0, CLASSES, (job.batch, job.size, job.size), device=device)
    if "NCHW" not in job.form:
        network = network.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
    forward = network
    if "compile" in job.form:
        forward = smoke_compile(network) if job.smoke else torch.compile(network)
    half = getattr(torch, job.precision) if job.precision in POLICIES else None
    autocast = torch.autocast(device, half, enabled=half is not None)
    scaler = torch.amp.GradScaler(device, enabled=half == torch.float16 and device == "cuda")
    backbone = [network.layer0, network.layer1, network.layer2, network.layer3, network.layer4]
    groups = [{"params": part.parameters(), "lr": 0.01} for part in backbone]
    groups += [
        {"params": p.parameters(), "lr": 0.1} for p in (network.ppm, network.cls, network.aux)
    ]
    optimizer = torch.optim.SGD(groups, lr=0.01, momentum=0.9, weight_decay=1e-4)

    @torch.no_grad()
    def classes():
        with autocast:
            return forward(images).max(1)[1]

    def train():
        with autocast:
            _, main, auxiliary = forward(images, masks)
            loss = main + 0.4 * auxiliary
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return {"loss": loss.detach()}

    def mode(training, step):
        network.train(training)
        return step

    return {
        "inference": lambda: mode(False, classes),
        "training": lambda: mode(True, train),
    }


def loss_steps(job):
    """Loss and gradient by chunks of several sizes, and with all scores at full size."""
    import loss_memory

    def step(form, chunk):
        options = {"batch": job.batch, "classes": CLASSES, "chunk_elements": chunk}
        options["loss"] = "crossentropy"
        options["mode"] = "XLA" if "XLA" in job.form else "graph"
        return loss_memory.build(types.SimpleNamespace(**options), form, job.size)

    steps = {f"chunks of {chunk:,}": lambda chunk=chunk: step("fused", chunk) for chunk in CHUNKS}
    return {**steps, "plain": lambda: step("plain", None)}


def fusion_steps(job):
    """The pyramid's convolution, forward and backward, factorized and plain."""
    import fusion
    import keras
    import numpy as np
    from measure import compiled

    side, rng = (job.size - 1) // 8 + 1, np.random.default_rng(0)
    shapes = [(job.batch, side, side, 2048), *((job.batch, b, b, 512) for b in (1, 2, 3, 6))]
    maps = [keras.Variable(rng.standard_normal(shape, "float32")) for shape in shapes]
    block = fusion.FactorizedFusion(512, dtype=POLICIES.get(job.precision, "float32"))
    block.build(shapes)

    def energy():
        outputs = block([keras.ops.convert_to_tensor(x) for x in maps])
        return keras.ops.sum(keras.ops.cast(outputs, "float32") ** 2)

    def step(form):
        block.__class__ = form
        mode = "XLA" if "XLA" in job.form else "graph"
        return compiled(energy, [], [block.kernel, *maps], mode=mode)

    return {
        "factorized": lambda: step(fusion.FactorizedFusion),
        "plain": lambda: step(fusion.PlainFusion),
    }


STEPS = {
    "jax": jax_steps,
    "torch": torch_steps,
    "tensorflow": tensorflow_steps,
    "authors": authors_steps,
    "loss": loss_steps,
    "fusion": fusion_steps,
}
