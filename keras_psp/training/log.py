"""The logs of a training: CSV tables and TensorBoard files."""

import csv
import io
import sys
from pathlib import Path
from typing import Any

import keras

from keras_psp.files import writing, written_aside
from keras_psp.resume import damaged, row_checksum
from keras_psp.training.progress import TrainingProgress

STEP_COLUMNS = ("step", "epoch", "loss", "mean_iou", "learning_rate", "images_per_second")
EPOCH_COLUMNS = (
    *("epoch", "step", "loss", "mean_iou", "learning_rate", "images_per_second"),
    *("val_loss", "val_mean_iou", "val_pixel_accuracy"),
)


_CHECK = "check"  # the column of each row's checksum
_REMEDY = "restore it, or remove it to resume without its rows"


class Table:
    """A CSV file that grows by rows and can be cut back to an earlier step.

    Its last column, "check", is the checksum of each row. One of the others must be "step". With
    `writes=False`, the file is only read.

    Raises:
        ValueError: If the file is damaged.
    """

    def __init__(self, path: Path, columns: tuple[str, ...], *, writes: bool = True):
        self.path = path
        self.columns = columns
        self.writes = writes
        self._is_new = not path.exists()
        self.rows: list[dict[str, str]] = [] if self._is_new else self._read()

    def _read(self):
        try:
            with open(self.path, newline="", encoding="utf-8") as file:
                # A killed process may have left an incomplete row.
                lines = [line for line in file if line.endswith(("\r", "\n"))]
            reader = csv.DictReader(lines, strict=True)
            names = list(reader.fieldnames or ())
            rows = list(reader)
            if missing := [name for name in self.columns if rows and name not in names]:
                raise ValueError(f"without the column {missing[0]}")
            for row in rows:
                self._check_row(names, row)
        except (csv.Error, ValueError) as error:
            raise damaged(self.path, error, _REMEDY) from error
        return rows

    def _check_row(self, names, row):
        step = row["step"]
        others = [name for name in names if name != _CHECK]
        # Tables of earlier versions have no checksums.
        if _CHECK in names and row[_CHECK] != row_checksum(others, row):
            raise ValueError(f"wrong checksum of the row of step {step}")
        if None in row or None in row.values():
            raise ValueError(f"wrong number of cells in the row of step {step}")
        int(step)
        for name in self.columns:
            float(row[name] or "nan")

    def cut(self, step: int, *, end: int = 0) -> None:
        """Removes the rows of later steps, which will be repeated.

        Raises ValueError if there is a file whose rows end before the step `end`.
        """
        self.rows = [row for row in self.rows if int(row["step"]) <= step]
        last = max((int(row["step"]) for row in self.rows), default=0)
        if last < end and not self._is_new:
            raise damaged(self.path, f"its rows end at step {last} of {end}", _REMEDY)
        if self.writes:
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, [*self.columns, _CHECK])
            writer.writeheader()
            writer.writerows(map(self._checked, self.rows))
            with writing(self.path), written_aside(self.path) as draft:
                draft.write_text(text.getvalue(), "utf-8", newline="")

    def add(self, row: dict[str, Any]) -> None:
        """Adds a row; columns that it lacks are left empty."""
        values = {name: row.get(name) for name in self.columns}
        text = {name: "" if value is None else str(value) for name, value in values.items()}
        self.rows.append(text)
        if self.writes:
            with writing(self.path), open(self.path, "a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, [*self.columns, _CHECK]).writerow(self._checked(text))

    def _checked(self, row):
        """Returns the columns of a row with their checksum."""
        text = {name: row.get(name, "") for name in self.columns}
        return {**text, _CHECK: row_checksum(self.columns, text)}

    def column(self, name: str) -> list[float]:
        """Returns the numbers of a column, NaN where it is empty."""
        return [float(row[name] or "nan") for row in self.rows]


class TensorBoard:
    """Writes scalars and images for TensorBoard."""

    def __init__(self, folder: Path):
        import tensorflow as tf

        self._tf = tf
        self._folder = folder
        self._writer = tf.summary.create_file_writer(str(folder))

    @classmethod
    def create(cls, folder: Path) -> "TensorBoard | None":
        """Returns a writer, or None with a message if TensorBoard isn't installed."""
        try:
            import tensorboard  # noqa: F401

            return cls(folder)
        except ImportError as error:
            print(f"no TensorBoard files ({error}): pip install tensorboard", file=sys.stderr)
            return None

    def write_scalars(self, step: int, group: str, values: dict[str, float]) -> None:
        """Adds one point to each curve of a group."""
        with writing(self._folder), self._writer.as_default():
            for name, value in values.items():
                self._tf.summary.scalar(f"{group}/{name}", value, step=step)

    def write_image(self, step: int, name: str, path: Path) -> None:
        """Adds the image of a PNG file."""
        with writing(self._folder), self._writer.as_default():
            image = self._tf.io.decode_png(self._tf.io.read_file(str(path)), channels=3)
            self._tf.summary.image(name, image[None], step=step)
            self._writer.flush()


class StepLog(keras.callbacks.Callback):
    """Writes one row per step to steps.csv, and the same numbers for TensorBoard."""

    def __init__(self, progress: TrainingProgress, table: Table, board: TensorBoard | None):
        super().__init__()
        self._progress = progress
        self._table = table
        self._board = board

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        progress = self._progress
        row = {"loss": progress.loss, "mean_iou": progress.mean_iou, **progress.row()}
        self._table.add({"epoch": progress.epoch + 1, **row})
        if self._board is not None:
            self._board.write_scalars(int(row.pop("step")), "train", row)
