"""The change between two groups of runs, and the verdict in words.

Losses, accuracies and epochs depend on the seed, and are paired seed by seed. Two groups are told apart if the interval
of their change leaves out "no change". That takes 6 shared seeds: the sign test of n pairs has no p below 2^(1-n),
which is below 0.05 from n = 6 on.

Times depend on the machine, and all seeds of a run share its drift. So step times are judged as ratios to SGD, see
:func:`step_ratios` and :func:`times_changed`, and must change by more than a smallest effect.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import truediv
from statistics import median
from typing import Literal, TypeAlias

import numpy as np
from scipy import stats

from suites.harness.analysis.statistics import LEVEL, Interval, checked, median_interval
from suites.harness.records.conventions import REFERENCE

SEEDS_NEEDED = 6
SITTINGS_NEEDED = 3
SMALLEST_EFFECT = 0.05  # the share by which a time must change
Kind = Literal["ratio", "difference"]
StepSeconds: TypeAlias = Mapping[str, Sequence[Sequence[float]]]  # by optimizer: for each sitting, one number a block


def by_seed(values: Iterable[tuple[int, float]]) -> dict[int, float]:
    """One value for each seed: runs that share a seed count once, with their median."""
    runs: dict[int, list[float]] = {}
    for seed, value in values:
        runs.setdefault(seed, []).append(value)
    return {seed: float(median(checked(sample).tolist())) for seed, sample in runs.items()}


@dataclass(frozen=True)
class Compared:
    """The change of some values.

    change: the ratio after / before, or the difference after - before, with its interval.
    same: every value is as before.
    lacking: why there is no verdict, as ``too few seeds (5 of 6)``.
    smallest: the smallest effect: the whole interval of a ratio must lie beyond this share.
    """

    change: Interval
    kind: Kind = "ratio"
    same: bool = False
    lacking: str = ""
    smallest: float = 0.0

    @property
    def direction(self) -> int:
        """-1 if the values became smaller, 1 if larger, 0 if neither can be told."""
        if self.lacking:
            return 0
        smaller, larger = (1 / (1 + self.smallest), 1 + self.smallest) if self.kind == "ratio" else (0.0, 0.0)
        return int(self.change.low > larger) - int(self.change.high < smaller)


def paired(
    before: Mapping[int, float], after: Mapping[int, float], kind: Kind = "ratio", exact: bool = False
) -> Compared | None:
    """Compare values by seed: the median change. None if no seed is shared. Two infinite values are a tie.

    Args:
        exact: the values do not depend on the seed, so one seed is enough.
    """
    seeds = sorted(before.keys() & after.keys())
    if not seeds:
        return None
    change = median_interval(_change(before[seed], after[seed], kind) for seed in seeds)
    enough = len(seeds) >= SEEDS_NEEDED or (exact and change.low == change.high)
    lacking = "" if enough else f"too few seeds ({len(seeds)} of {SEEDS_NEEDED})"
    return Compared(change, kind, all(before[seed] == after[seed] for seed in seeds), lacking)


def step_ratios(step_seconds: StepSeconds, optimizer: str) -> list[float]:
    """Step time / SGD of each sitting: the median over its rounds, in which both were timed in turn.

    Returns:
        One number a sitting; none if the optimizer or SGD was not timed.
    """
    sittings = zip(step_seconds.get(optimizer, ()), step_seconds.get(REFERENCE, ()), strict=False)
    return [median(map(truediv, own, reference)) for own, reference in sittings]


def times_changed(
    before: Sequence[Sequence[float]],
    after: Sequence[Sequence[float]],
    smallest: float = SMALLEST_EFFECT,
) -> Compared | None:
    """How the step ratios of two sides changed: the ratio of their geometric means. None if a side has no runs.

    The spread s of a side's logarithms over the sittings within its runs stands for the spread from run to run:
    sittings of a run share its drift, so they do not average it away. The mean of R runs thus has the error s /
    sqrt(R). The interval is that of Student's t.

    Args:
        before, after: for each run of a side, one ratio a sitting.
    """
    if not before or not after:
        return None
    sides = [np.log(np.concatenate([checked(run) for run in side])) for side in (before, after)]
    shift = float(sides[1].mean() - sides[0].mean())
    few = min(side.size for side in sides)
    if few < SITTINGS_NEEDED:
        once = math.exp(shift)
        return Compared(Interval(once, once, once), lacking=f"too few sittings ({few} of {SITTINGS_NEEDED})")
    error = math.sqrt(sum(side.var(ddof=1) / len(runs) for side, runs in zip(sides, (before, after), strict=True)))
    half = error * float(stats.t.ppf((1 + LEVEL) / 2, sum(side.size - 1 for side in sides)))
    change = Interval(*(math.exp(shift + part) for part in (0, -half, half)))
    return Compared(change, same=before == after, smallest=smallest)


def verdict(compared: Compared | None, smaller: str, larger: str) -> str:
    """The change in words: ``faster by 1.8x [1.5, 2.2]``, or in percent where the factor rounds to 1.

    ``the same``: equal on every shared seed. ``too few seeds``: fewer than 6 are shared. ``indistinguishable``: the
    interval does not lie beyond "no change", or beyond the smallest effect.

    Args:
        smaller, larger: the words for values that became smaller and larger.
    """
    if compared is None:
        return "no shared seeds"
    if compared.same:
        return "the same"
    unit = "x" if compared.kind == "ratio" else ""
    if compared.direction == 0:
        return f"{compared.lacking or 'indistinguishable'}: {_shown(compared.change, unit)}"
    word, change = larger, compared.change
    if compared.direction < 0:  # shown as the factor by which it went down
        middle, low, high = change
        word, change = smaller, Interval(*(_undone(end, compared.kind) for end in (middle, high, low)))
    if math.isinf(change.median):
        return f"{word} without bound"
    if unit and f"{change.median:.3g}" == "1":
        change, unit = Interval(*(100 * (end - 1) for end in change)), " %"
    return f"{word} by {_shown(change, unit)}"


def _shown(size: Interval, unit: str) -> str:
    """``1.8x [1.5, 2.2]``, without the interval if it has no width."""
    middle, low, high = (f"{value:.3g}" for value in size)
    return f"{middle}{unit}" + ("" if low == high else f" [{low}, {high}]")


def _change(before: float, after: float, kind: Kind) -> float:
    if before == after:
        return 1.0 if kind == "ratio" else 0.0
    if kind == "difference":
        return after - before
    return math.inf if before == 0 else after / before


def _undone(change: float, kind: Kind) -> float:
    """The change in the other direction."""
    if kind == "difference":
        return -change
    return math.inf if change == 0 else 1 / change
