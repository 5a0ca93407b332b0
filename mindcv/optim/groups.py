"""Parameter groups: each parameter's weight decay and learning rate."""

import itertools
import math
import re
from collections.abc import Mapping, Sequence

from mindspore import Parameter, Tensor, nn, ops
from mindspore import dtype as mstype
from mindspore.nn.learning_rate_schedule import LearningRateSchedule

from ..errors import ConfigError
from ..process import environment  # noqa: F401
from . import WEIGHT_DECAY_FILTERS


def parameter_groups(
    model_or_params: nn.Cell | Sequence,
    lr: float | Sequence[float],
    weight_decay: float,
    weight_decay_filter: str,
    layer_decay: float | None,
    layer_lr: Mapping[str, float] | None = None,
) -> tuple[list[dict], float | list[float]]:
    """Return groups for MindSpore's optimizers, and the rate of groups without their own.

    A network may list names of parameters without decay in `no_weight_decay()`.

    The parameters keep their order, in which gradients come, in a user's own training loop too.
    """
    is_network = isinstance(model_or_params, nn.Cell)
    params = model_or_params.trainable_params() if is_network else list(model_or_params)
    if not params:
        raise ValueError(
            "there are no parameters to train: pass network.trainable_params(), and check that not "
            "all are frozen"
        )
    rates = list(lr) if isinstance(lr, (list, tuple)) else lr
    if weight_decay_filter not in WEIGHT_DECAY_FILTERS:
        known = ", ".join(WEIGHT_DECAY_FILTERS)
        raise ValueError(
            f"weight_decay_filter {weight_decay_filter!r} is unknown; expected {known}"
        )
    is_exempt = WEIGHT_DECAY_FILTERS[weight_decay_filter]
    if any(isinstance(p, dict) for p in params):
        if layer_decay is not None or layer_lr:
            name = "layer_lr" if layer_lr else "layer_decay"
            raise ValueError(f"{name} and parameter groups do not go together; scale their lr")
        return _same_kind_of_rates(params, rates)
    # MindCV's `disable` decays what a network's no_weight_decay() lists too.
    listed = set()
    if weight_decay_filter != "disable" or layer_decay is not None:
        listed = set(getattr(model_or_params, "no_weight_decay", set)())
    scales = {}
    if layer_decay is not None:
        scales = layer_scales(model_or_params if is_network else params, layer_decay)
    if layer_lr:
        known = model_or_params.get_parameters() if is_network else params
        for name, factor in named_factors([p.name for p in known], layer_lr).items():
            scales[name] = scales.get(name, 1.0) * factor
    # Always in groups: otherwise MindSpore exempts every name that contains beta or gamma.
    members: dict[tuple, list[Parameter]] = {}
    for p in params:
        is_free = p.name in listed or is_exempt(p.name.rsplit(".", 1)[-1], p.ndim)
        decay = 0.0 if is_free else weight_decay
        members.setdefault((scales.get(p.name), decay), []).append(p)
    groups = [{"params": m, "weight_decay": decay} for (_, decay), m in members.items()]
    if scales:
        scaled = _scaled_rates(rates)
        for group, (scale, _) in zip(groups, members):
            group["lr"] = scaled(scale)
    return [*groups, {"order_params": params}], rates


def layer_scales(
    model_or_params: nn.Cell | Sequence[Parameter], layer_decay: float
) -> dict[str, float]:
    """Return each parameter's factor on the rate: layer_decay ** (number of layers above its own).

    The layers are those of the network's `layer_groups()`, with everything else on top. Without
    that method they follow from RegNet's parameter names; ConfigError: neither exists.
    """
    is_network = isinstance(model_or_params, nn.Cell)
    params = list(model_or_params.get_parameters() if is_network else model_or_params)
    if hasattr(model_or_params, "layer_groups"):
        cells = itertools.chain.from_iterable(model_or_params.layer_groups())
        known = {
            p.name: (layer, 0) for layer, cell in enumerate(cells) for p in cell.get_parameters()
        }
    else:
        known = {p.name: place for p in params if (place := _place(p.name))}
        if not any(place > _STEM for place in known.values()):
            raise ConfigError(
                f"layer_decay {layer_decay} needs a network with layer_groups(), or with "
                "parameters named stem, stages.N.blocks.N and head as RegNet's; these are called "
                f"{[p.name for p in params[:3]]}"
            )
    places = {p.name: known.get(p.name, _TOP) for p in params}
    above = {place: number for number, place in enumerate(sorted(set(places.values()))[::-1])}
    return {name: layer_decay ** above[place] for name, place in places.items()}


def named_factors(names: Sequence[str], layer_lr: Mapping[str, float]) -> dict[str, float]:
    """Return each parameter's factor: that of the longest first part of its name, or 1.

    Raises:
        ConfigError: a part begins no name.
    """
    found = {}
    for part in sorted(layer_lr, key=len):
        own = [name for name in names if f"{name}.".startswith(f"{part}.")]
        if not own:
            firsts = list(dict.fromkeys(name.split(".")[0] for name in names))
            raise ConfigError(
                f"layer_lr: no parameter's name begins with {part!r}; they begin with "
                f"{', '.join(firsts[:10])}, and are called e.g. {names[-1]}"
            )
        found |= dict.fromkeys(own, float(layer_lr[part]))
    return dict.fromkeys(names, 1.0) | found


_STEM, _TOP = (-1, 0), (math.inf, 0)


def _place(name: str) -> tuple[int, int] | None:
    """Return stage and block of a parameter, None above the blocks."""
    if block := re.search(r"\bstages\.(\d+)\.blocks\.(\d+)\.", name):
        return int(block[1]), int(block[2])
    return _STEM if re.search(r"\bstem\.", name) else None


def _same_kind_of_rates(groups: list[dict], rates) -> tuple[list[dict], float | list[float]]:
    """Turn single rates into lists if any rate is a list.

    MindSpore would compute `rate + 1.0 - 1.0` for them, which rounds a rate to a multiple of 1e-7.
    """
    lengths = {len(r) for r in [rates, *(g.get("lr") for g in groups)] if isinstance(r, list)}
    if len(lengths) > 1:
        raise ValueError(f"lists of rates differ in length: {sorted(lengths)} steps")
    if not lengths:
        return groups, rates
    (steps,) = lengths

    def as_list(rate):
        return [float(rate)] * steps if isinstance(rate, (int, float)) else rate

    groups = [{**g, "lr": as_list(g["lr"])} if "lr" in g else g for g in groups]
    return groups, as_list(rates)


def _scaled_rates(rates: float | list[float]):
    """Return a function that scales the rates by a factor."""
    if not isinstance(rates, list):
        return lambda scale: rates * scale
    shared = Parameter(Tensor(rates, mstype.float32), name="learning_rate", requires_grad=False)
    return lambda scale: ScaledRates(shared, scale)


class ScaledRates(LearningRateSchedule):
    """One rate per step times a factor; all groups share the list, so it is saved once."""

    def __init__(self, rates: Parameter, scale: float):
        super().__init__()
        self.rates, self.scale = rates, scale
        self.gather = ops.Gather()

    def construct(self, global_step):
        return self.gather(self.rates, global_step, 0) * self.scale
