"""Where the channels of an image are."""

import numpy as np

_CHANNELS = (1, 3)


def as_planes(images: np.ndarray) -> np.ndarray:
    """Return a view (…, C, H, W) of images (…, H, W, C) or (…, C, H, W), of 1 or 3 channels.

    The pipeline has both: bytes as they were decoded for a network that starts with `Normalize`,
    planes of float32 for others. To write into the view is to write into the images.
    """
    is_last = images.shape[-1] in _CHANNELS and images.shape[-3] not in _CHANNELS
    return np.moveaxis(images, -1, -3) if is_last else images
