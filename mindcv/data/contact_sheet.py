"""Contact sheets: rows of images as the network sees them, with labels or predictions below.

Nothing here imports MindSpore. File and class names may be in any script.
"""

import math
import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from ..errors import ConfigError
from ..process.files import replacing, writing
from .image_files import as_picture, decode
from .samples.files import read_file
from .samples.protocol import ImageError

_COLUMNS = 8
_MOST = 64  # training images of a sheet
MOST_PREDICTIONS = 60  # images of a page
_MOST_CLASSES = 3  # of a prediction
_LINE = 24  # height of a line below a prediction, pixels
_BAR, _FIRST_BAR, _FAINT = "#dfe6ee", "#a9cdf0", "#6b6b6b"
_RIGHT, _WRONG = "#1b7f3b", "#b3261e"


@dataclass(frozen=True)
class _Sheet:
    """The look of a sheet; sizes in pixels."""

    side: int
    gap: int  # between images and around them
    text: int  # height below an image
    enlarged_below: int  # smaller images are enlarged without smoothing: their pixels stay visible
    paper: str
    ink: str

    def draw(
        self, images: Sequence[np.ndarray], columns: int, *, head: int, width: int = 0
    ) -> tuple[Image.Image, ImageDraw.ImageDraw, Iterator[tuple[int, int]]]:
        """Return a sheet of (H, W, C) uint8 images, and where the text below each begins.

        The first row starts at `head` pixels; the sheet is at least `width` columns wide.
        """
        step, rows = self.side + self.gap, -(-len(images) // columns)
        size = (self.gap + max(columns, width) * step, head + rows * (step + self.text))
        sheet = Image.new("RGB", size, self.paper)
        corners = [
            (self.gap + place % columns * step, head + place // columns * (step + self.text))
            for place in range(len(images))
        ]
        for image, corner in zip(images, corners):
            sheet.paste(self._picture(image), corner)
        return sheet, ImageDraw.Draw(sheet), ((left, top + self.side) for left, top in corners)

    def _picture(self, image: np.ndarray) -> Image.Image:
        picture = as_picture(image)
        small = max(picture.size) < self.enlarged_below
        resample = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
        return picture.resize((self.side, self.side), resample)


_BATCH = _Sheet(side=144, gap=10, text=30, enlarged_below=144, paper="#fafaf8", ink="#202020")


def write_contact_sheet(
    path: str,
    images: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str] | None = None,
    splits: int = 0,
) -> int:
    """Write up to 64 images with their labels to a PNG file, and return how many.

    Args:
        path: an existing file is replaced once the new one is complete.
        images: (N, H, W, 3) uint8; with splits the N / splits clean ones come first.
        labels: (N,) class indices, or (N, num_classes) shares, 1 for each of several labels.
        class_names: in label order; if missing or too few, the number is shown.
        splits: copies of an image, shown below each other; below 2: none.

    Raises:
        ConfigError: the file cannot be written.
    """
    order, columns = _order(len(images), splits)
    shown = [images[index] for index in order]
    sheet, draw, places = _BATCH.draw(shown, columns, head=_BATCH.gap)
    font = load_font(size=12)
    for index, (left, top) in zip(order, places):
        text = _caption(labels[index], class_names, font)
        draw.multiline_text((left, top + 1), text, _BATCH.ink, font, spacing=1)
    target, what = Path(path), f"show_batch {path}"
    with writing(what, ConfigError):
        target.parent.mkdir(parents=True, exist_ok=True)
    save_png(sheet, target, what)
    return len(order)


def save_png(picture: Image.Image, path: Path, what: str = "") -> None:
    """Write a picture, which appears when it is complete; ConfigError if it cannot be written."""
    with writing(what or path, ConfigError), replacing(path) as unfinished:
        picture.save(unfinished, "PNG")


def _order(count: int, splits: int) -> tuple[list[int], int]:
    """Return the images to show, row by row, and the columns; splits of an image share a column."""
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


def _caption(label: np.ndarray, names: Sequence[str] | None, font) -> str:
    def name(index: int, room: float) -> str:
        return fit_text(names[index] if names and index < len(names) else str(index), room, font)

    if label.ndim == 0:
        return name(int(label), _BATCH.side)
    present = [int(index) for index in np.argsort(-label, kind="stable") if label[index] >= 0.005]
    if (label[present] == 1).all():  # of several labels each
        return fit_text(", ".join(name(i, math.inf) for i in present), _BATCH.side, font)
    room = _BATCH.side - font.getlength(" 0.00 +")
    lines = [f"{name(index, room)} {label[index]:.2f}" for index in present[:2]]
    text = " + ".join(lines)
    return text if font.getlength(text) <= _BATCH.side else " +\n".join(lines)


class PredictionSheets:
    """Pages of images, each with its most likely classes and a bar per class.

    A page is drawn when it is full, as `path`, then `<stem>-2.png` and so on.

    Args:
        title: of each page.
        font: of `load_font`.
    """

    def __init__(self, path: str, title: str, *, font: ImageFont.FreeTypeFont):
        self.path, self.title, self.font = path, title, font
        self._tiles, self._written = [], []

    def add(self, prediction, view: np.ndarray, label: str = "") -> None:
        """Add an image: its prediction, its view (H, W, 3) uint8, and its true class if known."""
        if len(self._tiles) == MOST_PREDICTIONS:
            self._write()
        self._tiles.append((prediction, view, label))

    def close(self) -> list[str]:
        """Write the last page; return the paths of all."""
        self._write()
        return self._written

    def _write(self) -> None:
        number, place = len(self._written) + 1, Path(self.path)
        if number > 1:
            place = place.with_name(f"{place.stem}-{number}{place.suffix}")
        page = f"   page {number}" if number > 1 else ""
        save_png(_draw_page(self._tiles, self.title + page, self.font), place)
        self._tiles = []
        self._written.append(str(place))


def _draw_page(tiles: Sequence[tuple], title: str, font) -> Image.Image:
    columns = min(_COLUMNS, math.ceil(math.sqrt(len(tiles))), len(tiles))
    classes = min(_MOST_CLASSES, max(len(prediction.guesses) for prediction, *_ in tiles))
    has_labels = any(label for _, _, label in tiles)
    look = _Sheet(
        side=224,
        gap=20,
        text=_LINE * (1 + has_labels + classes) + 6,
        enlarged_below=112,
        paper="#ffffff",
        ink="#1c1c1c",
    )
    head = _LINE + look.gap
    # Even a sheet of one tile is wide enough for its title.
    sheet, draw, places = look.draw([view for _, view, _ in tiles], columns, head=head, width=2)
    room = sheet.width - 2 * look.gap
    draw.text((look.gap, head // 2), fit_text(title, room, font), look.ink, font, anchor="lm")
    for (prediction, _, label), (left, top) in zip(tiles, places):
        file_name = fit_text(os.path.basename(prediction.path), look.side, font)
        draw.text((left, top + 4 + _LINE // 2), file_name, _FAINT, font, anchor="lm")
        if label:
            ink = _RIGHT if prediction.name == label else _WRONG
            text = fit_text(f"true: {label}", look.side, font)
            draw.text((left, top + 4 + _LINE + _LINE // 2), text, ink, font, anchor="lm")
        below = top + 4 + _LINE * has_labels
        _write_guesses(draw, (left, below), prediction, look=look, font=font)
    return sheet


def write_neighbours(
    path: Path, rows: Sequence[tuple[str, Sequence[tuple[str, float]]]], font: str | None
) -> None:
    """Write a PNG of a row for each image file: itself, then similar files and how similar.

    An unreadable file leaves its place empty. `font` is a file, see `load_font`.
    """
    font = load_font(font, size=12)
    columns = 1 + max(len(neighbours) for _, neighbours in rows)
    images, captions = [], []
    for query, neighbours in rows:
        entries = [(query, "looked for"), *((file, f"{alike:.4f}") for file, alike in neighbours)]
        for file, caption in entries:
            images.append(_small(file))
            captions.append((caption, os.path.basename(file)))
    sheet, draw, places = _BATCH.draw(images, columns, head=_BATCH.gap)
    for (caption, name), (left, top) in zip(captions, places):
        text = f"{caption}\n{fit_text(name, _BATCH.side, font)}"
        draw.multiline_text((left, top + 1), text, _BATCH.ink, font, spacing=1)
    save_png(sheet, path)


def _small(path: str) -> np.ndarray:
    """Return the middle square of an image file, uint8 (H, W, 3); grey if it cannot be read."""
    try:
        picture = decode(read_file(os.fsencode(path)))
    except (ImageError, OSError):
        return np.full((_BATCH.side, _BATCH.side, 3), 200, np.uint8)
    return np.asarray(ImageOps.fit(picture.convert("RGB"), (_BATCH.side, _BATCH.side)))


def _write_guesses(draw, place: tuple[int, int], prediction, *, look: _Sheet, font) -> None:
    left, top = place
    for guess in prediction.guesses[:_MOST_CLASSES]:
        y = top + _LINE * guess.rank
        bar = _FIRST_BAR if guess.rank == 1 else _BAR
        length = round(look.side * guess.probability)
        if length > 0:
            draw.rectangle((left, y + 1, left + length - 1, y + _LINE - 2), bar)
        share = f"{guess.probability:.1%}"
        room = look.side - font.getlength(share) - 16
        text = fit_text(guess.class_name or f"class {guess.class_index}", room, font)
        draw.text((left + 4, y + _LINE // 2), text, look.ink, font, anchor="lm")
        draw.text((left + look.side - 4, y + _LINE // 2), share, look.ink, font, anchor="rm")


# PIL takes the first that the system has; the one with the most scripts comes first.
_FONTS = ("NotoSansCJK-Regular.ttc", "DejaVuSans.ttf", "Arial.ttf", "arial.ttf")


def load_font(path: str | None = None, size: int = 15) -> ImageFont.FreeTypeFont:
    """Return the font of a file, or a system font, or PIL's own, which has only ASCII.

    Raises:
        ConfigError: the file is not a font.
    """
    for name in (path,) if path else _FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError as error:
            if path:
                raise ConfigError(f"font: {path!r} cannot be read: {error}") from None
    return ImageFont.load_default(size)


def fit_text(text: str, room: float, font) -> str:
    """Shorten text in the middle to `room` pixels, since the ends of file names differ most."""
    text = _writable(text, font)
    if font.getlength(text) <= room:
        return text
    for kept in range(len(text) - 1, 0, -1):
        short = f"{text[: (kept + 1) // 2]}...{text[len(text) - kept // 2 :]}"
        if font.getlength(short) <= room:
            return short
    return ""


def _writable(text: str, font) -> str:
    """Replace characters without a glyph in the font by the unaccented letter, or by "?"."""
    # Bytes of a file name that are not valid text arrive as lone surrogates.
    clean = text.encode("utf-8", "replace").decode("utf-8")
    signs = []
    for sign in clean:
        candidates = (sign, unicodedata.normalize("NFKD", sign)[0], "?")
        signs.append(next(c for c in candidates if c == "?" or _has_glyph(font, c)))
    return "".join(signs)


def _has_glyph(font, sign: str) -> bool:
    if sign == " " or not sign.isprintable():
        return sign == " "
    drawn, missing = font.getmask(sign), font.getmask("\uffff")
    return drawn.size != missing.size or bytes(drawn) != bytes(missing)
