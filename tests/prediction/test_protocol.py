import dataclasses
import json

import numpy as np
import pytest

from keras_psp.prediction.protocol import SIX_SCALES, Protocol


def test_six_scales_are_those_of_the_authors_configuration():
    assert SIX_SCALES == (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


def test_fields_are_stored_as_plain_python_types():
    protocol = Protocol(np.ones(1), np.bool_(False), crop=np.int64(49), base_size=None)
    assert protocol == Protocol((1.0,), False, crop=49, base_size=None)
    assert isinstance(protocol.crop, int) and protocol.flip is False
    with pytest.raises(dataclasses.FrozenInstanceError):
        protocol.flip = True


def test_settings_are_json_without_the_batch_size():
    settings = Protocol((0.5, 1.0), flip=True, batch_size=9).settings
    assert (
        json.loads(json.dumps(settings))
        == settings
        == {
            "scales": [0.5, 1.0],
            "flip": True,
            "crop": None,
            "overlap": 1 / 3,
            "base_size": "auto",
            "antialias": "auto",
        }
    )


def test_base_size_is_a_number_none_or_auto():
    with pytest.raises(ValueError, match="base_size='512'; give a number, None or"):
        Protocol(base_size="512")
    with pytest.raises(ValueError, match="antialias='area'; give True, False or"):
        Protocol(antialias="area")
    with pytest.raises(ValueError, match="crop is 'auto'; it must be an integer"):
        Protocol(crop="auto")


def test_a_flip_in_words_is_refused():
    with pytest.raises(ValueError, match="flip is 'false'; it must be True or False"):
        Protocol(flip="false")
