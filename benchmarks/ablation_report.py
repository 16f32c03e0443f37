"""Prints and plots a table of ablations next to the paper's figures."""

import statistics

FIGURES = (
    "mean IoU",
    "pixel accuracy",
    "familiar mean IoU",
    "context IoU",
    "context accuracy",
    "balanced context accuracy",
)


def mean_and_spread(values):
    """The mean in %, with the sample standard deviation if there are several values."""
    mean = f"{100 * statistics.mean(values):.2f}"
    return mean if len(values) < 2 else f"{mean} ± {100 * statistics.stdev(values):.2f}"


def gains(runs, first, figure):
    """Gains over the first row with the same seeds."""
    return [runs[seed][figure] - first[seed][figure] for seed in runs if seed in first]


def print_table(number, rows):
    """Prints one line per row; gains over the first row are paired by seed.

    Args:
        number: number of the table in the paper.
        rows: name to ((mean IoU, pixel accuracy) in the paper, figures by seed). Rows without
            figures are left out.
    """
    shown = [
        name for name in FIGURES if all(name in f for _, r in rows.values() for f in r.values())
    ]
    first_paper, first = next(iter(rows.values()))
    print(f"\n### Table {number}\n")
    gaining = [name for name in shown if name.endswith("mean IoU") or name == "context accuracy"]
    titles = ["", "seeds", *shown, *(f"gain in {figure}" for figure in gaining)]
    titles += ["paper: mean IoU", "pixel accuracy", "gain"]
    print("| " + " | ".join(titles) + " |")
    print("|" + "---|" * len(titles))
    for name, (paper, runs) in rows.items():
        if not runs:
            continue
        cells = [name, str(len(runs))]
        cells += [mean_and_spread([run[figure] for run in runs.values()]) for figure in shown]
        for figure in gaining:
            pairs = gains(runs, first, figure)
            cells.append("" if runs is first or not pairs else mean_and_spread(pairs))
        cells += [f"{paper[0]:.2f}", f"{paper[1]:.2f}"]
        cells.append("" if runs is first else f"{paper[0] - first_paper[0]:+.2f}")
        print("| " + " | ".join(cells) + " |")


def draw(number, rows, path):
    """Plots the gain in mean IoU over the first row, ours and the paper's, each seed as a dot.

    Draws nothing if the first row has no figures.
    """
    from matplotlib.figure import Figure

    base, (first_paper, first) = next(iter(rows.items()))
    names = [name for name, (_, runs) in rows.items() if gains(runs, first, "mean IoU")]
    if not names:
        return
    figure = Figure(figsize=(8, 0.9 + 0.5 * len(names)), layout="constrained")
    axes = figure.subplots()
    for y, name in enumerate(names):
        paper, runs = rows[name]
        points = [100 * gain for gain in gains(runs, first, "mean IoU")]
        label = {"label": "here, mean of the seeds"} if y == 0 else {}
        axes.barh(y - 0.2, statistics.mean(points), 0.36, color="tab:blue", **label)
        label = {"label": "each seed"} if y == 0 else {}
        axes.plot(points, [y - 0.2] * len(points), "k.", markersize=5, **label)
        label = {"label": "paper, ADE20K"} if y == 0 else {}
        axes.barh(y + 0.2, paper[0] - first_paper[0], 0.36, color="0.75", **label)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.axvline(0, color="k", linewidth=0.8)
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel(f"table {number}: mean IoU minus that of {base}, points")
    axes.legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
