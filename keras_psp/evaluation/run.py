"""Evaluation of a model on a labeled data set."""

import itertools
import os
import sys
from typing import Any, Unpack

from PIL import Image

from keras_psp.arguments import checked_integer
from keras_psp.data.python_calls import original_errors
from keras_psp.evaluation.report.explaining import explain_examples
from keras_psp.evaluation.report.sections import training_charts, training_settings
from keras_psp.evaluation.result import Evaluation
from keras_psp.evaluation.tally import SETTINGS, STATE, Tally
from keras_psp.files import claim, local_path, writing
from keras_psp.prediction.examples import Examples
from keras_psp.prediction.opening import open_segmenter, run_folder
from keras_psp.prediction.protocol import Protocol, ProtocolFields
from keras_psp.progress import Bar
from keras_psp.visual.overlays import save_image
from keras_psp.weights.opening import digest


@original_errors()
def evaluate(
    data: Any,
    model: Any = None,
    *,
    split: str = "val",
    output: str | os.PathLike | None = None,
    save_predictions: bool = False,
    boundary: bool = False,
    error_groups: bool = True,
    calibration: bool = False,
    report: bool = True,
    limit: int | None = None,
    progress: bool = True,
    **protocol: Unpack[ProtocolFields],
) -> Evaluation:
    """Evaluates a model on labeled images, optionally with windows, several scales and flip.

    Each image is evaluated at the size of its labels; one confusion matrix counts all images.

    Args:
        data: a source (`keras_psp.data.load(...)`, `ImageFolder`, `GeneratedScenes`), a `Split`,
            or pairs of an image, (height, width, channels) with the network's channels, e.g. RGB 0
            to 255, and its mask, (height, width) class indices.
        model: a `keras_psp.PSPNet`, or anything that `keras_psp.predict` takes: the name of a
            preset, a file, the folder of a training run. None for the bundled network.
        split: name of the split, if `data` is a source.
        output: folder for the results and for the state, saved every 20 seconds, from which the
            same call resumes. It must be new, empty or that of an earlier evaluation. By default
            nothing is written.
        save_predictions: also write a PNG of class indices per image into output/predictions.
        boundary: also compute the boundary IoU, see `BoundaryIoU`.
        error_groups: also group the wrong pixels by the kind of mistake, see `ErrorGroups`.
        calibration: also measure how well confidence matches accuracy, see `Reliability`. The
            softmax of every pixel takes about as long as the class map.
        report: if there is an `output`, also write output/report.html, all results on one page.
            With a single view, the network runs again on up to six images, to explain them.
        limit: use only this many images, the first ones; None for all.
        progress: show a progress bar with the mean IoU so far on stderr.
        protocol: fields of `Protocol`: scales, flip, crop, overlap, base_size, antialias,
            batch_size. The default is one view of the whole image.

    Raises:
        ValueError: if an argument is invalid, a file can't be read, a mask differs in size from
            its image or has a class that the model doesn't have, or `output` contains other
            files, an evaluation with other settings or data, or a damaged file.
        OSError: if the output can't be written.

    Example:
        source = keras_psp.data.GeneratedScenes(counts={"val": 8})
        evaluation = keras_psp.evaluate(source, flip=True, scales=(0.75, 1.0, 1.25))
        evaluation.print()
    """
    folder = run_folder(model)
    segmenter = open_segmenter(model, Protocol(**protocol))
    if save_predictions and output is None:
        raise ValueError("save_predictions=True needs an output folder.")
    if output is not None:
        output = local_path("output", output)
        claim(output, (SETTINGS, STATE), contents="evaluation")
    if limit is not None:
        limit = checked_integer("limit", limit, least=1)
    examples = Examples(data, split, segmenter.model, limit)
    settings = {
        "model": segmenter.model.name,
        "weights": digest(segmenter.model),
        **segmenter.protocol.settings,
        "boundary": boundary,
        "error_groups": error_groups,
        "calibration": calibration,
        "data": examples.description,
    }
    run = _readable(folder) if report and output is not None else None
    tally = Tally(examples, settings, examples.identity(progress=progress), output)
    tally.resume()
    bar = Bar("evaluating", examples.count, completed=tally.done, shown=progress)
    # Contents of files were compared above; other examples counted already are read again.
    first = tally.done if examples.in_files else 0
    stream = examples.read(range(first, examples.end))
    for index, name, image, mask in itertools.islice(stream, tally.done - first):
        tally.check(index, name, image, mask)
        first += 1
    if first < tally.done:
        raise ValueError(
            f"{output} holds an evaluation of {tally.done} images, but there are {first}; choose "
            "another output."
        )
    if save_predictions and output is not None:
        tally.check_predictions(output / "predictions")
    # The examples that aren't counted yet, each with its predicted classes.
    kept, read = itertools.tee(stream)
    predictions = segmenter.outputs((image for _, _, image, _ in read), confidence=calibration)
    try:
        with bar:
            for (index, name, image, mask), (classes, _, confidence) in zip(
                kept, predictions, strict=True
            ):
                path = None
                if save_predictions and output is not None:
                    path = output / "predictions" / f"{name}.png"
                    with writing(path):
                        save_image(Image.fromarray(classes), path)
                probability = None if confidence is None else confidence.probability
                instances = examples.instances(index)
                tally.add(name, image, mask, classes, instances, path, probability)
                bar.update(tally.done, f"mean IoU {tally.mean_iou:.2%}")
    finally:
        tally.save()
    evaluation = tally.evaluation()
    if output is not None:
        evaluation.save(output)
        if report:
            shown = tally.worst_and_best(segmenter)
            ignored = examples.ignore_class
            evaluation.write_report(
                output / "report.html",
                shown,
                explanations=explain_examples(
                    segmenter, shown, ignore_class=ignored, progress=progress
                ),
                run=run,
                palette=examples.palette,
                ignore_class=ignored,
            )
    return evaluation


def _readable(folder):
    """Returns the folder of a training run if its logs can be shown in the report, else None."""
    if folder is None or not (folder / "log.csv").exists():
        return None
    try:
        training_charts(folder), training_settings(folder)
    except ValueError as error:
        print(f"{str(error).rstrip('.')}; the report has no curves", file=sys.stderr)
        return None
    return folder
