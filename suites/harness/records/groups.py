"""Records in groups: by optimizer, and by experiment.

Losses of runs with the same :class:`Setup` are comparable. :class:`Conditions` are what else decides losses and times;
the runs of an experiment share both.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from suites.harness.names import method_of
from suites.harness.records.facts import GOALS, Goal, Tuning
from suites.harness.records.record import Record


@dataclass(frozen=True)
class Setup:
    """Runs with the same setup have comparable losses. ``source``: the text of a user's own problem."""

    dataset: str
    criterion: str
    train_images: int
    test_images: int
    synthetic: bool
    validation: float
    network: tuple[int, ...]
    activation: str | tuple[str, ...]
    initialization: str
    batch_size: int
    dtype: str
    epochs: int | None
    budget_seconds: float | None
    schedule: str
    source: str | None

    @classmethod
    def of(cls, record: Record) -> "Setup":
        known = {name: getattr(record.experiment, name) for name in cls.__dataclass_fields__ if name != "source"}
        problem = record.header.problem
        held_out = record.experiment.validation or 0.0  # old records have none
        return cls(**{**known, "validation": held_out}, source=problem.source if problem else None)

    @property
    def problem(self) -> str:
        """The name of the problem with its criterion."""
        return f"{self.dataset}, {self.criterion}"

    @property
    def length(self) -> str:
        """When a run ends: ``40 epochs``, ``60 s of training``, or both."""
        epochs = f"{self.epochs} epochs" if self.epochs is not None else ""
        budget = f"{self.budget_seconds:g} s of training" if self.budget_seconds is not None else ""
        return " or ".join(filter(None, (epochs, budget)))

    @property
    def layers(self) -> str:
        """The activations of the hidden layers, and the initialization where it is not the usual one."""
        begin = "" if self.initialization == "xavier" else f", {self.initialization} initialization"
        return f"{_shown(self.activation)}{begin}"

    def __str__(self) -> str:
        what = "samples" if self.source else "images"  # a user's own problem may hold anything
        images = f"{self.train_images} + {self.test_images} {'synthetic ' if self.synthetic else ''}{what}"
        schedule = "" if self.schedule == "constant" else f", schedule {self.schedule}"
        return (
            f"{self.dataset} ({images}), {self.criterion}, {self.layers}, {_shown(self.network)}, "
            f"batch {self.batch_size}, {self.dtype}, {self.length}{schedule}"
        )


@dataclass(frozen=True)
class Conditions:
    """The conditions of a run. ``code``: the identity of the algorithms; in old records the commit."""

    device: str
    cuda_graph: bool
    processor: str
    threads: int | None
    torch: str | None
    code: str

    @classmethod
    def of(cls, record: Record) -> "Conditions":
        experiment, environment = record.experiment, record.environment
        return cls(
            experiment.device,
            experiment.cuda_graph,
            environment.processor,
            environment.threads,
            environment.torch,
            record.header.code or environment.commit,
        )


@dataclass(frozen=True)
class Group:
    """The runs of one experiment. Runs of the same optimizer share options, and the text of a user's own."""

    setup: Setup
    conditions: Conditions
    records: list[Record]

    @property
    def ended(self) -> str:
        """When its last run ended; empty if no record says so. Texts sort by time."""
        return max(_ended(record) for record in self.records)


def experiments(records: Iterable[Record]) -> list[Group]:
    """Split records into experiments, the newest first; those whose records do not say when they ended come last.

    Where an optimizer ran with several options or texts under one name, its newest runs go with the newest of the
    others.
    """
    shared: dict[tuple[Setup, Conditions], dict[str, dict[object, list[Record]]]] = {}
    for record in records:
        of_setting = shared.setdefault((Setup.of(record), Conditions.of(record)), {})
        of_optimizer = of_setting.setdefault(record.experiment.optimizer, {})
        of_optimizer.setdefault(_setting(record), []).append(record)
    groups = []
    for (setup, conditions), optimizers in shared.items():
        ranked = [sorted(found.values(), key=_last, reverse=True) for found in optimizers.values()]
        for place in range(max(map(len, ranked))):
            runs = [record for found in ranked if place < len(found) for record in found[place]]
            groups.append(Group(setup, conditions, runs))
    return sorted(groups, key=lambda group: group.ended, reverse=True)


def by_optimizer(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Records grouped by optimizer, in the order in which they first appear."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.experiment.optimizer, []).append(record)
    return groups


def tuning_of(record: Record) -> Tuning:
    """How the options of a run were chosen. An old record does not say; options that were given count as a user's."""
    spec = record.experiment.optimizer
    return record.header.tuning or ("untuned" if spec == method_of(spec) else "given")


def to_reach(record: Record, target: float, quantity: str) -> float | None:
    """A number of the first measuring point that reaches the target, such as the step; infinite if no point does, or if
    the run failed, diverged or stayed at chance.

    Args:
        quantity: the name of a field of :class:`suites.harness.records.facts.Point`.

    Returns:
        None if the run has no end, or its record lacks this number.
    """
    if not record.ended or any(getattr(point, quantity) is None for point in record.points):
        return None
    if record.status != "finished":
        return math.inf
    goal = goal_of(record)
    reached = (getattr(one, quantity) for one in record.points if goal.reached(getattr(one, goal.field), target))
    return next(reached, math.inf)


def goal_of(record: Record) -> Goal:
    """The metric that judges a run; in an old record the accuracy."""
    problem = record.header.problem
    return GOALS.get(problem.metric if problem else "", GOALS["test accuracy"])


def hardest_reached(records: Sequence[Record], targets: Sequence[float]) -> float:
    """The hardest target that some optimizer reached in more than half of its runs; the easiest if there is none.

    Args:
        records: runs of one problem. Those without an end do not count.
    """
    groups = by_optimizer(record for record in records if record.ended).values()
    in_order = goal_of(records[0]).hardest_first(targets)

    def reached(target: float) -> bool:
        costs = [[to_reach(record, target, "epoch") for record in runs] for runs in groups]
        return any(
            2 * sum(cost is not None and math.isfinite(cost) for cost in of_one) > len(of_one) for of_one in costs
        )

    return next(filter(reached, in_order), in_order[-1])


def _ended(record: Record) -> str:
    return (record.end and record.end.ended) or ""


def _last(records: Sequence[Record]) -> str:
    return max(map(_ended, records))


def _setting(record: Record) -> tuple[object, ...]:
    """What else tells two runs of one optimizer apart."""
    options: Mapping[str, object] = record.experiment.options
    texts = sorted((name, str(value)) for name, value in options.items())
    return (*texts, record.header.source, *sorted(record.environment.packages.items()))


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return "-".join(map(str, value))
    return "none" if value is None else str(value)
