"""Calls, predictions and exports of a PSPNet, where they differ from Keras' own.

Overrides of `keras.Model`, for Keras 3.15:

`__call__`, `input_spec`
    Check the images before Keras does, which adds a page of arguments to errors inside `call`.
    Can be removed once Keras raises errors of `call` unchanged.
`predict`
    Takes a lock: on JAX, `predict` empties the model's variables while it runs, so two threads
    fail with "'NoneType' object is not callable" (the state is meant for one thread; see
    `JAXTrainer._get_jax_state`). Can be removed once Keras' predict is thread-safe.
`quantize`, `save`
    Refuse a call that would change nothing, and a file that couldn't be opened again.
`temperature`
    Is a property, so that `predict` is traced again when it changes.
`load_own_variables`
    Makes the next call check that the weights are finite.
`export`
    Keras 3.15 writes an ONNX file that ONNX Runtime refuses to run (dilation with SAME padding),
    an OpenVINO file that fails on its first input, and a SavedModel for float32 images only. Can
    be removed once these are fixed and the files contain the class names.

Class maps, and logits at the output stride, come from two functional models over the same layers,
the "views". They have no weights of their own, and Keras neither tracks nor saves them.
"""

import contextlib
import threading
import types
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_psp.arguments import checked_number
from keras_psp.layers.devices import on_accelerator
from keras_psp.layers.folding import folded_into
from keras_psp.layers.normalization import full_precision
from keras_psp.layers.winograd import winograd_convolution
from keras_psp.models.arrays import (
    check_kind,
    check_values,
    first_batch_checked,
    warn_of_values,
)
from keras_psp.models.checks import check_images, check_weights
from keras_psp.models.outputs import ClassMap, FusionTerms, called

if TYPE_CHECKING:  # the mixin comes before keras.Model in the bases of PSPNet
    from keras import Model as _Model
else:
    _Model = object


class InferenceMixin(_Model):
    """Calls, predictions and exports of `PSPNet`."""

    def _make_views(self, images: Any, features: Any, low_resolution_logits: Any) -> None:
        """Creates the views from the tensors of the model's graph."""
        class_map = ClassMap(
            align_corners=self.align_corners, dtype=full_precision(self._policy), name="class_map"
        )
        # Namespaces, because Keras looks for weights to save in attributes and lists.
        self.views = types.SimpleNamespace(
            low_resolution=keras.Model(images, low_resolution_logits, name="low_resolution"),
            fixed_size={},  # like low_resolution, by (height, width) of the images
            features=features,
            terms=None,  # created by its first use
            classes=keras.Model(images, class_map([low_resolution_logits, images]), name="classes"),
        )
        self._predicting = types.SimpleNamespace(lock=threading.RLock(), unchecked=False)

    def _reset_views(self) -> None:
        """Makes the views compile again, with the model's own settings."""
        self.views.fixed_size.clear()
        self.views.terms = None
        for view in (self.views.low_resolution, self.views.classes):
            view.predict_function = None
            view.run_eagerly = self.run_eagerly
            view.steps_per_execution = self.steps_per_execution
            view.jit_compile = self.jit_compile

    @property
    def temperature(self) -> float:
        """Positive number by which logits are divided in inference; it can be set."""
        return self._temperature

    @temperature.setter
    def temperature(self, temperature: float) -> None:
        self._temperature = checked_number("temperature", temperature, above=0)
        self.predict_function = None  # it was traced with the earlier one

    @property
    def input_spec(self) -> None:
        """None: `__call__` checks the images itself."""
        return None

    def __call__(self, images: Any, *args: Any, **kwargs: Any) -> Any:
        check_images(self, images)
        if isinstance(images, np.ndarray):  # not while a graph is traced
            self._check_loaded_weights()
            check_values(self, images, warn_of_values)
        with called(self):
            # Not the bare super(), which AutoGraph can't follow and warns about.
            return super(InferenceMixin, self).__call__(images, *args, **kwargs)  # noqa: UP008

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Like `keras.Model.predict`, but arrays are checked first, and threads take turns."""
        self._check_images(x)
        with self._one_thread(), first_batch_checked(self, x, warn_of_values) as x:
            return super().predict(x, *args, **kwargs)

    def predict_on_batch(self, x: Any) -> Any:
        """Like `keras.Model.predict_on_batch`, but the batch is checked first, as in `predict`."""
        self._check_images(x)
        return super().predict_on_batch(x)

    def predict_classes(
        self,
        images: Any,
        *,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        steps: int | None = None,
    ) -> np.ndarray:
        """Predicts the class of every pixel, without storing all scores at full size.

        Args:
            images: as for `predict`, e.g. (n, height, width, input_channels), RGB 0..255.
            batch_size, verbose, steps: as in `predict`.

        Returns:
            (n, height, width) int32.
        """
        self._check_images(images)
        with self._one_thread(), first_batch_checked(self, images, warn_of_values) as batches:
            return self.views.classes.predict(
                batches, batch_size=batch_size, verbose=verbose, steps=steps
            )

    def predict_low_resolution(self, images: Any, *, fixed_size: bool = False) -> np.ndarray:
        """Predicts the logits of one batch before they are upsampled and divided by `temperature`.

        Args:
            images: (batch, height, width, input_channels), e.g. RGB 0..255.
            fixed_size: whether many batches of this size will follow, which makes compiling for
                it worthwhile. On TensorFlow's CPU, large float32 convolutions then use
                Winograd's algorithm, which takes a quarter less time but rounds more (changing
                probabilities by about 1e-5).

        Returns:
            (batch, ceil(height / stride), ceil(width / stride), num_classes) float32 or float64.
        """
        self._check_loaded_weights()
        check_images(self, images)
        fixed_size = fixed_size and keras.backend.backend() == "tensorflow"
        fixed_size = fixed_size and self._policy.compute_dtype == "float32" and not on_accelerator()
        with self._one_thread():
            if fixed_size:
                view = self._fixed_size_view(*images.shape[1:3])
                with folded_into({}, winograd_convolution):
                    logits = view.predict_on_batch(images)
            else:
                logits = self.views.low_resolution.predict_on_batch(images)
        return np.asarray(logits, full_precision(self._policy))

    def predict_terms(self, images: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """Predicts the terms that the pyramid's fusion convolution adds up, for one batch.

        Args:
            images: (batch, height, width, input_channels), e.g. RGB 0..255.

        Returns:
            The features' term, (batch, h, w, filters) at the output stride, and the levels before
            they are upsampled and convolved, (batch, bins, bins, channels) each; float32 or
            float64.
        """
        self._check_loaded_weights()
        check_images(self, images)
        with self._one_thread():
            if self.views.terms is None:
                terms = FusionTerms(self.get_layer("pyramid_pooling"))(self.views.features)
                view = keras.Model(self.inputs[0], terms, name="terms")
                view.run_eagerly, view.jit_compile = self.run_eagerly, self.jit_compile
                self.views.terms = view
            predicted = self.views.terms.predict_on_batch(images)
        # Without levels, Keras returns the array alone.
        term, *levels = predicted if isinstance(predicted, list) else [predicted]
        dtype = full_precision(self._policy)
        return np.asarray(term, dtype), [np.asarray(level, dtype) for level in levels]

    def _fixed_size_view(self, *size):
        views = self.views.fixed_size
        if size not in views:
            general = self.views.low_resolution
            views[size] = keras.Model(general.inputs, general.outputs, name="fixed_size")
            views[size].run_eagerly, views[size].jit_compile = self.run_eagerly, self.jit_compile
        return views[size]

    def _check_images(self, images):
        self._check_loaded_weights()
        check_kind(images)
        if isinstance(images, list | tuple):
            raise ValueError(
                f"images are a {type(images).__name__} of {len(images)}; give one array, e.g. "
                "np.stack(images)."
            )
        if hasattr(images, "shape"):
            check_images(self, images)
            if not images.shape[0]:
                raise ValueError(f"images have shape {tuple(images.shape)}; there is no image.")
            check_values(self, images, warn_of_values)

    @contextlib.contextmanager
    def _one_thread(self):
        with self._predicting.lock:
            if keras.backend.backend() == "jax":
                # During `fit` the weights are in the training state. Keras' method for callbacks
                # copies them back to the variables, which the views share.
                self.jax_state_sync()
            yield

    def quantize(self, mode: Any = None, *args: Any, **kwargs: Any) -> None:
        """Always refused, since Keras can't quantize convolutions, which make up a PSPNet.

        Raises:
            ValueError: always; the message suggests an 8-bit export.
        """
        raise ValueError(
            f"mode={mode!r}: Keras doesn't quantize convolutions, so nothing would change; "
            "export to 8 bits instead, e.g. model.export(path, format='litert', "
            "precision='int8', image_size=(height, width), representative=images)."
        )

    def save(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """Like `keras.Model.save`, but only to a file whose name ends in `.keras`.

        Raises:
            ValueError: if it doesn't; Keras can't open a PSPNet from HDF5.
        """
        if str(filepath).endswith((".h5", ".hdf5")):
            raise ValueError(
                f"filepath is {str(filepath)!r}: Keras can't open a PSPNet from HDF5; save it as "
                ".keras, or its weights alone with save_weights('....weights.h5')."
            )
        super().save(filepath, *args, **kwargs)

    def load_own_variables(self, store: Any) -> None:
        """Like Keras' own; it is called when loading starts, and no method is when it ends."""
        super().load_own_variables(store)
        self._predicting.unchecked = True

    def _check_loaded_weights(self):
        """Raises ValueError if weights that were loaded since the last check aren't finite."""
        if self._predicting.unchecked:
            check_weights(self)
            self._predicting.unchecked = False

    def export(
        self,
        filepath: Any,
        format: str = "tf_saved_model",
        verbose: bool | str | None = None,
        input_signature: Any = None,
        **options: Any,
    ) -> None:
        """Writes the model for use without Keras, as `keras_psp.export` does.

        Args:
            filepath: where to write.
            format: "tf_saved_model", "onnx", "openvino" or "litert".
            verbose: whether to report progress on stderr.
            input_signature: refused; give image_size=(height, width) and batch_size=.
            options: those of `keras_psp.export.saved_model`, `onnx`, `openvino` or `tflite`, for
                instance output="logits".

        Raises:
            ValueError: if the format or an option is unknown.
        """
        # Besides `weights`, the only package above `models` that it imports.
        from keras_psp.export.by_format import export_model

        if input_signature is not None:
            options["input_signature"] = input_signature
        export_model(self, filepath, format=format, verbose=verbose, **options)
