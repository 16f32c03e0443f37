"""How the report presents each group of `ErrorGroups`."""

from typing import NamedTuple


class GroupText(NamedTuple):
    """Heading, RGB color and explanation of a group."""

    heading: str
    color: tuple[int, int, int]
    explanation: str


GROUP_TEXTS = {
    "mismatched": GroupText(
        "Mismatched relationship",
        (224, 49, 49),
        "The predicted class is not in this image and hardly ever occurs together with the "
        "classes that are: a car on a river. A network that uses the whole scene should not make "
        "this mistake. A pixel is counted here only if the labels show that two classes rarely "
        "co-occur, which takes many images of different scenes.",
    ),
    "confused": GroupText(
        "Confusion categories",
        (240, 140, 0),
        "Two classes that are confused with each other throughout the data set, in both "
        "directions and away from their borders: part of a building predicted as skyscraper.",
    ),
    "missed": GroupText(
        "Inconspicuous: small things missed",
        (156, 54, 181),
        "A small thing, such as a street light, with less than half of its pixels correct.",
    ),
    "broken": GroupText(
        "Inconspicuous: large things broken up",
        (25, 113, 194),
        "A gap in a large thing that is mostly correct; things larger than the receptive field "
        "come out in pieces.",
    ),
    "border": GroupText(
        "Borders",
        (12, 166, 120),
        "The labels have the predicted class within a few pixels, so an edge is slightly off. "
        "Not one of the paper's groups.",
    ),
    "other": GroupText(
        "Other",
        (164, 113, 72),
        "Everything else, e.g. one-sided confusions and things that are missed entirely.",
    ),
}
"""Group name to its texts, in the order of the page."""
