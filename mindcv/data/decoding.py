"""Decoding with Pillow, whose JPEG library uses vector instructions, and with MindSpore."""

import io

import numpy as np
from mindspore.dataset import vision
from PIL import Image

from .image_check import decodable, decode, is_png
from .samples import ImageError

_BLOCKS_KEPT = 16  # freed blocks of memory, of 16 MB at most, that Pillow keeps for later images


class PillowDecode:
    """Decode an image file: the pixels of MindSpore's `Decode`, in two thirds of the time.

    Both give what the JPEG group's exact integer transform gives. MindSpore's own library is built
    without vector instructions; Pillow's has them, and lets other Python threads run meanwhile.

    Takes the bytes (n,) uint8 and returns (H, W, 3) uint8. Kinds that the two would show otherwise
    (palettes, alpha, 16 bits, CMYK) are left to MindSpore.

    Raises:
        RuntimeError: the bytes are no whole image.
    """

    def __init__(self):
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
    """Refuse an image file that training or an evaluation would find bad, if only by decoding it.

    Plain JPEG and BMP are known without: what `decodable` passes of them, both decoders take. What
    is not plain it decodes itself.

    Args:
        data: content of an image file, (bytes,) uint8.

    Raises:
        ImageError: see `decodable` and `check_by_decoding`.
    """
    if decodable(data) is data and is_png(data):
        check_by_decoding(data)


def check_by_decoding(data: np.ndarray) -> None:
    """Let each decoder try what `decodable` returned.

    It passes a PNG whose checksums are right while its compressed pixels are not.

    Raises:
        ImageError: one of them refuses it.
    """
    decode(data)
    try:
        vision.Decode()(data)
    except RuntimeError:
        raise ImageError("damaged image: MindSpore cannot decode it") from None
