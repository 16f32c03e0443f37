"""TODO."""

import csv
import io
from pathlib import Path
from typing import Any

from keras_psp.files import writing, written_aside

EPOCH_COLUMNS = (
    "epoch",
    "step",
    "loss",
    "mean_iou",
    "learning_rate",
    "images_per_second",
    "val_loss",
    "val_mean_iou",
    "val_pixel_accuracy",
)


STEP_COLUMNS = ("step", "epoch", "loss", "mean_iou", "learning_rate", "images_per_second")


class Table:
    """A CSV file that grows by rows and can be cut back to a step.

    Args:
        path: of the file.
        columns: names in order; "step" among them.
        writes: whether this process writes.
    """

    def __init__(self, path: Path, columns: tuple[str, ...], *, writes: bool = True):
        self.path = path
        self.columns = columns
        self.writes = writes
        self.rows = self._read()

    def _read(self):
        if not self.path.exists():
            return []
        with open(self.path, newline="", encoding="utf-8") as file:
            # A killed process may have left half a row.
            return [row for row in csv.DictReader(file) if row.get(self.columns[-1]) is not None]

    def cut(self, step: int) -> None:
        """Forget rows of later steps, which will be made again."""
        self.rows = [row for row in self.rows if int(row["step"]) <= step]
        if self.writes:
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, self.columns)
            writer.writeheader()
            writer.writerows(self.rows)
            with writing(self.path), written_aside(self.path) as draft:
                draft.write_text(text.getvalue(), "utf-8", newline="")

    def add(self, row: dict[str, Any]) -> None:
        """Add a row; columns that it lacks stay empty."""
        text = {name: _text(row.get(name)) for name in self.columns}
        self.rows.append(text)
        if self.writes:
            with writing(self.path), open(self.path, "a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self.columns).writerow(text)

    def column(self, name: str) -> list[float]:
        """A column's numbers; NaN where empty."""
        return [float(row[name] or "nan") for row in self.rows]


def _text(value):
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else str(value)
