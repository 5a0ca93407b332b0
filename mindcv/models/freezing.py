"""Freeze the first stages of a network for fine-tuning."""

import itertools

from mindspore import nn

from ..errors import ConfigError


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
