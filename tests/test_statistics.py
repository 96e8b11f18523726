"""Statistics of few seeds: intervals cover what they say, against simulation and enumeration; verdicts in words."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from suites.harness.analysis.statistics import (
    attained_level,
    growth_exponent,
    improvements,
    median_interval,
    probability_of_improvement,
)
from suites.harness.analysis.verdicts import by_seed, paired, step_ratios, times_changed, verdict

NORMAL, SKEWED = stats.norm(), stats.lognorm(0.7)


def _coverage(intervals, truth):
    return np.mean([low <= truth <= high for _, low, high in intervals])


def test_medians_rank_infinite_values():
    assert median_interval([1, 2, math.inf, math.inf, math.inf]) == (math.inf, 1, math.inf)
    assert median_interval([1, 2, 3, 4, 5, 6, math.inf])[::2] == (4, math.inf)
    assert median_interval([0.5] * 8) == (0.5, 0.5, 0.5)
    assert median_interval([7]) == (7, 7, 7)
    with pytest.raises(ValueError, match="one or more numbers"):
        median_interval([])
    with pytest.raises(ValueError, match="not NaN"):
        median_interval([1, math.nan])


@pytest.mark.parametrize("distribution", [NORMAL, SKEWED, stats.t(2)], ids=["normal", "skewed", "heavy"])
@pytest.mark.parametrize("size", [3, 4, 5, 6, 7, 8, 10, 15])
def test_median_intervals_cover_what_they_say(distribution, size):
    samples = distribution.rvs(size=(1500, size), random_state=np.random.default_rng(size))
    covered = _coverage(map(median_interval, samples), distribution.median())
    assert covered == pytest.approx(attained_level(size), abs=0.02)
    assert 0.93 <= attained_level(size) <= 0.95 or size < 5


@pytest.mark.parametrize("size", [6, 8, 10, 11])
def test_the_median_has_the_exact_interval_where_that_is_nearest(size):
    """Between the two exact intervals of scipy whose levels enclose 95 %."""
    values = np.random.default_rng(size).normal(size=size)
    exact = stats.quantile_test(values, p=0.5).confidence_interval(0.95)
    _, low, high = median_interval(values)
    ordered = np.sort(values)
    assert exact.low <= low < ordered[list(ordered).index(exact.low) + 1]
    assert ordered[list(ordered).index(exact.high) - 1] < high <= exact.high


@pytest.mark.parametrize("effect", [0.0, 0.5, 2.0])
@pytest.mark.parametrize(("problems", "seeds"), [(1, 3), (1, 5), (1, 10), (3, 5)])
def test_intervals_of_the_probability_of_improvement_cover(effect, problems, seeds):
    rng = np.random.default_rng(seeds)
    truth = NORMAL.cdf(effect / math.sqrt(2))
    draws = rng.normal(size=(150, 2, problems, seeds))
    intervals = (probability_of_improvement(own, other + effect) for own, other in draws)
    assert 0.88 <= _coverage(intervals, truth) <= 1


def test_the_probability_of_improvement_is_counted():
    own, other = [[1, 2, math.inf], [3.0]], [[2, 3, math.inf, math.inf], [4.0, 1.0]]
    won = [stats.mannwhitneyu(ys, xs).statistic / (len(xs) * len(ys)) for xs, ys in zip(own, other, strict=True)]
    value, low, high = probability_of_improvement(own, other)
    assert value == pytest.approx(np.mean(won))
    assert 0 < low < value < high < 1
    table = improvements({"a": own, "b": other, "c": own})
    assert len(table) == 6
    assert table["a", "b"].value + table["b", "a"].value == pytest.approx(1)
    assert table["a", "c"].value == 0.5
    assert table["b", "a"].low == pytest.approx(1 - table["a", "b"].high)
    apart = probability_of_improvement([[1, 2, 3]], [[4, 5, 6]])
    assert apart.value == apart.high == 1
    assert apart.low < 0.75


def test_runs_that_share_a_seed_count_once():
    assert by_seed([(0, 1.0), (1, 5.0), (0, 3.0), (0, 9.0)]) == {0: 3.0, 1: 5.0}


def _samples(before, after):
    return dict(enumerate(before)), dict(enumerate(after))


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ([1, 2, 3, 4, 5, 6], [0.5, 1, 1.5, 2, 2.5, 3], "faster by 2x"),
        ([1, 2, 3, 4, 5, 6], [2, 4, 6, 8, 10, 12], "slower by 2x"),
        ([10] * 6, [5, 4, 5, 4, 5, 4], "faster by 2.22x [2, 2.5]"),
        ([1000] * 6, [999, 998, 999, 998, 999, 998], "faster by 0.15 % [0.1, 0.2]"),
        ([1000] * 6, [1001] * 6, "slower by 0.1 %"),
        ([10] * 6, [9, 11, 9, 11, 9, 11], "indistinguishable: 1x [0.9, 1.1]"),
        ([10] * 5, [5, 4, 5, 4, 5, 4], "too few seeds (5 of 6): 0.5x [0.4, 0.5]"),
        ([10, math.inf], [10, math.inf], "the same"),
        ([math.inf] * 7, [3, 4, 5, 3, 4, 5, 3], "faster without bound"),
        ([3, 4, 5, 3, 4, 5, 3], [math.inf] * 7, "slower without bound"),
        ([3, 4, 5, 3, 4, 5, 3], [1, math.inf] * 3 + [1], "indistinguishable: 0.333x [0.237, inf]"),
        ([], [1, 2, 3], "no shared seeds"),
    ],
)
def test_verdicts_in_words(before, after, words):
    assert verdict(paired(*_samples(before, after)), "faster", "slower") == words


def test_what_did_not_change_is_a_ratio_of_1_and_a_difference_of_0():
    values = {seed: 0.5 + seed for seed in range(6)}
    for kind, none in (("ratio", 1.0), ("difference", 0.0)):
        compared = paired(values, values, kind)
        assert compared.change == (none, none, none)
        assert (compared.direction, compared.same) == (0, True)


def test_a_difference_has_its_verdict_too():
    before, after = _samples([0.90] * 8, [0.95, 0.93, 0.94, 0.92, 0.95, 0.93, 0.94, 0.96])
    assert verdict(paired(before, after, "difference"), "lower", "higher").startswith("higher by 0.04 [0.0")
    assert verdict(paired(after, before, "difference"), "lower", "higher").startswith("lower by 0.04 [0.0")


def test_values_in_which_no_seed_has_a_part_need_one():
    assert verdict(paired({0: 100}, {0: 50}, exact=True), "smaller", "larger") == "smaller by 2x"
    assert verdict(paired({0: 100}, {0: 50}), "smaller", "larger") == "too few seeds (1 of 6): 0.5x"


def test_six_seeds_are_what_a_verdict_needs():
    """And equal optimizers are told apart about once in twenty."""
    assert [paired(*_samples([1.0] * size, [2.0] * size)).direction for size in (5, 6)] == [0, 1]
    draws = np.exp(np.random.default_rng(0).normal(size=(600, 2, 8)))
    apart = np.mean([paired(*_samples(before, after)).direction != 0 for before, after in draws])
    assert 0.03 <= apart <= 0.07


@pytest.mark.parametrize(
    ("factors", "words"),
    [
        ([1.06, 1.3], "slower by"),
        ([1.04, 1.3], "indistinguishable"),
        ([1 / 1.3, 1 / 1.06], "faster by"),
        ([1 / 1.3, 1 / 1.04], "indistinguishable"),
    ],
)
def test_the_whole_interval_must_lie_beyond_the_smallest_effect(factors, words):
    compared = paired(*_samples([1.0] * 8, factors * 4))
    assert verdict(replace(compared, smallest=0.05), "faster", "slower").startswith(words)
    assert compared.direction  # without one, all four are told


def _run(rng, slower=1.0, sittings=8, drift=0.0, noise=0.02):
    """Step ratios of a run: noise of each sitting, and what all of them share."""
    return list(5 * slower * np.exp(rng.normal(scale=drift) + rng.normal(scale=noise, size=sittings)))


@pytest.mark.parametrize("runs", [1, 3])
def test_times_of_one_commit_are_not_told_apart_and_a_slow_down_is(runs):
    """Although the drift that a run shares is as large as the spread within it."""
    rng = np.random.default_rng(runs)

    def told(slower):
        sides = ([_run(rng, factor, drift=0.02) for _ in range(runs)] for factor in (1.0, slower))
        return times_changed(*sides).direction

    assert [told(1.0) for _ in range(300)].count(0) >= 298
    assert [told(1.3) for _ in range(100)].count(1) >= 95
    assert [told(1 / 1.3) for _ in range(100)].count(-1) >= 95


def test_several_runs_tell_what_one_cannot():
    rng = np.random.default_rng(0)
    sides = [[_run(rng, factor) for _ in range(16)] for factor in (1.0, 1.1)]
    assert times_changed(sides[0][:1], sides[1][:1]).direction == 0
    assert times_changed(*sides).direction == 1


def test_the_interval_of_times_is_that_of_t_with_the_spread_of_sittings():
    before, after = [[1.0, 1.1, 0.9], [1.2, 1.0, 1.1]], [[2.0, 2.2, 2.4, 1.9]]
    logs = [np.log(np.concatenate(side)) for side in (before, after)]
    shift = logs[1].mean() - logs[0].mean()
    half = stats.t.ppf(0.975, 8) * math.sqrt(logs[0].var(ddof=1) / 2 + logs[1].var(ddof=1))
    found = times_changed(before, after)
    assert found.change == pytest.approx(np.exp([shift, shift - half, shift + half]))
    assert (found.kind, found.same, found.lacking, found.smallest) == ("ratio", False, "", 0.05)
    assert times_changed(before, before).same


def test_three_sittings_are_what_times_need():
    few = times_changed([[1.0], [1.1]], [[2.0] * 8])
    assert (few.direction, few.change.median) == (0, pytest.approx(2 / math.sqrt(1.1)))
    assert verdict(few, "faster", "slower") == "too few sittings (2 of 3): 1.91x"
    assert times_changed([[1.0], [1.0], [1.01]], [[2.0] * 3]).direction == 1


def test_a_sitting_has_the_median_of_the_ratios_of_its_rounds():
    seconds = {"sgd": [[2.0, 1.0, 10.0], [4.0]], "kfac": [[3.0, 7.0, 20.0], [2.0]]}
    assert step_ratios(seconds, "kfac") == [2.0, 0.5]
    assert step_ratios(seconds, "kfra") == step_ratios({"kfac": [[1.0]]}, "kfac") == []


def test_the_probability_of_improvement_is_that_of_mann_and_whitney():
    """Over all pairs of runs, of each problem by itself; the mean over the problems."""
    rng = np.random.default_rng(0)
    own, other = rng.normal(0, 1, (5, 8)), rng.normal(0.4, 2, (5, 6))  # [problems, runs]
    other[0, :3] = own[0, :3]  # ties count half
    wins = stats.mannwhitneyu(other, own, axis=1).statistic / (8 * 6)
    assert probability_of_improvement(own.tolist(), other.tolist()).value == pytest.approx(wins.mean(), rel=1e-12)


def test_the_probability_of_improvement_has_newcombes_score_interval():
    """At each end what was seen is 1.96 standard errors away, with the variance of his method 5."""
    own, other = [[1, 2, 5, 8], [3, 4, 6]], [[2, 6, 7, 9, 11], [1, 5, 7, 8]]
    value, *ends = probability_of_improvement(own, other)
    for p in ends:
        variance = 0.0
        for xs, ys in zip(own, other, strict=True):
            m, n = len(xs), len(ys)
            extra = (m + n) / 2 - 1
            variance += p * (1 - p) / (m * n) * (1 + extra * ((1 - p) / (2 - p) + p / (1 + p)))
        assert abs(value - p) / math.sqrt(variance / 4) == pytest.approx(1.959964, rel=1e-5)
    with pytest.raises(ValueError, match="zip"):
        probability_of_improvement(own, other[:1])


def test_growth_is_the_slope_of_the_logarithms_with_its_t_interval():
    sizes, values = [64, 128, 256, 512], [3.0, 11.0, 50.0, 160.0]
    line = stats.linregress(np.log(sizes), np.log(values))
    half = stats.t.ppf(0.975, 2) * line.stderr
    assert growth_exponent(sizes, values) == pytest.approx((line.slope, line.slope - half, line.slope + half))
    assert growth_exponent([1, 2, 4], [5, 10, 20])[0] == pytest.approx(1)
    for sizes, values in (([1, 2], [1, 2]), ([0, 1, 2], [1, 2, 3]), ([1, 2, 3], [1, 0, 2])):
        with pytest.raises(ValueError, match="growth needs 3 sizes or more"):
            growth_exponent(sizes, values)


def test_a_change_from_zero_is_without_bound():
    assert paired({0: 0.0}, {0: 2.0}).change.median == math.inf
    assert paired({0: 0.0}, {0: 0.0}).same
