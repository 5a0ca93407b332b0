"""Trained populations: what each model is, what explains its error, how populations compare."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from ...design_space import LinearFit, fit_widths
from ...errors import DataError
from ...names import plural
from ...process.files import reading
from . import statistics
from .spaces import find_space
from .study import RECIPE, STUDY, read_population, read_records, read_study

ALPHA = 0.05  # a corrected p below is called a difference
FEWEST = 4  # models of a population that is tested
DRAWN = 8  # from here on a quarter is two models or more; the best of one says nothing
_SIDES = ("first", "second")
_GOOD = 0.25  # share of the models whose common trend counts
COSTS = ("params", "macs", "activations")
_KEPT = ("id", "index", "error", "loss", "epochs", "seconds", *COSTS)
_SHAPES = ("widths", "depths", "group_ws", "bot_muls")


@dataclass(frozen=True)
class Population:
    """The trained models of one space in one study, the best first."""

    name: str  # of the space, and of the study where several have that space
    study: str
    folder: Path  # of the study
    regime: str  # populations of one regime can be compared: same images, training and limits
    models: tuple[dict[str, Any], ...]  # lines of population.jsonl, with those of records.jsonl
    failed: int = 0
    waiting: int = 0  # not trained yet

    @cached_property
    def errors(self) -> np.ndarray:
        """Top-1 error of each model, percent."""
        return np.array([model["error"] for model in self.models], float)

    @cached_property
    def fits(self) -> list[LinearFit]:
        """The quantized-linear fit of each model's widths."""
        return [fit_widths(model["widths"], model["depths"]) for model in self.models]

    @cached_property
    def values(self) -> dict[str, np.ndarray]:
        """What may explain the error, (n,) each: parameters, shape and costs.

        rising_widths and rising_depths are the shares of neighbouring stages of which the later is
        not smaller; bottleneck_spread and group_spread the octaves between the stages' smallest
        and largest; both are the paper's steps from AnyNetX_A to E as matters of degree.
        """
        found = {
            name: [model["parameters"][name] for model in self.models]
            for name in self.models[0]["parameters"]
        }
        rows = {name: [model[name] for model in self.models] for name in _SHAPES}
        if "d" not in found:
            found["depth"] = [sum(depths) for depths in rows["depths"]]
        found["rising_widths"] = list(map(_rising, rows["widths"]))
        found["rising_depths"] = list(map(_rising, rows["depths"]))
        found["bottleneck_spread"] = list(map(_octaves, rows["bot_muls"]))
        found["group_spread"] = list(map(_octaves, rows["group_ws"]))
        found["e_fit"] = [fit.e_fit for fit in self.fits]
        for cost in COSTS:
            found[cost] = [model[cost] for model in self.models]
        return {name: np.array(column, float) for name, column in found.items()}

    @property
    def good(self) -> int:
        """The number of models in the best quarter."""
        return max(1, round(_GOOD * len(self.models)))

    @cached_property
    def trend(self) -> tuple[float, float]:
        """Start and slope of the line through all block widths of the best quarter.

        Channels, and channels per block, by least squares; block 0 is the first.
        """
        points = [point for model in self.models[: self.good] for point in blocks_of(model)]
        block, width = np.array(points, float).T
        slope = np.cov(block, width)[0, 1] / np.var(block, ddof=1) if np.ptp(block) else 0.0
        return float(width.mean() - slope * block.mean()), float(slope)

    def caption(self) -> str:
        """Return name, count, lowest and mean error, as the legends of the paper's figures."""
        least, mean = self.errors.min(), self.errors.mean()
        return f"{label(self.name)}: n {len(self.errors)}, min {least:.1f}, mean {mean:.1f} %"

    def summary(self) -> dict[str, Any]:
        """Return its row of spaces.csv: errors in percent, hours of all trainings together."""
        row = {"space": self.name, "study": self.study, "n": len(self.models)}
        row |= {"failed": self.failed, "waiting": self.waiting}
        row |= {name: float(each(self.errors)) for name, each in statistics.SUMMARIES.items()}
        row["hours"] = sum(model["seconds"] for model in self.models) / 3600
        row |= dict(zip(("trend_start", "trend_slope"), self.trend))
        return row | {"e_fit_of_best": float(np.median(self.values["e_fit"][: self.good]))}

    def rows(self) -> list[dict[str, Any]]:
        """Return its rows of models.csv, the best first."""
        rows = []
        for model, fit in zip(self.models, self.fits):
            row = {"space": self.name, "study": self.study}
            row |= {name: model[name] for name in _KEPT}
            row |= {name: " ".join(map("{:g}".format, model[name])) for name in _SHAPES}
            row |= {"e_fit": fit.e_fit, "fit_w_a": fit.w_a, "fit_w_0": fit.w_0, "fit_w_m": fit.w_m}
            rows.append(row)
        return rows


def blocks_of(model: dict[str, Any]) -> list[tuple[int, int]]:
    """Return (block, width in channels) for each block of a model, from block 0 on."""
    return list(enumerate(np.repeat(model["widths"], model["depths"]).tolist()))


def read_populations(folders: Sequence[str]) -> tuple[list[Population], list[str]]:
    """Return the populations of studies, and notes about what is left out.

    Raises:
        ConfigError, DataError: a folder is no study, or has no trained model.
    """
    found, notes = [], []
    titles = [Path(folder).resolve().name for folder in folders]
    for folder, title in zip(map(Path, folders), titles):
        study, models = read_study(folder / STUDY), read_population(folder)
        records, cut = read_records(folder)
        notes += cut
        with reading(folder / RECIPE, DataError):
            recipe = (folder / RECIPE).read_text(encoding="utf-8")
        own_limits = {
            own["name"]: find_space(own).limits for own in study.spaces if isinstance(own, Mapping)
        }
        for space in dict.fromkeys(model["space"] for model in models):
            own = [model for model in models if model["space"] == space]
            outcomes = [records.get(model["id"], {}).get("status") for model in own]
            done = [one | records[one["id"]] for one, how in zip(own, outcomes) if how == "done"]
            failed = outcomes.count("failed")
            limits = sorted((dict(study.limits) | dict(own_limits.get(space, {}))).items())
            if failed and done:
                notes.append(
                    f"{space}: {plural(failed, 'failed model')} left out; distribution, means and "
                    f"comparisons are of the other {len(done)}"
                )
            if done:
                found.append(
                    Population(
                        name=space,
                        study=title if titles.count(title) == 1 else str(folder),
                        folder=folder,
                        regime=f"{recipe}{limits}{study.devices}",  # which make the global batch
                        models=tuple(sorted(done, key=lambda model: model["error"])),
                        failed=failed,
                        waiting=len(own) - len(done) - failed,
                    )
                )
            else:
                notes.append(f"{folder} has no trained model of {space} yet; see design-space run")
    if not found:
        raise DataError("; ".join(notes))
    if len({population.regime for population in found}) > 1:
        notes.append(
            "populations of another regime (recipe, image size or limits) are not compared"
        )
    if min(len(population.models) for population in found) < FEWEST:
        notes.append(f"populations of fewer than {FEWEST} models are described, not tested")
    names = [population.name for population in found]
    return [
        replace(one, name=f"{one.study}/{one.name}") if names.count(one.name) > 1 else one
        for one in found
    ], notes


def explain_errors(population: Population, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Return rows of parameters.csv: range and best values of what varies, and rank correlations.

    `low`, `best` and `high` are of the empirical bootstrap, from DRAWN models on. `p` is of the
    correlation, `p_holm` corrected for the number of parameters; populations below FEWEST have
    none.
    """
    values = {name: column for name, column in population.values.items() if np.ptp(column)}
    if not values:  # a single model
        return []
    columns, errors = np.stack(list(values.values())), population.errors
    about = {"space": population.name, "study": population.study, "n": len(errors)}
    about["median_macs"] = float(np.median(population.values["macs"]))
    rows = []
    best = statistics.best_values(columns, errors).tolist()
    for (name, column), ends in zip(values.items(), best):
        row = about | {"parameter": name, "minimum": float(column.min())}
        if len(errors) >= DRAWN:
            row |= dict(zip(("low", "best", "high"), ends))
        rows.append(row | {"maximum": float(column.max())})
    if len(errors) >= FEWEST and np.ptp(errors):
        found = statistics.rank_correlations(columns, errors, rng)
        for row, numbers, p in zip(rows, found.tolist(), statistics.holm(found[:, 3])):
            row |= dict(zip(("rho", "rho_low", "rho_high", "p"), numbers))
            row["p_holm"] = float(p)
    return rows


def compare(populations: Sequence[Population], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Return rows of comparisons.csv: every two populations of one regime, from FEWEST models on.

    `difference` is the mean error of the first minus that of the second, percentage points, with
    its 95 % interval; the p-values are of the differences in mean, median, best quarter and
    minimum, and of the distributions (Kolmogorov-Smirnov); `p_holm` is of the means, corrected for
    the number of comparisons.
    """
    rows = []
    for first, second in combinations(populations, 2):
        one, two = first.errors, second.errors
        if first.regime != second.regime or min(len(one), len(two)) < FEWEST:
            continue
        row = {
            "first": first.name,
            "second": second.name,
            "n_first": len(one),
            "n_second": len(two),
        }
        row |= {"mean_first": float(one.mean()), "mean_second": float(two.mean())}
        ends = statistics.mean_difference(one, two, rng)
        row |= dict(zip(("difference", "low", "high"), ends))
        p_values = statistics.permutation_tests(one, two, rng)
        row |= {f"p_{name}": p for name, p in p_values.items()}
        ks = statistics.kolmogorov_smirnov(one, two)
        rows.append(row | dict(zip(("ks_distance", "p_ks"), ks)))
    for row, p in zip(rows, statistics.holm([row["p_mean"] for row in rows])):
        row["p_holm"] = float(p)
        row["sentence"] = _sentence(row, len(rows))
    return rows


def _sentence(row: dict[str, Any], comparisons: int) -> str:
    """Say in plain words what a comparison shows."""
    sides = [(row[f"mean_{side}"], label(row[side]), row[f"n_{side}"]) for side in _SIDES]
    corrected = f" ({_p(row['p_holm'])} corrected for {comparisons} comparisons)"
    tail = f"{_p(row['p_mean'])}{corrected if comparisons > 1 else ''}"
    if row["p_holm"] >= ALPHA:
        (mean, name, n), (other_mean, other, other_n) = sides
        return (
            f"No difference shown between {name} and {other}: mean {mean:.1f} and "
            f"{other_mean:.1f} %, difference {row['difference']:+.1f} (95 % interval "
            f"{row['low']:+.1f} to {row['high']:+.1f}), {tail}, n = {n} and {other_n}"
        )
    (mean, name, n), (other_mean, other, other_n) = sorted(sides)
    return (
        f"{name} has lower errors than {other}: mean {mean:.1f} against {other_mean:.1f} %, "
        f"{tail}, n = {n} and {other_n}"
    )


def label(name: str) -> str:
    """Return the name of a space as the paper writes it: AnyNetX_A of anynet_x_a."""
    return re.sub(
        r"\b(any|reg)net_([xyz])(_[a-e]\b)?",
        lambda match: f"{match[1].title()}Net{match[2].upper()}{(match[3] or '').upper()}",
        name,
    )


def _p(p: float) -> str:
    return f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"


def _rising(row: Sequence[int]) -> float:
    return float(np.mean(np.diff(row) >= 0)) if len(row) > 1 else 1.0


def _octaves(row: Sequence[float]) -> float:
    return math.log2(max(row) / min(row))
