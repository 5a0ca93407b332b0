"""A PNG of training images as the network sees them, each with its label."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ..errors import ConfigError
from .lettering import fit_text, load_font

_COLUMNS = 8
_MOST = 64  # images of a sheet
_THUMB = 144  # side of a thumbnail, pixels
_GAP = 10
_TEXT = 30  # height of two lines of text
_PAPER, _INK = (250, 250, 248), (32, 32, 32)


def write_contact_sheet(
    path: str,
    images: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str] | None = None,
    splits: int = 0,
) -> int:
    """Write up to 64 images with their labels to a PNG file, and return how many.

    Args:
        path: the file; one that stands there is replaced once the new one is whole.
        images: (N, H, W, 3) uint8; with splits the N / splits clean ones come first.
        labels: (N,) class indices, or (N, num_classes) shares.
        class_names: in the order of the labels; None, or too few: the number is shown.
        splits: copies of an image, shown one below the other; below 2: none.

    Raises:
        ConfigError: the file cannot be written.
    """
    order, columns = _order(len(images), splits)
    rows = -(-len(order) // columns)
    cell_width, cell_height = _THUMB + _GAP, _THUMB + _GAP + _TEXT
    sheet = Image.new("RGB", (columns * cell_width + _GAP, rows * cell_height + _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = load_font(size=12)
    for place, index in enumerate(order):
        left = _GAP + place % columns * cell_width
        top = _GAP + place // columns * cell_height
        sheet.paste(_thumbnail(images[index]), (left, top))
        text = _caption(labels[index], class_names, font)
        draw.multiline_text((left, top + _THUMB + 1), text, _INK, font, spacing=1)
    _save(sheet, path)
    return len(order)


def _order(count: int, splits: int) -> tuple[list[int], int]:
    """Return the images to show, row by row, and the columns.

    The splits of an image stand in one column.
    """
    copies = max(1, splits)
    originals = min(count // copies, max(1, _MOST // copies))
    columns = min(_COLUMNS, originals)
    if copies > 1:
        originals -= originals % columns
    order = []
    for start in range(0, originals, columns):
        block = range(start, min(start + columns, originals))
        order += [split * (count // copies) + index for split in range(copies) for index in block]
    return order, columns


def _thumbnail(image: np.ndarray) -> Image.Image:
    picture = Image.fromarray(np.ascontiguousarray(image))
    small = max(picture.size) < _THUMB
    resample = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
    return picture.resize((_THUMB, _THUMB), resample)


def _caption(label: np.ndarray, names: Sequence[str] | None, font) -> str:
    """Return one line, or two where the two names of a mixed label need them."""

    def name(index: int, room: float) -> str:
        return fit_text(names[index] if names and index < len(names) else str(index), room, font)

    if label.ndim == 0:
        return name(int(label), _THUMB)
    present = [int(index) for index in np.argsort(-label, kind="stable") if label[index] >= 0.005]
    if len(present) == 1:
        return name(present[0], _THUMB)
    room = _THUMB - font.getlength(" 0.00 +")
    lines = [f"{name(index, room)} {label[index]:.2f}" for index in present[:2]]
    text = " + ".join(lines)
    return text if font.getlength(text) <= _THUMB else " +\n".join(lines)


def _save(sheet: Image.Image, path: str) -> None:
    target = Path(path)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            sheet.save(unfinished, "PNG")
            os.replace(unfinished, target)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"show_batch {path} cannot be written: {reason}") from None
