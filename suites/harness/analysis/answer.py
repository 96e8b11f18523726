"""The best method of an experiment in each cost, by how much, and how sure that is: typed facts, no sentences.

The rule is the same for all methods. The best has the lowest median cost to the target. A method that cannot be told
apart from the best is *level* with it. For two methods, take the probability that a run of one costs less than a run of
the other: they are told apart if its interval leaves out one half. The best is compared with all others, so these
intervals hold for all pairs together (Bonferroni): with 95 % confidence, the method that is truly best is the best here
or level with it.

Times must differ by more than the smallest effect of verdicts, 5 %. Those of runs that shared the machine do not count.
Memory does not depend on the seed; it is compared among methods whose median run reaches the target.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from suites.harness.analysis.metrics import METRICS, Metric, judged_by
from suites.harness.analysis.statistics import LEVEL, Estimate, Interval, median_interval, probability_of_improvement
from suites.harness.analysis.verdicts import SMALLEST_EFFECT, paired
from suites.harness.records.conventions import REFERENCE
from suites.harness.records.facts import Environment, Experiment, Tuning
from suites.harness.records.groups import tuning_of
from suites.harness.records.record import Record

Groups = Mapping[str, Sequence[Record]]  # by method
Costs = Mapping[str, Mapping[int, float]]  # by method and seed
COSTS = ("gradients", "seconds", "peak_state")


@dataclass(frozen=True)
class Method:
    """A method that ran: how its setting was found, the number of trials, and the number of runs by status.

    edge: the options of a tuned setting whose value lies at the edge of the search.
    """

    spec: str
    tuning: Tuning
    edge: tuple[str, ...]
    trials: int | None
    seeds: int
    runs: dict[str, int]


@dataclass(frozen=True)
class Gain:
    """What the best saves over another method.

    factor: the cost of the other over that of the best, the median over shared seeds; infinite if the other misses the
        target.
    sure: the probability that a run of the best costs less; for times, less by at least the smallest effect.
    """

    over: str
    factor: Interval | None
    sure: Estimate | None


@dataclass(frozen=True)
class Lead:
    """The best method in one cost.

    costs: the known median of each method, from the lowest; infinite if it did not reach the target.
    level: the methods that cannot be told apart from the best. never: those of which no run reached the target.
    over_next: the gain over the next method that reached the target and is told apart. over_sgd: the gain over the
        reference, told apart or not.
    enough: whether there are enough seeds to tell methods apart.
    """

    metric: Metric
    costs: dict[str, Interval]
    best: str
    level: tuple[str, ...]
    never: tuple[str, ...]
    over_next: Gain | None
    over_sgd: Gain | None
    enough: bool


@dataclass(frozen=True)
class Answer:
    """The answer of one experiment.

    judged: the metric of the target.
    leads: by cost; empty if no method's median run reached the target.
    experiment, environment: of the first run. at_a_time: the number of runs that shared the machine.
    """

    target: float
    judged: Metric
    methods: dict[str, Method]
    leads: dict[str, Lead]
    experiment: Experiment
    environment: Environment
    at_a_time: int

    @property
    def seeds(self) -> int:
        """The number of seeds, the most of any method."""
        return max(method.seeds for method in self.methods.values())


def answer(groups: Groups, target: float) -> Answer:
    """The answer of an experiment: its runs by method, at least one run."""
    runs = [record for group in groups.values() for record in group]
    at_a_time = max(record.header.at_a_time for record in runs)
    costs = {key: values_of(groups, key, target) for key in COSTS if at_a_time == 1 or not METRICS[key].timed}
    there = {m for m, values in costs["gradients"].items() if math.isfinite(median_interval(values.values()).median)}
    costs["peak_state"] = {method: values for method, values in costs["peak_state"].items() if method in there}
    leads = {key: found for key, values in costs.items() if (found := _lead(METRICS[key].at(target), values))}
    return Answer(
        target,
        judged_by(runs),
        {name: _method(name, group) for name, group in groups.items()},
        leads,
        runs[0].experiment,
        runs[0].environment,
        at_a_time,
    )


def values_of(groups: Groups, metric: str, target: float) -> dict[str, dict[int, float]]:
    """The values of the metric with this key, by method and seed. Methods without values are left out."""
    found = {method: METRICS[metric].by_seed(records, target) for method, records in groups.items()}
    return {method: values for method, values in found.items() if values}


def told(estimate: Estimate) -> bool:
    """Whether a probability of improvement differs from one half."""
    return estimate.low > 0.5 or estimate.high < 0.5


def _lead(metric: Metric, values: Costs) -> Lead | None:
    """The best method in one cost; None if no method reached the target."""
    medians = {method: median_interval(of_seed.values()) for method, of_seed in values.items()}
    ranked = sorted(medians, key=lambda method: medians[method].median)
    if not ranked or math.isinf(medians[ranked[0]].median):
        return None
    best, *others = ranked
    gains = {other: _gain(metric, values, best, other, len(others)) for other in others}
    never = [method for method in ranked if math.isinf(min(values[method].values()))]
    level = [other for other in others if not _told(gains[other]) and other not in never]
    rest = [gains[other] for other in others if other not in (*level, *never)]
    sgd = [gain for other, gain in gains.items() if other.partition("[")[0] == REFERENCE]
    return Lead(
        metric,
        {method: medians[method] for method in ranked},
        best,
        tuple(level),
        tuple(never),
        next(iter(rest), None),
        next(iter(sgd), None),
        metric.exact
        or _can_tell(len(values[best]), max((len(values[other]) for other in others), default=0), len(others)),
    )


def _gain(metric: Metric, values: Costs, best: str, other: str, pairs: int) -> Gain:
    own, its = values[best], values[other]
    comparison = paired(own, its, exact=metric.exact)
    least = 1 + SMALLEST_EFFECT if metric.timed else 1.0
    sure = None if metric.exact else _sure([least * cost for cost in own.values()], list(its.values()), pairs)
    return Gain(other, comparison and comparison.change, sure)


def _sure(own: Sequence[float], its: Sequence[float], pairs: int) -> Estimate:
    """P(own < its), with an interval that holds for this number of pairs together."""
    return probability_of_improvement([own], [its], 1 - (1 - LEVEL) / pairs)


def _can_tell(own: int, its: int, pairs: int) -> bool:
    """Whether these numbers of seeds tell two methods apart if their costs do not overlap."""
    return pairs == 0 or _sure([0.0] * own, [1.0] * its, pairs).low > 0.5


def _told(gain: Gain) -> bool:
    """Whether the other method is told apart, both seed by seed and run by run."""
    return (gain.factor is None or gain.factor.low > 1) and (gain.sure is None or gain.sure.low > 0.5)


def _method(name: str, group: Sequence[Record]) -> Method:
    header = group[0].header
    return Method(
        name,
        tuning_of(group[0]),
        header.edge,
        header.trials,
        len({record.experiment.seed for record in group}),
        dict(Counter(record.status for record in group)),
    )
