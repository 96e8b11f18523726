"""Records in groups, and the measuring points that matter."""

import math
from collections.abc import Iterable
from typing import Any

from suites.harness.records.record import Record


def by_optimizer(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Records grouped by optimizer, in the order in which they first appear."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.experiment["optimizer"], []).append(record)
    return groups


_NEVER = {"epoch": math.inf, "training_seconds": math.inf, "gradient_equivalents": math.inf}


def first_reaching(record: Record, target: float) -> dict[str, Any]:
    """The first measuring point at or above the target; one at infinity if there is none."""
    return next((point for point in record.points if point["test_accuracy"] >= target), _NEVER)
