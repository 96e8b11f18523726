"""Numbers that every run has: what it reached, what that cost, and what a change of each is called."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from suites.harness.analysis.verdicts import Kind, by_seed
from suites.harness.records.groups import to_reach
from suites.harness.records.record import Record
from suites.harness.units import shown_bytes


@dataclass(frozen=True)
class Metric:
    """A number, and what a change of it is called.

    value: of a run, given the target accuracy; None where it is unknown.
    smaller, larger: what it is called when the number becomes that.
    timed: it depends on the machine. exact: it depends on no seed.
    """

    name: str
    value: Callable[[Record, float], float | None]
    smaller: str
    larger: str
    form: Callable[[float], str]
    kind: Kind = "ratio"
    larger_is_better: bool = False
    timed: bool = False
    exact: bool = False


def metrics(target: float) -> list[Metric]:
    """What is compared. A run that failed or diverged, or missed the target, is infinite; its accuracy is zero."""
    accuracy = _at_the_end("test_accuracy", 0.0)
    return [
        Metric("train loss", _at_the_end("train_loss", math.inf), "lower", "higher", "{:.3g}".format),
        Metric("test accuracy", accuracy, "lower", "higher", "{:.3f}".format, "difference", larger_is_better=True),
        Metric(f"epochs to {target:g}", _to_target("epoch"), "fewer", "more", _or_not_reached),
        Metric(f"gradients to {target:g}", _to_target("gradient_equivalents"), "fewer", "more", _or_not_reached),
        Metric(
            f"seconds to {target:g}", _to_target("training_seconds"), "faster", "slower", _or_not_reached, timed=True
        ),
        Metric("seconds / step", _seconds_a_step, "faster", "slower", "{:.3g}".format, timed=True),
        Metric("peak state", _peak_state, "smaller", "larger", shown_bytes, exact=True),
    ]


def values_by_seed(metric: Metric, records: Iterable[Record], target: float) -> dict[int, float]:
    """One value a seed, see :func:`by_seed`; runs of which it is unknown are left out."""
    values = ((record.experiment.seed, metric.value(record, target)) for record in records)
    return by_seed((seed, value) for seed, value in values if value is not None)


def _fell(record: Record) -> bool:
    return record.status in ("failed", "diverged")


def _at_the_end(name: str, worst: float) -> Callable[[Record, float], float | None]:
    def value(record: Record, target: float) -> float | None:
        if _fell(record):
            return worst
        return getattr(record.points[-1], name) if record.completed else None

    return value


def _to_target(name: str) -> Callable[[Record, float], float | None]:
    def value(record: Record, target: float) -> float | None:
        return to_reach(record, target, name)

    return value


def _seconds_a_step(record: Record, target: float) -> float | None:
    last = record.points[-1] if record.points else None
    return last.training_seconds / last.step if last and last.step and record.ended else None


def _peak_state(record: Record, target: float) -> float | None:
    return record.end.peak_state_bytes if record.end else None


def _or_not_reached(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "not reached"
