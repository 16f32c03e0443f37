"""The paper's tables 1 to 4 as data: the changes of each row and its figures on ADE20K."""

from dataclasses import dataclass, field

BASELINE = {"bin_sizes": ()}
GLOBAL = {"bin_sizes": (1,), "reduction": None}
PYRAMID = {"bin_sizes": (1, 2, 3, 6), "reduction": None}
PSPNET = {"bin_sizes": (1, 2, 3, 6)}
MAX = {"pooling": "max"}
PLAIN_IMAGES = {"scale": (1.0, 1.0), "mirror": False, "rotate": 0.0, "blur": False}


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        name: name of the row in the paper, without that of the network.
        paper: mean IoU and pixel accuracy in % on ADE20K's validation split, from the paper.
        fields: changed fields of the recipe.
        depth: index into the networks of the setting, from shallow to deep.
        multi_scale: whether to evaluate on six scales, with flip.
    """

    name: str
    paper: tuple[float, float]
    fields: dict = field(default_factory=dict)
    depth: int = 0
    multi_scale: bool = False


def _table3():
    single_scale = ((41.68, 80.04), (41.96, 80.64), (42.62, 80.80), (43.81, 80.88))
    multi_scale = ((42.78, 80.76), (43.29, 81.39), (43.51, 81.38), (44.94, 81.69))
    single = [Row("PSPNet", paper, PSPNET, depth=i) for i, paper in enumerate(single_scale)]
    return single + [
        Row("PSPNet+MS", paper, PSPNET, depth=i, multi_scale=True)
        for i, paper in enumerate(multi_scale)
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
"""MAX, AVE: pooling of the bins; DR: dimension reduction of each level by a 1x1 convolution; AL:
auxiliary loss; DA: data augmentation; MS: six scales and flip at test time."""


@dataclass(frozen=True)
class Setting:
    """The training settings for a data set.

    Attributes:
        recipe: name of the recipe to start from and of the data set.
        split: split to evaluate.
        depths: networks for the rows of table 3 and the last rows of table 4; the other rows use
            the first one.
        fields: changed fields of the recipe.
        familiar: split to evaluate as well, of the same streets as the training split.
    """

    recipe: str
    split: str
    depths: tuple[str, ...]
    fields: dict = field(default_factory=dict)
    familiar: str | None = None


# The paper also has depth 269, which has no ImageNet weights: --depths and --set weights=FILE.
PAPER_DEPTHS = ("resnet50", "resnet101", "resnet152")
# Two stages of ResNet-18 and the fusion have a receptive field of 115 pixels, and a smaller
# effective one: less than the scene, as the paper observes for ResNet-50 (section 3.2). All four
# stages see 435 pixels and recognize the context without a pyramid (results/context.md).
SMALL_FIELD = {"num_stages": 2, "output_stride": 8}
# For two CPU cores: half of the image size, and no ImageNet weights.
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
LITE0 = ("efficientnet_lite0",)
NO_VALIDATION = {"validation_epochs": 0}
PRETRAINED = {"weights": "imagenet", "stem_filters": None}
SETTINGS = {
    "scenes": Setting("scenes", "test", DEPTHS, NO_VALIDATION | SMALL_FIELD),
    "scenes_lite0": Setting("scenes", "test", LITE0, NO_VALIDATION | PRETRAINED),
    "camvid": Setting("camvid", "test", PAPER_DEPTHS, NO_VALIDATION),
    "camvid_lite0": Setting("camvid_lite0", "test", LITE0, NO_VALIDATION, "val"),
    "camvid_half": Setting("camvid", "test", DEPTHS, NO_VALIDATION | HALF),
    "ade20k": Setting("ade20k", "val", PAPER_DEPTHS, NO_VALIDATION),
}
