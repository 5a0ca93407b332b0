"""Draw populations of networks from design spaces; nothing is built.

Candidates are drawn a block at a time. Each has its place in one stream of random numbers, so that
a seed and a space give the same networks on any machine, however large the blocks.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...design_space import NetworkPlan, plan_model
from ...design_space.complexity import complexities
from ...design_space.plan import adjust_all, generate_regnets
from ...errors import ConfigError
from .spaces import OPERATORS, Space, find_space, split_constraint

_BLOCK = 1 << 14  # candidates
_MOST = 1 << 26  # candidates of a space, after which it counts as empty
_LINE = {"d", "w_0", "w_a", "w_m"}
Columns = dict[str, np.ndarray]


def sample_population(study) -> Iterator[dict[str, Any]]:
    """Yield the models of a study's spaces, as lines of population.jsonl.

    Args:
        study: its `spaces`, `count` (of each), `seed`, `image_size` (pixels), `num_classes` and
            `limits`, which a space's own replace.

    Raises:
        ConfigError: a space that is none, or one that has too few networks within the limits.
    """
    spaces = [find_space(declared) for declared in study.spaces]
    if len({space.name for space in spaces}) < len(spaces):
        raise ConfigError("spaces: two have one name; name them apart")
    for space in spaces:
        yield from sample(
            space,
            study.count,
            seed=study.seed,
            image_size=study.image_size,
            num_classes=study.num_classes,
            limits=study.limits,
        )


def sample(
    space: Space,
    count: int,
    *,
    seed: int = 0,
    image_size: int = 224,
    num_classes: int = 1000,
    limits: Mapping[str, tuple[float, float]] | None = None,
) -> list[dict[str, Any]]:
    """Return `count` different networks of a space, in the order in which they are drawn."""
    limits = {**(limits or {}), **space.limits}
    found, seen, drawn = [], set(), 0
    for candidates in _candidates(space, seed):
        drawn += _BLOCK
        batch = _expand(space, candidates, num_classes)
        batch = batch and batch.within(space, limits, image_size)
        for index in range(len(batch.depths) if batch else 0):
            model = batch.model(index)
            key = json.dumps(model, sort_keys=True)
            if key in seen:
                continue
            seen.add(key)
            digest = hashlib.sha256(f"{space.name} {key}".encode()).hexdigest()
            identity = {"id": digest[:12], "space": space.name, "index": len(found)}
            found.append(identity | {"model": model} | batch.line(index))
            if len(found) == count:
                return found
        if drawn >= _MOST:
            within = ", ".join(f"{key} {low:g} to {high:g}" for key, (low, high) in limits.items())
            raise ConfigError(
                f"space {space.name}: {len(found)} of {count} networks found among {drawn:,} "
                f"candidates ({within or 'no limits'}, image size {image_size}); widen the limits, "
                "or draw the parameters from narrower ranges"
            )
    raise AssertionError("candidates do not end")


def _candidates(space: Space, seed: int) -> Iterator[Columns]:
    """Yield, a block at a time, the candidates that meet the constraints on parameters."""
    # NumPy promises the numbers of a seed sequence and of a bit generator, not those of Generator.
    name = int.from_bytes(hashlib.sha256(space.name.encode()).digest()[:8], "little")
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
                raw, columns = raw[kept], {key: column[kept] for key, column in columns.items()}
        yield columns


def _levels(columns: Columns) -> np.ndarray:
    """Return how many powers of w_m the line of the widths reaches."""
    last = (columns["d"] - 1) * columns["w_a"] + columns["w_0"]
    return np.round(np.log(last / columns["w_0"]) / np.log(columns["w_m"])) + 1


def _meets(space: Space, columns: Columns) -> np.ndarray:
    """Return which networks meet the constraints between columns that are known."""
    kept = np.ones(len(next(iter(columns.values()))), bool)
    for constraint in space.constraints:
        sides, signs = split_constraint(constraint)
        if any(isinstance(side, str) and side not in columns for side in sides):
            continue
        values = [columns[side] if isinstance(side, str) else side for side in sides]
        for left, sign, right in zip(values, signs, values[1:]):
            kept &= OPERATORS[sign](left, right)
    return kept


@dataclass
class _Batch:
    """Networks: a row each, a column a stage."""

    space: Space
    columns: Columns
    widths: np.ndarray
    depths: np.ndarray
    ratios: np.ndarray  # bottleneck width / width
    groups: np.ndarray
    like: NetworkPlan

    def within(self, space: Space, limits, image_size: int) -> "_Batch":
        """Return those within the limits that meet all constraints, with their costs."""
        costs = vars(self._costs(image_size))
        columns = self.columns | costs
        columns |= {"stages": (self.depths > 0).sum(axis=1), "depth": self.depths.sum(axis=1)}
        kept = np.ones(len(self.depths), bool)
        for cost, (low, high) in limits.items():
            kept &= (low <= costs[cost]) & (costs[cost] <= high)
        if any("cap" in constraint for constraint in space.constraints):
            # For F GFLOPs at 224 pixels, 3 + 5.5 F million parameters and 6.5 sqrt(F) million
            # activations (pycls `sweep/config.py`; paper, figure 12).
            at_224 = self._costs(224)
            gflops = at_224.macs / 1e9
            columns["activations_224"] = at_224.activations
            columns["params_cap"] = 1e6 * (3 + 5.5 * gflops)
            columns["activations_cap"] = 6.5e6 * np.sqrt(gflops)
        kept &= _meets(space, columns)
        columns = {key: column[kept] for key, column in columns.items()}
        arrays = {key: rows[kept] for key, rows in self._arrays().items()}
        return _Batch(space, columns, **arrays, like=self.like)

    def _arrays(self) -> dict[str, np.ndarray]:
        return {key: getattr(self, key) for key in ("widths", "depths", "ratios", "groups")}

    def _costs(self, image_size: int):
        return complexities(self.like, **self._arrays(), image_size=image_size)

    def _stages(self, index: int) -> dict[str, list]:
        stages = int((self.depths[index] > 0).sum())
        rows = {"widths": self.widths, "depths": self.depths}
        rows |= {"group_ws": self.groups, "bot_muls": self.ratios}
        return {key: row[index, :stages].tolist() for key, row in rows.items()}

    def _parameters(self, index: int) -> dict[str, Any]:
        return {key: _plain(self.columns[key][index]) for key in self.space.samplers}

    def model(self, index: int) -> dict[str, Any]:
        """Return the builder's name and arguments."""
        arguments = self._stages(index)
        if self.space.model == "regnet":
            arguments = self._parameters(index)
        return {"name": self.space.model, "arguments": arguments | dict(self.space.fixed)}

    def line(self, index: int) -> dict[str, Any]:
        """Return the rest of a line of population.jsonl."""
        costs = {key: int(self.columns[key][index]) for key in ("params", "macs", "activations")}
        return {"parameters": self._parameters(index)} | self._stages(index) | costs


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _expand(space: Space, columns: Columns, num_classes: int) -> _Batch | None:
    """Return the stages of the candidates; None: there are none."""
    count = len(next(iter(columns.values())))
    if not count:
        return None
    if space.model == "regnet":
        whole = {key: columns[key].astype(int) for key in ("w_0", "d", "group_w")}
        widths, depths = generate_regnets(columns["w_a"], whole["w_0"], columns["w_m"], whole["d"])
        each = columns.get("bot_mul", np.ones(count)), whole["group_w"]
        ratios, groups = (np.repeat(column[:, None], widths.shape[1], axis=1) for column in each)
        exists = depths > 0
        widths, groups = np.where(exists, widths, 8), np.where(exists, groups, 1)
    else:

        def stages(kind: str, missing: np.ndarray) -> np.ndarray:
            rows = [
                columns.get(f"{kind}{number}", columns.get(kind, missing))
                for number in range(1, space.stages + 1)
            ]
            return np.stack(rows, axis=1)

        none = np.ones(count)
        widths, depths = stages("w", none).astype(int), stages("d", none).astype(int)
        ratios = 1 / stages("b", none)
        # Without a group width, the 3x3 convolution has one group.
        groups = stages("g", np.full(count, 2**20)).astype(int)
    rounding = space.fixed.get("rounding", "pycls")
    widths, groups = adjust_all(widths, ratios, groups, rounding)
    shared = dict(space.fixed) | {"num_classes": num_classes}
    if space.model == "regnet":
        like = plan_model("regnet", w_a=8, w_0=8, w_m=2, d=1, group_w=1, **shared)
    else:
        like = plan_model("anynet", depths=[1], widths=[8], **shared)
    return _Batch(
        space, columns, widths=widths, depths=depths, ratios=ratios, groups=groups, like=like
    )
