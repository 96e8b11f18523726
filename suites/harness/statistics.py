"""Statistics that hold for a handful of seeds: medians with bootstrap intervals."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

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
    median = float(np.quantile(sample, 0.5, method="averaged_inverted_cdf"))
    if sample.size == 1:
        return Interval(median, median, median)

    def medians(resample: np.ndarray, axis: int) -> np.ndarray:
        return np.quantile(resample, 0.5, axis=axis, method="averaged_inverted_cdf")

    result = stats.bootstrap(
        (sample,),
        medians,
        n_resamples=_RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),  # the same records give the same table
        vectorized=True,
    )
    # ends that are values of the sample: interpolating would meet inf - inf
    tail = (1 - level) / 2
    low, high = np.quantile(result.bootstrap_distribution, [tail, 1 - tail], method="inverted_cdf")
    return Interval(median, float(low), float(high))
