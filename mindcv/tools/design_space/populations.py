"""Trained populations: what each model is, what explains its error, how populations compare."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from ...design_space import fit_widths, statistics
from ...errors import DataError
from ...names import plural
from ...process.files import reading
from .spaces import COSTS, STAGES, find_space
from .study import RECIPE, STUDY, read_population, read_records, read_study

ALPHA = 0.05  # a corrected p below is called a difference
FEWEST = 4  # models of a population that is tested
DRAWN = 8  # from here on a quarter is two models or more; the best of one says nothing
_GOOD = 0.25  # share of the models whose common trend counts
_KEPT = ("id", "index", "error", "loss", "epochs", "seconds", *COSTS)
Rows = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Population:
    """The trained models of one space in one study."""

    name: str  # of the space, and of the study where several have that space
    study: str
    folder: Path  # of the study
    regime: str  # populations of one regime can be compared: same images, training and limits
    models: Rows  # of `_model`, the best first
    failed: int
    waiting: int  # not trained yet

    @cached_property
    def errors(self) -> np.ndarray:
        """100 - top-1 or, of several labels, mAP of each model, percent."""
        return np.array([model["error"] for model in self.models], float)

    def values(self, name: str) -> np.ndarray:
        """Return a number of each model that may explain its error."""
        return np.array([model["causes"][name] for model in self.models], float)

    @property
    def good(self) -> Rows:
        """The best quarter of the models."""
        return self.models[: max(1, round(_GOOD * len(self.models)))]

    @cached_property
    def trend(self) -> tuple[float, float]:
        """Start and slope of the line through all block widths of the best quarter, channels."""
        points = [point for model in self.good for point in model["blocks"]]
        block, width = np.array(points, float).T
        slope = np.cov(block, width)[0, 1] / np.var(block, ddof=1) if np.ptp(block) else 0.0
        return float(width.mean() - slope * block.mean()), float(slope)

    def caption(self) -> str:
        """Return name, count, lowest and mean error, as the legends of the paper's figures."""
        least, mean = self.errors.min(), self.errors.mean()
        return f"{label(self.name)}: n {len(self.errors)}, min {least:.1f}, mean {mean:.1f} %"

    def summary(self) -> dict[str, Any]:
        """Return its row of spaces.csv."""
        row = {"space": self.name, "study": self.study, "n": len(self.models)}
        row |= {"failed": self.failed, "waiting": self.waiting}
        row |= {name: float(each(self.errors)) for name, each in statistics.SUMMARIES.items()}
        row["hours"] = sum(model["seconds"] for model in self.models) / 3600
        row |= dict(zip(("trend_start", "trend_slope"), self.trend))
        return row | {"e_fit_of_best": float(np.median(self.values("e_fit")[: len(self.good)]))}

    def rows(self) -> Rows:
        """Return its rows of models.csv, the best first."""
        rows = []
        for model in self.models:
            row = {"space": self.name, "study": self.study}
            row |= {name: model[name] for name in _KEPT}
            row |= {name: " ".join(map("{:g}".format, model[name])) for name in STAGES}
            fit = vars(model["fit"])
            row |= {"e_fit": fit["e_fit"]} | {
                f"fit_{key}": fit[key] for key in ("w_a", "w_0", "w_m")
            }
            rows.append(row)
        return rows


def _model(line: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """Return a model's lines in one, with its block widths, their fit and causes of its error."""
    fit, causes = fit_widths(line["widths"], line["depths"]), dict(line["parameters"])
    if "d" not in causes:
        causes["depth"] = sum(line["depths"])
    # The paper's steps from AnyNetX_A to E as matters of degree: the share of neighbouring stages
    # of which the later is not smaller, and the octaves between the smallest and the largest.
    for name in ("widths", "depths"):
        causes[f"rising_{name}"] = np.mean(np.diff(line[name]) >= 0) if line[name][1:] else 1.0
    for name, key in (("bottleneck_spread", "bot_muls"), ("group_spread", "group_ws")):
        causes[name] = math.log2(max(line[key]) / min(line[key]))
    causes |= {"e_fit": fit.e_fit} | {cost: line[cost] for cost in COSTS}
    blocks = list(enumerate(np.repeat(line["widths"], line["depths"]).tolist()))
    return line | record | {"blocks": blocks, "fit": fit, "causes": causes}


def read_populations(folders: Sequence[str]) -> tuple[list[Population], list[str]]:
    """Return the populations of studies, and notes about what is left out."""
    found, notes = [], []
    titles = [Path(folder).resolve().name for folder in folders]
    studies = [(read_study(f / STUDY), read_population(f)) for f in map(Path, folders)]
    for folder, title, (study, models) in zip(map(Path, folders), titles, studies):
        records, cut = read_records(folder)
        notes += cut
        with reading(folder / RECIPE, DataError):
            recipe = (folder / RECIPE).read_text(encoding="utf-8")
        own_limits = {space.name: space.limits for space in map(find_space, study.spaces)}
        title = title if titles.count(title) == 1 else str(folder)
        for space in dict.fromkeys(model["space"] for model in models):
            own = [(line, records.get(line["id"], {})) for line in models if line["space"] == space]
            done = [_model(*pair) for pair in own if pair[1].get("status") == "done"]
            failed = sum(record.get("status") == "failed" for _, record in own)
            limits = study.limits | own_limits.get(space, {})
            if not done:
                notes.append(f"{folder} has no trained model of {space} yet; see design-space run")
                continue
            if failed:
                notes.append(
                    f"{space}: {plural(failed, 'failed model')} left out; distribution, means and "
                    f"comparisons are of the other {len(done)}"
                )
            population = Population(
                name=space,
                study=title,
                folder=folder,
                regime=f"{recipe}{sorted(limits.items())}{study.devices}",  # of the global batch
                models=sorted(done, key=lambda model: model["error"]),
                failed=failed,
                waiting=len(own) - len(done) - failed,
            )
            found.append(population)
    if not found:
        raise DataError("; ".join(notes))
    several = Counter(one.name for one in found)
    found = [
        replace(one, name=f"{one.study}/{one.name}") if several[one.name] > 1 else one
        for one in found
    ]
    if len({population.regime for population in found}) > 1:
        what = "recipe, image size or limits"
        notes.append(f"populations of another regime ({what}) are not compared")
    if min(len(population.models) for population in found) < FEWEST:
        notes.append(f"populations of fewer than {FEWEST} models are described, not tested")
    return found, notes


def make_tables(populations: Sequence[Population]) -> dict[str, Rows]:
    """Return the rows of each csv file by its name; the same populations give the same rows."""
    rng = np.random.default_rng(0)
    return {
        "spaces": [population.summary() for population in populations],
        "models": [row for population in populations for row in population.rows()],
        "edf": [
            {"space": population.name, "error": error, "below": below, "up_to": up_to}
            for population in populations
            for error, below, up_to in zip(*statistics.error_distribution(population.errors))
        ],
        "parameters": [row for each in populations for row in explain_errors(each, rng)],
        "comparisons": compare(populations, rng),
    }


def explain_errors(population: Population, rng: np.random.Generator) -> Rows:
    """Return rows of parameters.csv: range, best values and rank correlation of what varies."""
    columns = {name: population.values(name) for name in population.models[0]["causes"]}
    columns = {name: column for name, column in columns.items() if np.ptp(column)}
    if not columns:  # a single model
        return []
    values, errors = np.stack(list(columns.values())), population.errors
    about = {"space": population.name, "study": population.study, "n": len(errors)}
    about["median_macs"] = float(np.median(population.values("macs")))
    rows = [about | {"parameter": name, "minimum": float(c.min())} for name, c in columns.items()]
    for row, column, ends in zip(rows, values, statistics.best_values(values, errors).tolist()):
        row |= dict(zip(("low", "best", "high"), ends)) if len(errors) >= DRAWN else {}
        row["maximum"] = float(column.max())
    if len(errors) >= FEWEST and np.ptp(errors):
        found = statistics.rank_correlations(values, errors, rng)
        for row, numbers, p in zip(rows, found.tolist(), statistics.holm(found[:, 3])):
            row |= dict(zip(("rho", "rho_low", "rho_high", "p"), numbers)) | {"p_holm": float(p)}
    return rows


def compare(populations: Sequence[Population], rng: np.random.Generator) -> Rows:
    """Return rows of comparisons.csv: every two populations of a regime, from FEWEST models on."""
    rows = []
    for first, second in combinations(populations, 2):
        pair = one, two = first.errors, second.errors
        if first.regime != second.regime or min(map(len, pair)) < FEWEST:
            continue
        row = {"first": first.name, "second": second.name}
        row |= {"n_first": len(one), "n_second": len(two)}
        row |= {"mean_first": float(one.mean()), "mean_second": float(two.mean())}
        row |= zip(("difference", "low", "high"), statistics.mean_difference(*pair, rng))
        tests = statistics.permutation_tests(*pair, rng)
        row |= {f"p_{name}": p for name, p in tests.items()}
        row |= zip(("ks_distance", "p_ks"), statistics.kolmogorov_smirnov(*pair))
        rows.append(row)
    for row, p in zip(rows, statistics.holm([row["p_mean"] for row in rows])):
        row["p_holm"] = float(p)
        row["sentence"] = _sentence(row, len(rows))
    return rows


def _sentence(row: dict[str, Any], comparisons: int) -> str:
    """Say in plain words what a comparison shows."""
    sides = [(row[f"mean_{n}"], label(row[n]), row[f"n_{n}"]) for n in ("first", "second")]
    differs = row["p_holm"] < ALPHA
    (mean, name, n), (other_mean, other, other_n) = sorted(sides) if differs else sides
    corrected = f" ({_p(row['p_holm'])} corrected for {comparisons} comparisons)"
    tail = f"{_p(row['p_mean'])}{corrected if comparisons > 1 else ''}, n = {n} and {other_n}"
    if differs:
        means = f"mean {mean:.1f} against {other_mean:.1f} %"
        return f"{name} has lower errors than {other}: {means}, {tail}"
    return (
        f"No difference shown between {name} and {other}: mean {mean:.1f} and {other_mean:.1f} %, "
        f"difference {row['difference']:+.1f} (95 % interval {row['low']:+.1f} to "
        f"{row['high']:+.1f}), {tail}"
    )


def _p(p: float) -> str:
    return f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"


def label(name: str) -> str:
    """Return the name of a space as the paper writes it: AnyNetX_A of anynet_x_a."""
    return re.sub(
        r"\b(any|reg)net_([xyz])(_[a-e]\b)?",
        lambda match: f"{match[1].title()}Net{match[2].upper()}{(match[3] or '').upper()}",
        name,
    )
