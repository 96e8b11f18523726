"""Who wins, by how much, on what, and with what confidence: one sentence from the records of an experiment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isinf

from suites.harness.analysis.metrics import METRICS
from suites.harness.analysis.statistics import Estimate, Interval, median_interval, probability_of_improvement
from suites.harness.analysis.verdicts import paired
from suites.harness.records.conventions import REFERENCE
from suites.harness.records.record import Record

Groups = Mapping[str, Sequence[Record]]  # by method
Values = Mapping[str, Mapping[int, float]]  # by method and seed


@dataclass(frozen=True)
class Headline:
    """The sentence, and the median with its interval of every method, for each way to count costs."""

    sentence: str
    costs: dict[str, dict[str, Interval]]


def headline(groups: Groups, target: float) -> Headline:
    """The headline of an experiment: gradient-equivalents to its target accuracy, then seconds.

    Runs that shared the machine say nothing of seconds.
    """
    runs = [record for group in groups.values() for record in group]
    costs = {"gradient-equivalents": values_of(groups, "gradients", target)}
    if all(record.header.at_a_time == 1 for record in runs):
        costs["seconds"] = values_of(groups, "seconds", target)
    goal, facts = f"test accuracy {target:g}", runs[0].experiment
    sentence = _sentence(
        costs["gradient-equivalents"], costs.get("seconds", {}), goal, f"{facts.dataset} with {facts.criterion}"
    )
    medians = {unit: {m: median_interval(v.values()) for m, v in values.items()} for unit, values in costs.items()}
    return Headline(sentence, {f"{unit} to {goal}": found for unit, found in medians.items() if found})


def values_of(groups: Groups, metric: str, target: float) -> dict[str, dict[int, float]]:
    """By method, one value for each seed, of the metric with this key; methods without values are left out."""
    found = {method: METRICS[metric].by_seed(records, target) for method, records in groups.items()}
    return {method: values for method, values in found.items() if values}


def told(estimate: Estimate) -> bool:
    """Whether a probability of improvement differs from one half."""
    return estimate.low > 0.5 or estimate.high < 0.5


def improvement(own: Mapping[int, float], other: Mapping[int, float]) -> Estimate:
    """P(a run of the first costs less than a run of the second)."""
    return probability_of_improvement([list(own.values())], [list(other.values())])


def _sentence(gradients: Values, seconds: Values, target: str, problem: str) -> str:
    ranked = sorted(gradients, key=lambda method: median_interval(gradients[method].values()).median)
    if not ranked or isinf(median_interval(gradients[ranked[0]].values()).median):
        return f"On {problem} no method reached {target} in the median over its seeds."
    best = ranked[0]
    if len(ranked) == 1:
        return f"On {problem} {best} takes {_costs(gradients, best)} gradient-equivalents to {target}."
    reference = REFERENCE if REFERENCE in gradients and best != REFERENCE else ranked[1]
    gain = improvement(gradients[best], gradients[reference])
    if not told(gain):
        first = (
            f"On {problem} nobody wins: {best} has the lowest median to {target}, "
            f"{_against(gradients, best, reference)} gradient-equivalents, and is indistinguishable from {reference} "
            f"({_probability(gain)})"
        )
    else:
        first = (
            f"On {problem} {best} wins: to {target} it takes {_fewer(gradients, best, reference)} gradient-equivalents "
            f"than {reference} ({_against(gradients, best, reference)}; {_probability(gain)})"
        )
        others = [name for name in ranked[1:] if name != reference]
        level = [name for name in others if not told(improvement(gradients[best], gradients[name]))]
        if level:
            first += f"; from {_listed(level)} it is indistinguishable"
    return f"{first}{_in_seconds(seconds, best, reference)}."


def _in_seconds(seconds: Values, best: str, reference: str) -> str:
    if not {best, reference} <= seconds.keys():
        return ""
    gain, against = improvement(seconds[best], seconds[reference]), _against(seconds, best, reference)
    if not told(gain):
        return f"; in seconds {best} and {reference} are indistinguishable ({against}; {_probability(gain)})"
    word = "fewer" if gain.value > 0.5 else "more"
    return f"; in seconds it takes {word}, {against} ({_probability(gain)})"


def _fewer(values: Values, best: str, reference: str) -> str:
    """The ratio over shared seeds, ``3x [2.6, 4] fewer``."""
    comparison = paired(values[best], values[reference])
    if comparison is None:
        return "fewer"
    middle, low, high = comparison.change
    if isinf(middle):
        return "beyond measure fewer"
    return f"{middle:.2g}x{'' if low == high else f' [{low:.2g}, {high:.2g}]'} fewer"


def _against(values: Values, best: str, reference: str) -> str:
    return f"{_costs(values, best)} against {_costs(values, reference)}"


def _costs(values: Values, method: str) -> str:
    interval = median_interval(values[method].values())
    if isinf(interval.median):
        return "never"
    median, low, high = (f"{value:.3g}" for value in interval)
    return median if low == high else f"{median} [{low}, {high}]"


def _probability(gain: Estimate) -> str:
    return f"probability of improvement {gain.value:.2f} [{gain.low:.2f}, {gain.high:.2f}]"


def _listed(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
