"""Performance profiles (Dolan and More 2002): the share of problems within a factor of the best."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from suites.harness.analysis.statistics import checked

Costs = Mapping[str, Mapping[int, float]]


@dataclass(frozen=True)
class Profile:
    """The share of problems solved within ``factor[i]`` times the lowest cost: a step function from factor 1 on.

    problems: those that the method ran on. Others do not count.
    """

    factors: list[float]
    shares: list[float]
    problems: int


def profiles(problems: Sequence[Costs]) -> dict[str, Profile]:
    """The profile of every method.

    The cost of a run is divided by the lowest cost with the same seed. Problems have equal weight, whatever their
    number of seeds. A run that missed its target is infinite: no factor reaches it, so it lowers the share.

    Args:
        problems: for each problem, the cost by method and seed.

    Raises:
        ValueError: for NaN.
    """
    ratios: dict[str, list[list[float]]] = {}
    for costs in problems:
        best: dict[int, float] = {}
        for of_seed in costs.values():
            for seed, cost in of_seed.items():
                best[seed] = min(cost, best.get(seed, math.inf))
        for method, of_seed in costs.items():
            if of_seed:
                checked(of_seed.values())
                ratios.setdefault(method, []).append([_ratio(cost, best[seed]) for seed, cost in of_seed.items()])
    return {method: _profile(of_problems) for method, of_problems in ratios.items()}


def _ratio(cost: float, best: float) -> float:
    if math.isinf(cost):
        return math.inf
    return 1.0 if cost == best else math.inf if best == 0 else cost / best


def _profile(problems: Sequence[Sequence[float]]) -> Profile:
    factors = sorted({1.0, *(ratio for ratios in problems for ratio in ratios if math.isfinite(ratio))})
    shares = [
        sum(sum(ratio <= factor for ratio in ratios) / len(ratios) for ratios in problems) / len(problems)
        for factor in factors
    ]
    return Profile(factors, shares, len(problems))
