import numpy as np

from keras_psp.data import scenes


def test_palette_colors_are_distinct():
    colors = scenes.PALETTE.astype(int)
    assert colors.shape == (len(scenes.CLASS_NAMES), 3)
    distance = np.abs(colors[:, None] - colors[None]).sum(-1)
    assert distance[~np.eye(len(colors), dtype=bool)].min() >= 60
