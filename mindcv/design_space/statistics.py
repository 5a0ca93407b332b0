"""Statistics of populations of models: error distributions, best values, tests of significance.

Sources: Radosavovic et al., Designing Network Design Spaces, section 3.1 (distribution, empirical
bootstrap); Radosavovic et al., On Network Design Spaces for Visual Recognition, section 3
(Kolmogorov-Smirnov test).
"""

from collections.abc import Callable, Sequence

import numpy as np

TIMES = 10_000  # resamples and permutations, as in the paper
_TIES = 1e-9  # differences below, percentage points, are rounding

SUMMARIES: dict[str, Callable] = {
    "mean": np.mean,
    "median": np.median,
    "best_quarter": lambda errors, axis=None: np.quantile(errors, 0.25, axis=axis),
    "minimum": np.min,
}


def error_distribution(errors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the errors, each once, ascending; the share below each, F(e); and that up to each."""
    points, counts = np.unique(errors, return_counts=True)
    up_to = np.cumsum(counts)
    return points, (up_to - counts) / len(errors), up_to / len(errors)


def best_values(
    values: np.ndarray, errors: np.ndarray, share: float = 0.25, level: float = 0.95
) -> np.ndarray:
    """Return lower end, most likely best and upper end of (parameters, n) values: (parameters, 3).

    The empirical bootstrap draws a share of the n models with replacement, at least one, and keeps
    the best. A model is the best of a draw with a probability that follows from its rank alone, so
    this is what infinitely many repeats give. `level` is that of the band between the ends.
    """
    models, (_, rank, counts) = len(errors), _unique(errors)
    drawn = max(1, int(models * share))
    left = (models - np.concatenate([[0], np.cumsum(counts)])) / models
    chances = (-np.diff(left**drawn) / counts)[rank]
    order = np.argsort(values, axis=1, kind="stable")
    reached = np.cumsum(chances[order], axis=1)
    ends = np.array([(1 - level) / 2, 0.5, (1 + level) / 2])
    places = (reached[:, None] < ends[:, None] - 1e-12).sum(axis=2)
    return np.take_along_axis(np.take_along_axis(values, order, axis=1), places, axis=1)


def kolmogorov_smirnov(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Return the largest distance of two error distributions, and its exact p-value.

    p is the share of all ways to deal the pooled errors into groups of these sizes that give at
    least this distance. Equal errors are compared only after the last of them.
    """
    n, m = len(first), len(second)
    total = n + m
    pooled, _, counts = _unique(np.concatenate([first, second]))
    ends = np.cumsum(counts)
    below = np.searchsorted(np.sort(first), pooled, side="right")  # of `first`, at each end
    widest = int(np.abs(below * m - (ends - below) * n).max())  # in units of 1 / (n m)
    of_first = np.arange(n + 1)
    chances, beyond = (of_first == 0).astype(float), 0.0
    is_end = np.isin(np.arange(total + 1), ends)
    for dealt in range(1, total + 1):
        rest = total - dealt + 1
        to_first = chances * (n - of_first) / rest
        chances = chances * (m - (dealt - 1 - of_first)) / rest
        chances[1:] += to_first[:-1]
        if is_end[dealt]:
            reached = np.abs(of_first * m - (dealt - of_first) * n) >= widest
            beyond += chances[reached].sum()
            chances[reached] = 0.0
    return widest / (n * m), min(1.0, float(beyond))


def permutation_tests(
    first: np.ndarray, second: np.ndarray, rng: np.random.Generator
) -> dict[str, float]:
    """Return a two-sided p-value for the difference in each of `SUMMARIES`."""
    dealt, n, found = _dealt(np.concatenate([first, second]), rng), len(first), {}
    for name, summary in SUMMARIES.items():
        differences = summary(dealt[:, :n], axis=1) - summary(dealt[:, n:], axis=1)
        found[name] = float(_two_sided(differences, summary(first) - summary(second)))
    return found


def mean_difference(
    first: np.ndarray, second: np.ndarray, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Return mean(first) - mean(second) and its 95 % bootstrap interval (percentiles)."""
    one, two = (rng.choice(each, (TIMES, len(each))).mean(axis=1) for each in (first, second))
    ends = np.percentile(one - two, (2.5, 97.5)).tolist()
    return float(first.mean() - second.mean()), *ends


def rank_correlations(
    values: np.ndarray, errors: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return Spearman's correlations with the error, 95 % intervals and p: (parameters, 4).

    Intervals are those of Bonett and Wright (2000, Psychometrika 65), p-values two-sided, by
    permutation. Of n >= 4 models; no parameter is constant.
    """
    two = _centred_ranks(errors)
    ones = np.stack([_centred_ranks(column) for column in values])
    sizes = np.sqrt((ones**2).sum(axis=1) * (two**2).sum())
    rhos = ones @ two / sizes
    p_values = _two_sided(_dealt(two, rng) @ ones.T / sizes, rhos)
    with np.errstate(divide="ignore"):  # of -1 and 1, whose intervals have no width
        places = np.arctanh(np.clip(rhos, -1.0, 1.0))
    halves = 1.959964 * np.sqrt((1.0 + rhos**2 / 2.0) / (len(errors) - 3))
    ends = np.tanh([places - halves, places + halves])
    return np.stack([rhos, *ends, p_values], axis=1)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Return the p-values, raised for being several (Holm 1979): any false alarm among them."""
    p_values = np.asarray(p_values, float)
    order, count = np.argsort(p_values, kind="stable"), len(p_values)
    raised = np.empty(count)
    raised[order] = np.maximum.accumulate((count - np.arange(count)) * p_values[order])
    return np.minimum(1.0, raised)


def _dealt(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the values in TIMES random orders, a row each."""
    return rng.permuted(np.tile(values, (TIMES, 1)), axis=1)


def _two_sided(found: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Return twice the share of rows, and what was observed, that are as high or low as that."""
    higher = (found >= observed - _TIES).sum(axis=0)
    lower = (found <= observed + _TIES).sum(axis=0)
    return np.minimum(1.0, 2.0 * (np.minimum(higher, lower) + 1) / (len(found) + 1))


def _centred_ranks(values: np.ndarray) -> np.ndarray:
    """Return ranks minus their mean; equal values share the mean of theirs."""
    _, place, counts = _unique(values)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return ranks - ranks.mean()


def _unique(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.unique(values, return_inverse=True, return_counts=True)
