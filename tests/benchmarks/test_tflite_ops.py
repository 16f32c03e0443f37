"""Tests of the count of TFLite's operations with a tiny network."""

from pathlib import Path

import numpy as np
import pytest
from support.networks import tiny_pspnet

pytest.importorskip("ai_edge_litert.interpreter")

FOLDER = Path(__file__).parents[2] / "benchmarks"


def test_the_plain_graph_has_products_that_xnnpack_leaves_out(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    from tflite_ops import PLAIN, operations, write

    images = np.random.default_rng(0).integers(0, 256, (2, 49, 49, 3)).astype("uint8")
    others = {}
    for precision in ("int8", PLAIN):
        path = tmp_path / f"{len(others)}.tflite"
        write(tiny_pspnet(3), path, (49, 49), precision, images)
        names, others[precision], partitions, floats = operations(path)
        assert partitions and not floats
        assert set(others[precision]) <= set(names)
    assert "BATCH_MATMUL" not in others["int8"]
    assert "BATCH_MATMUL" in others[PLAIN]
