"""TODO."""

import math
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from keras_psp.evaluation.report import charts as page
from keras_psp.palette import VOID_COLOR

if TYPE_CHECKING:
    pass
from keras_psp.evaluation.report.example import _GROUPS

_LONGEST = 480  # pixels of an embedded picture's longer side


_NONE = 255  # where a mask of mistakes has none


_WRONG = (224, 49, 49)  # colour of wrong pixels that are in no group


class _Pictures:
    """The pictures of a page; each photograph is embedded once."""

    def __init__(self, names, palette, ignore_class, groups):
        self.names, self.palette, self.ignore_class = names, palette, ignore_class
        self.groups = groups
        self.embedded: dict[int, str] = {}
        self.rules: list[str] = []
        self.occurring: set[int] = set()
        self.colours = np.concatenate([palette, [VOID_COLOR]]).astype(np.uint8)

    def style(self):
        """Rules that put the photographs behind the panels."""
        return "\n".join(self.rules)

    def worst_and_best(self, examples, worst, best):
        """The section of pictures; those without labels have no place in the order."""
        judged = [example for example in examples if math.isfinite(example.mean_iou)]
        order = sorted(judged, key=lambda example: example.mean_iou)
        lowest = order[:worst]
        highest = order[worst:][::-1][:best]
        if not lowest and not highest:
            return ""
        body = []
        for heading, chosen in (("Worst", lowest), ("Best", highest)):
            if chosen:
                body.append(f"<h3>{heading} mean IoU</h3>")
                body += [self.example(example) for example in chosen]
        control = (
            '<p class="control"><label>Strength of the colours <input type="range" min="0" '
            'max="1" step=".05" value=".6"></label></p>'
        )
        return control + self._legend() + "".join(body)

    def example(self, example, group=None):
        """A picture with labels, prediction and mistakes, of one group or all."""
        kinds = ("image", "truth", "prediction", "mistakes")
        panels = "".join(self._panel(example, kind, group) for kind in kinds)
        return (
            f'<figure class="example"><figcaption><b>{page.percent(example.mean_iou)}</b> '
            f'{page.text(example.name)}</figcaption><div class="panels">{panels}</div></figure>'
        )

    def _panel(self, example, kind, group):
        """One picture in its frame; the mistakes of one group or of all."""
        height, width = example.image.shape[:2]
        words = f"{kind} of {example.name}"
        inner, style = "", ""
        if kind in ("truth", "prediction"):
            mask = self._classes(getattr(example, kind))
            inner = page.mask_png(_reduced(mask), self.colours)
        elif kind == "mistakes":
            style = " wrong"
            mask, colours = self._mistakes(example, group)
            inner = page.mask_png(_reduced(mask), colours, transparent=_NONE)
        inner = f'<img alt="" src="{inner}">' if inner else ""
        return (
            f'<div><div class="panel {self._photograph(example)}{style}" role="img" '
            f'aria-label="{page.text(words)}" style="aspect-ratio:{width}/{height}">{inner}</div>'
            f"<small>{kind}</small></div>"
        )

    def _photograph(self, example):
        """The CSS class with the picture as background."""
        key = id(example)
        if key not in self.embedded:
            self.embedded[key] = f"p{len(self.embedded)}"
            picture = Image.fromarray(example.image)
            picture.thumbnail((_LONGEST, _LONGEST), Image.Resampling.LANCZOS)
            uri = page.data_uri(picture, "jpeg", quality=82)
            self.rules.append(f".{self.embedded[key]}{{background-image:url({uri})}}")
        return self.embedded[key]

    def _classes(self, mask):
        void = (mask < 0) | (mask >= len(self.palette))
        if self.ignore_class is not None:
            void |= mask == self.ignore_class
        self.occurring.update(np.unique(mask[~void]).tolist(), {-1} if void.any() else ())
        return np.where(void, len(self.palette), mask).astype(np.int32)

    def _mistakes(self, example, group):
        """Wrong pixels by group, `_NONE` elsewhere, and the colours."""
        colours = np.zeros((256, 3), np.uint8)
        if self.groups is None:
            wrong = example.truth != example.prediction
            if self.ignore_class is not None:
                wrong &= example.truth != self.ignore_class
            colours[0] = _WRONG
            return np.where(wrong, 0, _NONE).astype(np.uint8), colours
        from keras_psp.evaluation.errors import GROUPS

        found = self.groups.map(example.truth, example.prediction)
        colours[: len(GROUPS)] = [_GROUPS[name][1] for name in GROUPS]
        if group is not None:
            found = np.where(found == GROUPS.index(group), found, _NONE).astype(np.uint8)
        return found, colours

    def _legend(self):
        """Classes that occur in the pictures drawn so far, and the kinds of mistakes."""
        entries = [
            (self.names[index], self.palette[index]) for index in sorted(self.occurring - {-1})
        ]
        if -1 in self.occurring:
            entries.append(("not labelled", VOID_COLOR))
        kinds = [("wrong pixels", _WRONG)]
        if self.groups is not None:
            kinds = [(heading, rgb) for heading, rgb, _ in _GROUPS.values()]
        return _legend("Classes:", entries) + _legend("Mistakes:", kinds)


def _legend(lead, entries):
    items = "".join(
        f'<li><i style="background:{page.colour(rgb)}"></i>{page.text(name)}</li>'
        for name, rgb in entries
    )
    return f'<ul class="legend"><li class="soft">{lead}</li>{items}</ul>'


def _reduced(mask):
    """At most _LONGEST pixels, without new values."""
    picture = Image.fromarray(mask)
    factor = _LONGEST / max(picture.size)
    if factor >= 1:
        return mask
    size = [max(1, round(side * factor)) for side in picture.size]
    return np.asarray(picture.resize(size, Image.Resampling.NEAREST))
