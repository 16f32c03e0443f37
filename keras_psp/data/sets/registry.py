"""The data sets of the PSPNet paper and of its peers, each in the layout of its archives.

Numbers of examples and tables of label values come from the data sets' own scripts or from
the converters that peers use; a comment at each data set names its source.
"""

from keras_psp.data.sets.cityscapes import CITYSCAPES
from keras_psp.data.sets.coco import COCO, COCO_STUFF
from keras_psp.data.sets.others import ADE20K, CAMVID, LMO, PASCAL_CONTEXT, PASCAL_CONTEXT_59
from keras_psp.data.sets.published import DataSet
from keras_psp.data.sets.voc import VOC2012

_ENTRIES = (
    *(ADE20K, CAMVID, CITYSCAPES, COCO, COCO_STUFF, LMO),
    *(PASCAL_CONTEXT, PASCAL_CONTEXT_59, VOC2012),
)
SETS: dict[str, DataSet] = {entry.key: entry for entry in _ENTRIES}
