import csv
import io
import json
import pickle

import numpy as np
import pytest
import rich.console

from keras_psp.evaluation.cityscapes import AVERAGE_INSTANCE_SIZES, CityscapesMeasures

ROAD, SIDEWALK, PERSON, RIDER, CAR, TRUCK, CARAVAN = 7, 8, 24, 25, 26, 27, 29
CAR_SIZE, TRUCK_SIZE = AVERAGE_INSTANCE_SIZES["car"], AVERAGE_INSTANCE_SIZES["truck"]

# One row of pixels: label, instance, prediction.
PIXELS = (
    *[(ROAD, ROAD, ROAD)] * 5,
    (ROAD, ROAD, SIDEWALK),
    (ROAD, ROAD, CAR),
    (ROAD, ROAD, CARAVAN),
    *[(CAR, 26_000, CAR)] * 2,  # 4 pixels of a car: 2 correct, 2 in the same category
    (CAR, 26_000, TRUCK),
    (CAR, 26_000, CARAVAN),
    (CAR, 26_001, CAR),  # a small car, correct
    (CAR, CAR, ROAD),  # a group of cars
    (TRUCK, 27_003, SIDEWALK),
    (CARAVAN, 29_000, CAR),  # ignored
    (0, 0, TRUCK),  # void
)


def counted(pixels=PIXELS):
    measures = CityscapesMeasures()
    truth, instances, prediction = (np.array([column]) for column in zip(*pixels, strict=True))
    measures.update(truth.astype(np.uint8), prediction, instances.astype(np.int32))
    return measures


def test_measures_match_values_computed_by_hand():
    measures = counted()
    iou = measures.class_iou
    assert len(iou) == 19
    assert iou["road"] == 5 / (8 + 1)  # 8 labels, and a car of a group predicted as road
    assert iou["sidewalk"] == 0
    # 3 of 6 labels are correct; one road is predicted as car, caravans and void don't count.
    assert iou["car"] == 3 / (6 + 1)
    assert iou["truck"] == 0 / (1 + 1)
    assert np.isnan(iou["person"])
    assert measures.mean_class_iou == pytest.approx((5 / 9 + 0 + 3 / 7 + 0) / 4)

    iiou = measures.class_iiou
    assert list(iiou) == list(AVERAGE_INSTANCE_SIZES)
    right = CAR_SIZE / 4 * 2 + CAR_SIZE / 1 * 1
    assert iiou["car"] == pytest.approx(right / (2 * CAR_SIZE + 1), rel=1e-15)
    assert iiou["truck"] == 0
    assert np.isnan(iiou["person"])
    assert measures.mean_class_iiou == pytest.approx(iiou["car"] / 2)

    category = measures.category_iou
    assert list(category) == ["flat", "construction", "object", "nature", "sky", "human", "vehicle"]
    assert category["flat"] == 6 / (8 + 2)
    # 4 of 7 pixels are car or truck; caravan is not a class. One road is predicted as car.
    assert category["vehicle"] == 4 / (7 + 1)
    assert measures.mean_category_iou == pytest.approx((6 / 10 + 4 / 8) / 2)

    # Here a caravan is a vehicle: the car's fourth pixel is correct, the road's is wrong.
    assert list(measures.category_iiou) == ["human", "vehicle"]
    expected = 2 * CAR_SIZE / (2 * CAR_SIZE + TRUCK_SIZE + 2)
    assert measures.category_iiou["vehicle"] == pytest.approx(expected, rel=1e-15)
    assert measures.mean_category_iiou == measures.category_iiou["vehicle"]


def test_rider_predicted_as_person_is_correct_only_in_the_category():
    measures = counted([(RIDER, 25_000, PERSON)] * 3 + [(ROAD, ROAD, ROAD)])
    assert measures.class_iiou["rider"] == 0
    assert measures.category_iiou["human"] == measures.category_iou["human"] == 1


def test_one_id_in_two_images_is_two_instances():
    large = [(CAR, 26_000, CAR)] * 8
    small = [(CAR, 26_000, ROAD)] * 2
    # Each image's car has the weight of the average size, whatever its own.
    both = counted(large) + counted(small)
    assert both.class_iiou["car"] == pytest.approx(0.5)
    assert both.class_iou["car"] == 0.8


def test_addition_sums_counts_of_other_processes():
    random = np.random.default_rng(0)
    parts = [CityscapesMeasures() for _ in range(2)]
    whole = CityscapesMeasures()
    for index in range(6):
        truth = random.integers(0, 34, (20, 30))
        prediction = random.integers(0, 34, (20, 30))
        instances = np.where(truth > 23, 1000 * truth + random.integers(0, 3, (20, 30)), truth)
        for measures in (whole, parts[index % 2]):
            measures.update(truth, prediction, instances)
    first, second = (pickle.loads(pickle.dumps(part)) for part in parts)
    total = first + second
    assert total.images == 6
    np.testing.assert_array_equal(total.confusion, whole.confusion)
    for name in ("class_iou", "class_iiou", "category_iou", "category_iiou"):
        values, expected = getattr(total, name), getattr(whole, name)
        assert values == pytest.approx(expected, rel=1e-13)
    with pytest.raises(TypeError):
        total + 1


def test_measures_are_nan_without_images():
    measures = CityscapesMeasures()
    assert np.isnan(measures.mean_class_iou) and np.isnan(measures.mean_category_iiou)


def test_files_and_table_contain_the_measures(tmp_path):
    measures = counted()
    measures.to_csv(tmp_path / "a.csv")
    with open(tmp_path / "a.csv", encoding="utf-8") as file:
        rows = {(row["kind"], row["name"]): row for row in csv.DictReader(file)}
    assert len(rows) == 19 + 7
    assert float(rows["class", "car"]["iiou"]) == measures.class_iiou["car"]
    assert rows["class", "road"]["iiou"] == rows["category", "sky"]["iou"] == ""

    measures.to_json(tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["images"] == 1
    assert content["mean_category_iiou"] == measures.mean_category_iiou
    assert content["categories"][-1] == {
        "name": "vehicle",
        "iou": 0.5,
        "iiou": measures.category_iiou["vehicle"],
    }
    assert content["classes"][0]["iiou"] is None

    text = io.StringIO()
    measures.print(console=rich.console.Console(file=text, width=80))
    assert "class IoU 24.60 %" in text.getvalue().splitlines()[-1]
    assert "42.9 %" in next(line for line in text.getvalue().splitlines() if "│ car " in line)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[7, 8]], [[7]], [[7, 8]]), r"prediction_label_ids has shape \(1, 1\) and truth_label"),
        (([[7]], [[7]], [[7, 7]]), r"instance_ids has shape \(1, 2\) and truth_label_ids \(1, 1\)"),
        (
            ([[7]], [[255]], [[7]]),
            "prediction_label_ids has the value 255, which is not a label id",
        ),
        (
            ([[34]], [[7]], [[7]]),
            r"truth_label_ids has the value 34, which is not a label id \(0 to",
        ),
        (([[7]], [[7.0]], [[7]]), "prediction_label_ids has shape .* and dtype float64; it must"),
        (([7], [7], [7]), r"truth_label_ids has shape \(1,\) and dtype"),
        (([[7]], [[7]], [[7001]]), "value 7001, but label 7 has no instances"),
        (([[7]], [[7]], [[34_000]]), "value 34000, but label 34 has no instances"),
    ],
)
def test_invalid_arguments_raise_and_count_nothing(arguments, message):
    measures = CityscapesMeasures()
    with pytest.raises(ValueError, match=message):
        measures.update(*(np.array(values) for values in arguments))
    assert measures.images == measures.confusion.sum() == 0
