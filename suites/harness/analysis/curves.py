"""Curves from records: for each method the median over its seeds, with the lowest and the highest value."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

import numpy as np

from suites.harness.records.facts import Point
from suites.harness.records.record import Record

# the x axes of curves: the name in measuring points, and the label
AXES = {
    "epochs": ("epoch", "epochs"),
    "seconds": ("training_seconds", "seconds of training"),
    "gradients": ("gradient_equivalents", "gradient-equivalents"),
}


@dataclass(frozen=True)
class Curve:
    """A quantity at the measuring points that all runs share; arrays [points].

    along: the median over the seeds of each axis. An axis that some record lacks is left out.
    """

    along: dict[str, np.ndarray]
    middle: np.ndarray
    low: np.ndarray
    high: np.ndarray


def points_of(record: Record) -> list[Point]:
    """The measuring points of a run. If other runs shared the machine, seconds are NaN."""
    if record.header.alone:
        return record.points
    return [replace(point, training_seconds=math.nan) for point in record.points]


def curve(runs: Sequence[Sequence[Point]], quantity: Callable[[Point], float | None]) -> Curve:
    """The curve of a quantity over the runs of one method, each given by its measuring points.

    Raises:
        ValueError: for no runs.
    """
    values = _column(runs, quantity)
    along = {axis: _column(runs, attrgetter(name)) for axis, (name, _) in AXES.items()}
    known = {axis: np.median(x, axis=0) for axis, x in along.items() if not np.isnan(x).any()}
    return Curve(known, np.median(values, axis=0), values.min(axis=0), values.max(axis=0))


def common_end(records: Sequence[Record]) -> float | None:
    """The end of the axis of seconds: three times the median length of a run, or the longest run if that is shorter. So
    a slow method does not squeeze the others. Runs that shared the machine do not count.
    """
    ends = [record.points[-1].training_seconds for record in records if record.header.alone]
    return min(max(ends), 3 * float(np.median(ends))) if ends else None


def _column(runs: Sequence[Sequence[Point]], quantity: Callable[[Point], float | None]) -> np.ndarray:
    """[runs, points], NaN where a point lacks it."""
    shared = min(map(len, runs))
    rows = [[quantity(point) for point in points[:shared]] for points in runs]
    return np.array(rows, dtype=float)
