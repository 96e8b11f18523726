"""The score over several problems: AlgoPerf's performance profile and its integral (Dahl et al. 2023).

The ratio of a method on a problem is its median cost over the lowest median of all methods there. Its profile rho(tau)
is the share of problems with a ratio of at most tau (Dolan and More 2002). Its score is the mean height of the profile
from 1 to 4. A method that is the cheapest everywhere has 1; one that always misses the target, or always costs four
times the cheapest, has 0. A score compares methods that ran on the same problems.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from suites.harness.analysis.answer import Costs, answer, values_of
from suites.harness.analysis.experiment import Experiment
from suites.harness.analysis.metrics import METRICS
from suites.harness.analysis.statistics import LEVEL, Estimate
from suites.harness.names import method_of, plain_name
from suites.harness.records.groups import tuning_of
from suites.harness.records.record import Record

LARGEST_RATIO = 4.0
SCORED = ("gradients", "seconds")  # the costs that have a score


@dataclass(frozen=True)
class Profile:
    """The share of ``problems`` within ``factors[i]`` times the lowest cost: a step function from factor 1 on."""

    factors: list[float]
    shares: list[float]
    problems: int


@dataclass(frozen=True)
class Score:
    """A method over all problems.

    value: the integral of its profile, from 0 to 1, with its interval. ratios: its cost over the lowest, by problem.
    best: the problems on which it is best or level with the best. tuned: those on which it ran tuned.
    """

    value: Estimate
    ratios: dict[str, float]
    best: list[str] = field(default_factory=list)
    tuned: list[str] = field(default_factory=list)

    @property
    def profile(self) -> Profile:
        ratios = self.ratios.values()
        factors = sorted({1.0, *filter(math.isfinite, ratios)})
        return Profile(factors, [sum(r <= factor for r in ratios) / len(ratios) for factor in factors], len(ratios))


@dataclass(frozen=True)
class Scoreboard:
    """The scores in one cost, from the highest; empty if no two methods ran on the same problem.

    experiments: those that count, by problem. lacking: for methods without a score, the problems that they lack.
    left_out: for problems that do not count, the methods with a score that did not run there.
    unsolved: the problems whose target no method reached.
    """

    cost: str
    experiments: dict[str, Experiment]
    scores: dict[str, Score]
    lacking: dict[str, list[str]]
    left_out: dict[str, list[str]]
    unsolved: list[str]


def counting(experiments: Sequence[Experiment]) -> dict[str, Experiment]:
    """The experiment of each problem that counts: the one with the most tuned methods. Ties go to one whose runs had
    the machine to themselves, then to the most methods, the most seeds, and the newest.
    """

    def rank(one: Experiment) -> tuple[int, bool, int, int, str]:
        tuned = {plain_name(spec) for spec, records in one.methods.items() if tuning_of(records[0]) == "tuned"}
        alone = all(record.header.alone for record in one.records)
        seeds = {record.experiment.seed for record in one.records}
        return len(tuned), alone, len(set(map(plain_name, one.methods))), len(seeds), one.group.ended

    of_problems: dict[str, list[Experiment]] = {}
    for experiment in experiments:
        of_problems.setdefault(experiment.group.setup.problem, []).append(experiment)
    return {problem: max(several, key=rank) for problem, several in of_problems.items()}


def scoreboard(experiments: Sequence[Experiment], cost: str) -> Scoreboard:
    """The scores of methods in one cost to the target, over problems that all of them ran on.

    One experiment of a problem counts, see :func:`counting`. A method that ran there with several settings counts with
    its tuned one, without further options if it can be, as ``kfac`` before ``kfac[labels=sampled]``. It lacks the
    problem unless that is exactly one. Methods are added from those on the most problems
    down, as long as the number of cells (methods times problems) grows.

    deviates: a problem whose target no method reached does not count; AlgoPerf gives all methods a zero there.
    """
    of_problems = {problem: (one, _methods(one, cost)) for problem, one in counting(experiments).items()}
    chosen = {problem: (one, ran) for problem, (one, ran) in of_problems.items() if ran}
    unsolved = [problem for problem, (one, _) in chosen.items() if not answer(one.methods, one.target).leads]
    cells = {problem: set(ran) for problem, (_, ran) in chosen.items() if problem not in unsolved}
    shown = _most_cells(cells)
    shared = [problem for problem, ran in cells.items() if shown and ran >= set(shown)]
    everyone = list(dict.fromkeys(method for _, ran in chosen.values() for method in ran))
    groups = {problem: {method: chosen[problem][1][method] for method in shown} for problem in shared}
    targets = {problem: chosen[problem][0].target for problem in shared}
    found = integrals({problem: values_of(groups[problem], cost, targets[problem]) for problem in shared})
    leads = {problem: answer(groups[problem], targets[problem]).leads.get(cost) for problem in shared}
    scores = {
        method: Score(
            value,
            ratios,
            [problem for problem, lead in leads.items() if lead and method in (lead.best, *lead.level)],
            [problem for problem in shared if tuning_of(groups[problem][method][0]) == "tuned"],
        )
        for method, (value, ratios) in found.items()
    }
    return Scoreboard(
        cost,
        {problem: chosen[problem][0] for problem in shared},
        dict(sorted(scores.items(), key=lambda item: item[1].value.value, reverse=True)),
        {m: [p for p in shared if m not in cells[p]] for m in everyone if m not in shown},
        {p: [m for m in shown if m not in cells[p]] for p in cells if p not in shared},
        unsolved,
    )


def integrals(problems: Mapping[str, Costs]) -> dict[str, tuple[Estimate, dict[str, float]]]:
    """Integral and ratios of each method, over the seeds that all share. All methods ran on all problems.

    The 95 % interval has a bootstrap's standard error for each problem, and Student's t with Satterthwaite's degrees of
    freedom. In simulations of 2 to 10 seeds it covers 91 to 100 %. The bootstrap draws the same seeds for all methods,
    since a seed has the same batches and the same minutes of the machine for all. With one seed the interval is [0, 1].
    """
    if not problems:
        return {}
    methods = list(next(iter(problems.values())))
    tables = [_table(costs, methods) for costs in problems.values()]
    ratios = np.stack([_ratios(table) for table in tables], axis=-1)
    values = _behind(ratios).mean(axis=-1)
    freedom = np.array([[table.shape[1] - 1] for table in tables])
    halves = np.full(len(methods), math.inf)
    if freedom.all():
        halves = _half_width(np.stack([_error(table) for table in tables]), freedom)
    return {
        method: (
            Estimate(float(value), max(0.0, float(value - half)), min(1.0, float(value + half))),
            dict(zip(problems, map(float, own), strict=True)),
        )
        for method, value, half, own in zip(methods, values, halves, ratios, strict=True)
    }


def _behind(ratios: np.ndarray) -> np.ndarray:
    """The share of the factors from 1 to the largest that lie above a ratio: a problem's part of the integral."""
    return np.clip((LARGEST_RATIO - ratios) / (LARGEST_RATIO - 1), 0, 1)


def _error(costs: np.ndarray) -> np.ndarray:
    """The standard error over seeds of a problem's part of each method's integral; ``costs`` [methods, seeds]."""
    seeds = costs.shape[1]

    def statistic(drawn: np.ndarray, axis: int = -1) -> np.ndarray:
        return _behind(_ratios(costs[:, drawn]))

    places = [np.arange(seeds)]
    drawn = stats.bootstrap(places, statistic, n_resamples=1000, method="percentile", rng=0)  # seeded: the same table
    return np.asarray(drawn.standard_error) * math.sqrt(seeds / (seeds - 1))


def _half_width(errors: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """Half of the interval of a mean over problems; ``errors`` [problems, methods], ``freedom`` [problems, 1]."""
    variances = (errors / len(errors)) ** 2
    total = variances.sum(axis=0)
    with np.errstate(invalid="ignore"):
        together = np.where(total > 0, total**2 / (variances**2 / freedom).sum(axis=0), 1.0)
    return stats.t.ppf((1 + LEVEL) / 2, together) * np.sqrt(total)


def _ratios(costs: np.ndarray) -> np.ndarray:
    """Median costs over the lowest of all methods [methods, ...], from costs [methods, ..., seeds]."""
    medians = np.median(costs, axis=-1)
    lowest = medians.min(axis=0)
    return np.where(np.isfinite(medians), medians / np.where(np.isfinite(lowest), lowest, 1.0), math.inf)


def _table(costs: Costs, methods: Sequence[str]) -> np.ndarray:
    """Costs [methods, seeds] at the seeds that all methods share."""
    shared = sorted(set.intersection(*(set(costs[method]) for method in methods)))
    return np.array([[costs[method][seed] for seed in shared] for method in methods])


def _methods(experiment: Experiment, cost: str) -> dict[str, Sequence[Record]]:
    """The runs of each method at the setting that counts, by its name for people, if their cost is known."""
    if METRICS[cost].timed and not all(record.header.alone for record in experiment.records):
        return {}
    known = values_of(experiment.methods, cost, experiment.target)
    settings: dict[str, dict[str, Sequence[Record]]] = {}
    for spec, records in experiment.methods.items():
        if spec in known:
            settings.setdefault(plain_name(spec), {})[spec] = records
    found = {}
    for name, several in settings.items():
        tuned = [spec for spec, records in several.items() if tuning_of(records[0]) == "tuned"]
        able = tuned if len(several) > 1 else list(several)
        shortest = min(map(method_of, able), key=len, default="")
        able = [spec for spec in able if method_of(spec) == shortest]
        if len(able) == 1:
            found[name] = several[able[0]]
    return found


def _most_cells(cells: Mapping[str, set[str]]) -> list[str]:
    """The methods that fill the most cells, from those on the most problems down; none if no problem has two."""
    counts: dict[str, int] = {}
    for ran in cells.values():
        for method in sorted(ran):
            counts[method] = counts.get(method, 0) + 1
    ranked = sorted(counts, key=lambda method: -counts[method])
    areas = {
        size: size * sum(ran >= set(ranked[:size]) for ran in cells.values()) for size in range(2, len(ranked) + 1)
    }
    size = max(areas, key=lambda size: areas[size], default=0)
    return ranked[:size] if areas.get(size) else []
