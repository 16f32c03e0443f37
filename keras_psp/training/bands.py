"""Training on bands other than RGB: checks of the recipe, and statistics to normalize by."""

import dataclasses
from typing import TYPE_CHECKING, Any

from keras_psp.data import BandStatistics, band_statistics
from keras_psp.data.bands import channels_of
from keras_psp.imagenet import IMAGENET_MEAN
from keras_psp.resume import read_record, write_record
from keras_psp.training.recipes import Recipe

if TYPE_CHECKING:  # check_bands needs no Keras
    from keras_psp.training.folder import RunFolder


def check_bands(source: Any, recipe: Recipe) -> None:
    """Raises ValueError if a recipe changes or fills in colors of images that aren't RGB."""
    channels = channels_of(source)
    if channels == 3:
        return
    if recipe.color:
        raise ValueError(
            f"color is {recipe.color:g}, but the images have {channels} "
            f"{'band' if channels == 1 else 'bands'}; colors are changed in RGB only, so give "
            "color=0 (--color 0)."
        )
    if recipe.fill != IMAGENET_MEAN:
        raise ValueError(
            f"fill is {recipe.fill}, a color, but the images have {channels} "
            f"{'band' if channels == 1 else 'bands'}; omit it, and each band is filled with its "
            "mean."
        )


def band_statistics_of(
    folder: "RunFolder", source: Any, recipe: Recipe, *, resumed: bool, progress: bool = True
) -> BandStatistics | None:
    """Returns the statistics of the training images' bands, measured once and kept in bands.json.

    Args:
        folder: The folder of the run.
        source: The source of examples.
        recipe: The recipe, which names the training split.
        resumed: Whether a checkpoint exists, so the first start has already measured them.
        progress: Show a progress bar on stderr.

    Returns:
        The statistics; None for RGB, which is normalized as its weights expect.
    """
    if channels_of(source) == 3:
        return None
    path = folder / "bands.json"
    if resumed:
        return BandStatistics(**read_record(path, "restore it, or choose another --output"))
    measured = band_statistics(source, recipe.train_split, progress=progress)
    if folder.writes:
        write_record(path, dataclasses.asdict(measured))
    return measured
