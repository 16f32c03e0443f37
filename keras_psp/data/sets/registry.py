"""Data sets of the PSPNet paper and related work, each in the layout of its archives.

Numbers of examples and label values come from the data sets' own scripts, or from the
converters in common use; a comment at each opener names its source.
"""

import json
from collections.abc import Callable
from pathlib import Path

from keras_psp.data.sets import cityscapes, coco, others, voc
from keras_psp.data.sets.published import VOID, DataSet

_OPENERS: dict[str, Callable] = {
    "ade20k": others.open_ade20k,
    "camvid": others.open_camvid,
    "cityscapes": cityscapes.open_cityscapes,
    "coco": coco.open_coco,
    "coco_stuff": coco.open_coco_stuff,
    "lmo": others.open_lmo,
    "pascal_context": others.open_pascal_context,
    "pascal_context_59": others.open_pascal_context,
    "voc2012": voc.open_voc2012,
}


def _entry(key, *, layout, values=(), void=(), **about):
    """Returns the entry of a data set; label values are listed as [first, last]."""
    known = [value for first, last in values for value in range(first, last + 1)]
    return DataSet(
        key=key,
        opener=_OPENERS[key],
        layout="\n".join(layout),
        lookup={**dict.fromkeys(void, VOID), **{value: i for i, value in enumerate(known)}},
        **about,
    )


_TEXT = Path(__file__).with_name("sets.json").read_text("utf-8")
SETS = {key: _entry(key, **about) for key, about in json.loads(_TEXT).items()}
"""Data sets by the names that `keras_psp.data.load` takes."""
