"""One image file: what it is, and what training makes of it."""

import hashlib
import io
import os
import stat
from collections.abc import Iterator

import numpy as np
from PIL import Image as PillowImage

from ...data.image_files import FORMATS, decodable, decode
from ...data.samples import ImageError
from ...data.samples.files import read_file
from .table import BAD, CONVERTED, Image

TINY = 32  # pixels of the shorter side, below which it is told
EXTREME_ASPECT = 5
_ORIENTATION = 0x112
SUFFIXES = {
    "JPEG": (".jpg", ".jpeg"),
    "MPO": (".jpg", ".jpeg"),  # a JPEG that holds further ones, as some cameras write
    "PNG": (".png",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm"),
}
_GREY = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "F")


def examine(path: str, with_pixels: bool = False) -> Image:
    """Read, hash and decode an image file.

    It is bad where `image_check.decodable` says so, which training asks too, or where its pixels
    cannot be decoded to the end.

    Args:
        with_pixels: hash the decoded pixels too.
    """
    try:
        data = read_file(os.fsencode(path))
    except ImageError as error:
        return Image(_size(path), verdict=BAD, reason=_dead_link(path) or str(error))
    facts = {"bytes": data.size, "sha256": hashlib.sha256(data).digest()}
    try:
        return _examine_content(path, data, facts, with_pixels)
    except ImageError as error:
        return Image(**facts, verdict=BAD, reason=str(error))


def _size(path: str) -> int:
    """Return the bytes of what cannot be read; 0: a folder, a pipe, or not even that is known."""
    try:
        state = os.stat(path)
    except OSError:
        return 0
    return state.st_size if stat.S_ISREG(state.st_mode) else 0


def _dead_link(path: str) -> str:
    if not os.path.islink(path) or os.path.exists(path):
        return ""
    try:
        os.stat(path)
    except FileNotFoundError:
        target = os.readlink(path).encode("utf-8", "backslashreplace").decode("utf-8")
        return f"a link that leads nowhere, to {target!r}"
    except OSError:  # a loop, which has a reason of its own
        pass
    return ""


def _examine_content(path: str, data: np.ndarray, facts: dict, with_pixels: bool) -> Image:
    """Fill in facts and return the image.

    Raises:
        ImageError: it cannot be decoded; what is known of it is in facts.
    """
    image = _open(data)
    if image is not None:
        facts |= {"width": image.width, "height": image.height}
        facts |= {"mode": image.mode, "format": image.format}
        facts["notes"] = tuple(_notes(path, image))
    usable = decodable(data)
    if usable is not data:
        facts |= {"verdict": CONVERTED, "reason": _why_converted(image)}
        pixels = decode(usable) if with_pixels else None
    else:
        pixels = _load(image)
    if with_pixels:
        facts["pixels"] = _hash_of_pixels(pixels)
    return Image(**facts)


def _open(data: np.ndarray) -> PillowImage.Image | None:
    """Read the header; None where there is none that Pillow understands."""
    try:
        return PillowImage.open(io.BytesIO(data), formats=FORMATS)
    except Exception:  # damaged bytes make Pillow raise nearly anything; the reason comes later
        return None


def _load(image: PillowImage.Image | None) -> PillowImage.Image:
    if image is None:
        raise ImageError("damaged image: its header cannot be read")
    try:
        image.load()
    except Exception as error:  # as above
        raise ImageError(f"damaged image: {error or type(error).__name__}") from None
    return image


def _hash_of_pixels(image: PillowImage.Image) -> bytes:
    digest = hashlib.sha256(b"%d x %d" % image.size)
    digest.update(image.convert("RGB").tobytes())
    return digest.digest()


def _why_converted(image: PillowImage.Image | None) -> str:
    if image is None:
        return "an unusual file"
    first = ", its first frame" if _is_animated(image) else ""
    if image.format in ("JPEG", "PNG", "BMP") and image.mode in ("L", "RGB", "LA", "RGBA"):
        return f"{image.format} of an unusual structure{first}"
    return f"{image.format} of mode {image.mode}{first}"


def _is_animated(image: PillowImage.Image) -> bool:
    try:
        return getattr(image, "is_animated", False)
    except Exception:  # the first frame is whole, the second may be anything
        return True


def _notes(path: str, image: PillowImage.Image) -> Iterator[str]:
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in SUFFIXES[image.format]:
        yield f"{image.format} named {suffix}"
    orientation = _orientation(image)
    if orientation in range(2, 9):
        yield f"EXIF orientation {orientation}"
    if image.mode in _GREY:
        yield "grey"
    if image.mode == "CMYK":
        yield "CMYK"
    shorter, longer = sorted(image.size)
    if shorter < TINY:
        yield f"smaller than {TINY} pixels"
    if longer > EXTREME_ASPECT * shorter:
        yield f"longer than {EXTREME_ASPECT} times its width or height"


def _orientation(image: PillowImage.Image) -> int | None:
    # PNG would be decoded for what may stand behind its pixels.
    has_exif = "exif" in image.info or image.format in ("TIFF", "WEBP")
    try:
        return image.getexif().get(_ORIENTATION) if has_exif else None
    except Exception:  # damaged EXIF hurts nobody
        return None
