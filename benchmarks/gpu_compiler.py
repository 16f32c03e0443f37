"""What JAX's compiler plans for a training step: memory and arithmetic, without running it."""

import sys
import time
import types

import jax
import keras
from fusion import PlainFusion
from gpu_steps import jax_training, ours, planned
from measure import environment, progress

FORMS = ("keras_psp", "plain fusion", "plain fusion and loss")
CARDS = (16, 40, 80)  # GB
RESERVED = 1.0  # GB: CUDA's context, cuDNN's workspaces


def depth(options):
    """Of the ResNet."""
    return 18 if options.smoke else 50


def plan(form, batch, options):
    """Compiles a training step and returns its figures, in bytes and operations."""
    keras.utils.clear_session()
    shape = {"depth": depth(options), "size": options.size, "batch": 1}
    job = types.SimpleNamespace(**shape, precision="float32", remat="")
    model, images, masks = ours(job)
    if form != "keras_psp":
        model.get_layer("pyramid_pooling").fusion.__class__ = PlainFusion
    if form == "plain fusion and loss":
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
        model.compile(model.optimizer, loss)
    images, masks = (
        jax.ShapeDtypeStruct((batch, *array.shape[1:]), array.dtype) for array in (images, masks)
    )
    start = time.perf_counter()
    lowered = jax_training(model, images, masks, lower_only=True)
    executable = lowered.compile()
    progress(f"{form}, batch {batch}: {time.perf_counter() - start:.0f} s")
    return {
        "temporaries": executable.memory_analysis().temp_size_in_bytes,
        "all": planned(executable),
        "flops": lowered.cost_analysis()["flops"],
        "compiled flops": executable.cost_analysis()["flops"],
    }


def report(options):
    """Prints the page."""
    small, large = options.batches
    columns = [f"largest batch in {card} GB" for card in CARDS]
    print("# A training step as JAX's compiler plans it\n")
    print(f"    python benchmarks/gpu.py {' '.join(sys.argv[1:])}\n")
    network = f"PSPNet-{depth(options)}, {options.size}x{options.size}, 150 classes"
    print(f"{network}, float32, compiled for the CPU.")
    print(f"{environment(['jax', 'jaxlib'])}.\n")
    print(
        f"Temporaries: memory of intermediate results. All: with weights, momentum and batch. "
        f"TFLOP: before and after the compiler's own changes. Largest batch: by the line through "
        f"batches {small} and {large}, with {RESERVED:.0f} of the GB (10^9 bytes) left for CUDA.\n"
    )
    cells = ["form", "batch", "temporaries, GB", "all, GB", "TFLOP", *columns]
    print(f"| {' | '.join(cells)} |\n|{'---|' * len(cells)}", flush=True)
    for form in FORMS:
        first, second = (plan(form, batch, options) for batch in options.batches)
        slope = (second["all"] - first["all"]) / (large - small)
        fixed = first["all"] - slope * small
        largest = [int(((card - RESERVED) * 1e9 - fixed) / slope) for card in CARDS]
        for batch, figures in zip(options.batches, (first, second), strict=True):
            cells = [form, str(batch)]
            cells += [f"{figures[key] / 1e9:.2f}" for key in ("temporaries", "all")]
            cells.append(
                " / ".join(f"{figures[k] / 1e12:.2f}" for k in ("flops", "compiled flops"))
            )
            cells += map(str, largest) if batch == large else [""] * len(CARDS)
            print(f"| {' | '.join(cells)} |", flush=True)
