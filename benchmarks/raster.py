"""Predicts large rasters from disk to disk: memory, time, a kill, and seams.

    python benchmarks/raster.py --width 4096 --heights 1024 4096 --crop 128

Rasters of random blocks are predicted by `keras-psp predict` in a process of their own, whose peak
memory is that of the operating system. The first height is also predicted whole, and compared.
With --kills, the last one is predicted again with kills at random moments, and compared with the
uninterrupted result. Exit status 1 if fewer than 99.99 % of the pixels are equal. Needs the extra
`raster`.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
from measure import environment, progress
from rasterio.transform import from_origin

from keras_psp.prediction import Segmenter
from keras_psp.weights.opening import open_model

BLOCK = 32  # pixels of one color
BOUND = 0.9999


def write(path, height, width, bands):
    """Writes a tiled GeoTIFF of random blocks, a few rows at a time."""
    rng = np.random.default_rng(height)
    profile = {"driver": "GTiff", "dtype": "uint8", "crs": "EPSG:32632", "tiled": True}
    profile |= {"height": height, "width": width, "count": bands, "compress": "deflate"}
    profile |= {"transform": from_origin(500_000, 5_400_000, 0.2, 0.2)}
    with rasterio.open(path, "w", **profile) as file:
        for top in range(0, height, 512):
            rows = min(512, height - top)
            blocks = rng.integers(0, 256, (bands, rows // BLOCK + 1, width // BLOCK + 1), "uint8")
            pixels = blocks.repeat(BLOCK, 1).repeat(BLOCK, 2)[:, :rows, :width]
            file.write(pixels, window=((top, top + rows), (0, width)))


def command(path, output, options):
    """The command that predicts a raster from disk to disk."""
    parts = [sys.executable, "-m", "keras_psp", "predict", path, "--output", output]
    parts += ["--crop", options.crop, "--max-megapixels", "0.001", "--quiet"]
    return [str(part) for part in [*parts, *(["--model", options.model] if options.model else [])]]


def measured(path, output, options):
    """Predicts in a process of its own; returns seconds and peak memory in bytes."""
    start = time.perf_counter()
    process = subprocess.Popen(command(path, output, options), stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{path}: the command failed")
    return time.perf_counter() - start, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def killed(path, output, options):
    """Predicts with kills; returns how many there were."""
    parts, kills = output / f".{path.stem}_classes.tif.parts", 0
    while True:
        process = subprocess.Popen(
            command(path, output, options), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        before = len(list(parts.glob("rows_*")))
        while process.poll() is None and kills < options.kills:
            if len(list(parts.glob("rows_*"))) > before:
                time.sleep(random.random())
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.05)
        if process.wait() == 0:
            return kills


def classes(path):
    """The class map in a GeoTIFF."""
    with rasterio.open(path) as file:
        return file.read(1)


def main():
    """Prints the table; returns whether all bounds are kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--heights", type=int, nargs="+", default=[1024, 4096])
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--model", help="[the bundled network]")
    parser.add_argument("--kills", type=int, default=3, help="0 for none [3]")
    options = parser.parse_args()
    model = open_model(options.model)
    rows, equal = [], []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for height in options.heights:
            path = folder / f"{height}.tif"
            write(path, height, options.width, model.input_channels)
            progress(f"predicting {options.width}x{height}")
            seconds, peak = measured(path, folder / "out", options)
            megapixels = height * options.width / 1e6
            rows.append((height, megapixels, peak / 1e6, seconds / megapixels))
        progress("predicting the first one whole")
        with rasterio.open(folder / f"{options.heights[0]}.tif") as file:
            image = np.moveaxis(file.read(), 0, -1)
        (whole,) = Segmenter(model, crop=options.crop, base_size=None).classes([image])
        written = classes(folder / "out" / f"{options.heights[0]}_classes.tif")
        equal.append(("whole", float((whole == written).mean())))
        if options.kills:
            progress("predicting the last one with kills")
            path = folder / f"{options.heights[-1]}.tif"
            kills = killed(path, folder / "killed", options)
            both = [classes(folder / at / f"{path.stem}_classes.tif") for at in ("out", "killed")]
            equal.append((f"killed {kills} times", float((both[0] == both[1]).mean())))
    print(environment(["tensorflow", "rasterio"]))
    print(f"\nWidth {options.width}, windows of {options.crop}, {model.num_classes} classes:\n")
    print("| height | megapixels | peak memory, MB | seconds per megapixel |\n|---|---|---|---|")
    for height, megapixels, peak, seconds in rows:
        print(f"| {height} | {megapixels:.1f} | {peak:.0f} | {seconds:.2f} |")
    print("\n| compared with | equal pixels |\n|---|---|")
    for name, share in equal:
        print(f"| {name} | {100 * share:.4f} % |")
    return all(share >= BOUND for _, share in equal)


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
