"""Images made smaller before they are packed."""

import io

import numpy as np
from PIL import Image

from ...data.image_check import decode
from ...data.samples import ImageError


def capped(data: np.ndarray, cap: int, quality: int) -> np.ndarray:
    """Return an image file whose shorter side is at most `cap` pixels.

    An image that is not larger is returned as it is, byte for byte. A larger one becomes RGB, is
    resized (bicubic over the whole area that a pixel covers, so that nothing aliases) and encoded
    as JPEG, 4:2:0; colour profile and EXIF are left behind. An EXIF orientation is not followed, as
    it is not when the original is read.

    FFCV does the same to the longer side (`max_resolution` of `RGBImageField`); the shorter one is
    what a crop has to fit into.

    Args:
        data: content of an image file, (bytes,) uint8.
        cap: pixels.
        quality: of the JPEG, 1 … 100.

    Raises:
        ImageError: it cannot be decoded, or its longer side is more than JPEG allows.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
    except (OSError, Image.DecompressionBombError) as error:
        raise ImageError(f"damaged image: {error}") from None
    shorter = min(width, height)
    if shorter <= cap:
        return data
    size = (round(width * cap / shorter), round(height * cap / shorter))
    smaller = decode(data).resize(size, Image.BICUBIC)
    buffer = io.BytesIO()
    try:
        smaller.save(buffer, "JPEG", quality=quality)
    except OSError as error:
        raise ImageError(f"{size[0]}x{size[1]} pixels cannot become a JPEG: {error}") from None
    return np.frombuffer(buffer.getvalue(), np.uint8)
