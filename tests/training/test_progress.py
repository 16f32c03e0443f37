import pytest

from keras_psp import PolyLearningRate
from keras_psp.training.progress import ProgressBar, TrainingProgress


def progress_of(epochs=2):
    return TrainingProgress(
        steps_per_epoch=2,
        epochs=epochs,
        batch_size=4,
        learning_rate=PolyLearningRate(0.1, 2 * epochs, power=1.0),
    )


def test_the_loss_of_a_step_is_computed_from_the_means_of_keras():
    progress = progress_of()
    losses = []
    for epoch in range(2):
        progress.on_epoch_begin(epoch)
        for batch, mean in enumerate((3.0, 2.0)):  # losses 3 and 1
            progress.on_train_batch_end(batch, {"loss": mean, "mean_iou": 0.5})
            losses.append(progress.loss)
    assert losses == [3.0, 1.0, 3.0, 1.0]
    assert (progress.step, progress.mean_iou) == (4, 0.5)
    assert progress.learning_rate(1) == pytest.approx(0.1)
    assert progress.row()["learning_rate"] == pytest.approx(0.025)


def test_a_resumed_epoch_continues_its_mean():
    first, second = progress_of(), progress_of()
    first.on_epoch_begin(0)
    first.on_train_batch_end(0, {"loss": 3.0})
    second.resume(first.position())
    second.on_epoch_begin(0)
    second.on_train_batch_end(0, {"loss": 2.0})
    assert (second.step, second.loss) == (2, 1.0)


def test_a_log_gets_the_metrics_of_an_epoch(capsys):
    progress = progress_of()
    with ProgressBar(progress) as bar:
        progress.on_epoch_begin(0)
        for batch in range(2):
            progress.on_train_batch_end(batch, {"loss": 3.0, "mean_iou": 0.25})
            bar.on_train_batch_end(batch)
        bar.print_epoch(1, {"loss": 3.0, "val_mean_iou": 0.5, "val_pixel_accuracy": 0.75})
        progress.on_train_batch_end(2, {"loss": 3.0, "mean_iou": 0.25})
        bar.on_train_batch_end(2)
    epoch, state = capsys.readouterr().err.splitlines()
    assert epoch == "epoch 1/2, loss 3.0000, validation: mean IoU 50.00%, pixel accuracy 75.00%"
    assert state.startswith("epoch 1/2: 3 of 4, loss 3.0000, mean IoU 25.00%, rate 5.00e-02")
