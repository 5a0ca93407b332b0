"""Small networks with known weights, and what tests of weight files ask of them."""

from pathlib import Path

import numpy as np
import pytest
from golden.fill import fill
from mindspore import nn

from mindcv.errors import WeightsError
from mindcv.models import AnyNet, load_weights, registry

GOLDEN = Path(__file__).parent / "golden" / "weights"


def tiny(num_classes: int = 5, in_channels: int = 3, **options) -> AnyNet:
    """Build the network of make_weight_files.py."""
    options = {"se_r": 0.25} | options
    return AnyNet(
        depths=[2],
        widths=[8],
        strides=[2],
        group_ws=[8],
        stem_w=8,
        num_classes=num_classes,
        in_channels=in_channels,
        **options,
    )


def tiny_regnet(num_classes: int = 1000, in_channels: int = 3, **options) -> AnyNet:
    return tiny(num_classes, in_channels, **options) if num_classes else features()


def register_tiny(monkeypatch) -> None:
    """Register `tiny_regnet` for one test; other tests count the models."""
    builders = {**registry._BUILDERS, "tiny_regnet": tiny_regnet}
    monkeypatch.setattr(registry, "_BUILDERS", builders)


def features() -> AnyNet:
    """Build the network without its classifier."""
    network = tiny()
    del network.head.fc
    return network


def known_weights(network: nn.Cell) -> dict[str, np.ndarray]:
    return {p.name: fill(p.name, p.shape) for p in network.get_parameters()}


def rewrite(path: Path, content: bytes) -> None:
    """Replace a small file; ext4 takes 6 ms to bring one that was truncated to the disk."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def state(network: nn.Cell) -> dict[str, np.ndarray]:
    return {p.name: p.asnumpy().copy() for p in network.get_parameters()}


def equal(first: dict, second: dict) -> bool:
    return set(first) == set(second) and all(np.array_equal(first[k], second[k]) for k in first)


def refused(network: nn.Cell, path, **options) -> str:
    """Check that the file is an error with exit code 5 and changes nothing; return the message."""
    before = state(network)
    with pytest.raises(WeightsError) as caught:
        load_weights(network, path, **options)
    assert caught.value.exit_code == 5
    assert str(path) in str(caught.value)
    assert equal(state(network), before)
    return str(caught.value)
