"""The data sets of the PSPNet paper and of its peers, each in the layout of its archives.

Numbers of examples and label values come from the data sets' own scripts, or from the
converters that peers use; a comment at each opener names its source.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from keras_psp.data.sets import cityscapes, coco, others, voc
from keras_psp.data.sets.published import DataSet

_OPENERS: dict[str, Callable] = {
    "ade20k": others.open_ade20k,
    "camvid": others.open_camvid,
    "cityscapes": cityscapes.open_cityscapes,
    "coco": coco.open_coco,
    "coco_stuff": coco.open_coco_stuff,
    "lmo": others.open_lmo,
    "pascal_context": others.open_pascal_context,
    "pascal_context_59": partial(others.open_pascal_context, background=False),
    "voc2012": voc.open_voc2012,
}


_TEXT = Path(__file__).with_name("sets.json").read_text("utf-8")
SETS: dict[str, DataSet] = {}
"""Data sets by the names that `keras_psp.data.load` takes."""

for _key, _about in json.loads(_TEXT).items():
    _layout = "\n".join(_about.pop("layout"))
    SETS[_key] = DataSet(key=_key, opener=_OPENERS[_key], layout=_layout, **_about)
