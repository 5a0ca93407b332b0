"""Design spaces: which parameters a network has, how they are drawn, and what they must satisfy.

The paper's spaces (Radosavovic et al., Designing Network Design Spaces, sections 3.2, 3.3, 4 and 5)
are the rows of SPACES; `find_space` also reads a user's own declaration. Distributions are those of
pycls `sweep/random.py`.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from operator import eq, ge, gt, le, lt
from typing import Any

import numpy as np

from ...config.settings import join_settings, read_settings, shaping
from ...design_space import NetworkPlan, plan_model
from ...design_space.complexity import Complexity
from ...errors import ConfigError

SAMPLERS = ("uniform", "log_uniform", "power2", "power2_or_log_uniform")
SIGNS = {"<=": le, ">=": ge, "==": eq, "<": lt, ">": gt}
COSTS = tuple(Complexity.__dataclass_fields__)
# What a constraint may name besides the space's parameters: see `sampling`.
DERIVED = ("levels", "stages", "depth", *COSTS)
DERIVED += ("activations_224", "params_cap", "activations_cap")
# What the builders call the values of all stages -> what `expand` calls them.
STAGES = {"widths": "widths", "depths": "depths", "group_ws": "groups", "bot_muls": "ratios"}


@dataclass(frozen=True)
class Sampler:
    """The distribution of one parameter: over the closed range, in multiples of `step`."""

    # power2: uniform over the powers of two; power2_or_log_uniform: powers of two below `step` and
    # multiples of it above, log-uniform over all.
    sampler: str = "uniform"
    range: Sequence[float] = (0.0, 0.0)
    step: float = 1.0
    values: tuple = ()  # drawn with equal probability, in place of a range

    def __post_init__(self):
        numbers = self.values or (*self.range, self.step)
        if not all(isinstance(number, Real) for number in numbers):
            raise ValueError(f"expected numbers, got {', '.join(map(repr, numbers))}")
        if self.values:
            return
        if self.sampler not in SAMPLERS:
            raise ValueError(f"sampler {self.sampler!r} is not one of {', '.join(SAMPLERS)}")
        low, high = self.range
        may_be_0 = self.sampler == "uniform"
        if not (0 <= low <= high < np.inf and (low or may_be_0) and self.step > 0):
            raise ValueError(
                f"range [{low:g}, {high:g}] with step {self.step:g} is none of {self.sampler}: "
                f"expected {'0 <=' if may_be_0 else '0 <'} low <= high and a step above 0"
            )
        if self.sampler.startswith("power2") and any(np.log2(self.range) % 1):
            raise ValueError(f"range [{low:g}, {high:g}] does not begin and end at powers of two")

    @property
    def draws(self) -> int:
        """How many uniform numbers a value takes."""
        return 2 if self.sampler == "power2_or_log_uniform" and not self.values else 1

    def draw(self, first: np.ndarray, *second: np.ndarray) -> np.ndarray:
        """Return the values at `draws` columns of uniform numbers in [0, 1)."""
        if self.values:
            return np.array(self.values)[(first * len(self.values)).astype(int)]
        (low, high), step = self.range, self.step
        if self.sampler == "uniform":
            return self._grid(np.floor((low + first * (high + step - low)) / step))
        if self.sampler == "log_uniform":
            return self._log_uniform(first, low, step)
        powers = low * 2 ** np.floor(first * (np.log2(high / low) + 1))
        if self.sampler == "power2":
            return powers
        return np.where(powers < step, powers, self._log_uniform(*second, max(low, step), step))

    def count(self) -> int:
        """Return how many values it has."""
        if self.values:
            return len(self.values)
        low, high = self.range
        # Where the powers of two end and the multiples of `step` begin.
        ends = {"power2": 2 * high, "power2_or_log_uniform": max(low, self.step)}
        start = ends.get(self.sampler, low)
        powers = round(math.log2(start / low)) if start > low else 0
        return powers + max(0, round((high - start) / self.step) + 1)

    def _log_uniform(self, uniform: np.ndarray, low: float, step: float) -> np.ndarray:
        # From above low - step, so that rounding up gives low its share.
        start, high = low - min(step, low / 2), self.range[1]
        return self._grid(np.ceil(high * (start / high) ** uniform / step))

    def _grid(self, numbers: np.ndarray) -> np.ndarray:
        # 0.1 x 3 is 0.30000000000000004.
        return np.clip(np.round(numbers * self.step, 9), *self.range)


@dataclass(frozen=True)
class Space:
    """A distribution over networks."""

    name: str
    model: str  # its builder, anynet or regnet
    # Of regnet, arguments of the builder. Of anynet d, w, b, g with the stage's number, or without
    # it for all others; b is width / bottleneck width. Their order is that of the random numbers.
    samplers: Mapping[str, Sampler]
    fixed: Mapping[str, Any] = field(default_factory=dict)  # further arguments of the builder
    # Chains of comparisons, such as w1 <= w2 <= w3, of parameters, numbers and DERIVED.
    constraints: tuple[str, ...] = ()
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # as of `read_limits`

    @property
    def stages(self) -> int:
        """Stages of an anynet, by the names of its parameters."""
        return max([int(name[1:]) for name in self.samplers if name[1:].isdecimal()], default=1)

    def __post_init__(self):
        names = (*self.samplers, *DERIVED)
        for name, sampler in self.samplers.items():
            if not self.may_vary(name):
                raise ValueError(f"{name!r} is the same for all networks; give one value")
            lowest = min(sampler.values or sampler.range)
            bound = 1 if name == "w_m" else 0
            if lowest < bound or (lowest == bound and name != "w_a"):
                raise ValueError(f"{name}: expected numbers above {bound}, got {lowest:g}")
        for sides, _ in map(split_constraint, self.constraints):
            if unknown := [side for side in sides if isinstance(side, str) and side not in names]:
                raise ValueError(f"constraints: unknown {unknown[0]!r}; known: {', '.join(names)}")
        each = [(kind, number) for kind in "dw" for number in range(1, self.stages + 1)]
        missing = [f"{k}{n}" for k, n in each if not {k, f"{k}{n}"} & set(self.samplers)]
        if missing and self.model == "anynet":
            raise ValueError(f"{', '.join(missing)} missing in a space of {self.model}")
        if twice := [name for name in self.fixed if name in STAGES]:
            told = "follows from the parameters that are drawn; leave it out"
            raise ValueError(f"{twice[0]!r} {told}")
        self.shared()

    def shared(self, num_classes: int = 1000) -> NetworkPlan:
        """Return the plan of a small network, with all that its networks share."""
        small = {"depths": [1] * self.stages, "widths": [8] * self.stages}
        if self.model == "regnet":
            small = {"w_a": 8, "w_0": 8, "w_m": 2, "d": 1, "group_w": 1}
        settings = read_settings(self.model, join_settings(small | self.fixed))
        return plan_model(self.model, **shaping(settings), num_classes=num_classes)

    def size(self) -> int:
        """Count the settings of all parameters (paper, table 1), those of an order once."""
        free, total = {name: sampler.count() for name, sampler in self.samplers.items()}, 1
        for sides, signs in map(split_constraint, self.constraints):
            values = {self.samplers.get(side) for side in sides}
            if set(signs) == {"<="} and len(values) == 1 and None not in values:
                total *= math.comb(free[sides[0]] + len(sides) - 1, len(sides))
                free |= dict.fromkeys(sides, 1)
        return total * math.prod(free.values())

    def may_vary(self, name: str) -> bool:
        """Return whether a parameter may have a sampler."""
        return (
            name in _REGNET if self.model == "regnet" else bool(re.fullmatch("[dwbg][1-8]?", name))
        )


def split_constraint(text: str) -> tuple[list[str | float], list[str]]:
    """Return the sides and the signs of a chain of comparisons; ValueError: it is none."""
    words = [word.strip() for word in re.split(r"(<=|>=|==|<|>)", str(text))]
    number = re.compile(r"-?(\d+\.?\d*|\.\d+)(e-?\d+)?")
    sides = [float(word) if number.fullmatch(word) else word for word in words[::2]]
    names = (side for side in sides if isinstance(side, str))
    if len(sides) < 2 or not all(name.isidentifier() for name in names):
        raise ValueError(f"constraint {text!r} is no comparison, such as w1 <= w2 or d >= 12")
    return sides, words[1::2]


_STAGE = {
    "d": Sampler("log_uniform", (1, 16)),
    "w": Sampler("log_uniform", (8, 1024), 8),
    "b": Sampler("power2", (1, 4)),
    "g": Sampler("power2", (1, 32)),
}
_WIDTHS, _DEPTHS = "w1 <= w2 <= w3 <= w4", "d1 <= d2 <= d3 <= d4"
_REGNET = {
    "d": Sampler("uniform", (1, 63)),
    "w_0": Sampler("log_uniform", (8, 248), 8),
    "w_a": Sampler("log_uniform", (8, 255.9), 0.1),
    "w_m": Sampler("log_uniform", (1.5, 3), 0.001),
    "bot_mul": Sampler("power2", (0.25, 1)),
    "group_w": Sampler("power2", (1, 32)),
}
_SECTION_4 = _REGNET | {
    "d": Sampler("uniform", (1, 40)),
    "w_m": Sampler("log_uniform", (2, 3), 0.001),
    "bot_mul": Sampler(values=(1.0,)),
}
_SECTION_5 = _SECTION_4 | {
    "d": Sampler("uniform", (12, 28)),
    "w_0": Sampler("log_uniform", (8, 256), 8),
    "w_a": Sampler("log_uniform", (8, 256), 0.1),
    "group_w": Sampler("power2_or_log_uniform", (8, 128), 8),
}
# Four stages, and no power of w_m left out between them, as pycls' sweeps ask by default.
_FOUR = ("levels == 4", "stages == 4")
_CAPPED = (*_FOUR, "params <= params_cap", "activations_224 <= activations_cap")
_Y = {"se_r": 0.25}


def _anynet(letter: str, shared: str, *constraints: str) -> Space:
    names = [[k] if k in shared else [f"{k}{n}" for n in range(1, 5)] for k in "dwbg"]
    samplers = {name: _STAGE[name[0]] for name in sum(names, [])}
    return Space(f"anynet_x_{letter}", "anynet", samplers, constraints=constraints)


_ROWS = (
    _anynet("a", ""),
    _anynet("b", "b"),
    _anynet("c", "bg"),
    _anynet("d", "bg", _WIDTHS),
    _anynet("e", "bg", _WIDTHS, _DEPTHS),
    Space("regnet_x", "regnet", _REGNET, constraints=_FOUR),
    Space("regnet_y", "regnet", _REGNET, _Y, constraints=_FOUR),
    Space("regnet_x_section4", "regnet", _SECTION_4, constraints=_CAPPED),
    Space("regnet_y_section4", "regnet", _SECTION_4, _Y, constraints=_CAPPED),
    Space("regnet_x_section5", "regnet", _SECTION_5, constraints=_CAPPED),
    Space("regnet_y_section5", "regnet", _SECTION_5, _Y, constraints=_CAPPED),
)
SPACES = {space.name: space for space in _ROWS}
_KINDS = {"name": str, "base": str, "parameters": dict, "constraints": list, "limits": dict}
_CALLED = {str: "a name", dict: "a mapping", list: "a list"}


def read_keys(
    values: Mapping[str, Any], kinds: Mapping[str, type], others: Iterable[str] = ()
) -> dict[str, Any]:
    """Return values of the keys in `kinds`, maybe empty; ValueError: another key or kind."""
    known = (*kinds, *others)
    if unknown := [str(key) for key in values if key not in known]:
        raise ValueError(f"unknown key {unknown[0]!r}; known: {', '.join(known)}")
    found = {key: values[key] if values.get(key) else kind() for key, kind in kinds.items()}
    for key, kind in kinds.items():
        if not isinstance(found[key], kind):
            raise ValueError(f"{key}: expected {_CALLED[kind]}, got {found[key]!r}")
    return found


def find_space(declared: str | Mapping[str, Any], place: str = "spaces") -> Space:
    """Return a space of SPACES, or a user's own as docs/design_space.md has it; or ConfigError."""
    if not isinstance(declared, Mapping):
        if declared not in tuple(SPACES):
            known = ", ".join(SPACES)
            raise ConfigError(f"{place}: {declared!r} is unknown; known: {known}")
        return SPACES[declared]
    name = declared.get("name")
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+", name) or name in SPACES:
        raise ConfigError(f"spaces: {name!r} does not name an own space; use letters, digits, _")
    try:
        given = read_keys(declared, _KINDS)
        base = find_space(given["base"], "base")
        samplers, fixed = dict(base.samplers), dict(base.fixed)
        for key, value in given["parameters"].items():
            key = str(key)  # yaml has numbers too
            if not base.may_vary(key) and not isinstance(value, Mapping):
                fixed[key] = value
                continue
            alike = (base.samplers.get(other) for other in (key, key[:1], f"{key}1"))
            samplers[key] = _sampler(key, value, next(filter(None, alike), Sampler()))
            for each in base.samplers:
                if base.model == "anynet" and each[0] == key != each:
                    samplers.pop(each, None)  # one for all stages, in place of one for each
        constraints = (*base.constraints, *given["constraints"])
        limits = {**base.limits, **read_limits(given["limits"])}
        return Space(name, base.model, samplers, fixed, constraints=constraints, limits=limits)
    except (ValueError, ConfigError) as error:
        raise ConfigError(f"space {name}: {error}") from None


def _sampler(name: str, value: Any, old: Sampler) -> Sampler:
    """Return the distribution that a declaration makes of a base's."""
    ranged = {"range": value} if isinstance(value, list) else value
    try:
        if not isinstance(ranged, Mapping):
            return Sampler(values=(value,))
        if set(ranged) == {"values"} and isinstance(ranged["values"], list) and ranged["values"]:
            return Sampler(values=tuple(ranged["values"]))
        ends = ranged.get("range")
        if (
            set(ranged) <= {"range", "sampler", "step"}
            and isinstance(ends, list)
            and len(ends) == 2
        ):
            return replace(old, **{**ranged, "range": tuple(ends), "values": ()})
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    expected = "a value, [low, high], or range, sampler and step, or values"
    raise ValueError(f"{name}: expected {expected}; got {value}")


def read_limits(values: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Return lowest and highest by cost; ValueError: an unknown cost, or no range."""
    found = {}
    for cost, ends in values.items():
        if cost not in COSTS:
            raise ValueError(f"limits: {cost!r} is unknown; known: {', '.join(COSTS)}")
        try:
            found[cost] = low, high = tuple(map(float, ends))
        except (TypeError, ValueError):
            low, high = 1.0, 0.0
        if not isinstance(ends, (list, tuple)) or not 0 <= low <= high:
            raise ValueError(f"limits: {cost}: expected [low, high], got {ends}")
    return found
