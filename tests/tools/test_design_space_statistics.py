"""Distributions, best values and tests of populations, against pycls, scipy and enumeration."""

import json
from itertools import combinations, product

import numpy as np
import pytest
from conftest import ROOT
from scipy import stats

from mindcv.design_space.statistics import (
    SUMMARIES,
    best_values,
    error_distribution,
    holm,
    kolmogorov_smirnov,
    mean_difference,
    permutation_tests,
    rank_correlations,
)

GOLDEN = json.loads((ROOT / "tests/golden/bootstrap.json").read_text(encoding="utf-8"))


def two_groups(sizes: tuple[int, int], digits: int, shift: float = 0.5):
    """Return errors of two groups; few digits make ties."""
    rng = np.random.default_rng(sum(sizes))
    first, second = (rng.normal(30, 1, size) for size in sizes)
    return first.round(digits), (second + shift).round(digits)


def test_the_distribution_is_equation_1_of_the_paper():
    errors, _ = two_groups((40, 1), digits=0)
    points, below, up_to = error_distribution(errors)
    assert points.tolist() == sorted(set(errors))
    for point, under, reached in zip(points, below, up_to):
        assert under == pytest.approx(sum(e < point for e in errors) / 40)
        assert reached == pytest.approx(sum(e <= point for e in errors) / 40)


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: f"{len(case['errors'])} models")
def test_best_values_are_what_pycls_finds_in_10_000_resamples(case):
    values, errors = np.array(case["values"], float), np.array(case["errors"])
    # The ends of pycls' 10,000 draws lie between those of slightly wider and narrower bands: four
    # standard errors of a share of 0.025 are 0.006, of a half 0.02.
    wide, narrow, middle = (best_values(values, errors, level=at) for at in (0.964, 0.936, 0.04))
    lowest = np.stack([wide[:, 0], middle[:, 0], narrow[:, 2]], 1)
    highest = np.stack([narrow[:, 0], middle[:, 2], wide[:, 2]], 1)
    for found in (np.array(case["filters"]), best_values(values, errors)):
        assert (lowest <= found).all() and (found <= highest).all()


def test_best_values_are_those_of_all_draws_of_a_small_population():
    errors, values = np.array([3.0, 1.0, 2.0, 2.0, 5.0]), np.array([[1.0, 4.0, 2.0, 3.0, 0.0]])
    winners = []
    for draw in product(range(5), repeat=2):
        lowest = [model for model in draw if errors[model] == errors[list(draw)].min()]
        winners += [values[0, model] for model in lowest for _ in range(2 // len(lowest))]
    for level in (0.3, 0.5, 0.9, 0.95):
        ends = np.quantile(winners, [(1 - level) / 2, 0.5, (1 + level) / 2], method="inverted_cdf")
        assert best_values(values, errors, share=0.4, level=level).tolist() == [ends.tolist()]


def test_a_larger_share_in_each_draw_comes_nearer_to_the_best_model():
    values, errors = np.array([GOLDEN[3]["values"][2]]), np.array(GOLDEN[3]["errors"])
    low, best, high = best_values(values, errors, share=20.0)[0]
    assert low == best == high == values[0, errors.argmin()]


@pytest.mark.parametrize("sizes", [(1, 1), (4, 7), (60, 60), (59, 60), (200, 90)])
def test_kolmogorov_smirnov_equals_scipy(sizes):
    first, second = two_groups(sizes, digits=9)
    distance, p = kolmogorov_smirnov(first, second)
    exact = stats.ks_2samp(first, second, method="exact")
    assert distance == pytest.approx(exact.statistic) and p == pytest.approx(exact.pvalue, rel=1e-9)


@pytest.mark.parametrize("digits", [0, 1, 9])
def test_kolmogorov_smirnov_is_the_share_of_all_deals_even_with_equal_errors(digits):
    first, second = two_groups((4, 5), digits, shift=1.0)
    distance, p = kolmogorov_smirnov(first, second)
    pooled, found = np.concatenate([first, second]), []
    for chosen in combinations(range(9), 4):
        other = [place for place in range(9) if place not in chosen]
        found.append(stats.ks_2samp(pooled[list(chosen)], pooled[other]).statistic)
    assert distance == pytest.approx(stats.ks_2samp(first, second).statistic)
    assert p == pytest.approx(np.mean(np.array(found) >= distance - 1e-9))


@pytest.mark.parametrize("sizes", [(4, 4), (6, 4), (30, 25)])
def test_permutation_tests_equal_scipy(sizes):
    first, second = two_groups(sizes, digits=2)
    found = permutation_tests(first, second, np.random.default_rng(0))
    for name, summary in SUMMARIES.items():
        scipy = stats.permutation_test(
            (first, second),
            lambda one, two, axis, summary=summary: (
                summary(one, axis=axis) - summary(two, axis=axis)
            ),
            vectorized=True,
            n_resamples=9999,
            rng=1,
        )
        # Both draw; scipy enumerates the small ones. Four standard errors of two-sided p-values.
        slack = 8 * np.sqrt(scipy.pvalue / 2 * (1 - scipy.pvalue / 2) / 10_000) * 2**0.5 + 2e-4
        assert found[name] == pytest.approx(scipy.pvalue, abs=slack)


def test_groups_of_one_distribution_differ_as_often_as_the_level_says(monkeypatch):
    monkeypatch.setattr("mindcv.design_space.statistics.TIMES", 200)
    rng, alarms = np.random.default_rng(3), 0
    for _ in range(300):
        one, two = rng.normal(30, 1, (2, 12))
        alarms += permutation_tests(one, two, rng)["mean"] < 0.05
    assert 3 <= alarms <= 30  # 15 expected; 4 standard deviations are 15


def test_the_interval_of_the_difference_is_that_of_scipys_bootstrap():
    first, second = two_groups((60, 40), digits=3)
    difference, low, high = mean_difference(first, second, np.random.default_rng(0))
    scipy = stats.bootstrap(
        (first, second),
        lambda one, two, axis: one.mean(axis) - two.mean(axis),
        method="percentile",
        rng=1,
    ).confidence_interval
    assert difference == pytest.approx(first.mean() - second.mean())
    assert (low, high) == pytest.approx((scipy.low, scipy.high), abs=0.02)


@pytest.mark.parametrize("digits", [0, 1, 6])
def test_rank_correlations_are_spearmans_with_its_p(digits):
    rng = np.random.default_rng(digits)
    errors = rng.normal(30, 1, 50).round(digits)
    values = np.stack([rng.normal(size=50), errors + rng.normal(0, 2, 50).round(1), -errors])
    found = rank_correlations(values, errors, np.random.default_rng(0))
    for column, one in zip(values, found):
        scipy = stats.spearmanr(column, errors)
        rho, low, high, p = one
        assert rho == pytest.approx(scipy.statistic) and low <= rho <= high
        slack = 8 * np.sqrt(max(scipy.pvalue, 1e-4) / 2 / 10_000) + 0.01
        assert p == pytest.approx(scipy.pvalue, abs=slack)
    assert found[0, 1] < 0 < found[0, 2] and found[2, 0] == pytest.approx(-1)


def test_the_interval_of_a_correlation_holds_the_true_one_19_times_in_20(monkeypatch):
    monkeypatch.setattr("mindcv.design_space.statistics.TIMES", 1)
    rng, inside = np.random.default_rng(5), 0
    true = 6 / np.pi * np.arcsin(0.5 / 2)  # Spearman's of a normal pair with Pearson's 0.5
    for _ in range(400):
        one = rng.normal(size=60)
        two = 0.5 * one + 0.75**0.5 * rng.normal(size=60)
        ((_, low, high, _),) = rank_correlations(one[None], two, rng)
        inside += low <= true <= high
    assert 0.91 <= inside / 400 <= 0.98


def test_holms_correction_equals_rs():
    """R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")."""
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]).tolist() == [] and holm([0.7, 0.9]).tolist() == [1.0, 1.0]


def test_a_seed_gives_the_same_numbers_again():
    first, second = two_groups((20, 20), digits=2)

    def numbers(seed: int):
        rng = np.random.default_rng(seed)
        return permutation_tests(first, second, rng), mean_difference(first, second, rng)

    assert numbers(4) == numbers(4) != numbers(5)
