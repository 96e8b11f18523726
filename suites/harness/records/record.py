"""The record of a training run, and files that are written whole."""

import math
import os
from pathlib import Path
from typing import TypeAlias

from suites.harness.records.facts import Experiment, Point
from suites.harness.records.journal import Journal, misfit, read_journal

Record: TypeAlias = Journal[Experiment, Point]


def read(path: Path) -> Record:
    """Read the record of a run, see :func:`suites.harness.records.journal.read_journal`.

    Raises:
        ValueError: one line, if a line does not fit; if epochs are missing or out of order; if the clock went back; or
            if a finished run lacks epochs or has a loss that is not finite.
        OSError: if there is no such file.
    """
    record = read_journal(path, Experiment, Point)
    steps, seconds = (record.points[1].step if len(record.points) > 1 else 0), 0.0
    for number, point in enumerate(record.points):
        if (point.epoch, point.step) != (number, number * steps) or (number and not steps):
            raise misfit(path, number + 1, f"expected epoch {number}, found epoch {point.epoch} and step {point.step}")
        if point.training_seconds < seconds:
            raise misfit(path, number + 1, f"its seconds went back from {seconds:g} to {point.training_seconds:g}")
        seconds = point.training_seconds
    if record.completed:
        facts = record.experiment
        spent = facts.budget_seconds is not None and seconds >= facts.budget_seconds
        if not spent and len(record.points) != (facts.epochs or 0) + 1:
            raise misfit(path, len(record.points) + 1, f"it finished without all its {facts.epochs} epochs")
        if any(point.train_loss is None for point in record.points):
            raise misfit(path, len(record.points) + 1, "it finished with a loss that is not finite")
    return record


def finite(value: object) -> object:
    """The same value, with None for every number that is not finite: JSON has none."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a whole file or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(part, path)
