"""The registry of metrics: how each is computed from a run, its name, unit and format, and which way is better.

Tables, pictures, verdicts and the page take all of these from here.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from suites.harness.analysis.verdicts import Kind, by_seed
from suites.harness.records.facts import GOALS
from suites.harness.records.groups import goal_of, to_reach
from suites.harness.records.record import Record
from suites.harness.units import shown_bytes

Form: TypeAlias = str | Callable[[float], str]


@dataclass(frozen=True)
class Metric:
    """A number of a run.

    key: its name in code. quantity: the name of what it measures, without the unit: ``time``.
    of: computes it, given the target; None if it is unknown, as for an unfinished run.
    form: the format, such as ``.3g``, or a function, which writes the unit as well.
    unit: in the plural; empty for a number without one.
    until: the end of its name: ``to {target}``, or ``/ step``.
    fell: the value that ranks a run that failed or diverged; None: the value of ``of``.
    smaller, larger: the words for a change. kind: whether changes are ratios or differences.
    timed: it depends on the machine; it is unknown for a run that shared it. exact: it does not depend on the seed.
    to_target: it is infinite for a run that missed the target.
    """

    key: str
    quantity: str
    of: Callable[[Record, float], float | None]
    form: Form
    unit: str = ""
    until: str = ""
    smaller: str = "lower"
    larger: str = "higher"
    fell: float | None = math.inf
    kind: Kind = "ratio"
    larger_is_better: bool = False
    timed: bool = False
    exact: bool = False
    to_target: bool = False

    def at(self, target: float) -> "Metric":
        """With the target in its label."""
        return replace(self, until=self.until.format(target=f"{target:g}"))

    @property
    def label(self) -> str:
        """Its full name: ``seconds to 0.95``, ``train loss``."""
        return f"{self.unit} {self.until}" if self.until else self.quantity

    @property
    def axis(self) -> str:
        """Its name with the unit, for an axis: ``test loss, nats an image``."""
        return ", ".join(filter(None, (self.quantity, self.unit)))

    @property
    def short(self) -> str:
        """Its name without the target: ``seconds``, ``train loss``."""
        return self.unit if self.to_target else self.label

    def text(self, value: float) -> str:
        """The number for readers, in its format."""
        if self.to_target and math.isinf(value):
            return "not reached"
        return self.form(value) if callable(self.form) else format(value, self.form)

    def ranked(self, record: Record, target: float) -> float | None:
        """The number that ranks a run among others; ``fell`` for one that failed or diverged."""
        if self.fell is not None and record.status in ("failed", "diverged"):
            return self.fell
        return self.of(record, target)

    def by_seed(self, records: Iterable[Record], target: float) -> dict[int, float]:
        """One known value for each seed, see :func:`suites.harness.analysis.verdicts.by_seed`."""
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


def _alone(of: Callable[[Record, float], float | None]) -> Callable[[Record, float], float | None]:
    """The same number, and None for a run that shared the machine."""
    return lambda record, target: of(record, target) if record.header.alone else None


def _peak_state(record: Record, _: float) -> float | None:
    return record.end and record.end.peak_state_bytes


_TO_TARGET = "to {target}"
METRICS = {
    metric.key: metric
    for metric in (
        Metric("train_loss", "train loss", _last("train_loss"), ".3g"),
        Metric(
            key="test_accuracy",
            quantity="test accuracy",
            of=_last("test_accuracy"),
            form=".3f",
            fell=0.0,
            kind="difference",
            larger_is_better=True,
        ),
        Metric("test_loss", "test loss", _last("test_loss"), ".4g"),
        Metric(
            key="epochs",
            quantity="training",
            of=_to_reach("epoch"),
            form=".0f",
            unit="epochs",
            until=_TO_TARGET,
            smaller="fewer",
            larger="more",
            to_target=True,
        ),
        Metric(
            key="seconds",
            quantity="time",
            of=_alone(_to_reach("training_seconds")),
            form=".3g",
            unit="seconds",
            until=_TO_TARGET,
            smaller="faster",
            larger="slower",
            fell=None,
            timed=True,
            to_target=True,
        ),
        Metric(
            key="gradients",
            quantity="operations",
            of=_to_reach("gradient_equivalents"),
            form=".0f",
            unit="gradient-equivalents",
            until=_TO_TARGET,
            smaller="fewer",
            larger="more",
            to_target=True,
        ),
        Metric(
            key="gradients_a_step",
            quantity="operations",
            of=_a_step("gradient_equivalents"),
            form=".2f",
            unit="gradient-equivalents",
            until="/ step",
            smaller="fewer",
            larger="more",
            fell=None,
        ),
        Metric(
            key="seconds_a_step",
            quantity="time",
            of=_alone(_a_step("training_seconds")),
            form=".3g",
            unit="seconds",
            until="/ step",
            smaller="faster",
            larger="slower",
            fell=None,
            timed=True,
        ),
        Metric(
            key="peak_state",
            quantity="optimizer memory",
            of=_peak_state,
            form=shown_bytes,
            unit="bytes",
            smaller="smaller",
            larger="larger",
            fell=None,
            exact=True,
        ),
    )
}


def judged_by(records: Sequence[Record]) -> Metric:
    """The metric of these runs' targets, with the unit of the problem if it has its own."""
    goal, problem = goal_of(records[0]), records[0].header.problem
    unit = problem.unit if problem else goal.unit
    return replace(METRICS[goal.field], unit="" if unit == goal.unit else unit)


def metrics_of(records: Sequence[Record]) -> list[Metric]:
    """The metrics of these runs: all but those that judge other problems."""
    others = {goal.field for goal in GOALS.values()} - {goal_of(records[0]).field}
    return [metric for key, metric in METRICS.items() if key not in others]


STEP_RATIO = Metric(  # its values are of a command, not of a record
    key="step_ratio",
    quantity="step time / SGD",
    of=lambda record, target: None,
    form=".2f",
    smaller="faster",
    larger="slower",
    timed=True,
)
