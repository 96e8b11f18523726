"""Profiles and scores against AlgoPerf's definition, by hand and by a fine sum; who counts, and who is listed."""

import math

import numpy as np
import pytest

from suites.harness.analysis.experiment import collect
from suites.harness.analysis.profiles import Score, counting, integrals, scoreboard
from suites.harness.analysis.statistics import Estimate
from tests.example_records import as_schema_2, header, point, write

INF = math.inf


def score_of(costs):
    """The score of each method, of a cost for each problem."""
    problems = {f"p{n}": {m: {0: of[n]} for m, of in costs.items()} for n in range(len(next(iter(costs.values()))))}
    return {method: value.value for method, (value, _) in integrals(problems).items()}


def algoperf(costs):
    """Of Dahl et al. 2023: rho(tau) is the share of workloads with a time of at most tau times the fastest, and the
    score the integral of rho from 1 to 4 over 4 - 1."""
    times = np.array(list(costs.values()), dtype=float)
    fastest = times.min(axis=0)
    taus = np.linspace(1, 4, 300_001)
    scores = {}
    for method, own in zip(costs, times, strict=True):
        rho = np.mean([(time <= taus * best) & math.isfinite(time) for time, best in zip(own, fastest, strict=True)], 0)
        scores[method] = float(np.mean((rho[1:] + rho[:-1]) / 2))
    return scores


def test_scores_by_hand():
    """Ratios of a: 1 and 2; of b: 4 and 1; c never gets there and takes 2.5 times the fastest."""
    costs = {"a": [10.0, 20.0], "b": [40.0, 10.0], "c": [INF, 25.0]}
    expected = {"a": (1 + 2 / 3) / 2, "b": (0 + 1) / 2, "c": (0 + 0.5) / 2}
    assert score_of(costs) == pytest.approx(expected)
    assert algoperf(costs) == pytest.approx(expected, abs=1e-4)


def test_scores_are_those_of_algoperf():
    rng = np.random.default_rng(0)
    costs = {m: [float(c) if rng.random() < 0.8 else INF for c in rng.lognormal(0, 0.7, 7)] for m in "abcd"}
    assert score_of(costs) == pytest.approx(algoperf(costs), abs=1e-4)


def test_a_problem_that_nobody_solved_counts_for_nobody():
    assert score_of({"a": [1.0, INF], "b": [4.0, INF]}) == {"a": 0.5, "b": 0}


def test_the_median_over_seeds_counts():
    """Of a 4 of 10 runs fail; b is never the fastest seed, and has twice the median."""
    a = {seed: INF if seed < 4 else 10.0 for seed in range(10)}
    found = integrals({"p": {"a": a, "b": dict.fromkeys(range(10), 20.0)}})
    assert found["b"][1] == {"p": 2}
    assert found["a"][0].value == 1
    assert found["b"][0].value == pytest.approx(2 / 3)


def test_an_interval_holds_the_score_and_is_the_same_every_time():
    rng = np.random.default_rng(0)
    for seeds in (2, 5, 10):
        costs = {m: dict(enumerate(rng.lognormal(mu, 0.2, seeds).tolist())) for m, mu in (("a", 0), ("b", 0.5))}
        value, low, high = integrals({"p": costs, "q": costs})["b"][0]
        assert 0 <= low < value < high <= 1
        assert integrals({"p": costs, "q": costs})["b"][0] == (value, low, high)


def test_one_seed_tells_nothing():
    once, ten = ({m: dict.fromkeys(range(seeds), cost) for m, cost in (("a", 1.0), ("b", 2.0))} for seeds in (1, 10))
    assert integrals({"p": once, "q": ten})["b"][0] == pytest.approx((2 / 3, 0, 1))
    assert integrals({"p": ten, "q": ten})["b"][0] == pytest.approx((2 / 3,) * 3)


def test_intervals_cover_the_true_score():
    """Of two problems with 3 and 6 seeds, in which the true medians differ by factors 1.5 and 1.25."""
    rng = np.random.default_rng(0)
    truth, held = 1 - (0.5 / 3 + 0.25 / 3) / 2, 0
    for _ in range(100):
        problems = {}
        for name, seeds, factor in (("p", 3, 1.5), ("q", 6, 1.25)):
            shared = rng.normal(0, 0.1, seeds)
            costs = {m: np.exp(shared + rng.normal(math.log(f), 0.05, seeds)) for m, f in (("a", 1), ("b", factor))}
            problems[name] = {method: dict(enumerate(own.tolist())) for method, own in costs.items()}
        _, low, high = integrals(problems)["b"][0]
        held += low <= truth <= high
    assert held >= 90


def test_more_seeds_make_it_narrower():
    rng = np.random.default_rng(0)
    widths = []
    for seeds in (6, 60):
        costs = {m: dict(enumerate(rng.lognormal(mu, 0.2, seeds).tolist())) for m, mu in (("a", 0), ("b", 0.5))}
        _, low, high = integrals({"p": costs})["b"][0]
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_a_profile_rises_at_its_ratios():
    found = Score(Estimate(0.5, 0, 1), {"p": 1.0, "q": 2.5, "r": INF, "s": 2.5}).profile
    assert (found.factors, found.shares, found.problems) == ([1, 2.5], [0.25, 0.75], 4)


@pytest.fixture
def runs(tmp_path):
    """Writes runs that reach the target of the digits at a cost."""

    def of(folder, cost, methods, seeds=6, ended=None, **facts):
        for method, factor in methods.items():
            for seed in range(seeds):
                reached = {"test_accuracy": 0.99, "gradient_equivalents": cost * factor + seed}
                if math.isinf(cost):
                    reached = {"test_accuracy": 0.2}
                last = point(1, training_seconds=factor, **reached)
                about = header(optimizer=method, seed=seed, epochs=1, **facts)
                path = tmp_path / folder / "runs" / f"{method}-{seed}.jsonl"
                write(path, about, [point(0), last], peak_state_bytes=1, ended=ended)
        return tmp_path

    return of


def test_only_problems_that_all_shown_methods_ran_count_and_what_is_missing_is_listed(runs):
    runs("one", 100, {"sgd[lr=1]": 1, "kfac": 2, "ea_cg": 3, "kfra": 1})
    runs("two", 100, {"sgd": 1, "fisher+kfi": 2, "ea_cg": 3}, criterion="bounded")
    found = scoreboard(collect(runs("three", 100, {"sgd": 9, "kfra": 1}, dataset="other")).experiments, "gradients")
    assert set(found.experiments) == {"digits, cross-entropy", "digits, bounded"}
    assert list(found.scores) == ["SGD", "KFAC", "EA-CG, PCH-1"]  # from the highest
    assert found.lacking == {"KFRA": ["digits, bounded"]}
    assert found.left_out == {"other, cross-entropy": ["EA-CG, PCH-1", "KFAC"]}
    assert found.scores["SGD"].best == list(found.experiments)
    assert found.scores["KFAC"].best == found.scores["SGD"].tuned == []
    assert found.scores["KFAC"].ratios == pytest.approx({problem: 202.5 / 102.5 for problem in found.experiments})


def test_who_cannot_be_told_from_the_best_counts_beside_it(runs):
    experiments = collect(runs("one", 100, {"sgd": 1, "kfac": 1.01, "ea_cg": 2})).experiments
    found = scoreboard(experiments, "gradients").scores
    assert [len(found[name].best) for name in ("SGD", "KFAC", "EA-CG, PCH-1")] == [1, 1, 0]


def test_a_problem_whose_target_nobody_reached_does_not_count(runs):
    runs("one", 100, {"sgd": 1, "kfac": 2})
    found = scoreboard(collect(runs("two", INF, {"sgd": 1, "kfac": 2}, dataset="hard")).experiments, "gradients")
    assert (list(found.experiments), found.unsolved) == (["digits, cross-entropy"], ["hard, cross-entropy"])


def _tuned(results, name):
    """Makes the runs of the folder with this name tuned."""
    for path in (results / name / "runs").glob("*.jsonl"):
        path.write_text(as_schema_2(path.read_text()).replace('"tuning":null', '"tuning":"tuned"', 1))


def test_of_a_problem_one_experiment_counts(runs):
    """Each of these before those above it; the tuned one has the fewest methods and seeds, and shared the machine."""
    runs("alike", 100, {"sgd": 1, "kfac": 2}, at_a_time=2)
    for name, methods, seeds in (("alone", "ab", 2), ("methods", "abc", 2), ("seeds", "abc", 3), ("tuned", "ab", 1)):
        results = runs(name, 100, dict.fromkeys(methods, 1), seeds, at_a_time=1 + (name == "tuned"))
        if name == "tuned":
            _tuned(results, name)
        experiments = collect(results).experiments
        for order in (experiments, experiments[::-1]):
            assert [one.name for one in counting(order).values()] == [name]
    assert scoreboard(experiments, "gradients").experiments == counting(experiments)


def test_of_experiments_alike_the_newest_counts(runs):
    for name, day in (("a", 1), ("b", 3), ("c", 2)):
        results = runs(name, 100, {"sgd": 1, "kfac": 2}, ended=f"2026-11-0{day}T00:00:00+00:00")
    assert [one.name for one in counting(collect(results).experiments).values()] == ["b"]


def test_how_many_were_tuned_is_counted(runs, tmp_path):
    runs("one", 100, {"kfac": 2})
    _tuned(tmp_path, "one")
    found = scoreboard(collect(runs("one", 100, {"sgd": 1})).experiments, "gradients").scores
    assert [len(found[name].tuned) for name in ("SGD", "KFAC")] == [0, 1]


def test_a_method_with_several_settings_counts_with_its_tuned_one(runs):
    methods = {"sgd": 1, "kfac[lr=0.1]": 2, "kfac[lr=0.2]": 3, "ea_cg": 4}
    found = scoreboard(collect(runs("one", 100, methods)).experiments, "gradients")
    assert set(found.scores) == {"SGD", "EA-CG, PCH-1"}


def test_of_several_tuned_settings_the_one_without_further_options_counts(runs, tmp_path):
    runs("one", 100, {"kfac[lr=0.1]": 3, "kfac[labels=sampled,lr=0.2]": 2})
    _tuned(tmp_path, "one")
    found = scoreboard(collect(runs("one", 100, {"sgd": 1})).experiments, "gradients").scores
    assert found["KFAC"].ratios == {"digits, cross-entropy": pytest.approx(3, rel=0.02)}


def test_runs_that_shared_the_machine_have_no_score_in_seconds(runs):
    for cost, at_a_time, known in (("gradients", 2, True), ("seconds", 1, True), ("seconds", 2, False)):
        experiments = collect(runs("one", 100, {"sgd": 1, "kfac": 2}, at_a_time=at_a_time)).experiments
        assert bool(scoreboard(experiments, cost).scores) == known
    assert scoreboard([], "gradients").scores == {}
