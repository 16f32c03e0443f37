"""Tabulates how `read_image` reads good, unusual and broken image files.

    python benchmarks/odd_images.py

The files are generated in a temporary folder. Fails if a result isn't as expected;
tests/data/test_images.py asserts the same.
"""

import argparse
import sys
import tempfile
import warnings
from pathlib import Path

from keras_psp.data.images import read_image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support import odd_images


def main():
    """Prints the table."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    # The table has what Pillow warns about.
    warnings.filterwarnings("ignore", module="PIL")
    wrong = 0
    print("| file | content | result | as expected |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for case in odd_images.CASES:
            path = odd_images.written(case, folder)
            try:
                image = read_image(path)
                good = odd_images.as_expected(case, image)
                size = f"{image.shape[1]}x{image.shape[0]}"
                colors = odd_images.quarter_colors(image)
                result = f"{size}: " + ", ".join(f"#{bytes(rgb).hex()}" for rgb in colors)
            except (ValueError, OSError) as error:
                result = str(error).replace(str(path), path.name)
                good = bool(case.refused) and case.refused in result
            wrong += not good
            print(f"| {case.file} | {case.what} | {result} | {'yes' if good else '**no**'} |")
    print(f"\n{len(odd_images.CASES)} files, {wrong} not as expected.")
    return wrong > 0


if __name__ == "__main__":
    raise SystemExit(main())
