"""The logs of a training: CSV tables and TensorBoard files."""

import csv
import io
import sys
from pathlib import Path
from typing import Any

import keras

from keras_psp.files import writing, written_aside
from keras_psp.training.progress import TrainingProgress

STEP_COLUMNS = ("step", "epoch", "loss", "mean_iou", "learning_rate", "images_per_second")
EPOCH_COLUMNS = (
    *("epoch", "step", "loss", "mean_iou", "learning_rate", "images_per_second"),
    *("val_loss", "val_mean_iou", "val_pixel_accuracy"),
)


class Table:
    """A CSV file that grows by rows and can be cut back to an earlier step.

    One of the columns is "step". With `writes=False` the file is only read.
    """

    def __init__(self, path: Path, columns: tuple[str, ...], *, writes: bool = True):
        self.path = path
        self.columns = columns
        self.writes = writes
        self.rows: list[dict[str, str]] = []
        if path.exists():
            with open(path, newline="", encoding="utf-8") as file:
                # A killed process may have left an incomplete row.
                self.rows = [
                    row for row in csv.DictReader(file) if row.get(columns[-1]) is not None
                ]

    def cut(self, step: int) -> None:
        """Removes the rows of later steps, which will be repeated."""
        self.rows = [row for row in self.rows if int(row["step"]) <= step]
        if self.writes:
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, self.columns)
            writer.writeheader()
            writer.writerows(self.rows)
            with writing(self.path), written_aside(self.path) as draft:
                draft.write_text(text.getvalue(), "utf-8", newline="")

    def add(self, row: dict[str, Any]) -> None:
        """Adds a row; columns that it lacks are left empty."""
        values = {name: row.get(name) for name in self.columns}
        text = {name: "" if value is None else str(value) for name, value in values.items()}
        self.rows.append(text)
        if self.writes:
            with writing(self.path), open(self.path, "a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self.columns).writerow(text)

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
    """Writes one row per step to the table of steps.csv, and the same numbers for TensorBoard."""

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
