"""Opens presets: fetches a published checkpoint, converts it and keeps the result."""

import sys
from pathlib import Path

import keras

from keras_psp.files import put_in_place
from keras_psp.models.pspnet import PSPNet
from keras_psp.weights import store
from keras_psp.weights.compact import open_compact
from keras_psp.weights.files import read_checkpoint
from keras_psp.weights.files.errors import naming
from keras_psp.weights.presets import find_preset

# Increased when the conversion changes, so that files of an older keras_psp aren't used.
_CONVERSION = 1


def open_preset(name: str) -> PSPNet:
    """Opens a preset's trained network; the first time, fetches and converts its checkpoint."""
    preset = find_preset(name)
    if preset.bundled_file:
        return open_compact(preset.bundled_file)
    kept = store.folder() / f"{Path(preset.url).stem}.v{_CONVERSION}.keras"
    if kept.exists():
        try:
            return keras.models.load_model(kept, compile=False, safe_mode=True)
        except Exception as error:  # a damaged file raises errors of many types
            print(f"{kept} can't be opened ({error}); converting again", file=sys.stderr)
    path = store.fetch(preset.url)
    checkpoint = read_checkpoint(path)
    print(f"converting {path.name}", file=sys.stderr)
    # In full precision, whatever the precision of this process.
    model = preset.build(dtype="float32")
    with naming(path):
        preset.family.load(model, checkpoint.tensors)
    try:
        with store.workspace() as work:
            draft = work / kept.name
            model.save(draft)
            put_in_place(draft, kept)
    except OSError as error:  # a full disk, or another user's cache
        print(
            f"{kept} can't be saved ({error}); the checkpoint is converted at every use",
            file=sys.stderr,
        )
    return model
