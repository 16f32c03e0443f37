"""What `read_input_image` makes of image files as they turn up: good, odd and broken.

    python benchmarks/odd_images.py

The files are made anew, in a temporary folder; tests/data/test_images.py asserts the same.
Fails if one outcome isn't as it should be.
"""

import argparse
import sys
import tempfile
import warnings
from pathlib import Path

from keras_psp.data.images import read_input_image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
import odd_images


def main():
    """Print the table."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    # Pillow warns of what is told in the table.
    warnings.filterwarnings("ignore", module="PIL")
    wrong = 0
    print("| file | what it is | outcome | as it should |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for case in odd_images.CASES:
            path = odd_images.written(case, folder)
            try:
                photo = read_input_image(path)
                good = odd_images.as_expected(case, photo)
                size = f"{photo.shape[1]}x{photo.shape[0]}"
                colours = odd_images.found_colours(photo)
                outcome = f"{size}: " + ", ".join(f"#{bytes(rgb).hex()}" for rgb in colours)
            except (ValueError, OSError) as error:
                outcome = str(error).replace(str(path), path.name)
                good = bool(case.refused) and case.refused in outcome
            wrong += not good
            print(f"| {case.file} | {case.what} | {outcome} | {'yes' if good else '**no**'} |")
    print(f"\n{len(odd_images.CASES)} files, {wrong} not as they should.")
    return wrong > 0


if __name__ == "__main__":
    raise SystemExit(main())
