"""A training step gives back the memory that it took, whatever engine options are combined."""

import ctypes
import gc
import itertools
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from mindcv import create_loss, create_optimizer, engine

LAYERS, STEPS = 20, 600
# Of each step. The leak of a nested condition was 700 for each of the 42 weights.
LIMIT = 800.0
OPTIONS = {
    "dynamic": {"dynamic": True, "loss_scale": 1024.0},
    "skip_overflow": {"skip_overflow": True},
    "accumulation": {"accumulation": 2},
    "clip": {"clip_mode": "global_norm", "clip_value": 1.0},
    "average": {"average": True},
    "dropout": {"dropout": True},
}
PAIRS = [
    pair for pair in itertools.combinations(OPTIONS, 2) if pair != ("dynamic", "skip_overflow")
]


class ManyWeights(nn.Cell):
    """Two weights and two running statistics a layer, at next to no cost."""

    def __init__(self, drop_rate: float):
        super().__init__()
        self.norms = nn.SequentialCell([nn.BatchNorm2d(4) for _ in range(LAYERS)])
        self.dropout = nn.Dropout(p=drop_rate) if drop_rate else nn.Identity()
        self.fc = nn.Dense(4, 3)

    def construct(self, x):
        return self.fc(self.dropout(self.norms(x).mean((2, 3))))


def resident_bytes() -> int:
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_a_step_leaks_nothing_with_any_pair_of_engine_options(pair):
    options = {key: value for name in pair for key, value in OPTIONS[name].items()}
    ms.set_context(mode=ms.GRAPH_MODE)
    network = ManyWeights(0.5 if options.pop("dropout", False) else 0.0)
    if "average" in options:
        options["average"] = engine.WeightAverage(network, 0.9)
    options["dropout_count"] = engine.count_dropout(network, 1, 0)
    optimizer = create_optimizer(network, "momentum", lr=1e-3)
    step = engine.TrainStep(network, create_loss("CE"), optimizer, **options)
    image = Tensor(np.random.default_rng(0).standard_normal((4, 4, 2, 2)), ms.float32)
    label = Tensor([0, 1, 2, 0], ms.int32)

    def train(steps):
        for _ in range(steps):
            step(image, label)[0].asnumpy()
        return resident_bytes()

    warm = train(200)
    assert (train(STEPS) - warm) / STEPS < LIMIT
