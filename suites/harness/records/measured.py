"""The rows that ``kronbench gpu`` writes in its journals: a type for each stage."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, TypeVar

from suites.harness.records.facts import Count
from suites.harness.records.journal import Journal, read_journal

P = TypeVar("P")


@dataclass(frozen=True, slots=True, kw_only=True)
class StageExperiment:
    """A stage and its device."""

    stage: str
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The status, and the reason if it is not good."""

    status: str
    reason: str | None = None
    optimizer: str = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check(Row):
    """A check of an optimizer. ``difference`` must not exceed ``bound``, if there is one."""

    check: str
    bound: float | None = None
    difference: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime(Row):
    """Seconds of a step; there is no median if it could not be measured."""

    network: str
    batch: int
    tf32: bool
    graph: bool | None = None
    seconds: tuple[float, ...] = ()
    median: float | None = None
    low: float | None = None
    high: float | None = None
    ratio_to_sgd: float | None = None
    ratio_to_torch_sgd: float | None = None
    phases: dict[str, float] = field(default_factory=dict)

    @property
    def milliseconds(self) -> tuple[float, float, float] | None:
        """The median with its interval; None if there is none."""
        if self.median is None or self.low is None or self.high is None:
            return None
        return 1e3 * self.median, 1e3 * self.low, 1e3 * self.high


@dataclass(frozen=True, slots=True, kw_only=True)
class AtOnce(Row):
    """``runs`` runs side by side, and one of them alone: seconds from begin to end, and whether the numbers of this one
    are the same, bit for bit. ``bound``: of the ratio of the seconds.
    """

    network: str
    batch: int
    runs: int
    epochs: int
    bound: float | None = None
    seconds_alone: float | None = None
    seconds: float | None = None
    same: bool | None = None

    @property
    def ratio(self) -> float | None:
        return self.seconds / self.seconds_alone if self.seconds and self.seconds_alone else None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPeak(Row):
    """Bytes of a step, predicted and measured under a budget."""

    network: str
    batch: int
    budget_bytes: Count | None = None
    predicted_bytes: Count | None = None
    peak_bytes: Count | None = None
    asked_bytes: Count | None = None
    step_seconds: float | None = None
    fell_back: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained(Row):
    """A training run; its record has the numbers. A row without an optimizer says why other images are used."""

    dataset: str | None = None
    criterion: str | None = None
    seed: int | None = None
    epochs: int | None = None
    epoch: int | None = None
    training_seconds: float | None = None
    train_loss: float | None = None
    test_accuracy: float | None = None


StageRecord: TypeAlias = Journal[StageExperiment, P]


def read_stage(path: Path, row: type[P]) -> "StageRecord[P]":
    """Read the journal of a stage, see :func:`suites.harness.records.journal.read_journal`."""
    return read_journal(path, StageExperiment, row)
