"""The paper's tables 1 to 4 as data: what each row changes, and what it scored on ADE20K."""

from dataclasses import dataclass, field

BASELINE = {"bin_sizes": ()}
GLOBAL = {"bin_sizes": (1,), "reduction": None}
PYRAMID = {"bin_sizes": (1, 2, 3, 6), "reduction": None}
PSPNET = {"bin_sizes": (1, 2, 3, 6)}
MAX = {"pooling": "max"}
PLAIN_IMAGES = {"scale": (1.0, 1.0), "mirror": False, "rotate": 0.0, "blur": False}


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        name: the paper's, without the network's.
        paper: mean IoU and pixel accuracy in %, ADE20K's validation split (tables 1 to 4 of the
            paper).
        fields: of the recipe, other than its own.
        depth: which of a setting's networks, the shallowest first.
        multi_scale: judged on six scales and flipped.
    """

    name: str
    paper: tuple[float, float]
    fields: dict = field(default_factory=dict)
    depth: int = 0
    multi_scale: bool = False


def _table3():
    found = ((41.68, 80.04), (41.96, 80.64), (42.62, 80.80), (43.81, 80.88))
    multi = ((42.78, 80.76), (43.29, 81.39), (43.51, 81.38), (44.94, 81.69))
    single = [Row("PSPNet", paper, PSPNET, depth=i) for i, paper in enumerate(found)]
    return single + [
        Row("PSPNet+MS", paper, PSPNET, depth=i, multi_scale=True) for i, paper in enumerate(multi)
    ]


TABLES = {
    1: [
        Row("Baseline", (37.23, 78.01), BASELINE),
        Row("B1+MAX", (39.94, 79.46), GLOBAL | MAX),
        Row("B1+AVE", (40.07, 79.52), GLOBAL),
        Row("B1236+MAX", (40.18, 79.45), PYRAMID | MAX),
        Row("B1236+AVE", (41.07, 79.97), PYRAMID),
        Row("B1236+MAX+DR", (40.87, 79.61), PSPNET | MAX),
        Row("B1236+AVE+DR", (41.68, 80.04), PSPNET),
    ],
    2: [
        Row("without AL", (35.82, 77.07), BASELINE | {"aux_weight": 0.0}),
        Row("weight 0.3", (37.01, 77.87), BASELINE | {"aux_weight": 0.3}),
        Row("weight 0.4", (37.23, 78.01), BASELINE | {"aux_weight": 0.4}),
        Row("weight 0.6", (37.09, 77.84), BASELINE | {"aux_weight": 0.6}),
        Row("weight 0.9", (36.99, 77.87), BASELINE | {"aux_weight": 0.9}),
    ],
    3: _table3(),
    4: [
        Row("Baseline", (34.28, 76.35), BASELINE | {"aux_weight": 0.0} | PLAIN_IMAGES),
        Row("DA", (35.82, 77.07), BASELINE | {"aux_weight": 0.0}),
        Row("DA+AL", (37.23, 78.01), BASELINE),
        Row("DA+AL+PSP", (41.68, 80.04), PSPNET),
        Row("deepest, DA+AL+PSP", (43.81, 80.88), PSPNET, depth=-1),
        Row("deepest, DA+AL+PSP+MS", (44.94, 81.69), PSPNET, depth=-1, multi_scale=True),
    ],
}
"""MAX, AVE: how the bins are pooled; DR: each level reduced by a 1x1 convolution; AL: the auxiliary
loss; DA: augmentation; MS: six scales and flip at test time."""


@dataclass(frozen=True)
class Setting:
    """How a data set's rows are trained.

    Attributes:
        recipe: the name it starts from, which is that of the data set too.
        split: judged.
        depths: networks, for the rows of table 3 and the last of table 4; others take the first.
        fields: of the recipe.
    """

    recipe: str
    split: str
    depths: tuple[str, ...]
    fields: dict = field(default_factory=dict)


# The paper goes on to 269, of which there are no ImageNet weights: --depths and --set weights=FILE.
PAPER_DEPTHS = ("resnet50", "resnet101", "resnet152")
# Two of ResNet-18's stages and the fusion see at most 115 pixels across, little of them well: less
# than the scene, as the paper finds of ResNet-50 in its pictures (section 3.2). All four stages see
# 435 and tell the context without a pyramid (results/context.md).
SEES_LITTLE = {"num_stages": 2, "output_stride": 8}
# For two CPU cores: half of the size, and no ImageNet weights.
HALF = {
    "image_size": (180, 240),
    "crop_size": (177, 233),
    "output_stride": 16,
    "stem_filters": (64,),
    "weights": None,
    "head_multiplier": 1.0,
    "learning_rate": 0.02,
    "warmup_steps": 50,
    "batch_size": 8,
    "epochs": 10,
}
DEPTHS = ("resnet18", "resnet34")
WITHOUT = {"validation_epochs": 0}
SETTINGS = {
    "scenes": Setting("scenes", "test", DEPTHS, WITHOUT | SEES_LITTLE),
    "camvid": Setting("camvid", "test", PAPER_DEPTHS, WITHOUT),
    "camvid_half": Setting("camvid", "test", DEPTHS, WITHOUT | HALF),
    "ade20k": Setting("ade20k", "val", PAPER_DEPTHS, WITHOUT),
}
