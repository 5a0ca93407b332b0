"""Checks and decodes image files before MindSpore's decoders see them.

A damaged image ends MindSpore's pipeline, and some damage kills the whole process: on a truncated
JPEG header the decoder divides by the missing size. Intact files of the plain kinds pass unchanged,
in about 30 microseconds; Pillow decodes or refuses all others.

The pixels are those of `PIL.Image.open(file).convert("RGB")`: alpha is dropped, an animation is its
first frame, and EXIF orientation is ignored (as in timm, torchvision and MindCV). There are two
exceptions. 16-bit grey is scaled to 8 bits, where Pillow clips at 255. TIFF orientation is ignored
too, although Pillow applies it.
"""

import io
import string
import struct
import zlib

import numpy as np
from PIL import Image

from .jpeg import is_plain_jpeg
from .samples import ImageError

# Pillow refuses larger images as decompression bombs: twice its MAX_IMAGE_PIXELS.
MOST_PIXELS = 178_956_970
_LONGEST_SIDE = 65_500  # of libjpeg
# Evaluation enlarges the shorter side to the network's input: a line of 1 x 60,000 pixels would
# become gigabytes.
MOST_ELONGATED = 100
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
_TEXT = frozenset(string.printable.encode())

_ORIENTATION = 0x112
_Turn = Image.Transpose
_TURN_BACK = {  # orientation to the transpose that undoes it
    2: _Turn.FLIP_LEFT_RIGHT,
    3: _Turn.ROTATE_180,
    4: _Turn.FLIP_TOP_BOTTOM,
    5: _Turn.TRANSPOSE,
    6: _Turn.ROTATE_90,
    7: _Turn.TRANSVERSE,
    8: _Turn.ROTATE_270,
}

_PNG = b"\x89PNG\r\n\x1a\n"
# Pillow's limits for the unpacked notes and profiles of a PNG, in bytes: each, and all together.
_MOST_NOTE, _MOST_NOTES = 1 << 20, 64 << 20
_NOTES = (b"iCCP", b"tEXt", b"zTXt", b"iTXt")
_PNG_COLORS = (0, 2, 4, 6)  # grey, RGB, both with alpha


def decodable(data: np.ndarray) -> np.ndarray:
    """Return an image file that MindSpore decodes safely: the same bytes, or a BMP of its pixels.

    Unchanged are JPEG with 8 bits in grey or three colours, PNG with 8 bits and no palette, and BMP
    with 24 bits. Everything else that Pillow can decode (CMYK, 16 bits, palettes, GIF, WebP, TIFF,
    …) becomes an RGB BMP. Files are (bytes,) uint8.

    Raises:
        ImageError: it cannot be decoded, has more than `MOST_PIXELS`, or one side is more than
            `MOST_ELONGATED` times the other.
    """
    if not data.size:
        raise ImageError("empty file")
    start = data[:8].tobytes()
    if start.startswith(b"\xff\xd8\xff"):
        plain = is_plain_jpeg(data, _check_size)
    elif is_png(data):
        plain = _is_plain_png(data)
    else:
        plain = start.startswith(b"BM") and _is_plain_bmp(data)
    return data if plain else as_bmp(decode(data))


def decode(data: np.ndarray) -> Image.Image:
    """Decode an image file, (bytes,) uint8, to an RGB `Image`; errors as in `decodable`."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(*image.size)
            turned = image.getexif().get(_ORIENTATION) if image.format == "TIFF" else None
            image.load()
            # Pillow removes the tag once it has applied it.
            if turned in _TURN_BACK and _ORIENTATION not in image.getexif():
                return _as_rgb(image).transpose(_TURN_BACK[turned])
            return _as_rgb(image)
    except ImageError:
        raise
    except Image.UnidentifiedImageError:
        raise ImageError(_reason_of(data)) from None
    except Image.DecompressionBombError as error:
        raise ImageError(f"too large: {error}") from None
    except Exception as error:  # damaged bytes make Pillow raise nearly anything
        raise ImageError(f"damaged image: {error or type(error).__name__}") from None


def pixels(data: np.ndarray) -> np.ndarray:
    """Decode an image file, (bytes,) uint8, to (H, W, 3) uint8; errors as in `decodable`.

    The pixels are those that MindSpore decodes from `decodable` bytes, in two thirds of its time:
    both use the exact integer transform of the JPEG group's library. MindSpore's copy is built
    without vector instructions; Pillow's has them and releases Python's lock.
    """
    if not data.size:
        raise ImageError("empty file")
    if is_png(data):  # Pillow ignores wrong checksums
        _is_plain_png(data)
    return np.asarray(decode(data))


def is_png(data: np.ndarray) -> bool:
    return data[: len(_PNG)].tobytes() == _PNG


def as_picture(pixels: np.ndarray) -> Image.Image:
    """Return a Pillow image of uint8 pixels: (H, W) or (H, W, C), of 1 to 4 channels."""
    is_grey = pixels.ndim == 3 and pixels.shape[2] == 1
    return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if is_grey else pixels))


def as_bmp(image: Image.Image) -> np.ndarray:
    file = io.BytesIO()
    image.save(file, "BMP")
    return np.frombuffer(file.getbuffer(), np.uint8)


def as_file(image: Image.Image | np.ndarray) -> np.ndarray:
    """Return an image in memory as a BMP of its pixels, (bytes,) uint8.

    Args:
        image: of Pillow; or uint8 pixels, (H, W) or (H, W, C), of 1 to 4 channels.

    Raises:
        ImageError: it is no such image, or as in `decodable`.
    """
    if isinstance(image, np.ndarray):
        is_flat = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 2, 3, 4))
        if image.dtype != np.uint8 or not is_flat or not image.size:
            raise ImageError(
                f"an array of {image.dtype}, {' x '.join(map(str, image.shape))}, is not an image; "
                "expected uint8 from 0 to 255, (height, width, 3) or (height, width)"
            )
        image = as_picture(image)
    if not isinstance(image, Image.Image):
        raise ImageError(
            f"{image!r:.60} is not an image; expected a file, a Pillow image or an array"
        )
    _check_size(*image.size)
    try:
        image = image.copy()  # this reads the pixels of a file that was opened only
    except Exception as error:  # as in `decode`
        raise ImageError(f"damaged image: {error}") from None
    return as_bmp(_as_rgb(image))


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"no pixels: its header says {width} x {height}")
    if width * height > MOST_PIXELS or max(width, height) > _LONGEST_SIDE:
        raise ImageError(
            f"too large: its header says {width} x {height} pixels, the limits are "
            f"{MOST_PIXELS} in all and {_LONGEST_SIDE} a side"
        )
    if max(width, height) > MOST_ELONGATED * min(width, height):
        raise ImageError(
            f"too thin: its header says {width} x {height} pixels, and one side may be "
            f"{MOST_ELONGATED} times the other"
        )


def _as_rgb(image: Image.Image) -> Image.Image:
    sixteen_bits = image.mode.startswith("I;16") or (
        image.mode == "I" and image.format in ("PNG", "PPM")
    )
    if sixteen_bits:
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ImageError(f"pixels of mode {image.mode}: the range of their values is unknown")
    image.info.pop("transparency", None)  # Pillow would warn that it is dropped
    return image if image.mode == "RGB" else image.convert("RGB")  # convert always copies


def _reason_of(data: np.ndarray) -> str:
    start = data[:512].tobytes()
    if start.startswith((b"\xff\xd8", b"\x89PNG", b"BM", b"GIF8", b"RIFF")):
        return "damaged image: its header is cut off or broken"
    if all(byte in _TEXT for byte in start):
        return f"not an image (text file): {start[:30].decode('ascii').strip()!r}"
    return f"no image of the formats {', '.join(FORMATS)}"


def _is_plain_png(data: np.ndarray) -> bool:
    view, at, is_plain, has_pixels, notes = memoryview(data), 8, False, False, 0
    while at + 12 <= len(view):
        kind = bytes(view[at + 4 : at + 8])
        after = at + 12 + int.from_bytes(view[at : at + 4], "big")
        if after > len(view):
            return False
        if zlib.crc32(view[at + 4 : after - 4]) != int.from_bytes(view[after - 4 : after], "big"):
            raise ImageError(f"damaged image: wrong checksum of the PNG chunk {kind!r}")
        if kind == b"IHDR":
            width, height, depth, colors = struct.unpack_from(">IIBB", view, at + 8)
            _check_size(width, height)
            is_plain = at == 8 and depth == 8 and colors in _PNG_COLORS
        elif kind in _NOTES:
            notes += _note_bytes(kind, bytes(view[at + 8 : after - 4]))
            if notes > _MOST_NOTES:
                raise ImageError(f"too large: its notes become more than {_MOST_NOTES} bytes")
        elif kind == b"acTL":  # an animation
            return False
        elif kind == b"IDAT":
            has_pixels = True
        elif kind == b"IEND":
            return is_plain and has_pixels
        at = after
    return False


def _note_bytes(kind: bytes, content: bytes) -> int:
    """Return the unpacked size of a PNG's note or profile; an ImageError above the limit."""
    note = content.partition(b"\0")[2]
    if kind == b"iTXt":
        is_packed, (_, _, note) = note[:1] == b"\1", note[2:].partition(b"\0")
        note = note.partition(b"\0")[2]
    else:
        is_packed, note = kind != b"tEXt", note[kind != b"tEXt" :]
    if not is_packed:
        return len(note)
    unpacking = zlib.decompressobj()
    try:
        size = len(unpacking.decompress(note, _MOST_NOTE))
    except zlib.error:  # both decoders ignore this
        return 0
    if unpacking.unconsumed_tail:
        raise ImageError(f"too large: its {kind.decode()} becomes more than {_MOST_NOTE} bytes")
    return size


def _is_plain_bmp(data: np.ndarray) -> bool:
    if data.size < 54:
        return False
    start, header, width, height, planes, bits, compression = struct.unpack_from(
        "<10xIIiiHHI", memoryview(data)
    )
    if (header, planes, bits, compression) != (40, 1, 24, 0) or width < 1 or height < 1:
        return False
    _check_size(width, height)
    return start >= 54 and start + height * ((3 * width + 3) // 4 * 4) <= data.size


_BLOCKS_KEPT = 16  # freed memory blocks of at most 16 MB that Pillow keeps for later images


class PillowDecode:
    """Decode an image file, (bytes,) uint8, to the (H, W, 3) uint8 of MindSpore's `Decode`.

    It is faster, see `pixels`. Kinds that the two decoders render differently (palettes, alpha, 16
    bits, CMYK) go to MindSpore. A damaged image is a RuntimeError.
    """

    def __init__(self):
        from mindspore.dataset import vision

        Image.core.set_blocks_max(_BLOCKS_KEPT)
        self._other = vision.Decode()

    def __call__(self, content: np.ndarray) -> np.ndarray:
        try:
            with Image.open(io.BytesIO(content)) as image:
                if image.mode == "L":
                    return np.asarray(image.convert("RGB"))
                if image.mode == "RGB":
                    return np.asarray(image)
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise RuntimeError(f"damaged image: {error}") from None
        return self._other(content)


def check_to_the_end(data: np.ndarray) -> None:
    """Raise an ImageError for a file that training or evaluation would find bad.

    Only a plain PNG has to be decoded for this: both decoders accept the JPEG and BMP files that
    `decodable` passes, and `decodable` itself decodes all others.
    """
    if decodable(data) is data and is_png(data):
        check_by_decoding(data)


def check_by_decoding(data: np.ndarray) -> None:
    """Raise an ImageError if a decoder refuses what `decodable` returned.

    That happens to a PNG with correct checksums whose compressed pixels are damaged.
    """
    from mindspore.dataset import vision

    decode(data)
    try:
        vision.Decode()(data)
    except RuntimeError:
        raise ImageError("damaged image: MindSpore cannot decode it") from None
