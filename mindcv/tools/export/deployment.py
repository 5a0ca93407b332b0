"""Write a network as a MINDIR, ONNX or AIR file and check that the outputs agree."""

import importlib.util
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ...engine.evaluation import probabilities
from ...errors import ConfigError, WeightsError, first_line
from ...models import fold_batch_norm
from ...task import MULTI_LABEL, SINGLE_LABEL, Task
from .model_file import add_entries, name_output_batch

INPUT, OUTPUT, BATCH = "image", "output", "batch"  # names in an ONNX file
# Largest allowed difference relative to the largest output; float32 rounding stays below.
TOLERANCE = 1e-5


class Deployment(nn.Cell):
    """`activation(network(normalize(x)))`; normalisation and activation are optional.

    Args:
        network: maps images to logits (N, num_classes).
        normalize: cell applied first, to uint8 images (N, H, W, C); None: images come normalised,
            float32 (N, C, H, W).
        task: return its probabilities instead of logits.
    """

    def __init__(
        self, network: nn.Cell, normalize: nn.Cell | None = None, task: Task | None = None
    ):
        super().__init__(auto_prefix=False)
        self.network, self.normalize = network, normalize
        self.softmax, self.sigmoid = task is SINGLE_LABEL, task is MULTI_LABEL
        self.set_train(False)

    @property
    def input_type(self) -> type:
        return np.float32 if self.normalize is None else np.uint8

    def construct(self, x):
        if self.normalize is not None:
            x = self.normalize(x)
        x = self.network(x)
        x = ops.softmax(x, -1) if self.softmax else x
        return ops.sigmoid(x) if self.sigmoid else x


@dataclass(frozen=True)
class Checks:
    """Differences relative to the largest output, on random images; None: not checked."""

    folded_layers: int
    folding: float | None
    file: float | None


def export_checked(
    network: nn.Cell,
    normalize: nn.Cell | None,
    path: Path,
    *,
    image_shape: tuple[int, int, int],
    batch_size: int | None,
    fold_bn: bool,
    task: Task | None,
    entries: Mapping[str, str],
) -> Checks:
    """Fold batch normalisation, check the outputs, write the file and check it again.

    For the arguments see `export_network`, `Deployment` and `add_entries`. A WeightsError means
    that an output is not finite, or that folding or the file changes the outputs.
    """
    written = Deployment(network, normalize)
    # A dynamic file is tried with two batch sizes that the traced example did not have.
    counts = (1, 3) if batch_size is None else (batch_size,)
    images = [_random_images(count, image_shape, written.input_type) for count in counts]
    expected = _outputs(written, images)
    if not all(np.isfinite(logits).all() for logits in expected):
        raise WeightsError("the network's outputs are not finite numbers; nothing was written")
    layers, folding = 0, None
    if fold_bn:
        folded, layers = fold_batch_norm(network)
        written = Deployment(folded, normalize)
        folding = _largest_difference(expected, _outputs(written, images))
        if not folding <= TOLERANCE:
            raise WeightsError(
                "with batch normalisation folded in, the network's outputs change by "
                f"{folding:.1e} of the largest, allowed {TOLERANCE:.0e}; nothing was written; add "
                "--no_fold_bn to export it as it is"
            )
    tolerance = TOLERANCE
    if task:
        # A probability's relative error is up to twice the absolute error of the logits.
        tolerance *= max(1.0, 2.0 * max(np.abs(logits).max() for logits in expected))
        expected = [probabilities(task, logits) for logits in expected]
        written = Deployment(written.network, normalize, task)
    export_network(written, path, image_shape, batch_size)
    if path.suffix != ".air":
        add_entries(path, entries)
    if not _can_run(path):
        return Checks(layers, folding, file=None)
    difference = _largest_difference(expected, list(map(open_graph(path), images)))
    if not difference <= tolerance:
        raise WeightsError(
            f"the exported {path.suffix[1:]} file does not give the network's outputs: relative "
            f"difference {difference:.1e}, allowed {tolerance:.0e}; nothing was kept"
        )
    return Checks(layers, folding, difference)


def export_network(
    network: Deployment, path: Path, image_shape: tuple[int, int, int], batch_size: int | None
) -> None:
    """Write the network into a single file.

    Args:
        path: ends in .mindir, .onnx or .air (Ascend only), in an otherwise empty folder: MindSpore
            changes the permissions of the folder, and puts further files there for a very large
            network.
        image_shape: (C, H, W); (H, W, C) if the network normalises.
        batch_size: None: any number, for mindir and onnx.

    Raises:
        ConfigError: MindSpore cannot export this network, or not into a single file.
    """
    file_format = path.suffix[1:]
    is_dynamic = batch_size is None
    try:
        with _plain_path(path) as plain:
            if file_format == "onnx" and can_write_dynamic_onnx():
                # Two images: a graph traced with one might broadcast it unnoticed.
                example = np.zeros((batch_size or 2, *image_shape), network.input_type)
                ms.onnx.export(
                    network,
                    Tensor(example),
                    file_name=str(plain),
                    input_names=[INPUT],
                    output_names=[OUTPUT],
                    dynamic_axes={INPUT: {0: BATCH}} if is_dynamic else {},
                )
            else:
                example = Tensor(np.zeros((batch_size or 1, *image_shape), network.input_type))
                if is_dynamic:
                    example = Tensor(shape=(None, *image_shape), dtype=example.dtype)
                ms.export(network, example, file_name=str(plain), file_format=file_format.upper())
    except (RuntimeError, ValueError, TypeError) as error:
        raise ConfigError(
            f"MindSpore cannot write the network as {file_format}: {first_line(error)}"
        ) from None
    found = sorted(entry.name for entry in path.parent.iterdir())
    if found != [path.name]:
        raise ConfigError(
            f"the network does not fit into one {file_format} file: MindSpore wrote "
            f"{', '.join(found) or 'nothing'}"
        )
    if file_format == "onnx" and is_dynamic:
        name_output_batch(path, BATCH)


def can_write_dynamic_onnx() -> bool:
    """Return whether MindSpore has `mindspore.onnx`; `ms.export` fixes the batch size."""
    return hasattr(ms, "onnx")


@contextmanager
def _plain_path(path: Path) -> Iterator[Path]:
    """Yield an alias of a path: MindSpore's functions refuse blanks and accents in paths."""
    with tempfile.TemporaryDirectory(prefix="mindcv-") as folder:
        link = Path(folder, "folder")
        link.symlink_to(path.parent.resolve())
        yield link / path.name


def _random_images(count: int, shape: tuple[int, int, int], dtype: type) -> np.ndarray:
    """Return normal noise, or uniform noise for uint8, of shape (count, *shape)."""
    rng = np.random.default_rng(20)
    if dtype is np.uint8:
        return rng.integers(0, 256, (count, *shape)).astype(np.uint8)
    return rng.standard_normal((count, *shape)).astype(np.float32)


def _outputs(network: nn.Cell, images: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [network(Tensor(batch)).asnumpy() for batch in images]


def open_graph(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Return a .mindir or .onnx file as a function of a batch.

    Raises:
        WeightsError: MindSpore or onnxruntime cannot run the file.
        ConfigError: onnxruntime is not installed.
    """
    if path.suffix == ".mindir":
        try:
            with _plain_path(path) as plain:
                graph = nn.GraphCell(ms.load(str(plain)))
        except (RuntimeError, ValueError) as error:
            raise WeightsError(
                f"MindSpore cannot run the exported file {path}: {first_line(error)}"
            ) from None
        return lambda batch: graph(Tensor(batch)).asnumpy()
    try:
        import onnxruntime
    except ImportError:
        raise ConfigError(
            f"{path}: ONNX files need onnxruntime, which is not installed: the extra export has it"
        ) from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised anyway

    def refused(error: Exception) -> WeightsError:
        return WeightsError(f"onnxruntime cannot run the exported file {path}: {first_line(error)}")

    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # the only common base of onnxruntime's errors
        raise refused(error) from None

    def run(batch: np.ndarray) -> np.ndarray:
        try:
            return session.run(None, {session.get_inputs()[0].name: batch})[0]
        except Exception as error:
            raise refused(error) from None

    return run


def _can_run(path: Path) -> bool:
    has_onnxruntime = importlib.util.find_spec("onnxruntime") is not None
    return path.suffix == ".mindir" or (path.suffix == ".onnx" and has_onnxruntime)


def _largest_difference(expected: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> float:
    return max(relative_difference(e, f) for e, f in zip(expected, found))


def relative_difference(expected: np.ndarray, found: np.ndarray) -> float:
    """Return max |expected - found| / max |expected|; infinite if a value is not finite."""
    if expected.shape != found.shape:
        raise WeightsError(f"the outputs have shape {found.shape}, expected {expected.shape}")
    if not (np.isfinite(expected).all() and np.isfinite(found).all()):
        return float("inf")
    largest = np.abs(expected).max()
    difference = np.abs(expected.astype(np.float64) - found).max()
    return float(difference / largest) if largest else float(difference)
