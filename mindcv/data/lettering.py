"""Text on pictures, whatever the script: file names and class names are the user's."""

import unicodedata

from PIL import ImageFont

from ..errors import ConfigError

# The first that PIL finds among the system's is taken; the one with most scripts stands first.
_FONTS = ("NotoSansCJK-Regular.ttc", "DejaVuSans.ttf", "Arial.ttf", "arial.ttf")


def load_font(path: str | None = None, size: int = 15) -> ImageFont.FreeTypeFont:
    """Return the font of a file; else one that the system has, or PIL's own, which has ASCII only.

    Args:
        size: pixels.

    Raises:
        ConfigError: the file is no font.
    """
    for name in (path,) if path else _FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError as error:
            if path:
                raise ConfigError(f"font: {path!r} cannot be read: {error}") from None
    return ImageFont.load_default(size)


def fit_text(text: str, room: float, font) -> str:
    """Shorten text in its middle to so many pixels: ends of file names differ most."""
    text = _writable(text, font)
    if font.getlength(text) <= room:
        return text
    for kept in range(len(text) - 1, 0, -1):
        short = f"{text[: (kept + 1) // 2]}...{text[len(text) - kept // 2 :]}"
        if font.getlength(short) <= room:
            return short
    return ""


def _writable(text: str, font) -> str:
    """Replace what the font has no glyph for: by the letter without its accent, or by ?."""
    # Bytes of a file name that are no characters come as lone surrogates.
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
