"""Small pictures of images, as data URIs that a page can hold."""

import base64
import io
from collections.abc import Sequence

from PIL import Image

from ..config import Config
from ..data import create_dataset
from ..errors import DataError
from .predictions import Predictions

_SIDE = 192  # pixels of the longer side
_TINY = 64  # images up to here are kept as they are, without loss


def make_thumbnails(config: Config, found: Predictions, indices: Sequence[int]) -> dict[int, str]:
    """Return index to data URI of the original images.

    Raises:
        DataError: an image cannot be read again.
    """
    if found.files is None:
        return _from_rows(config, set(indices))
    pictures = {}
    for index in indices:
        try:
            with Image.open(found.files[index]) as image:
                image.draft("RGB", (_SIDE, _SIDE))  # JPEG: decode no more than needed
                pictures[index] = _data_uri(image)
        except (OSError, ValueError) as error:
            raise DataError(f"{found.files[index]} cannot be read again: {error}") from None
    return pictures


def _from_rows(config: Config, wanted: set[int]) -> dict[int, str]:
    rows = create_dataset(config.dataset, config.data_dir, config.val_split, shuffle=False)
    images = rows.create_tuple_iterator(num_epochs=1, output_numpy=True)
    return {i: _data_uri(Image.fromarray(row[0])) for i, row in enumerate(images) if i in wanted}


def _data_uri(image: Image.Image) -> str:
    image = image.convert("RGB")
    tiny = max(image.size) <= _TINY
    image.thumbnail((_SIDE, _SIDE))
    kind, options = ("png", {}) if tiny else ("jpeg", {"quality": 82})
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
