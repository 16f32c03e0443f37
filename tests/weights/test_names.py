"""The families' own tables are tested by test_conversion.py."""

import numpy as np
import pytest
from support import checkpoints

from keras_psp import DilatedResNet, PSPNet
from keras_psp.weights import WeightsFileError
from keras_psp.weights.families.mmsegmentation import MMSEGMENTATION
from keras_psp.weights.names import KERAS, MXNET, TORCH


def test_torch_and_mxnet_kernels_share_their_axis_order():
    assert TORCH.axes == MXNET.axes == (2, 3, 1, 0)
    assert KERAS.axes == (0, 1, 2, 3)


def test_a_failed_load_changes_nothing(tmp_path):
    tensors = checkpoints.mmsegmentation(18, 3)
    model = PSPNet(3, backbone=DilatedResNet(18, stem_filters=(32, 32, 64)), fusion_filters=128)
    before = model.get_weights()
    tensors.pop("auxiliary_head.conv_seg.bias")
    with pytest.raises(WeightsFileError):
        MMSEGMENTATION.load(model, tensors)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
