"""TODO."""

import contextlib
import datetime
import json
import time
from typing import Any

import numpy as np

from keras_psp.data.sets.cityscapes_labels import label_ids
from keras_psp.evaluation.boundary import BoundaryIoU
from keras_psp.evaluation.cityscapes import CityscapesMeasures
from keras_psp.evaluation.errors import ErrorGroups
from keras_psp.evaluation.measures import Measures
from keras_psp.evaluation.report.example import Example
from keras_psp.evaluation.result import Evaluation
from keras_psp.files import writing, written_aside
from keras_psp.metrics.confusion import confusion_matrix
from keras_psp.resume import check_settings

_SAVE_EVERY = 20.0  # seconds


_WORST, _BEST = 6, 3  # pictures of the report


class _Tally:
    """What was counted so far, in memory and in the output folder."""

    def __init__(self, examples, settings, folder):
        self._examples, self._settings, self._folder = examples, settings, folder
        classes, ignored = examples.num_classes, examples.ignore_class
        self._confusion = np.zeros((classes, classes + 1), np.int64)
        self.names: list[str] = []
        self._accuracies: list[float] = []
        self._ious: list[float] = []
        self._seconds = 0.0
        self._begun = self._saved = time.monotonic()
        # What counts besides, by name; each has `arrays` and `from_arrays`.
        self._others: dict[str, Any] = {"errors": ErrorGroups(classes, ignored)}
        if settings["boundary"]:
            self._others["boundary"] = BoundaryIoU(classes, ignore_class=ignored)
        if examples.has_instances:
            self._others["cityscapes"] = CityscapesMeasures()
        self._pictures: dict[int, Example] = {}
        # Whether every figure has seen the same images. An image whose count was cut short would
        # count twice after a resume.
        self._whole = True

    @property
    def done(self) -> int:
        """Images counted."""
        return len(self.names)

    @property
    def mean_iou(self) -> float:
        """So far."""
        return Measures(self._confusion, self._examples.class_names).mean_iou

    def add(self, name, mask, classes, instances):
        """Count an image."""
        self._whole = False
        examples = self._examples
        counts = confusion_matrix(
            mask, classes, examples.num_classes, ignore_class=examples.ignore_class
        )
        measures = Measures(counts, examples.class_names)
        self._others["errors"].update(mask, classes)
        if "boundary" in self._others:
            self._others["boundary"].update(mask, classes)
        if "cityscapes" in self._others:
            self._others["cityscapes"].update(label_ids(mask), label_ids(classes), instances)
        self._confusion += counts
        self.names.append(name)
        self._accuracies.append(measures.pixel_accuracy)
        self._ious.append(measures.mean_iou)
        self._whole = True
        if time.monotonic() - self._saved > _SAVE_EVERY:
            self.save()

    def keep_picture(self, image, mask, classes):
        """Keep the last image if it is one of the worst or best so far."""
        self._pictures[self.done - 1] = Example(
            self.names[-1], image, mask, classes, self._ious[-1]
        )
        for index in set(self._pictures) - set(self._shown()):
            del self._pictures[index]

    def _shown(self):
        """Numbers of the worst and best images."""
        order = sorted(
            (i for i, iou in enumerate(self._ious) if np.isfinite(iou)), key=self._ious.__getitem__
        )
        return [*order[:_WORST], *order[_WORST:][-_BEST:]]

    def pictures(self, segmenter) -> list[Example]:
        """The worst and best images; those from before a stop are predicted again."""
        missing = sorted(set(self._shown()) - set(self._pictures))
        if missing and self._examples.in_any_order:
            for index, name, image, mask in self._examples.read(missing):
                (classes,) = segmenter.classes([image])
                self._pictures[index] = Example(name, image, mask, classes, self._ious[index])
        return list(self._pictures.values())

    @contextlib.contextmanager
    def kept(self):
        """A context after which what was counted lies in the folder, whatever ended it."""
        try:
            yield
        finally:
            self.save()

    def resume(self):
        """Go on from what the folder holds."""
        path = None if self._folder is None else self._folder / "state.npz"
        if path is None or not path.exists():
            return
        with np.load(path, allow_pickle=False) as file:
            state = dict(file)
        check_settings(
            json.loads(str(state["settings"])),
            self._settings,
            contents=f"{self._folder} holds an evaluation",
            remedy="choose another output",
        )
        self._confusion = state["confusion"]
        self.names = state["names"].tolist()
        self._accuracies = state["accuracies"].tolist()
        self._ious = state["ious"].tolist()
        self._seconds = float(state["seconds"])
        for name, other in self._others.items():
            prefix = f"{name}/"
            arrays = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            self._others[name] = type(other).from_arrays(arrays)

    def save(self):
        """Write the state."""
        self._saved = time.monotonic()
        if self._folder is None or not self._whole:
            return
        others = {
            f"{name}/{key}": array
            for name, other in self._others.items()
            for key, array in other.arrays().items()
        }
        path = self._folder / "state.npz"
        with writing(path), written_aside(path) as draft:
            np.savez(
                draft,
                confusion=self._confusion,
                names=np.array(self.names, dtype=np.str_),
                accuracies=np.array(self._accuracies),
                ious=np.array(self._ious),
                seconds=self._time(),
                settings=json.dumps(self._settings),
                **others,
            )

    def _time(self):
        return self._seconds + time.monotonic() - self._begun

    def finished(self) -> Evaluation:
        """The result."""
        if not self.names:
            raise ValueError("the dataset is empty; there is nothing to judge.")
        return Evaluation(
            Measures(self._confusion, self._examples.class_names),
            self.names,
            np.array(self._accuracies),
            np.array(self._ious),
            **self._others,
            settings={**self._settings, "date": datetime.date.today().isoformat()},
            seconds=self._time(),
        )
