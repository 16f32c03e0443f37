"""TODO."""

import sys

import keras

from keras_psp.files import writing
from keras_psp.training.clock import Clock
from keras_psp.training.log import Table


class Record(keras.callbacks.Callback):
    """Writes a row a step, and what TensorBoard shows.

    Args:
        clock: see `Clock`.
        steps: steps.csv.
        board: a `TensorBoard`, or None.
    """

    def __init__(self, clock: Clock, steps: Table, board):
        super().__init__()
        self._clock = clock
        self._steps = steps
        self._board = board

    def on_train_batch_end(self, batch, logs=None):
        clock = self._clock
        row = {
            "step": clock.step,
            "epoch": clock.epoch + 1,
            "loss": clock.loss,
            "mean_iou": clock.mean_iou,
            "learning_rate": clock.learning_rate,
        }
        row |= clock.speed()
        self._steps.add(row)
        if self._board is not None:
            names = ("loss", "mean_iou", "learning_rate", "images_per_second")
            self._board.scalars(clock.step, "train", {n: row[n] for n in names if n in row})


class TensorBoard:
    """Scalars and pictures for TensorBoard."""

    def __init__(self, folder):
        import tensorflow as tf

        self._tf = tf
        self._folder = folder
        self._writer = tf.summary.create_file_writer(str(folder))

    def scalars(self, step: int, group: str, values: dict[str, float]) -> None:
        """One point on each curve."""
        with writing(self._folder), self._writer.as_default():
            for name, value in values.items():
                if value is not None:
                    self._tf.summary.scalar(f"{group}/{name}", value, step=step)

    def picture(self, step: int, name: str, path) -> None:
        """A PNG file."""
        with writing(self._folder), self._writer.as_default():
            image = self._tf.io.decode_png(self._tf.io.read_file(str(path)), channels=3)
            self._tf.summary.image(name, image[None], step=step)
            self._writer.flush()

    @classmethod
    def opened(cls, folder):
        """A writer, or None with a line on stderr where tensorboard isn't installed."""
        try:
            import tensorboard  # noqa: F401

            return cls(folder)
        except ImportError as error:
            print(f"no TensorBoard files ({error}): pip install tensorboard", file=sys.stderr)
            return None
