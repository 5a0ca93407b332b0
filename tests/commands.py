"""Running `python -m mindcv` inside the test process, on a tiny RegNet registered for it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from mindcv.__main__ import main
from mindcv.models import RegNet, registry
from mindcv.weights import Metadata, Preprocessing
from mindcv.weights.guards import ENTRY

NAMES = ("ant", "bée", "cat", "dog", "emu")
METADATA = Metadata(
    "tiny_regnet",
    num_classes=5,
    class_names=NAMES,
    preprocessing=Preprocessing(32, 0.8, "bicubic", (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)),
)


def tiny_regnet(num_classes: int = 1000, in_channels: int = 3, **options) -> RegNet:
    options = {"w_a": 8, "w_0": 8, "w_m": 2.0, "d": 3, "group_w": 8, "se_r": 0.25} | options
    return RegNet(num_classes=num_classes, in_channels=in_channels, **options)


@contextmanager
def registered(*builders: Callable[..., nn.Cell]) -> Iterator[None]:
    """Register models for the duration of the body, so that other tests do not list them."""
    with pytest.MonkeyPatch.context() as patch:
        for builder in builders:
            patch.setitem(registry._BUILDERS, builder.__name__, builder)
        yield


def call(capsys, command: str, *words) -> tuple[int, str, str]:
    """Run a command; return its exit code and what it printed to stdout and stderr."""
    code = 0
    try:
        main([command, *map(str, words)])
    except SystemExit as end:
        code = end.code
    return code, *capsys.readouterr()


def weights(seed: int, network: nn.Cell | None = None) -> dict[str, np.ndarray]:
    """Return weights as after some training: no running statistic is 0 or 1 any more."""
    rng = np.random.default_rng(seed)
    ranges = {"moving_variance": (0.3, 3), "gamma": (0.5, 1.5), "moving_mean": (-0.3, 0.3)}
    values = {}
    for parameter in (network or tiny_regnet(5)).get_parameters():
        low, high = ranges.get(parameter.name.rsplit(".", 1)[-1], (-0.5, 0.5))
        values[parameter.name] = rng.uniform(low, high, parameter.shape).astype(np.float32)
    return values


def write_checkpoint(path: Path, values: dict, metadata: Metadata | None = METADATA) -> Path:
    entries = values if metadata is None else values | {ENTRY: metadata.to_array()}
    ms.save_checkpoint([{"name": k, "data": ms.Tensor(v)} for k, v in entries.items()], str(path))
    return path


def other_metadata(**changes) -> Metadata:
    return replace(METADATA, **changes)
