"""A contact sheet: the images as the network sees them, with its predictions written below."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..data.lettering import fit_text
from .predict import Prediction

MOST_IMAGES = 60

# Pixels. The picture of an image, the space around a tile, and the text below it.
_PICTURE, _GAP, _LINE = 224, 20, 24
_MOST_COLUMNS = 8
_MOST_CLASSES = 3
_BACKGROUND, _INK, _FAINT, _BAR, _FIRST_BAR = "#ffffff", "#1c1c1c", "#6b6b6b", "#dfe6ee", "#a9cdf0"


def write_contact_sheet(
    path: Path,
    tiles: Sequence[tuple[Prediction, np.ndarray]],
    *,
    title: str,
    left_out: int,
    font: ImageFont.FreeTypeFont,
) -> None:
    """Draw the tiles in rows and write a PNG.

    Args:
        tiles: predictions with their views, uint8 (H, W, 3).
        title: written above.
        left_out: images that did not fit; their number is written into the title line.
        font: of all text.
    """
    columns = min(_MOST_COLUMNS, math.ceil(math.sqrt(len(tiles))), len(tiles))
    rows = math.ceil(len(tiles) / columns)
    classes = min(_MOST_CLASSES, len(tiles[0][0].guesses))
    tile_height = _PICTURE + _LINE * (1 + classes) + 6
    head = _LINE + _GAP
    # A sheet of one tile is still wide enough for its title.
    width = _GAP + max(columns, 2) * (_PICTURE + _GAP)
    sheet = Image.new("RGB", (width, head + rows * (tile_height + _GAP)), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    rest = f"   ({left_out} more images left out)" if left_out else ""
    room = width - 2 * _GAP
    draw.text(
        (_GAP, head // 2),
        fit_text(title, room - font.getlength(rest), font) + rest,
        _INK,
        font,
        "lm",
    )
    for index, (prediction, view) in enumerate(tiles):
        left = _GAP + index % columns * (_PICTURE + _GAP)
        top = head + index // columns * (tile_height + _GAP)
        sheet.paste(_picture(view), (left, top))
        _write_below(draw, (left, top + _PICTURE + 4), prediction, font)
    sheet.save(path, "PNG")


def _picture(view: np.ndarray) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(view))
    small = view.shape[0] < _PICTURE // 2  # pixels of a tiny input stay visible as such
    return image.resize((_PICTURE, _PICTURE), Image.NEAREST if small else Image.LANCZOS)


def _write_below(draw, place: tuple[int, int], prediction: Prediction, font) -> None:
    left, top = place
    file_name = fit_text(os.path.basename(prediction.path), _PICTURE, font)
    draw.text((left, top + _LINE // 2), file_name, _FAINT, font, "lm")
    for guess in prediction.guesses[:_MOST_CLASSES]:
        y = top + _LINE * guess.rank
        bar = _FIRST_BAR if guess.rank == 1 else _BAR
        length = round(_PICTURE * guess.probability)
        if length > 0:
            draw.rectangle((left, y + 1, left + length - 1, y + _LINE - 2), bar)
        share = f"{guess.probability:.1%}"
        room = _PICTURE - font.getlength(share) - 16
        text = fit_text(guess.class_name or f"class {guess.class_index}", room, font)
        draw.text((left + 4, y + _LINE // 2), text, _INK, font, "lm")
        draw.text((left + _PICTURE - 4, y + _LINE // 2), share, _INK, font, "rm")
