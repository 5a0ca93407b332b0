"""A network as a backbone: its feature maps for downstream tasks, its first stages frozen."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from mindspore import nn

from ..errors import ConfigError


@dataclass(frozen=True)
class FeatureInfo:
    """One feature map, (N, channels, H / reduction, W / reduction)."""

    index: int  # 0 for the stem, then the stages from 1
    channels: int
    reduction: int  # image side / side of the map
    module: str  # name of the cell that returns it


class FeatureNet(nn.Cell):
    """A backbone that returns a tuple of feature maps, finest first.

    It takes over the network's cells with their parameter names, except the head and the stages
    after the last chosen map. `feature_info`, `channels` and `strides` (reductions) describe the
    returned maps.

    Args:
        network: has `stem`, `stages` and `feature_info`, as AnyNet does.
        out_indices: maps to return: 0 the stem, 1 the first stage, -1 the last; None: all.

    Raises:
        ConfigError: the network offers no feature maps, or an index is out of range or repeated.
    """

    def __init__(self, network: nn.Cell, out_indices: Sequence[int] | None = None):
        super().__init__()
        if not hasattr(network, "feature_info"):
            raise ConfigError(
                f"{type(network).__name__} offers no feature maps; features_only is for RegNets"
            )
        offered = network.feature_info
        chosen = _choose(len(offered), out_indices)
        self.feature_info = tuple(offered[index] for index in chosen)
        self.out_indices = tuple(chosen)
        self.channels = tuple(info.channels for info in self.feature_info)
        self.strides = tuple(info.reduction for info in self.feature_info)
        self.stem = network.stem
        self.stages = nn.CellList(list(network.stages)[: chosen[-1]])

    def construct(self, x):
        x = self.stem(x)
        maps = (x,) if 0 in self.out_indices else ()
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index + 1 in self.out_indices:
                maps += (x,)
        return maps


def _choose(count: int, out_indices: Sequence[int] | None) -> list[int]:
    if out_indices is None:
        return list(range(count))
    chosen = sorted(index + count if index < 0 else index for index in out_indices)
    fits = chosen and chosen[0] >= 0 and chosen[-1] < count
    if not fits or len(set(chosen)) != len(chosen):
        raise ConfigError(
            f"out_indices={tuple(out_indices)}: expected different indices of the {count} feature "
            f"maps, 0 (the stem) to {count - 1} or -{count} to -1"
        )
    return chosen


def freeze(network: nn.Cell, stages: int) -> list[str]:
    """Freeze the stem and the first stages; return the names of the newly frozen parameters.

    Their weights and statistics no longer change: the parameters leave `trainable_params()`, and
    batch normalisation uses the running statistics in training too, whatever `set_train` says
    later. Freeze before building the optimizer and the train step, and after converting to
    synchronised batch normalisation.

    Args:
        network: has `layer_groups()`, as AnyNet does, or `stem` and `stages`, as FeatureNet does.
        stages: number of stages; 0: the stem only.

    Raises:
        ConfigError: the network has no stages, or fewer.
    """
    if hasattr(network, "layer_groups"):
        stem, *rest = network.layer_groups()
    elif hasattr(network, "stem") and hasattr(network, "stages"):
        stem, rest = [network.stem], [[stage] for stage in network.stages]
    else:
        raise ConfigError(f"{type(network).__name__} has no stem and stages to freeze")
    if not 0 <= stages <= len(rest):
        raise ConfigError(f"{stages} stages to freeze: expected 0 (the stem) to {len(rest)}")
    frozen = []
    for part in itertools.chain(stem, *rest[:stages]):
        for parameter in part.trainable_params():
            parameter.requires_grad = False
            frozen.append(parameter.name)
        for _, cell in part.cells_and_names():
            if isinstance(cell, nn.BatchNorm2d):
                cell.use_batch_statistics = False
    network.compile_cache.clear()  # its graphs train these stages
    return frozen
