"""Networks for deployment: MINDIR, ONNX and AIR files, checked."""

from .checks import TOLERANCE, check_mindir, check_onnx, random_images, relative_difference
from .formats import Deployment, can_write_dynamic_onnx, export_network

__all__ = [
    "TOLERANCE",
    "Deployment",
    "can_write_dynamic_onnx",
    "check_mindir",
    "check_onnx",
    "export_network",
    "random_images",
    "relative_difference",
]
