"""A web demo that segments an image, ready for Hugging Face Spaces.

    python -m pip install -e ".[demo]"           # in the clone
    python examples/gradio_app.py                # the bundled model, which needs no download
    python examples/gradio_app.py runs/camvid    # a training run, a .keras file or a preset
    KERAS_PSP_MODEL=runs/camvid python examples/gradio_app.py

The page offers the images in the folder "photos" next to this file, or in --photos, as examples.
"""

import argparse
import html
import os
from pathlib import Path

from PIL import Image

import keras_psp
from keras_psp import visual
from keras_psp.prediction.opening import open_segmenter
from keras_psp.prediction.outcomes import is_out_of_memory
from keras_psp.prediction.protocol import SIX_SCALES
from keras_psp.weights.locating import DEFAULT_MODEL, chosen_model

MAX_PIXELS = int(float(os.environ.get("KERAS_PSP_MAX_MEGAPIXELS", 25)) * 1e6)
SCALES = {
    "1": (1.0,),
    "0.75, 1, 1.25": (0.75, 1.0, 1.25),
    "0.5 to 1.75, as in the paper": SIX_SCALES,
}
SHOWN = 1600  # longer side of the overlay in pixels
LEGEND = """<style>.psp {{ list-style: none; padding: 0; margin: 0; columns: 15em; }}
.psp li {{ display: flex; gap: .6em; align-items: center; break-inside: avoid; padding: 2px 0; }}
.psp i {{ width: 1.1em; height: 1.1em; border-radius: 3px; flex: none; border: 1px solid #8888; }}
.psp span {{ flex: 1; }}</style><ul class="psp">{}</ul>"""


def legend(prediction):
    """Returns the classes in the image as HTML, with colors and shares, largest first."""
    colors = {
        name: "#{:02x}{:02x}{:02x}".format(*color)
        for name, color in zip(prediction.class_names, prediction.palette.tolist(), strict=True)
    }
    return LEGEND.format(
        "".join(
            f'<li><i style="background:{colors[name]}"></i><span>{html.escape(name)}</span>'
            f"{share:.1%}</li>"
            for name, share in prediction.shares.items()
        )
    )


def overlay(prediction, opacity):
    """Returns the image tinted with the colors of its classes, at most as large as a screen."""
    tinted = visual.overlay(
        prediction.image, prediction.classes, prediction.palette, alpha=opacity, ignore_class=-1
    )
    image = Image.fromarray(tinted)
    image.thumbnail((SHOWN, SHOWN))
    return image


def demo(model, *, name="", photos=(), side=512, antialias=False):
    """Returns the app for a network; call `launch` on it.

    Args:
        model: a `PSPNet`.
        name: name of the network on the page.
        photos: paths of example images.
        side: default of the longer side for the network, in pixels.
        antialias: whether to average pixels when an image is shrunk, as in the network's training.
    """
    try:
        import gradio as gr
    except ImportError:
        raise ImportError('gradio is missing; run: pip install "keras-psp[demo]"') from None

    def segment(photo, scales, flip, side, opacity):
        if photo is None:
            raise gr.Error("Choose an image first.")
        try:
            prediction = keras_psp.predict(
                photo,
                model,
                scales=SCALES[scales],
                flip=flip,
                base_size=int(side),
                antialias=antialias,
                max_pixels=MAX_PIXELS,
            )
        except (ValueError, OSError, TypeError) as error:
            # The path of the temporary file is of no use to the visitor.
            raise gr.Error(str(error).replace(f"{photo}: ", "The image: ")) from error
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise gr.Error("There is not enough memory; choose a smaller side.") from error
        return overlay(prediction, opacity), legend(prediction), prediction

    def repaint(prediction, opacity):
        return None if prediction is None else overlay(prediction, opacity)

    names = model.class_names or ()
    about = f"{name}: " if name else ""
    about += f"{model.num_classes} classes" + (f": {', '.join(names[:12])}" if names else "")
    with gr.Blocks(title="PSPNet") as app:
        gr.Markdown(
            "# PSPNet\nFinds the class of every pixel of an image with the "
            "[Pyramid Scene Parsing Network](https://arxiv.org/abs/1612.01105) in Keras 3."
        )
        gr.Markdown(about + (" ..." if len(names) > 12 else ""))
        if name == DEFAULT_MODEL:
            gr.Markdown(
                "This network is for trying out the page: it was trained on generated scenes."
            )
        last = gr.State(time_to_live=600)
        with gr.Row():
            with gr.Column():
                photo = gr.Image(type="filepath", label="Image", image_mode=None)
                with gr.Accordion("Options", open=False):
                    scales = gr.Radio(list(SCALES), value="1", label="Scales, averaged")
                    flip = gr.Checkbox(label="Average with the mirror image")
                    longer = gr.Slider(
                        128,
                        1024,
                        side,
                        step=64,
                        label="Longer side for the network, in pixels",
                    )
                run = gr.Button("Segment", variant="primary")
            with gr.Column():
                result = gr.Image(label="Classes", format="png", interactive=False)
                opacity = gr.Slider(0, 1, 0.5, step=0.05, label="Opacity")
                classes = gr.HTML(label="Legend")
        if photos:
            gr.Examples([str(path) for path in photos], inputs=photo, cache_examples=False)
        run.click(
            segment,
            [photo, scales, flip, longer, opacity],
            [result, classes, last],
            api_name="segment",
            concurrency_limit=1,  # one image at a time; other requests are queued
        )
        opacity.release(repaint, [last, opacity], result, api_name=False, show_progress="hidden")
    return app.queue(max_size=20)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "model",
        nargs="?",
        default=os.environ.get("KERAS_PSP_MODEL") or None,
        help="name of a preset, .keras file, or folder of a training run [the bundled model]",
    )
    parser.add_argument("--photos", type=Path, default=Path(__file__).parent / "photos")
    parser.add_argument("--port", type=int, help="[7860, or the next free port]")
    options = parser.parse_args()
    try:
        name = chosen_model(options.model)
        segmenter = open_segmenter(name, keras_psp.prediction.Protocol())
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from None
    examples = sorted(
        path
        for path in (options.photos.iterdir() if options.photos.is_dir() else ())
        if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")
    )
    protocol = segmenter.protocol
    side = protocol.base_size or 512
    antialias = protocol.antialias
    demo(segmenter.model, name=name, photos=examples, side=side, antialias=antialias).launch(
        server_port=options.port, max_file_size="50mb", footer_links=["api"]
    )


if __name__ == "__main__":
    main()
