"""Statistics that hold for a handful of seeds: medians with bootstrap intervals."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_RESAMPLES = 2000


class Interval(NamedTuple):
    """A median with the ends of its 95 % bootstrap interval."""

    median: float
    low: float
    high: float


def median_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """The median of a sample and its percentile bootstrap interval.

    A value may be infinite, as the time of a run that never reached its target: it is ranked, not dropped.

    Raises:
        ValueError: for an empty sample or one with NaN.
    """
    sample = np.asarray(values, dtype=float)
    if sample.size == 0 or np.isnan(sample).any():
        raise ValueError(f"a median needs one or more numbers that are not NaN, got {list(values)}")
    median = float(np.median(sample))
    if sample.size == 1:
        return Interval(median, median, median)
    # by hand: an infinite value makes the standard error in scipy's bootstrap NaN; seeded: same records, same table
    resampled = np.median(np.random.default_rng(0).choice(sample, size=(_RESAMPLES, sample.size)), axis=1)
    # ends that are values of the sorted sample: interpolating would meet inf - inf
    rank = round((1 - level) / 2 * _RESAMPLES)
    low, high = np.sort(resampled)[[rank, -1 - rank]]
    return Interval(median, float(low), float(high))
