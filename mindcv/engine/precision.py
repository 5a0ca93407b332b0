"""Mixed precision of a network."""

from collections.abc import Sequence

from mindspore import amp, nn, ops
from mindspore import dtype as mstype

from ..errors import ConfigError


def mixed_precision(
    network: nn.Cell,
    level: str = "O0",
    cast_list: Sequence[str] = (),
    keep_bn_fp32: bool | None = None,
) -> nn.Cell:
    """Make a network compute partly in float16; its parameters and output stay float32.

    The levels are MindSpore's (`mindspore.amp`), and it applies O2, O3 and auto. Its own O1 and
    custom lists rewrite source files, which fails for a package with relative imports (seen in
    2.10); here they wrap the layers instead.

    Args:
        network: changed in place.
        level: O0, float32; O1, convolutions and dense layers in float16; O2, all but normalisation;
            O3, all; auto, MindSpore's choice per operator.
        cast_list: names of `mindspore.nn` layers that replace the level's own list: layers in
            float16 for O1, in float32 for O2 (source: MindCV, `utils/amp.py`).
        keep_bn_fp32: for O2 and O3, whether to compute normalisation in float32; None for the
            level's own choice.

    Raises:
        ConfigError: a name in the list is no layer of `mindspore.nn`, or the network has no such
            layer.
    """
    listed = tuple(_layer(name, network) for name in cast_list)
    if level == "O1":
        layers = tuple(kind for kind in amp.get_white_list() if issubclass(kind, nn.Cell))
        names = [(parameter, parameter.name) for parameter in network.get_parameters()]
        _cast_layers(network, listed or layers)
        for parameter, name in names:
            parameter.name = name  # a cell prefixes the names of parameters it is given
        return network
    if level in ("O2", "O3"):
        keeps = level == "O2" if keep_bn_fp32 is None else keep_bn_fp32
        layers = amp.get_black_list() if keeps else []
        if not (listed or layers):
            return amp.auto_mixed_precision(network, "O3")
        return amp.custom_mixed_precision(network, black_list=list(listed) or layers)
    return amp.auto_mixed_precision(network, level)


class _Float16(nn.Cell):
    """Computes a layer in float16 and returns float32."""

    def __init__(self, layer: nn.Cell):
        super().__init__(auto_prefix=False)
        self.layer = layer.to_float(mstype.float16)

    def construct(self, x):
        return ops.cast(self.layer(x), mstype.float32)


def _cast_layers(network: nn.Cell, kinds: tuple[type, ...]) -> None:
    for name, cell in list(network.name_cells().items()):
        if isinstance(cell, kinds):
            setattr(network, name, _Float16(cell))
        else:
            _cast_layers(cell, kinds)


def _layer(name: str, network: nn.Cell) -> type[nn.Cell]:
    found = getattr(nn, name.removeprefix("nn."), None)
    if not (isinstance(found, type) and issubclass(found, nn.Cell)):
        raise ConfigError(f"amp_cast_list: mindspore.nn has no layer {name!r}, e.g. Conv2d, Dense")
    if not any(isinstance(cell, found) for _, cell in network.cells_and_names()):
        raise ConfigError(f"amp_cast_list: the network has no layer {name}")
    return found
