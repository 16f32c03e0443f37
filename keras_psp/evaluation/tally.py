"""Running counts of an evaluation, in memory and in its output folder."""

import datetime
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_psp.data.identity import data_difference, example_digest
from keras_psp.data.sets.cityscapes_labels import label_ids
from keras_psp.evaluation.boundary import BoundaryIoU
from keras_psp.evaluation.cityscapes import CityscapesMeasures
from keras_psp.evaluation.errors import ErrorGroups
from keras_psp.evaluation.measures import Measures
from keras_psp.evaluation.reliability import Reliability
from keras_psp.evaluation.report.images import Example
from keras_psp.evaluation.result import Evaluation
from keras_psp.files import file_checksum, read_npz, writing, written_aside
from keras_psp.metrics.confusion import confusion_matrix
from keras_psp.prediction.examples import Examples
from keras_psp.prediction.segmenter import Segmenter
from keras_psp.resume import check_settings, damaged, read_record, write_record

SETTINGS, STATE = "settings.json", "state.npz"
SECONDS_BETWEEN_SAVES = 20.0
_WORST, _BEST = 6, 3  # images in the report
# Attributes of a `Tally`, one item per image.
_LISTS = {
    "names": np.str_,
    "digests": np.str_,
    "predictions": np.int64,
    "accuracies": np.float64,
    "ious": np.float64,
}


class Tally:
    """Counts of the images evaluated so far, and a state from which `resume` restores them.

    `settings`, and `identity`, which describes the data, are everything that the results depend
    on; "boundary", "error_groups" and "calibration" in `settings` choose what is counted. Without
    a folder, the state is only in memory.
    """

    def __init__(
        self,
        examples: Examples,
        settings: Mapping[str, Any],
        identity: Mapping[str, Any] | None,
        folder: Path | None,
    ):
        self._examples, self._settings, self._folder = examples, settings, folder
        self._identity = identity
        num_classes, ignore_class = examples.num_classes, examples.ignore_class
        self._confusion = np.zeros((num_classes, num_classes + 1), np.int64)
        self._names: list[str] = []
        self._digests: list[str] = []  # of examples that aren't in files
        self._predictions: list[int] = []  # checksums of the files; -1 if not saved
        self._accuracies: list[float] = []
        self._ious: list[float] = []
        self._seconds = 0.0
        self._started = self._saved = time.monotonic()
        # Optional counts by name; each has `arrays` and `from_arrays`.
        self._others: dict[str, Any] = {}
        if settings["error_groups"]:
            self._others["error_groups"] = ErrorGroups(num_classes, ignore_class)
        if settings["boundary"]:
            self._others["boundary"] = BoundaryIoU(num_classes, ignore_class=ignore_class)
        if settings["calibration"]:
            self._others["reliability"] = Reliability()
        if examples.has_instances:
            self._others["cityscapes"] = CityscapesMeasures()
        self._shown: dict[int, Example] = {}
        # Whether all counts have seen the same images. An image that was only partly counted
        # must not be saved: it would count twice after a resume.
        self._consistent = True

    @property
    def done(self) -> int:
        """Number of images counted."""
        return len(self._names)

    @property
    def mean_iou(self) -> float:
        """Mean IoU over the images counted so far."""
        return Measures(self._confusion, self._examples.class_names).mean_iou

    def add(
        self,
        name: str,
        image: np.ndarray,
        mask: np.ndarray,
        classes: np.ndarray,
        instances: np.ndarray | None,
        prediction: Path | None = None,
        probability: np.ndarray | None = None,
    ) -> None:
        """Counts an image, keeps it if it is among the worst or best, and may save the state.

        `prediction` is the file with its classes, if there is one; `probability` is that of each
        pixel's predicted class, for "calibration".
        """
        self._consistent = False
        examples = self._examples
        counts = confusion_matrix(
            mask, classes, examples.num_classes, ignore_class=examples.ignore_class
        )
        for other in ("error_groups", "boundary"):
            if other in self._others:
                self._others[other].update(mask, classes)
        if "cityscapes" in self._others:
            self._others["cityscapes"].update(label_ids(mask), label_ids(classes), instances)
        if "reliability" in self._others and probability is not None:
            labeled = mask != examples.ignore_class
            right = classes[labeled] == mask[labeled]
            self._others["reliability"].update(probability[labeled], right)
        measures = Measures(counts, examples.class_names)
        self._confusion += counts
        self._names.append(name)
        if not examples.in_files:
            self._digests.append(example_digest(image, mask))
        self._predictions.append(-1 if prediction is None else file_checksum(prediction))
        self._accuracies.append(measures.pixel_accuracy)
        self._ious.append(measures.mean_iou)
        self._consistent = True
        if time.monotonic() - self._saved > SECONDS_BETWEEN_SAVES:
            self.save()
        self._shown[self.done - 1] = Example(name, image, mask, classes, measures.mean_iou)
        for index in set(self._shown) - set(self._worst_and_best()):
            del self._shown[index]

    def _worst_and_best(self):
        """Numbers of the images with the lowest and highest mean IoU."""
        scored = [index for index, iou in enumerate(self._ious) if np.isfinite(iou)]
        order = sorted(scored, key=self._ious.__getitem__)
        return [*order[:_WORST], *order[_WORST:][-_BEST:]]

    def worst_and_best(self, segmenter: Segmenter) -> list[Example]:
        """The images for the report; those counted before a resume are predicted again."""
        missing = sorted(set(self._worst_and_best()) - set(self._shown))
        if missing and self._examples.in_any_order:
            for index, name, image, mask in self._examples.read(missing):
                (classes,) = segmenter.classes([image])
                self._shown[index] = Example(name, image, mask, classes, self._ious[index])
        return list(self._shown.values())

    def resume(self) -> None:
        """Loads the folder's state, if any.

        Raises:
            ValueError: if it was made with other settings or data, or a file is damaged.
        """
        if self._folder is None:
            return
        settings, state = self._folder / SETTINGS, self._folder / STATE
        data = self._settings["data"]
        now = {**self._settings, "data": {key: data[key] for key in ("split", "images")}}
        del now["model"]  # a name; "weights" are compared
        if settings.exists():
            stored = read_record(settings, "remove it to evaluate again, or choose another output")
            contents, remedy = f"{self._folder} holds an evaluation", "choose another output"
            check_settings(stored["settings"], now, contents=contents, remedy=remedy)
            before, present = stored["data"] or {}, self._identity or {}
            if bool(before) != bool(present):
                raise ValueError(f"{contents} of another kind of data; {remedy}.")
            if present and (difference := data_difference(before, present)):
                raise ValueError(f"{contents} of other data: {difference}; {remedy}.")
            if state.exists():
                self._load(state)
            return
        if state.exists():
            print(
                f"{state}: has no {SETTINGS} and can't be compared; evaluating again",
                file=sys.stderr,
            )
            state.unlink()
        write_record(settings, {"settings": now, "data": self._identity})

    def _load(self, path):
        try:
            state = read_npz(path)
            self._confusion = state["confusion"]
            for name in _LISTS:
                getattr(self, f"_{name}").extend(state[name].tolist())
            self._seconds = float(state["seconds"])
            for name, other in self._others.items():
                prefix = f"{name}/"
                arrays = {
                    key.removeprefix(prefix): array
                    for key, array in state.items()
                    if key.startswith(prefix)
                }
                self._others[name] = type(other).from_arrays(arrays)
        except (KeyError, OSError, ValueError) as error:
            raise damaged(path, error, "remove it to evaluate again") from error

    def check(self, index: int, name: str, image: np.ndarray, mask: np.ndarray) -> None:
        """Raises ValueError if an example that was counted already has changed."""
        if example_digest(image, mask) != self._digests[index]:
            raise ValueError(
                f"{self._folder} holds an evaluation of other data: the image or mask of {name} "
                "was changed; choose another output."
            )

    def check_predictions(self, folder: Path) -> None:
        """Prints a line if predictions of counted images are missing or were changed."""
        saved = zip(self._names, self._predictions, strict=True)
        paths = [(folder / f"{name}.png", crc) for name, crc in saved]
        lost = [path for path, crc in paths if not path.is_file() or file_checksum(path) != crc]
        if lost:
            print(
                f"{lost[0]}: is missing or was changed ({len(lost)} of {len(paths)} predictions "
                f"are); remove {STATE} to evaluate again",
                file=sys.stderr,
            )

    def save(self) -> None:
        """Writes the state."""
        self._saved = time.monotonic()
        if self._folder is None or not self._consistent:
            return
        arrays: dict[str, Any] = {
            name: np.array(getattr(self, f"_{name}"), dtype) for name, dtype in _LISTS.items()
        }
        for name, other in self._others.items():
            arrays |= {f"{name}/{key}": array for key, array in other.arrays().items()}
        path = self._folder / STATE
        with writing(path), written_aside(path) as draft:
            np.savez(draft, confusion=self._confusion, seconds=self._time(), **arrays)

    def _time(self):
        return self._seconds + time.monotonic() - self._started

    def evaluation(self) -> Evaluation:
        """The result; a ValueError if there are no images."""
        if not self._names:
            raise ValueError("the data set is empty; there is nothing to evaluate.")
        return Evaluation(
            Measures(self._confusion, self._examples.class_names),
            self._names,
            np.array(self._accuracies),
            np.array(self._ious),
            **self._others,
            settings={**self._settings, "date": datetime.date.today().isoformat()},
            seconds=self._time(),
        )
