"""A program that reads with tf.data exits, also after an error or an interruption."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys, time
import numpy as np
from keras_psp.data import training_batches

class Slow:
    splits = ("train",)
    class_names = ("a", "b")
    palette = ((0, 0, 0), (9, 9, 9))
    ignore_class = 255
    num_classes = 2
    read = 0

    def count(self, split):
        return 400

    def example(self, split, index):
        time.sleep(0.05)
        self.read += 1
        if sys.argv[1] == "broken" and self.read > 20:
            raise OSError("a broken file")
        return np.zeros((32, 32, 3), "uint8"), np.zeros((32, 32), "uint8")

def main():
    batches = training_batches(Slow(), batch_size=4, crop_size=17, cache=False)
    iterator = iter(batches)
    for _ in range(8):
        next(iterator)
    if sys.argv[1] == "interrupt":
        raise KeyboardInterrupt
    return iterator

kept = main()
print("finished")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ending", "code", "last"),
    [("broken", 1, "a broken file"), ("interrupt", -2, "KeyboardInterrupt"), ("well", 0, "")],
)
def test_a_program_that_reads_exits(ending, code, last):
    # Without `until_exit` the first two hang; the timeout ends them and fails the test.
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, ending], capture_output=True, text=True, timeout=120
    )
    assert process.returncode == code, process.stderr
    assert last in process.stderr
    assert ("finished" in process.stdout) == (ending == "well")
