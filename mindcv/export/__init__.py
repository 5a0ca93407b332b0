"""Networks for deployment: batch normalisation folded in; MINDIR, ONNX and AIR files, checked."""

from .checks import TOLERANCE, check_mindir, check_onnx, random_images, relative_difference
from .folding import fold_batch_norm
from .formats import Deployment, can_write_dynamic_onnx, export_network

__all__ = [
    "TOLERANCE",
    "Deployment",
    "can_write_dynamic_onnx",
    "check_mindir",
    "check_onnx",
    "export_network",
    "fold_batch_norm",
    "random_images",
    "relative_difference",
]
