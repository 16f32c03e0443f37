import json

import pytest
from support.networks import tiny_predictor

from keras_psp.weights.card import card

FACTS = {
    "dataset": "CamVid | 11",
    "split": "val",
    "mean_iou": 0.71234,
    "training_images": 367,
    "epochs": 30,
    "crop_size": [353, 473],
    "image_size": [360, 480],
    "weights": "imagenet",
    "recipe": "camvid",
    "command": "keras-psp train camvid --data CamVid",
}


def header(text):
    """The rows between the first two lines of dashes; each value is JSON."""
    first, rows, _ = text.split("---\n", 2)
    assert first == ""
    return {key: json.loads(value) for key, value in (r.split(": ", 1) for r in rows.splitlines())}


def test_a_card_says_what_is_known():
    model = tiny_predictor(
        class_names=["sky", "a|b", "c\nd"], palette=[[0, 0, 0], [1, 2, 3], [4] * 3]
    )
    text = card(model, license="apache-2.0", facts=FACTS)
    for part in (
        "# PSPNet, ResNet-18, CamVid \\| 11\n",
        "Mean IoU 71.23% on CamVid \\| 11, split val",
        "- training images: 367\n",
        "- crops: 353 x 473\n",
        "    keras-psp train camvid --data CamVid\n",
        "| 1 | a\\|b | 1, 2, 3 |\n| 2 | c d | 4, 4, 4 |\n",
        f"- parameters: {model.count_params():,}\n",
        "## License\n\napache-2.0, as stated by the author.\n",
    ):
        assert part in text
    result = header(text)["model-index"][0]["results"][0]
    assert result["metrics"][0]["value"] == 0.7123
    assert result["dataset"] == {"name": "CamVid | 11", "type": "camvid-11", "split": "val"}


def test_a_card_leaves_out_what_is_not_known():
    text = card(tiny_predictor(), license=None, facts={})
    assert "## Figures" not in text and "## Training" not in text
    assert "Not stated; ask the author" in text
    assert not {"license", "model-index"} & header(text).keys()


@pytest.mark.parametrize(
    ("license", "rows"),
    [
        ("MIT", {"license": "mit"}),
        ("CC BY-NC 4.0", {"license": "cc-by-nc-4.0"}),
        ("Mine (see below)", {"license": "other", "license_name": "Mine (see below)"}),
    ],
)
def test_the_header_has_hugging_faces_name_of_a_license(license, rows):
    found = header(card(tiny_predictor(), license=license, facts={}))
    assert {key: value for key, value in found.items() if "license" in key} == rows


def test_huggingface_hub_reads_the_header():
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub isn't installed")
    read = hub.ModelCard(card(tiny_predictor(), license="mit", facts=FACTS)).data
    assert (read.license, read.pipeline_tag) == ("mit", "image-segmentation")
    (result,) = read.eval_results
    assert (result.metric_type, result.metric_value) == ("mean_iou", 0.7123)
