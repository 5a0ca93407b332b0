"""Small pictures of images, as data URIs that a page can hold."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ...data.image_files import decodable
from ...data.samples import ImageError
from ...errors import DataError
from .predictions import Predictions

_SIDE = 192  # pixels of the longer side
_TINY = 64  # images up to here are kept as they are, without loss


def make_thumbnails(found: Predictions, indices: Sequence[int]) -> dict[int, str]:
    """Return index to data URI of the original images.

    Raises:
        DataError: an image cannot be read again.
    """
    pictures = {}
    for index in indices:
        place = int(found.places[index])
        try:
            content = found.samples.read(place)
            with _opened(content) as image:
                pictures[index] = _data_uri(image)
        except (ImageError, OSError, ValueError) as error:
            name = found.samples.name(place)
            raise DataError(f"{name} cannot be read again: {error}") from None
    return pictures


def _opened(content: np.ndarray) -> Image.Image:
    if content.ndim == 3:
        return Image.fromarray(content)
    image = Image.open(io.BytesIO(decodable(content)))
    image.draft("RGB", (_SIDE, _SIDE))  # JPEG: decode no more than needed
    return image


def _data_uri(image: Image.Image) -> str:
    image = image.convert("RGB")
    tiny = max(image.size) <= _TINY
    image.thumbnail((_SIDE, _SIDE))
    kind, options = ("png", {}) if tiny else ("jpeg", {"quality": 82})
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
