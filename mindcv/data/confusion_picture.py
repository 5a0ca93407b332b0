"""The confusion matrix as a picture with class names; nothing here imports MindSpore."""

import numpy as np
from PIL import Image, ImageDraw

from ..names import plural
from .contact_sheet import fit_text, load_font

MOST_CLASSES = 50  # of a picture; of more, those with the most mistakes are drawn
_CELL, _NAMES, _HEAD = 34, 190, 34  # pixels; room of the names, height of the title
_HIT, _MISS, _INK, _FAINT = (40, 110, 70), (180, 60, 45), "#1c1c1c", "#6b6b6b"


def draw_confusion(figures) -> Image.Image:
    """Draw a matrix: a row is a true class, a column a predicted one; the shade is the row's share.

    Args:
        figures: a `ClassFigures`.
    """
    names, classes = figures.names, np.arange(len(figures.names))
    title = (
        f"{plural(figures.counts.sum(), 'image')}: rows are true classes, columns predicted ones"
    )
    if len(names) > MOST_CLASSES:
        mistakes = figures.support + figures.predicted - 2 * figures.hits
        classes = np.sort(np.argsort(-mistakes, kind="stable")[:MOST_CLASSES])
        title += f" (the {MOST_CLASSES} of {len(names)} classes with the most mistakes)"
    counts = figures.matrix(classes)
    font, small = load_font(size=14), load_font(size=11)
    side = _CELL * len(classes)
    size = (max(_NAMES + side + 8, int(font.getlength(title)) + 16), _HEAD + _NAMES + side + 8)
    picture = Image.new("RGB", size, "#ffffff")
    draw = ImageDraw.Draw(picture)
    draw.text((8, _HEAD // 2), title, _FAINT, font, anchor="lm")
    upright = Image.new("L", (_NAMES - 12, side), 0)  # names of the columns, turned at the end
    for place, index in enumerate(classes):
        name = fit_text(names[index], _NAMES - 12, font)
        middle = _CELL * place + _CELL // 2
        draw.text((_NAMES - 6, _HEAD + _NAMES + middle), name, _INK, font, anchor="rm")
        ImageDraw.Draw(upright).text((0, middle), name, 255, font, anchor="lm")
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    picture.paste(_INK, (_NAMES, _HEAD + 6), turned)
    totals = np.maximum(1, figures.support[classes])
    for row, column in zip(*np.nonzero(counts)):
        # The square root keeps a few mistakes among many images visible.
        shade = 0.15 + 0.85 * (counts[row, column] / totals[row]) ** 0.5
        colour = tuple(round(255 - shade * (255 - c)) for c in (_HIT if row == column else _MISS))
        left, top = _NAMES + _CELL * column, _HEAD + _NAMES + _CELL * row
        draw.rectangle((left, top, left + _CELL - 2, top + _CELL - 2), colour)
        text = fit_text(str(counts[row, column]), _CELL - 2, small)
        draw.text(
            (left + _CELL // 2 - 1, top + _CELL // 2), text, ink_on(colour), small, anchor="mm"
        )
    return picture


def ink_on(colour: tuple[int, int, int]) -> str:
    """Return black or white, whichever has the contrast with an sRGB colour of at least 4.5.

    Source: WCAG 2.2, relative luminance and contrast ratio.
    """
    parts = np.array(colour) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return "#ffffff" if linear @ (0.2126, 0.7152, 0.0722) < 0.179 else "#000000"
