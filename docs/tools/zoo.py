"""Writes the tables of docs/zoo.md from the package's list of presets.

    python docs/tools/zoo.py

The tables are committed, so that the page is complete in the repository too.
"""

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/zoo.md"
TABLE = """
| preset | depth | stem | stride | crop | steps | mIoU | scales, flip | file |
|---|---:|---|---:|---:|---:|---:|---:|---|
""".strip()


def tables() -> str:
    """Returns one section per data set, with a table of its presets."""
    presets = json.loads((ROOT / "keras_psp/weights/presets.json").read_text("utf-8"))
    labels = json.loads((ROOT / "keras_psp/labels.json").read_text("utf-8"))
    parts = []
    for dataset in dict.fromkeys(preset["dataset"] for preset in presets):
        chosen = [preset for preset in presets if preset["dataset"] == dataset]
        classes = len(labels[chosen[0]["labels"]]["classes"])
        count = "1 network" if len(chosen) == 1 else f"{len(chosen)} networks"
        rows = "\n".join(f"| {' | '.join(_cells(preset))} |" for preset in chosen)
        parts.append(f"## {dataset}\n\n{count} of {classes} classes.\n\n{TABLE}\n{rows}\n")
    return "\n".join(parts)


def _cells(preset):
    means = (preset["mean_iou"], preset["mean_iou_multi_scale"])
    return (
        f"`{preset['name']}`",
        preset["backbone"].removeprefix("resnet"),
        preset["stem"],
        str(preset["output_stride"]),
        "{}x{}".format(*preset["crop"]),
        f"{preset['iterations'] / 1000:g}k",
        *("-" if mean is None else f"{mean:.2f}" for mean in means),
        f"[.pth]({preset['url']})" if preset["url"] else "in the package",
    )


def page() -> str:
    """Returns the page with current tables, which replace everything after the introduction."""
    above, _, _ = PAGE.read_text("utf-8").partition("\n## ")
    return f"{above}\n{tables()}"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
