"""What changed between two groups of runs, seed by seed, and the verdict in words.

Two groups are told apart if the interval of their paired change leaves out "no change". That takes 6 shared seeds: the
smallest two-sided p of the sign test with n pairs is 2^(1-n), which is below 0.05 from n = 6 on.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Literal

from scipy import stats

from suites.harness.analysis.statistics import Interval, checked, median_interval

SEEDS_NEEDED = 6
Kind = Literal["ratio", "difference"]


def by_seed(values: Iterable[tuple[int, float]]) -> dict[int, float]:
    """One value for each seed: runs that share a seed count once, with their median."""
    runs: dict[int, list[float]] = {}
    for seed, value in values:
        runs.setdefault(seed, []).append(value)
    return {seed: float(median(checked(sample).tolist())) for seed, sample in runs.items()}


@dataclass(frozen=True)
class Paired:
    """How the values of shared seeds changed.

    changed: how many shared seeds have another value than before.
    change: median of the ratios after / before, or of the differences after - before, with its interval.
    sign_p: two-sided p of the sign test, ties left out.
    exact: the values do not depend on the seed, so one seed is enough.
    """

    seeds: int
    changed: int
    change: Interval
    sign_p: float
    kind: Kind
    exact: bool = False

    @property
    def unchanged(self) -> float:
        return 1.0 if self.kind == "ratio" else 0.0

    @property
    def enough(self) -> bool:
        return self.seeds >= SEEDS_NEEDED or (self.exact and self.change.low == self.change.high)

    @property
    def direction(self) -> int:
        """-1 if the values became smaller, 1 if larger, 0 if that cannot be told."""
        if not self.enough:
            return 0
        return int(self.change.low > self.unchanged) - int(self.change.high < self.unchanged)


def paired(
    before: Mapping[int, float],
    after: Mapping[int, float],
    kind: Kind = "ratio",
    exact: bool = False,
) -> Paired | None:
    """Compare values by seed; None if no seed is shared. Two infinite values are a tie."""
    seeds = sorted(before.keys() & after.keys())
    if not seeds:
        return None
    changes = [_change(before[seed], after[seed], kind) for seed in seeds]
    unchanged = 1.0 if kind == "ratio" else 0.0
    larger, smaller = (sum(change > unchanged for change in changes), sum(change < unchanged for change in changes))
    changed = larger + smaller
    sign_p = float(stats.binomtest(larger, changed).pvalue) if changed else 1.0
    return Paired(len(seeds), changed, median_interval(changes), sign_p, kind, exact)


def verdict(comparison: Paired | None, smaller: str, larger: str) -> str:
    """The comparison in words: ``faster by 1.8x [1.5, 2.2]``.

    ``the same``: equal on every shared seed. ``too few seeds``: fewer than 6 are shared. ``indistinguishable``: the
    interval contains "no change".

    Args:
        smaller, larger: the word for values that became smaller, or larger.
    """
    if comparison is None:
        return "no shared seeds"
    if not comparison.changed:
        return "the same"
    if not comparison.enough:
        return f"too few seeds ({comparison.seeds} of {SEEDS_NEEDED}): {_shown(comparison.change, comparison.kind)}"
    if comparison.direction == 0:
        return f"indistinguishable: {_shown(comparison.change, comparison.kind)}"
    word = smaller if comparison.direction < 0 else larger
    middle, low, high = change = comparison.change
    if comparison.direction < 0:  # shown as the size of what went down
        change = Interval(*(_undone(end, comparison.kind) for end in (middle, high, low)))
    if math.isinf(change.median):
        return f"{word} without bound"
    return f"{word} by {_shown(change, comparison.kind)}"


def _shown(change: Interval, kind: Kind) -> str:
    """``1.8x [1.5, 2.2]``, without the interval if it has no width."""
    middle, low, high = (f"{value:.3g}" for value in change)
    return f"{middle}{'x' if kind == 'ratio' else ''}" + ("" if low == high else f" [{low}, {high}]")


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
