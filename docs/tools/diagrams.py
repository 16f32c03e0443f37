"""Draws the diagrams in docs/images.

    python docs/tools/diagrams.py

Shapes and GFLOP come from benchmarks/results/network_sizes.md. Colors follow the reader's system
in a repository, and the page on the site (docs/style.css).
"""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
BINS = (1, 2, 3, 6)
# light, dark
COLORS = {
    "ink": ("#1f2328", "#e6edf3"),
    "soft": ("#59636e", "#9da7b3"),
    "line": ("#818b98", "#7d8590"),
    "data": ("#0969da", "#58a6ff"),
    "work": ("#0b7a6f", "#3fc1b0"),
    "level": ("#9a6700", "#e3b341"),
    "aux": ("#8250df", "#bc8cff"),
}
STYLE = """<style>
:root{{{light}}}
@media (prefers-color-scheme:dark){{:root{{{dark}}}}}
.d-text{{font:13px system-ui,sans-serif;fill:var(--d-ink);text-anchor:middle}}
.d-bold{{font-weight:600}}
.d-soft{{fill:var(--d-soft);font-size:12px}}
.d-left{{text-anchor:start}}
.d-arrow{{fill:none;stroke:var(--d-line);stroke-width:1.5}}
.d-head{{fill:var(--d-line)}}
{kinds}
</style>"""


def style():
    """Returns the style sheet of every drawing; the site replaces its colors."""
    light, dark = (
        ";".join(f"--d-{name}:{pair[index]}" for name, pair in COLORS.items()) for index in (0, 1)
    )
    kinds = "\n".join(
        f".d-{kind}{{fill:var(--d-{kind});fill-opacity:.13;stroke:var(--d-{kind});stroke-width:1.5}}"
        for kind in ("data", "work", "level", "aux")
    )
    return STYLE.format(light=light, dark=dark, kinds=kinds)


class Drawing:
    """An SVG image, built part by part."""

    def __init__(self, width, height, title):
        self.head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img">\n<title>{title}</title>\n{style()}'
        )
        self.parts = []

    def text(self, x, y, words, kind=""):
        self.parts.append(f'<text class="d-text {kind}" x="{x:g}" y="{y:g}">{words}</text>')

    def box(self, x, y, width, height, kind, *lines):
        """Adds a box with a bold first line; x and y are its upper left corner."""
        self.parts.append(
            f'<rect class="d-{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" '
            'rx="5"/>'
        )
        for index, line in enumerate(lines):
            place = y + height / 2 + 4.5 + 17 * (index - (len(lines) - 1) / 2)
            self.text(x + width / 2, place, line, "d-soft" if index else "d-bold")

    def arrow(self, *points):
        """Adds an arrow through points."""
        (a, b), (x, y) = points[-2:]
        path = " ".join(f"{px:g},{py:g}" for px, py in points)
        self.parts.append(f'<polyline class="d-arrow" points="{path}"/>')
        dx, dy = (x > a) - (x < a), (y > b) - (y < b)
        sides = (f"{x - 8 * dx + s * 4 * dy:g},{y - 8 * dy + s * 4 * dx:g}" for s in (1, -1))
        self.parts.append(f'<polygon class="d-head" points="{x:g},{y:g} {" ".join(sides)}"/>')

    def grid(self, x, y, side, cells):
        """Adds a pooled level as a grid of cells."""
        step = side / cells
        for row in range(cells):
            for column in range(cells):
                self.parts.append(
                    f'<rect class="d-level" x="{x + column * step:g}" y="{y + row * step:g}" '
                    f'width="{step:g}" height="{step:g}"/>'
                )

    def __str__(self):
        return "\n".join([self.head, *self.parts, "</svg>\n"])


def measured():
    """Reads the shapes of the maps at output stride 8 and the GFLOP of the fusion's parts."""
    text = (ROOT / "benchmarks/results/network_sizes.md").read_text("utf-8")
    shapes = dict(re.findall(r"^\| ([\w ]+) \| (\d+x\d+x\d+) \|", text, re.MULTILINE))
    work = dict(
        re.findall(r"^\| (?:factori[sz]ed: )?([\w ,]+?)(?::.*)? \| ([\d.]+) \|$", text, re.M)
    )
    return shapes, work


def architecture(shapes):
    """Draws the whole network with the shapes of PSPNet-50 at 473x473."""
    drawing = Drawing(920, 604, "PSPNet-50 for images of 473x473, 150 classes")
    chain = [
        ("data", "image, RGB 0..255", "473x473x3"),
        ("work", "stem: three 3x3, stride 2", shapes["stem"]),
        ("work", "max pooling, 3x3, stride 2", shapes["pool"]),
        ("work", "stage 2: 3 blocks", shapes["stage 2"]),
        ("work", "stage 3: 4 blocks, stride 2", shapes["stage 3"]),
        ("work", "stage 4: 6 blocks, dilation 2", shapes["stage 4"]),
        ("work", "stage 5: 3 blocks, dilation 4", shapes["stage 5"]),
    ]
    for index, (kind, name, shape) in enumerate(chain):
        y = 12 + 72 * index
        drawing.box(24, y, 232, 46, kind, name, shape)
        if index:
            drawing.arrow((140, y - 26), (140, y))
    stage4, stage5 = 12 + 72 * 5 + 23, 12 + 72 * 6 + 23
    for index, bins in enumerate(BINS):
        y = 50 + 100 * index
        drawing.arrow((256, stage5), (282, stage5), (282, y), (308, y))
        drawing.grid(308, y - 27, 54, bins)
        drawing.text(335, y + 43, f"{bins}x{bins}x2048", "d-soft")
        drawing.arrow((362, y), (402, y))
        drawing.box(402, y - 23, 116, 46, "level", "1x1, BN, ReLU", f"{bins}x{bins}x512")
        drawing.arrow((518, y), (640, y))
        drawing.text(576, y - 8, "bilinear to", "d-soft")
        drawing.text(576, y + 17, "60x60x512", "d-soft")
    drawing.text(335, 14, "average pools", "d-soft")
    drawing.arrow((256, stage5), (640, stage5))
    drawing.text(460, stage5 - 8, "features, 60x60x2048", "d-soft")
    lines = ("fusion, 3x3", "of 4096", "channels;", "BN, ReLU,", "dropout", "60x60x512")
    drawing.box(640, 12, 104, 478, "work", *lines)
    drawing.arrow((744, 165), (780, 165))
    drawing.box(780, 142, 130, 46, "work", "classifier, 1x1", "60x60x150")
    drawing.arrow((845, 188), (845, 228))
    drawing.box(780, 228, 130, 46, "work", "bilinear", "473x473x150")
    drawing.arrow((845, 274), (845, 314))
    drawing.box(780, 314, 130, 46, "data", "logits", "float32")
    drawing.arrow((24, stage4), (8, stage4), (8, 562), (24, 562))
    head = ("auxiliary head: 3x3, BN, ReLU, dropout", "60x60x256, then 1x1 to 60x60x150")
    drawing.box(24, 534, 312, 56, "aux", *head)
    drawing.arrow((336, 562), (390, 562))
    drawing.text(398, 558, "auxiliary loss, weight 0.4;", "d-soft d-left")
    drawing.text(398, 575, "in training only", "d-soft d-left")
    return drawing


def levels(drawing, x, y):
    """Draws the four pooled levels in a row."""
    for index, bins in enumerate(BINS):
        drawing.grid(x + 44 * index, y - 18, 36, bins)


def fusion(work):
    """Draws both forms of the fusion, with their arithmetic."""
    drawing = Drawing(900, 440, "The fusion convolution, plain and factorized")
    drawing.text(10, 22, "Plain", "d-bold d-left")
    drawing.box(10, 40, 170, 46, "data", "features", "60x60x2048")
    levels(drawing, 10, 146)
    drawing.text(95, 182, "levels: bxbx512", "d-soft")
    drawing.arrow((184, 146), (226, 146))
    drawing.box(226, 123, 130, 46, "level", "bilinear", "4 x 60x60x512")
    drawing.arrow((356, 146), (386, 146), (386, 104), (416, 104))
    drawing.arrow((180, 63), (386, 63), (386, 104), (416, 104))
    drawing.box(416, 81, 140, 46, "data", "concatenation", "60x60x4096")
    drawing.arrow((556, 104), (596, 104))
    gflop = work["plain"]
    drawing.box(596, 76, 150, 56, "work", "3x3 convolution", "4096 to 512", f"{gflop} GFLOP")
    drawing.arrow((746, 104), (786, 104))
    drawing.box(786, 81, 104, 46, "data", "fused", "60x60x512")

    drawing.text(10, 240, "Factorized", "d-bold d-left")
    drawing.box(10, 258, 170, 46, "data", "features", "60x60x2048")
    drawing.arrow((180, 281), (596, 281))
    kernel = f"{work['features']} GFLOP"
    drawing.box(596, 253, 150, 56, "work", "3x3 convolution", "2048 to 512", kernel)
    drawing.arrow((746, 281), (786, 281))
    drawing.box(786, 258, 104, 46, "data", "sum", "60x60x512")
    levels(drawing, 10, 394)
    drawing.text(95, 430, "levels: bxbx512", "d-soft")
    steps = (
        ("times 9 taps", "50 cells, 9 x 512", work["products"]),
        ("rows", "60 x 3b, each level", work["rows"]),
        ("columns", "60 x 36, all levels", work["columns"]),
    )
    for index, (name, shape, cost) in enumerate(steps):
        x = 184 + 188 * index
        drawing.arrow((x, 394), (x + 38, 394))
        drawing.box(x + 38, 364, 150, 60, "level", name, shape, f"{cost} GFLOP")
    drawing.arrow((748, 394), (838, 394), (838, 304))
    return drawing


def interpolation(bins, target, shift):
    """Returns (target, bins) weights of bilinear resizing with align_corners, shifted by a tap.

    They are 0 outside.
    """
    rows = []
    for row in range(shift, target + shift):
        at = row * (bins - 1) / (target - 1)
        inside = 0 <= row < target
        rows.append([inside * max(0.0, 1 - abs(at - column)) for column in range(bins)])
    return rows


def taps():
    """Draws one axis: 3 bins become 12 positions, as the three taps of a kernel see them."""
    bins, target, size = 3, 12, 22
    drawing = Drawing(760, 346, "Upsampling, shifting by a tap and zero padding are one matrix")
    for index, shift in enumerate((-1, 0, 1)):
        left, top = 60 + 120 * index, 70
        drawing.text(left + 33, 24, f"tap {shift:+d}".replace("+0", "0"), "d-bold")
        drawing.text(left + 33, 44, "bins", "d-soft")
        for column in range(bins):
            drawing.text(left + size * (column + 0.5), 62, str(column), "d-soft")
        for row, weights in enumerate(interpolation(bins, target, shift)):
            if not index:
                drawing.text(44, top + size * (row + 0.7), str(row), "d-soft")
            for column, weight in enumerate(weights):
                drawing.parts.append(
                    f'<rect x="{left + size * column}" y="{top + size * row}" width="{size}" '
                    f'height="{size}" stroke="var(--d-line)" stroke-width="1" '
                    f'fill="var(--d-level)" fill-opacity="{0.85 * weight:.2f}"/>'
                )
    drawing.text(40, 44, "row", "d-soft")
    for line, words in enumerate(
        (
            "Each square is a weight, 0 to 1.",
            "The middle matrix resizes 3 bins to 12 rows.",
            "The other two are one row up or down:",
            "what the outer taps of the kernel see.",
            "An empty row is the zero padding.",
            "",
            "Side by side they are R, 12 x 9.",
            "R times the products of every tap",
            "with every bin is the convolution",
            "of the resized level.",
        )
    ):
        drawing.text(440, 92 + 24 * line, words, "d-left")
    return drawing


def drawings():
    """Returns all drawings by file name."""
    shapes, work = measured()
    return {
        "architecture.svg": architecture(shapes),
        "fusion.svg": fusion(work),
        "taps.svg": taps(),
    }


def main():
    """Writes all drawings."""
    for name, drawing in drawings().items():
        (ROOT / "docs/images" / name).write_text(str(drawing), "utf-8")


if __name__ == "__main__":
    main()
