import numpy as np


def test_a_border_between_labels_is_void(many):
    for _, mask in many[:30]:
        for one, other in ((mask[1:], mask[:-1]), (mask[:, 1:], mask[:, :-1])):
            touching = (one != other) & (one != 255) & (other != 255)
            assert not touching.any()
        assert 0.005 < np.mean(mask == 255) < 0.25
