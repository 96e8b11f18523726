"""Who wins, by how much, on what, and how sure that is: one sentence from the records of an experiment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isinf

from suites.harness.analysis.metrics import metrics, values_by_seed
from suites.harness.analysis.statistics import (
    Estimate,
    Interval,
    median_interval,
    probability_of_improvement,
)
from suites.harness.analysis.verdicts import paired
from suites.harness.records.conventions import REFERENCE
from suites.harness.show.experiment import Experiment

PREFERRED = "published/digits-cross-entropy"  # the main job
Values = Mapping[str, Mapping[int, float]]


@dataclass(frozen=True)
class Headline:
    """The sentence, and by what is counted the median and interval of every method."""

    experiment: Experiment
    sentence: str
    costs: dict[str, dict[str, Interval]]


def choose_experiment(experiments: Sequence[Experiment]) -> Experiment | None:
    """The main job where it is published, or the experiment with the most runs."""
    by_name = {experiment.name: experiment for experiment in experiments}
    most = max(experiments, key=lambda experiment: len(experiment.records), default=None)
    return by_name.get(PREFERRED, most)


def headline(experiment: Experiment) -> Headline:
    """The headline of an experiment: gradient-equivalents to its target, then seconds."""
    gradients, seconds = (cost_values(experiment, f"{name} to") for name in ("gradients", "seconds"))
    costs = {"gradient-equivalents": gradients, "seconds": {} if experiment.shared_machine else seconds}
    target = f"test accuracy {experiment.target:g}"
    facts = experiment.records[0].experiment
    return Headline(
        experiment,
        _sentence(gradients, costs["seconds"], target, f"{facts.dataset} with {facts.criterion}"),
        {
            f"{unit} to {target}": {method: median_interval(of_seed.values()) for method, of_seed in values.items()}
            for unit, values in costs.items()
            if values
        },
    )


def cost_values(experiment: Experiment, metric: str) -> dict[str, dict[int, float]]:
    """Of the metric whose name begins so, one value a seed by method; methods that nothing is known of are left out."""
    (chosen,) = (one for one in metrics(experiment.target) if one.name.startswith(metric))
    found = {
        method: values_by_seed(chosen, records, experiment.target) for method, records in experiment.methods.items()
    }
    return {method: values for method, values in found.items() if values}


def told(estimate: Estimate) -> bool:
    """Whether a probability of improvement is another than one half."""
    return estimate.low > 0.5 or estimate.high < 0.5


def improvement(own: Mapping[int, float], other: Mapping[int, float]) -> Estimate:
    """P(a run of the one costs less than a run of the other)."""
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
    """By the ratio over shared seeds, ``3x [2.6, 4] fewer``."""
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
