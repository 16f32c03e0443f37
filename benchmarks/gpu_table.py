"""The Markdown page of gpu.py."""

import datetime

OUT_OF_MEMORY = "out of memory"
COLUMNS = (
    "network",
    "framework",
    "precision",
    "batch",
    "inference, images/s",
    "peak MB",
    "training, images/s",
    "peak MB",
    "compiler's MB",
    "s to first step",
    "of the best PyTorch",
    "of its memory",
)


def number(row, key, digits=0):
    """A figure of a row, or nothing."""
    return f"{row[key]:,.{digits}f}" if key in row else ""


def spread(row):
    """Images per second, median (min to max), or why there are none."""
    if "images_per_second" not in row:
        return row.get("failed", "")
    extremes = f" ({row['least']:.1f} to {row['most']:.1f})" if "least" in row else ""
    warning = "" if row.get("loss") == row.get("loss") else ", loss NaN"
    return f"{row['images_per_second']:.1f}{extremes}{warning}"


def best_of_theirs(rows, key):
    """The fastest training of the authors' network with this depth, precision and batch."""
    network, _, *others = key
    rates = [
        (phases["training"]["images_per_second"], phases["training"])
        for (what, form, *same), phases in rows.items()
        if what == network
        and form.startswith("authors")
        and same == others
        and "images_per_second" in phases.get("training", {})
    ]
    return max(rates, key=lambda pair: pair[0])[1] if rates else {}


def network_line(rows, key):
    """The cells of a network's line."""
    phases = rows[key]
    failed = {k: v for k, v in phases.get("end", {}).items() if k == "failed"}
    failed |= {"failed": phases["all"]["failed"]} if "all" in phases else {}
    inference, training = phases.get("inference", {}), phases.get("training", failed)
    theirs = best_of_theirs(rows, key)
    cells = [*key, spread(inference), number(inference, "peak_mb")]
    cells += [spread(training), number(training, "peak_mb"), number(training, "planned_mb")]
    seconds = [number(row, "first_seconds") for row in (inference, training)]
    cells.append(" + ".join(text for text in seconds if text))
    for figure in ("images_per_second", "peak_mb"):
        both = figure in theirs and figure in training
        cells.append(f"{training[figure] / theirs[figure]:.2f}" if both else "")
    return cells


def part_lines(rows, key):
    """The cells of the lines of the loss, the fusion or the input pipeline."""
    phases = {name: row for name, row in rows[key].items() if name != "end" or "failed" in row}
    for name, row in phases.items():
        figures = (spread(row), number(row, "peak_mb"), number(row, "planned_mb"))
        batch = "" if key[0] == "input pipeline" else key[3]
        yield [*key[:3], batch, name, *figures]


def markdown(columns, lines):
    """A table."""
    cells = [columns, ["---"] * len(columns), *lines]
    return "\n".join(
        "".join(f"| {cell} " if cell else "| " for cell in line) + "|" for line in cells
    )


def table(rows, command, missing):
    """The page.

    Args:
        rows: the rows of each job, by its name and their phase.
        command: the arguments of gpu.py.
        missing: names of the jobs that haven't run.
    """
    rows = {tuple(name.split(" | ")): phases for name, phases in rows.items()}
    every = [row for phases in rows.values() for row in phases.values()]
    versions, devices, notes = {}, [], []
    for row in every:
        versions |= row.get("versions", {})
        if row.get("device") and row["device"] not in devices:
            devices.append(row["device"])
        if row["phase"] == "device" and row["failed"] not in notes:
            notes.append(row["failed"])
    named = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    # The notes tell of those that saw no device; "largest" only marks the end of a search.
    shown = [k for k, phases in rows.items() if "device" not in phases and k[3] != "largest"]
    rows = {k: rows[k] for k in sorted(shown, key=lambda k: (k[0], k[2], int(k[3])))}
    networks = [network_line(rows, key) for key in rows if key[0].startswith("PSPNet")]
    parts = [
        line for key in rows if not key[0].startswith("PSPNet") for line in part_lines(rows, key)
    ]
    page = [
        "# PSPNet on one GPU",
        f"    python benchmarks/gpu.py {command}",
        "; ".join(filter(None, [named, *devices, str(datetime.date.today())])) + ".",
        "Images per second: median (min to max) of five rounds. MB: 2^20 bytes, the peak that "
        "the framework's allocator reports; on JAX, whose peak can't be reset and includes the "
        "search for the fastest kernels, also what the compiler plans. Seconds to the first step: "
        "inference + training, with compilation. The last two columns: training, relative to "
        "the fastest form of the authors' network of the same depth, precision and batch.",
        *(
            ["Tiny images, ResNet-18 as ours: a test of the script."]
            if "--smoke" in command
            else []
        ),
        *(["\n".join(f"- {note}" for note in notes)] if notes else []),
        markdown(COLUMNS, networks) if networks else "No network was measured.",
    ]
    if parts:
        columns = (
            "part",
            "framework",
            "precision",
            "batch",
            "form",
            "images/s",
            "peak MB",
            "compiler's MB",
        )
        page.append(markdown(columns, parts))
    if missing:
        page.append(
            "Not measured yet: " + "; ".join(name.replace(" | ", ", ") for name in missing) + "."
        )
    return "\n\n".join(page) + "\n"
