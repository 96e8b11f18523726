"""Records in groups, and the cost of reaching a target."""

import math
from collections.abc import Iterable

from suites.harness.names import method_of
from suites.harness.records.facts import Tuning
from suites.harness.records.record import Record


def by_optimizer(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Records grouped by optimizer, in the order in which they first appear."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.experiment.optimizer, []).append(record)
    return groups


def tuning_of(record: Record) -> Tuning:
    """How the options of a run were chosen; for an old record, which does not say, by what its optimizer writes."""
    spec = record.experiment.optimizer
    return record.header.tuning or ("untuned" if spec == method_of(spec) else "given")


def to_reach(record: Record, target: float, quantity: str) -> float | None:
    """A number of the first measuring point that reaches the target; infinite if there is none, or if the run failed or
    diverged.

    Args:
        quantity: the name of a field of :class:`suites.harness.records.facts.Point`.

    Returns:
        None if the run has no end, or its record lacks this number.
    """
    if not record.ended or any(getattr(point, quantity) is None for point in record.points):
        return None
    if record.status != "finished":
        return math.inf
    reached = (getattr(point, quantity) for point in record.points if point.test_accuracy >= target)
    return next(reached, math.inf)
