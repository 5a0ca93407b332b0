"""Draw populations of networks from design spaces; nothing is built.

Candidates are drawn a block at a time. Each has its place in one stream of random numbers, so that
a seed and a space give the same networks on any machine, however large the blocks.
"""

import json
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any

import numpy as np

from ...config.settings import join_settings, read_settings
from ...design_space import NetworkPlan
from ...design_space.complexity import complexities
from ...design_space.plan import adjust_all, generate_regnets
from ...errors import ConfigError
from .spaces import COSTS, SIGNS, STAGES, Space, find_space, split_constraint

_BLOCK = 1 << 14  # candidates
_MOST = 1 << 26  # candidates of a space, after which it counts as empty
_LINE = {"d", "w_0", "w_a", "w_m"}
Columns = dict[str, np.ndarray]  # a row for each network


def sample_population(study) -> Iterator[dict[str, Any]]:
    """Yield the models of a `Study`, as lines of population.jsonl; ConfigError as `sample`."""
    spaces = [find_space(declared) for declared in study.spaces]
    if len({space.name for space in spaces}) < len(spaces):
        raise ConfigError("spaces: two have one name; name them apart")
    options = {key: getattr(study, key) for key in ("seed", "image_size", "num_classes", "limits")}
    for space in spaces:
        yield from sample(space, study.count, **options)


def sample(
    space: Space,
    count: int,
    *,
    seed: int = 0,
    image_size: int = 224,
    num_classes: int = 1000,
    limits: Mapping[str, tuple[float, float]] | None = None,
) -> list[dict[str, Any]]:
    """Return `count` different networks of a space, in the order in which they are drawn.

    A space's own limits replace those given. ConfigError: it has too few within the limits, or
    allows what is no network.
    """
    limits, found = {**(limits or {}), **space.limits}, {}
    for block, candidates in enumerate(_candidates(space, seed), start=1):
        networks = _within(space, candidates, limits, (image_size, num_classes))
        for index in range(_count(networks)):
            line = _line(space, {key: column[index] for key, column in networks.items()})
            key = json.dumps(line["model"], sort_keys=True)
            if key not in found:
                _check(space, line["model"]["arguments"])  # dear, so once for each network
                digest = sha256(f"{space.name} {key}".encode()).hexdigest()
                identity = {"id": digest[:12], "space": space.name, "index": len(found)}
                found[key] = identity | line
            if len(found) == count:
                return list(found.values())
        if block * _BLOCK >= _MOST:
            within = ", ".join(f"{key} {low:g} to {high:g}" for key, (low, high) in limits.items())
            raise ConfigError(
                f"space {space.name}: {len(found)} of {count} networks found among "
                f"{block * _BLOCK:,} candidates ({within or 'no limits'}, image size "
                f"{image_size}); widen the limits, or draw the parameters from narrower ranges"
            )


def _candidates(space: Space, seed: int) -> Iterator[Columns]:
    """Yield, a block at a time, the candidates that meet the constraints on parameters."""
    # NumPy promises the numbers of a seed sequence and of a bit generator, not those of Generator.
    name = int.from_bytes(sha256(space.name.encode()).digest()[:8], "little")
    stream = np.random.PCG64(np.random.SeedSequence([seed, name]))
    draws = sum(sampler.draws for sampler in space.samplers.values())
    while True:
        raw = stream.random_raw(_BLOCK * draws).reshape(_BLOCK, draws)
        columns, place = {}, 0
        for key, sampler in space.samplers.items():
            uniform = (raw[:, place : place + sampler.draws] >> np.uint64(11)) * 2.0**-53
            columns[key] = sampler.draw(*uniform.T)
            place += sampler.draws
            if "levels" not in columns and _LINE <= set(columns):
                columns["levels"] = _levels(columns)
            kept = _meets(space, columns)
            if not kept.all():
                raw, columns = raw[kept], _only(kept, columns)
        yield columns


def _levels(columns: Columns) -> np.ndarray:
    """Return how many powers of w_m the line of the widths reaches."""
    last = (columns["d"] - 1) * columns["w_a"] + columns["w_0"]
    return np.round(np.log(last / columns["w_0"]) / np.log(columns["w_m"])) + 1


def _meets(space: Space, columns: Columns) -> np.ndarray:
    """Return which networks meet the constraints between columns that are known."""
    kept = np.ones(_count(columns), bool)
    for sides, signs in map(split_constraint, space.constraints):
        if all(side in columns for side in sides if isinstance(side, str)):
            values = [columns[side] if isinstance(side, str) else side for side in sides]
            for left, sign, right in zip(values, signs, values[1:]):
                kept &= SIGNS[sign](left, right)
    return kept


def _count(columns: Columns) -> int:
    return len(next(iter(columns.values())))


def _only(kept: np.ndarray, columns: Columns) -> Columns:
    return {key: column[kept] for key, column in columns.items()}


def _within(space: Space, columns: Columns, limits: Mapping, sizes: tuple[int, int]) -> Columns:
    """Return the networks within the limits that meet all constraints, with stages and costs."""
    if not _count(columns):
        return columns
    image_size, num_classes = sizes
    like, stages = expand(space, columns, num_classes)
    exists = stages["depths"] > 0
    columns = columns | stages | vars(complexities(like, **stages, image_size=image_size))
    columns |= {"stages": exists.sum(axis=1), "depth": stages["depths"].sum(axis=1)}
    if any("_224" in constraint or "_cap" in constraint for constraint in space.constraints):
        # For F GFLOPs at 224 pixels, 3 + 5.5 F million parameters and 6.5 sqrt(F) million
        # activations (pycls `sweep/config.py`; paper, figure 12).
        at_224 = complexities(like, **stages, image_size=224)
        gflops = at_224.macs / 1e9
        columns["activations_224"] = at_224.activations
        columns["params_cap"] = 1e6 * (3 + 5.5 * gflops)
        columns["activations_cap"] = 6.5e6 * np.sqrt(gflops)
    kept = _meets(space, columns)
    for cost, (low, high) in limits.items():
        kept &= (low <= columns[cost]) & (columns[cost] <= high)
    return _only(kept, columns)


def expand(space: Space, columns: Columns, num_classes: int) -> tuple[NetworkPlan, Columns]:
    """Return what candidates share, and the rest: arguments of `complexities`."""
    none = np.ones(_count(columns))
    if space.model == "regnet":
        whole = {key: columns[key].astype(int) for key in ("w_0", "d", "group_w")}
        widths, depths = generate_regnets(columns["w_a"], whole["w_0"], columns["w_m"], whole["d"])
        each = columns.get("bot_mul", none), whole["group_w"]
        ratios, groups = (np.repeat(column[None], widths.shape[1], axis=0).T for column in each)
    else:
        # Without a group width, the 3x3 convolution has one group.
        columns, numbers = {"b": none, "g": none * 2**20} | columns, range(1, space.stages + 1)
        widths, depths, ratios, groups = (
            np.stack([columns.get(f"{kind}{n}", columns.get(kind)) for n in numbers]).T
            for kind in "wdbg"
        )
        widths, depths, groups = (rows.astype(int) for rows in (widths, depths, groups))
        ratios = 1 / ratios
    exists, how = depths > 0, space.fixed.get("rounding", "pycls")
    rows = adjust_all(*(each[exists] for each in (widths, ratios, groups)), how)
    widths[exists], groups[exists] = rows
    stages = {"widths": widths, "depths": depths, "ratios": ratios, "groups": groups}
    return space.shared(num_classes), stages


def _line(space: Space, row: Columns) -> dict[str, Any]:
    """Return a line of population.jsonl without what identifies the model."""
    row = {key: value.tolist() for key, value in row.items()}
    stages = {name: row[key][: row["stages"]] for name, key in STAGES.items()}
    parameters = {key: _plain(row[key]) for key in space.samplers}
    arguments = (parameters if space.model == "regnet" else stages) | dict(space.fixed)
    model = {"name": space.model, "arguments": arguments}
    return {"model": model, "parameters": parameters, **stages, **{key: row[key] for key in COSTS}}


def _check(space: Space, arguments: Mapping[str, Any]) -> None:
    """Raise a ConfigError if train.py would refuse a network."""
    text = join_settings(arguments)
    try:
        read_settings(space.model, text)
    except ValueError as error:
        told = f"it allows {text}, which is no network: {error}"
        raise ConfigError(f"space {space.name}: {told}") from None


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
