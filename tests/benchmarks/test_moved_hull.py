"""Tests of the moved hulls with a tiny network."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.networks import tiny_predictor

from keras_psp.data.scenes import CLASS_NAMES

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)


def by_hand(**classes):
    from moved_hull import Moved

    return Moved(("features", "1x1", "constant"), np.zeros((1, 2, 3)), classes)


def test_told_apart_and_follows_are_those_counted_by_hand():
    # Four pixels, beside water and beside road: 0 boat, 1 car, 2 another class.
    found = by_hand(nothing=np.array([[0, 0, 1, 2], [1, 0, 1, 1]]))
    assert found.follows("nothing").tolist() == [True, False, False, False]
    # Seven have a name of the pair: boats beside water are the first two, cars beside the road
    # the first, third and fourth.
    assert found.told_apart("nothing") == pytest.approx(5 / 7)


def test_the_shares_that_the_pyramid_decides_are_printed(capsys):
    from moved_hull import print_moved

    classes = {
        "nothing": np.array([[0, 0, 0, 0, 1], [1, 1, 1, 1, 1]]),
        # Of the four that follow, three are cars without the pyramid, and one still follows.
        "all levels": np.array([[1, 1, 1, 0, 1], [1, 1, 1, 1, 1]]),
    }
    found = by_hand(**classes)
    found.parts[0] = [[1, 2, 0.5], [1, -2, 0.5]]
    print_moved("hull", found)
    text = capsys.readouterr().out
    assert "| 1x1 | +2.00 (0.00) | -2.00 (0.00) | +4.00 (0.00) | 100.0 % |" in text
    assert "| sum | +3.50 (0.00) | -0.50 (0.00) | +4.00 (0.00) | 100.0 % |" in text
    assert "| nothing | 80.0 % | 20.0 % | 0.0 % | 100.0 % | 80.0 % | 90.0 % |" in text
    assert "80.0 % of the pixels get the right class in both scenes" in text
    assert "75.0 % of these lose the class boat (water), 0.0 % the class car (road)" in text
    assert "and 75.0 % at least one of the two." in text


def test_hulls_and_towers_are_moved_and_drawn(tmp_path):
    from moved_hull import moved, pairs_of_scenes
    from moved_hull_picture import draw

    model = tiny_predictor(14, class_names=CLASS_NAMES)
    for name in ("hull", "tower"):
        scenes = pairs_of_scenes(name, 2, 64)
        found = moved(model, name, scenes)
        assert found.names == ("features", "1x1", "2x2", "constant")
        assert found.parts.shape == (2, 2, 4)
        assert list(found.classes) == ["nothing", "1x1", "2x2", "all levels", "exchanged"]
        pixels = sum(where.sum() for _, where in scenes)
        assert all(classes.shape == (2, pixels) for classes in found.classes.values())
    draw(model, [scenes[0][0][0]], tmp_path / "moved.png")
    with Image.open(tmp_path / "moved.png") as picture:
        assert min(picture.size) > 500
