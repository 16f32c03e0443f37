"""The data sets of PSPNet's paper and its peers, each in the layout its archives unpack to.

Numbers of examples and tables of label values are those of the sets' own scripts or of the
converters that peers use; each is named beside its set.
"""

from keras_psp.data.sets.cityscapes import CITYSCAPES
from keras_psp.data.sets.coco import COCO, COCO_STUFF
from keras_psp.data.sets.others import ADE20K, CAMVID, LMO, PASCAL_CONTEXT, PASCAL_CONTEXT_59
from keras_psp.data.sets.published import DataSet
from keras_psp.data.sets.voc import VOC2012

SETS: dict[str, DataSet] = {
    entry.key: entry
    for entry in (
        ADE20K,
        CAMVID,
        CITYSCAPES,
        COCO,
        COCO_STUFF,
        LMO,
        PASCAL_CONTEXT,
        PASCAL_CONTEXT_59,
        VOC2012,
    )
}
