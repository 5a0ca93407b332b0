"""A network as a backbone: its feature maps for downstream tasks, its first stages frozen."""

import itertools
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mindspore import nn

from ..errors import ConfigError


class FeaturesError(ConfigError, RuntimeError):
    """The network offers no feature maps; MindCV raises a RuntimeError."""


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
    after the last chosen map. `feature_info`, `channels` (also as the list `out_channels`) and
    `strides` (reductions) describe the returned maps.

    Args:
        network: has `stem`, `stages` and `feature_info`, as AnyNet does.
        out_indices: maps to return: 0 the stem, 1 the first stage, -1 the last; None: all.

    Raises:
        FeaturesError: the network offers no feature maps.
        ConfigError: an index is out of range or repeated.
    """

    def __init__(self, network: nn.Cell, out_indices: Sequence[int] | None = None):
        super().__init__()
        offered = _offered_by(network)
        chosen = _choose(len(offered), out_indices)
        self.feature_info = tuple(offered[index] for index in chosen)
        self.out_indices = tuple(chosen)
        self.channels = tuple(info.channels for info in self.feature_info)
        self.out_channels = list(self.channels)
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


class FeatureExtractWrapper(nn.Cell):
    """The feature maps, as a list, of a network that lists them in `feature_info` as MindCV's do.

    Its outermost cells must run in the order of their creation. With `flatten_sequential = True`
    the network has maps inside its SequentialCells; with `is_rewritten = True` it returns all maps
    by itself. `out_channels` has the channels of the returned maps. Parameters are named as by
    MindCV: features.0 of a flattened container becomes features_0.

    Args:
        net: `feature_info` has a FeatureInfo, or a dictionary of chs, reduction and name, for each
            map.
        out_indices: maps to return; those that the network does not have are left out.

    Raises:
        FeaturesError: the network has no `feature_info`, or names a cell there that it has not.
    """

    def __init__(self, net: nn.Cell, out_indices: Sequence[int] = (0, 1, 2, 3, 4)):
        super().__init__(auto_prefix=False)
        chosen = [info for info in _offered_by(net) if info.index in out_indices]
        self.out_channels = [info.channels for info in chosen]
        self.is_rewritten = getattr(net, "is_rewritten", False)
        if self.is_rewritten:
            self.net, self.return_index = net, [info.index for info in chosen]
            return
        cells = dict(_outermost(net, getattr(net, "flatten_sequential", False)))
        places = {name: place for place, name in enumerate(cells)}
        if missing := [info.module for info in chosen if info.module not in places]:
            raise FeaturesError(
                f"feature_info of {type(net).__name__} names the cells {missing}; its outermost "
                f"cells are {list(places)}"
            )
        self.return_index = [places[info.module] for info in chosen]
        used = list(cells.items())[: max(self.return_index, default=-1) + 1]
        self.net = nn.SequentialCell(OrderedDict((n.replace(".", "_"), cell) for n, cell in used))

    def construct(self, x):
        maps = []
        if self.is_rewritten:
            for index, one in enumerate(self.net(x)):
                if index in self.return_index:
                    maps.append(one)
            return maps
        for index, cell in enumerate(self.net.cell_list):
            x = cell(x)
            if index in self.return_index:
                maps.append(x)
        return maps


def features_of(network: nn.Cell, out_indices: Sequence[int] | None = None) -> nn.Cell:
    """Return a network's feature maps as a network; None: all maps.

    Raises:
        FeaturesError: the network offers no feature maps.
        ConfigError: `FeatureNet` refuses the indices.
    """
    if hasattr(network, "stem") and hasattr(network, "stages"):
        return FeatureNet(network, out_indices)
    every = range(len(_offered_by(network)))
    return FeatureExtractWrapper(network, every if out_indices is None else out_indices)


def _offered_by(network: nn.Cell) -> list[FeatureInfo]:
    if not hasattr(network, "feature_info"):
        raise FeaturesError(
            f"{type(network).__name__} offers no feature maps: it has no `feature_info`"
        )
    return [
        FeatureInfo(index, info["chs"], info["reduction"], info["name"])
        if isinstance(info, dict)
        else info
        for index, info in enumerate(network.feature_info)
    ]


def _outermost(network: nn.Cell, flattens: bool) -> Iterator[tuple[str, nn.Cell]]:
    containers = (nn.CellList, nn.SequentialCell) if flattens else nn.CellList
    for name, cell in network.name_cells().items():
        if isinstance(cell, containers):
            yield from ((f"{name}.{child}", one) for child, one in cell.name_cells().items())
        else:
            yield name, cell


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


class Frozen(list):
    """The names of parameters that `freeze` froze."""

    def __init__(self, network: nn.Cell, parameters: list, layers: list):
        super().__init__(parameter.name for parameter in parameters)
        self._network, self._parameters, self._layers = network, parameters, layers

    def unfreeze(self) -> None:
        """Let the layers learn again; then build a new optimizer and train step."""
        for parameter in self._parameters:
            parameter.requires_grad = True
        for layer, before in self._layers:
            layer.use_batch_statistics = before
        self._network.compile_cache.clear()


def freeze(network: nn.Cell, stages: int) -> Frozen:
    """Freeze the stem and the first stages; return the names of the newly frozen parameters.

    Their weights and statistics no longer change: the parameters leave `trainable_params()`, and
    batch normalisation uses the running statistics in training too, whatever `set_train` says
    later. Freeze before building the optimizer and the train step, and after converting to
    synchronised batch normalisation. `unfreeze()` of the result undoes it.

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
    frozen, layers = [], []
    for part in itertools.chain(stem, *rest[:stages]):
        for parameter in part.trainable_params():
            parameter.requires_grad = False
            frozen.append(parameter)
        for _, cell in part.cells_and_names():
            if isinstance(cell, nn.BatchNorm2d):
                layers.append((cell, cell.use_batch_statistics))
                cell.use_batch_statistics = False
    network.compile_cache.clear()  # its graphs train these stages
    return Frozen(network, frozen, layers)
