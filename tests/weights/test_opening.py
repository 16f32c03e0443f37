import pytest

from keras_psp import PSPNet


def test_similar_names_are_suggested_for_unknown_ones():
    with pytest.raises(ValueError, match="nearest are pspnet_r50-d8_512x512_160k_ade20k"):
        PSPNet(weights="pspnet_r50-d8_512x512_160k_ade")
    with pytest.raises(ValueError, match="weights='' is empty"):
        PSPNet(weights="")
    with pytest.raises(ValueError, match=r"there is no preset 'a\.pth'"):
        PSPNet.from_preset("a.pth")
    with pytest.raises(FileNotFoundError, match=r"'folder/net\.pth': there is no such file"):
        PSPNet(weights="folder/net.pth")
