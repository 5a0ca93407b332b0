"""Does an exported file give what the network gives? Run both on random images."""

from collections.abc import Sequence
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from ...errors import WeightsError
from .formats import plain_path

# Largest difference of two outputs, relative to the largest output: float32 rounding stays below.
TOLERANCE = 1e-5


def random_images(count: int, shape: tuple[int, int, int], dtype: type) -> np.ndarray:
    """Return images (count, *shape): normal noise, or for uint8 every grey value alike."""
    rng = np.random.default_rng(20)
    if dtype is np.uint8:
        return rng.integers(0, 256, (count, *shape)).astype(np.uint8)
    return rng.standard_normal((count, *shape)).astype(np.float32)


def relative_difference(expected: np.ndarray, found: np.ndarray) -> float:
    """Return max |expected - found| / max |expected|; infinite where a value is not finite.

    Raises:
        WeightsError: the shapes differ.
    """
    if expected.shape != found.shape:
        raise WeightsError(f"outputs of shape {found.shape} came, expected {expected.shape}")
    if not (np.isfinite(expected).all() and np.isfinite(found).all()):
        return float("inf")
    largest = np.abs(expected).max()
    difference = np.abs(expected.astype(np.float64) - found).max()
    return float(difference / largest) if largest else float(difference)


def check_mindir(
    path: Path, images: Sequence[np.ndarray], expected: Sequence[np.ndarray], tolerance: float
) -> float:
    """Load a MINDIR file, run it on batches of images and return the largest difference.

    Raises:
        WeightsError: it is above the tolerance.
    """
    with plain_path(path) as plain:
        graph = nn.GraphCell(ms.load(str(plain)))
    found = [graph(Tensor(batch)).asnumpy() for batch in images]
    return _largest(path, found, expected, tolerance)


def check_onnx(
    path: Path, images: Sequence[np.ndarray], expected: Sequence[np.ndarray], tolerance: float
) -> float | None:
    """Run an ONNX file with onnxruntime and return the largest difference; None: not installed.

    Raises:
        WeightsError: it is above the tolerance, or onnxruntime refuses the file.
    """
    try:
        import onnxruntime
    except ImportError:
        return None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what matters is raised
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        name = session.get_inputs()[0].name
        found = [session.run(None, {name: batch})[0] for batch in images]
    except Exception as error:  # onnxruntime's errors have no common type but this
        reason = str(error).strip().splitlines()[0]
        raise WeightsError(f"onnxruntime cannot run the exported file: {reason}") from None
    return _largest(path, found, expected, tolerance)


def _largest(path: Path, found, expected, tolerance: float) -> float:
    difference = max(relative_difference(e, f) for e, f in zip(expected, found))
    if not difference <= tolerance:
        raise WeightsError(
            f"the exported {path.suffix[1:]} file does not give the network's outputs: relative "
            f"difference {difference:.1e}, allowed {tolerance:.0e}; nothing was kept"
        )
    return difference
