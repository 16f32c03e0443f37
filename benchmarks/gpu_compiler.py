"""What JAX's compiler plans for a training step: memory and arithmetic, without running it."""

import dataclasses
import sys
import time
import types

import jax
import keras
from fusion import PlainFusion
from gpu_steps import jax_training, ours, planned
from measure import environment, progress

CARDS = (16, 40, 80)  # GB
RESERVED = 1.0  # GB: CUDA's context and cuDNN's workspaces


@dataclasses.dataclass(frozen=True)
class Form:
    """A network to compile; `plain` may hold "fusion" and "loss"."""

    name: str
    plain: tuple = ()
    precision: str = "float32"
    depth: int = 50
    remat: str = ""


def forms(options):
    """The networks of the table."""
    depth = 18 if options.smoke else 50
    yield Form("keras_psp", depth=depth)
    yield from [Form(f"keras_psp, remat={mode}", remat=mode, depth=depth) for mode in options.remat]
    yield Form("plain fusion", ("fusion",), depth=depth)
    yield Form("plain fusion and loss", ("fusion", "loss"), depth=depth)
    if not options.smoke:
        yield Form("keras_psp, mixed_bfloat16", precision="bfloat16")
        yield Form("keras_psp, ResNet-101", depth=101)


def plan(form, batch, options):
    """Compiles a training step and returns its figures, in bytes and operations."""
    keras.utils.clear_session()
    job = types.SimpleNamespace(
        depth=form.depth, precision=form.precision, remat=form.remat, size=options.size, batch=1
    )
    model, images, masks = ours(job)
    if "fusion" in form.plain:
        model.get_layer("pyramid_pooling").fusion.__class__ = PlainFusion
    if "loss" in form.plain:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
        model.compile(model.optimizer, loss)
    images, masks = (
        jax.ShapeDtypeStruct((batch, *array.shape[1:]), array.dtype) for array in (images, masks)
    )
    start = time.perf_counter()
    lowered = jax_training(model, images, masks, lower_only=True)
    executable = lowered.compile()
    progress(f"{form.name}, batch {batch}: {time.perf_counter() - start:.0f} s")
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
    print(
        f"PSPNet, {options.size}x{options.size}, 150 classes; ResNet-50 and float32 if not named."
    )
    print(f"{environment(['jax', 'jaxlib'])}.\n")
    print(
        "Compiled for the CPU, not run: for a GPU the compiler has other convolutions and another "
        "order. GB: 10^9 bytes. Temporaries: memory of intermediate results. All: with weights, "
        "momentum and batch. TFLOP: before and after the compiler's own changes. Largest batch: by "
        f"the line through batches {small} and {large}, with {RESERVED:.0f} GB left for CUDA; "
        "not of bfloat16, whose convolutions the CPU's compiler widens to float32.\n"
    )
    cells = ["form", "batch", "temporaries, GB", "all, GB", "TFLOP", *columns]
    print(f"| {' | '.join(cells)} |\n|{'---|' * len(cells)}", flush=True)
    for form in forms(options):
        first, second = (plan(form, batch, options) for batch in options.batches)
        slope = (second["all"] - first["all"]) / (large - small)
        fixed = first["all"] - slope * small
        largest = [int(((card - RESERVED) * 1e9 - fixed) / slope) for card in CARDS]
        for batch, figures in zip(options.batches, (first, second), strict=True):
            cells = [form.name, str(batch)]
            cells += [f"{figures[key] / 1e9:.2f}" for key in ("temporaries", "all")]
            cells.append(
                " / ".join(f"{figures[k] / 1e12:.2f}" for k in ("flops", "compiled flops"))
            )
            known = batch == large and form.precision == "float32"
            cells += map(str, largest) if known else [""] * len(CARDS)
            print(f"| {' | '.join(cells)} |", flush=True)
