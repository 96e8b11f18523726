"""The registry of metrics: what is read off a run, what it is called, how it is written, and which way is better.

Tables, pictures, verdicts and the page take names, labels and formats from here.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias

from suites.harness.analysis.verdicts import Kind, by_seed
from suites.harness.records.groups import to_reach
from suites.harness.records.record import Record
from suites.harness.units import shown_bytes

Form: TypeAlias = str | Callable[[float], str]


@dataclass(frozen=True)
class Metric:
    """A number of a run.

    key: its name in code. label: its name for readers; ``{target}`` stands for the target.
    form: the format, such as ``.3g``, or a function.
    of: the number, given the target; None if it is unknown, as for an unfinished run.
    fell: the value that ranks a run that failed or diverged; None: the value of ``of``.
    smaller, larger: the words for a change. kind: whether changes are ratios or differences.
    timed: it depends on the machine. exact: it does not depend on the seed.
    to_target: it is infinite for a run that did not reach the target.
    """

    key: str
    label: str
    form: Form
    of: Callable[[Record, float], float | None]
    smaller: str
    larger: str
    fell: float | None = math.inf
    kind: Kind = "ratio"
    larger_is_better: bool = False
    timed: bool = False
    exact: bool = False
    to_target: bool = False

    def at(self, target: float) -> "Metric":
        """With the target in its label."""
        return replace(self, label=self.label.format(target=f"{target:g}"))

    def text(self, value: float) -> str:
        """The number as readers see it."""
        if self.to_target and math.isinf(value):
            return "not reached"
        return self.form(value) if callable(self.form) else format(value, self.form)

    def ranked(self, record: Record, target: float) -> float | None:
        """The number that ranks runs against each other; see :attr:`fell` for one that failed or diverged."""
        if self.fell is not None and record.status in ("failed", "diverged"):
            return self.fell
        return self.of(record, target)

    def by_seed(self, records: Iterable[Record], target: float) -> dict[int, float]:
        """One value for each seed, see :func:`suites.harness.analysis.verdicts.by_seed`; unknown ones are left out."""
        values = ((record.experiment.seed, self.ranked(record, target)) for record in records)
        return by_seed((seed, value) for seed, value in values if value is not None)


def _last(quantity: str) -> Callable[[Record, float], float | None]:
    """A field of the last measuring point of a completed run."""
    return lambda record, _: getattr(record.points[-1], quantity) if record.completed else None


def _to_reach(quantity: str) -> Callable[[Record, float], float | None]:
    return lambda record, target: to_reach(record, target, quantity)


def _a_step(quantity: str) -> Callable[[Record, float], float | None]:
    """The mean cost of a step, over all steps of a run that ended."""

    def of(record: Record, _: float) -> float | None:
        last = record.points[-1] if record.points and record.ended else None
        total = last and getattr(last, quantity)
        return total / last.step if last and last.step and total is not None else None

    return of


def _peak_state(record: Record, _: float) -> float | None:
    return record.end and record.end.peak_state_bytes


METRICS = {
    metric.key: metric
    for metric in (
        Metric("train_loss", "train loss", ".3g", _last("train_loss"), "lower", "higher"),
        Metric(
            *("test_accuracy", "test accuracy", ".3f", _last("test_accuracy"), "lower", "higher"),
            fell=0.0,
            kind="difference",
            larger_is_better=True,
        ),
        Metric("epochs", "epochs to {target}", ".0f", _to_reach("epoch"), "fewer", "more", to_target=True),
        Metric(
            *("seconds", "seconds to {target}", ".3g", _to_reach("training_seconds"), "faster", "slower"),
            timed=True,
            to_target=True,
        ),
        Metric(
            *("gradients", "gradient-equivalents to {target}", ".0f", _to_reach("gradient_equivalents")),
            *("fewer", "more"),
            to_target=True,
        ),
        Metric(
            *("gradients_a_step", "gradient-equivalents / step", ".2f", _a_step("gradient_equivalents")),
            *("fewer", "more"),
            fell=None,
        ),
        Metric(
            *("seconds_a_step", "seconds / step", ".3g", _a_step("training_seconds"), "faster", "slower"),
            fell=None,
            timed=True,
        ),
        Metric("peak_state", "peak state", shown_bytes, _peak_state, "smaller", "larger", fell=None, exact=True),
    )
}
