"""Design spaces: which parameters a network has, how they are drawn, and what they must satisfy.

The paper's spaces (Radosavovic et al., Designing Network Design Spaces, sections 3.2, 3.3, 4 and 5)
are the rows of SPACES; `find_space` also reads a user's own declaration. Distributions are those of
pycls `sweep/random.py`.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from inspect import signature
from numbers import Real
from typing import Any

import numpy as np

from ...design_space import GENERAL, NetworkPlan, plan_model
from ...errors import ConfigError

SAMPLERS = ("uniform", "log_uniform", "power2", "power2_or_log_uniform")
OPERATORS = {
    "<=": np.less_equal,
    ">=": np.greater_equal,
    "==": np.equal,
    "<": np.less,
    ">": np.greater,
}
# What a constraint may name besides the space's parameters: see `sampling`.
DERIVED = ("levels", "stages", "depth", "params", "macs", "activations")
DERIVED += ("activations_224", "params_cap", "activations_cap")


@dataclass(frozen=True)
class Sampler:
    """The distribution of one parameter: over the closed range, in multiples of `step`.

    Attributes:
        sampler: uniform; log_uniform; power2, uniform over the powers of two;
            power2_or_log_uniform, powers of two below `step` and multiples of it above,
            log-uniform over all.
        range: lowest and highest.
        values: drawn with equal probability, in place of a range.
    """

    sampler: str = "uniform"
    range: Sequence[float] = (0.0, 0.0)
    step: float = 1.0
    values: tuple = ()

    def __post_init__(self):
        numbers = self.values or (*self.range, self.step)
        if not all(isinstance(number, Real) for number in numbers):
            raise ValueError(f"parameters: expected numbers, got {', '.join(map(repr, numbers))}")
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
    """A distribution over networks.

    Attributes:
        model: its builder, anynet or regnet.
        samplers: parameter -> its distribution. Of regnet, arguments of the builder. Of anynet d,
            w, b, g with the stage's number, or without it for all others; b is width /
            bottleneck width.
        fixed: further arguments of the builder.
        constraints: chains of comparisons, e.g. `w1 <= w2 <= w3` or `stages == 4`, of parameters,
            numbers and the names in DERIVED.
        limits: macs, params or activations -> lowest and highest, both allowed.
    """

    name: str
    model: str
    samplers: Mapping[str, Sampler]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    constraints: tuple[str, ...] = ()
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def stages(self) -> int:
        """Stages of an anynet, by the names of its parameters."""
        return max([int(name[1:]) for name in self.samplers if name[1:].isdecimal()], default=1)

    def __post_init__(self):
        known, arguments = self.parameters(), set(signature(GENERAL[self.model]).parameters)
        arguments -= {*self.samplers, "num_classes", "depths", "widths"}
        wrong = [name for name in self.samplers if name not in known]
        if wrong := wrong + [name for name in self.fixed if name not in arguments]:
            raise ValueError(
                f"parameters: {wrong[0]!r} is unknown; {self.model} has {', '.join(known)}"
            )
        names = (*self.samplers, *DERIVED)
        for constraint in self.constraints:
            for side in split_constraint(constraint)[0]:
                if isinstance(side, str) and side not in names:
                    raise ValueError(
                        f"constraint {constraint!r}: unknown {side!r}; known: {', '.join(names)}"
                    )
        each = [(kind, number) for kind in "dw" for number in range(1, self.stages + 1)]
        missing = [f"{k}{n}" for k, n in each if not {k, f"{k}{n}"} & set(self.samplers)]
        if missing and self.model == "anynet":
            raise ValueError(f"parameters: {', '.join(missing)} missing in a space of {self.model}")

        self.shared()

    def shared(self, num_classes: int = 1000) -> NetworkPlan:
        """Return the plan of a small network, with all that its networks share."""
        small = dict(depths=[1], widths=[8])
        if self.model == "regnet":
            small = dict(w_a=8, w_0=8, w_m=2, d=1, group_w=1)
        return plan_model(self.model, **small, **self.fixed, num_classes=num_classes)

    def size(self) -> int:
        """Count the settings of all parameters (paper, table 1), those of an order once."""
        free = {name: sampler.count() for name, sampler in self.samplers.items()}
        total = 1
        for constraint in self.constraints:
            sides, signs = split_constraint(constraint)
            values = {self.samplers.get(side) for side in sides}
            if set(signs) == {"<="} and len(values) == 1 and None not in values:
                total *= math.comb(free[sides[0]] + len(sides) - 1, len(sides))
                free |= dict.fromkeys(sides, 1)
        return total * math.prod(free.values())

    def parameters(self) -> list[str]:
        """Return what may have a sampler."""
        if self.model == "regnet":
            return ["w_a", "w_0", "w_m", "d", "group_w", "bot_mul"]
        return [*_anynet("dwbg", range(1, 9)), *"dwbg"]


def split_constraint(text: str) -> tuple[list[str | float], list[str]]:
    """Return the sides and the operators of a chain of comparisons.

    Raises:
        ValueError: it is none.
    """
    words = [word.strip() for word in re.split(r"(<=|>=|==|<|>)", text)]
    number = re.compile(r"-?[\d.]+(e-?\d+)?")
    sides = [float(word) if number.fullmatch(word) else word for word in words[::2]]
    names = (side for side in sides if isinstance(side, str))
    if len(sides) < 2 or not all(name.isidentifier() for name in names):
        raise ValueError(f"constraint {text!r} is no comparison, such as w1 <= w2 or d >= 12")
    return sides, words[1::2]


def _anynet(kinds: str, numbers=range(1, 5)) -> list[str]:
    return [f"{kind}{number}" for kind in kinds for number in numbers]


_DEPTH = Sampler("log_uniform", (1, 16), 1)
_WIDTH = Sampler("log_uniform", (8, 1024), 8)
_RATIO, _GROUP = Sampler("power2", (1, 4)), Sampler("power2", (1, 32))
_STAGES = dict.fromkeys(_anynet("d"), _DEPTH) | dict.fromkeys(_anynet("w"), _WIDTH)
_WIDTHS, _DEPTHS = "w1 <= w2 <= w3 <= w4", "d1 <= d2 <= d3 <= d4"
_REGNET = {
    "d": Sampler("uniform", (1, 63)),
    "w_0": Sampler("log_uniform", (8, 248), 8),
    "w_a": Sampler("log_uniform", (8, 255.9), 0.1),
    "w_m": Sampler("log_uniform", (1.5, 3), 0.001),
    "bot_mul": Sampler("power2", (0.25, 1)),
    "group_w": _GROUP,
}
# Four stages, and no power of w_m left out between them, as pycls' sweeps ask by default.
_FOUR = ("levels == 4", "stages == 4")
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
_CAPS = ("params <= params_cap", "activations_224 <= activations_cap")
_Y = {"se_r": 0.25}


def _rows() -> dict[str, Space]:
    a = _STAGES | dict.fromkeys(_anynet("b"), _RATIO) | dict.fromkeys(_anynet("g"), _GROUP)
    b = _STAGES | {"b": _RATIO} | dict.fromkeys(_anynet("g"), _GROUP)
    c = _STAGES | {"b": _RATIO, "g": _GROUP}
    spaces = [
        Space("anynet_x_a", "anynet", a),
        Space("anynet_x_b", "anynet", b),
        Space("anynet_x_c", "anynet", c),
        Space("anynet_x_d", "anynet", c, constraints=(_WIDTHS,)),
        Space("anynet_x_e", "anynet", c, constraints=(_WIDTHS, _DEPTHS)),
        Space("regnet_x", "regnet", _REGNET, constraints=_FOUR),
        Space("regnet_y", "regnet", _REGNET, fixed=_Y, constraints=_FOUR),
    ]
    for suffix, samplers in (("section4", _SECTION_4), ("section5", _SECTION_5)):
        for family, fixed in (("x", {}), ("y", _Y)):
            name = f"regnet_{family}_{suffix}"
            constraints = (*_FOUR, *_CAPS)
            spaces.append(Space(name, "regnet", samplers, fixed=fixed, constraints=constraints))
    return {space.name: space for space in spaces}


SPACES = _rows()


def find_space(declared: str | Mapping[str, Any]) -> Space:
    """Return a space of SPACES, or a user's own.

    Args:
        declared: a name; or a mapping with `name` and `base` (a name), `parameters` (name -> a
            number or text for all networks, [low, high], or a mapping with `range`, `sampler` and
            `step`, or with `values`), `constraints` and `limits`, which add to the base's.

    Raises:
        ConfigError: an unknown name or key, or a distribution, constraint or limit that is none.
    """
    if isinstance(declared, str):
        if declared not in SPACES:
            raise ConfigError(f"spaces: {declared!r} is unknown; known: {', '.join(SPACES)}")
        return SPACES[declared]
    if not isinstance(declared, Mapping):
        raise ConfigError(f"spaces: expected a name or an own space, got {declared!r}")
    name = declared.get("name")
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+", name) or name in SPACES:
        raise ConfigError(f"spaces: {name!r} does not name an own space; use letters, digits, _")
    keys = ("name", "base", "parameters", "constraints", "limits")
    if unknown := [str(key) for key in declared if key not in keys]:
        raise ConfigError(f"space {name}: unknown key {unknown[0]!r}; known: {', '.join(keys)}")
    if not isinstance(declared.get("base"), str):
        got = declared.get("base")
        raise ConfigError(f"space {name}: base: expected the name of a space, got {got!r}")
    base, given = find_space(declared["base"]), {}
    samplers, fixed = dict(base.samplers), dict(base.fixed)
    try:
        for key, kind in {"parameters": dict, "constraints": list, "limits": dict}.items():
            given[key] = declared.get(key) or kind()
            if not isinstance(given[key], kind):
                expected = "a mapping" if kind is dict else "a list"
                raise ValueError(f"{key}: expected {expected}, got {given[key]!r}")
        for key, value in given["parameters"].items():
            if key not in base.parameters() and not isinstance(value, (Mapping, list)):
                fixed[key] = value
                continue
            alike = (base.samplers.get(other) for other in (key, key[:1], f"{key}1"))
            samplers[key] = _sampler(value, next(filter(None, alike), Sampler()))
            if samplers[key] is None:
                raise ValueError(
                    f"parameters: {key}: expected a value, [low, high], or range, sampler and "
                    f"step, or values; got {value}"
                )
            for each in base.samplers:
                if base.model == "anynet" and each[0] == key != each:
                    samplers.pop(each, None)  # one for all stages, in place of one for each
        own = dict(name=name, samplers=samplers, fixed=fixed)
        own["constraints"] = (*base.constraints, *given["constraints"])
        return replace(base, **own, limits={**base.limits, **read_limits(given["limits"])})
    except (ValueError, TypeError) as error:
        raise ConfigError(f"space {name}: {error}") from None


def _sampler(value: Any, old: Sampler) -> Sampler | None:
    """Return the distribution that a declaration makes of a base's; None: it names none."""
    ranged = {"range": value} if isinstance(value, list) else value
    if not isinstance(ranged, Mapping):
        return Sampler(values=(value,))
    if set(ranged) == {"values"} and isinstance(ranged["values"], list) and ranged["values"]:
        return Sampler(values=tuple(ranged["values"]))
    ends = ranged.get("range")
    if set(ranged) <= {"range", "sampler", "step"} and isinstance(ends, list) and len(ends) == 2:
        return replace(old, **{**ranged, "range": tuple(ends), "values": ()})
    return None


def read_limits(values: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Return limits of costs; ValueError: an unknown cost, or no range."""
    if not isinstance(values, Mapping):
        raise ValueError(f"limits: expected a mapping of costs to [low, high], got {values}")
    found = {}
    for cost, ends in values.items():
        if cost not in ("macs", "params", "activations"):
            raise ValueError(f"limits: {cost!r} is unknown; known: macs, params, activations")
        try:
            numbers = [float(end) for end in ends] if isinstance(ends, (list, tuple)) else []
        except (TypeError, ValueError):
            numbers = []
        if len(numbers) != 2 or not 0 <= numbers[0] <= numbers[1]:
            raise ValueError(f"limits: {cost}: expected [low, high], got {ends}")
        found[cost] = (numbers[0], numbers[1])
    return found
