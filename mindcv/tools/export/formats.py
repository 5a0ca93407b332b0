"""Write a network as MINDIR, ONNX or AIR."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ...errors import ConfigError
from .onnx_shape import name_output_batch

INPUT, OUTPUT, BATCH = "image", "output", "batch"  # names in an ONNX file


class Deployment(nn.Cell):
    """`softmax(network(normalize(x)))`, the first and the last where wanted.

    Args:
        network: images to logits (N, num_classes).
        normalize: cell applied to the images first, which are uint8 (N, H, W, C) then; None: they
            come as normalised float32 (N, C, H, W).
        softmax: give probabilities in place of logits.
    """

    def __init__(self, network: nn.Cell, normalize: nn.Cell | None = None, softmax: bool = False):
        super().__init__(auto_prefix=False)
        self.network, self.normalize, self.softmax = network, normalize, softmax

    @property
    def input_type(self) -> type:
        """Return numpy's type of the images."""
        return np.float32 if self.normalize is None else np.uint8

    def construct(self, x):
        if self.normalize is not None:
            x = self.normalize(x)
        x = self.network(x)
        return ops.softmax(x, -1) if self.softmax else x


def export_network(
    network: Deployment,
    path: Path,
    file_format: str,
    image_shape: tuple[int, int, int],
    batch_size: int | None,
) -> None:
    """Write the network into one file.

    Args:
        path: ends in the format's suffix, in an empty folder of its own, of any name:
            MindSpore changes the rights of the folder, and puts further files beside for a very
            large network.
        file_format: mindir, onnx or air; air where Ascend is only.
        image_shape: (C, H, W), or (H, W, C) where the network normalises.
        batch_size: images of a batch; None: any number, for mindir and onnx.

    Raises:
        ConfigError: MindSpore cannot export this network, or not into one file.
    """
    try:
        _write(network, path, file_format, image_shape, batch_size)
    except (RuntimeError, ValueError, TypeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(
            f"MindSpore cannot write the network as {file_format}: {reason}"
        ) from None
    found = sorted(entry.name for entry in path.parent.iterdir())
    if found != [path.name]:
        raise ConfigError(
            f"the network does not fit into one {file_format} file: MindSpore wrote "
            f"{', '.join(found) or 'nothing'}"
        )
    if file_format == "onnx" and batch_size is None:
        name_output_batch(path, BATCH)


@contextmanager
def plain_path(path: Path) -> Iterator[Path]:
    """Give another path to a file, for MindSpore's functions: they refuse blanks and accents."""
    with tempfile.TemporaryDirectory(prefix="mindcv-") as folder:
        link = Path(folder, "folder")
        link.symlink_to(path.parent.resolve())
        yield link / path.name


def _write(network: Deployment, path: Path, file_format: str, image_shape, batch_size) -> None:
    with plain_path(path) as plain:
        if file_format == "onnx" and can_write_dynamic_onnx():
            dynamic = {INPUT: {0: BATCH}} if batch_size is None else {}
            ms.onnx.export(
                network,
                # Two images: a graph made of one could spread it over the batch unnoticed.
                _example(network, (batch_size or 2, *image_shape)),
                file_name=str(plain),
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_axes=dynamic,
            )
        else:
            example = _example(network, (batch_size, *image_shape))
            ms.export(network, example, file_name=str(plain), file_format=file_format.upper())


def can_write_dynamic_onnx() -> bool:
    """Tell whether this MindSpore writes ONNX files for any batch; the older `ms.export` cannot."""
    return hasattr(ms, "onnx")


def _example(network: Deployment, shape: tuple[int | None, ...]) -> Tensor:
    if shape[0] is None:
        return Tensor(shape=shape, dtype=Tensor(np.zeros(1, network.input_type)).dtype)
    return Tensor(np.zeros(shape, network.input_type))
