"""Two folders of records, before and after: what got better or worse, what cannot be told apart, and why not.

A *setup* is what makes losses comparable: data, criterion, network, batch, length, schedule. Within one, runs of the
same optimizer are paired by seed. *Conditions* decide about times: the machine, its threads, CUDA graphs. Where they
differ, times are not compared.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from suites.harness.analysis.metrics import METRICS, Metric
from suites.harness.analysis.statistics import Interval, median_interval
from suites.harness.analysis.verdicts import Compared, paired, verdict
from suites.harness.problems.problem import target_of
from suites.harness.records.groups import Setup, by_optimizer
from suites.harness.records.record import Record, read

Outcome = Literal["better", "worse", "same", "inconclusive", "not compared"]

_ENVIRONMENT = ("platform", "cpu", "cores", "threads")
_SOFTWARE = ("torch", "blas", "python", "kronbench")


@dataclass(frozen=True)
class Row:
    """One metric of one optimizer.

    metric: None if no metric of the optimizer is compared.
    before, after: the medians with their intervals; None if nothing is known.
    change: seed by seed; None if it is not compared. reason: why it is not compared.
    """

    optimizer: str
    metric: Metric | None
    before: Interval | None = None
    after: Interval | None = None
    change: Compared | None = None
    reason: str = ""

    @property
    def outcome(self) -> Outcome:
        if self.metric is None or self.reason:
            return "not compared"
        if self.change and self.change.same:
            return "same"
        if self.change and self.change.direction:
            return "better" if (self.change.direction > 0) == self.metric.larger_is_better else "worse"
        return "inconclusive"

    @property
    def verdict(self) -> str:
        """The change in words, or why it is not compared."""
        return self.reason or (verdict(self.change, self.metric.smaller, self.metric.larger) if self.metric else "")


@dataclass(frozen=True)
class Difference:
    """A setup that both sides have.

    notes: what differs between the environments. one_sided: optimizers that only one side has.
    """

    setup: Setup
    notes: list[str]
    rows: list[Row]
    one_sided: list[str]


@dataclass(frozen=True)
class Diff:
    """The setups that both folders have, and those that only one has."""

    differences: list[Difference]
    only_before: list[Setup]
    only_after: list[Setup]


def read_folder(folder: Path) -> tuple[list[Record], list[str]]:
    """The records in the folders called ``runs`` in and below a folder, and a line for each that is left out.

    A record is left out if it cannot be read or has no end.

    Raises:
        ValueError: if there is no record, or none that can be compared.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder; give one that kronbench compare wrote")
    paths = sorted(path for path in folder.resolve().rglob("*.jsonl") if path.parent.name == "runs")
    if not paths:
        raise ValueError(f"{folder}: no records in it; there should be runs/*.jsonl, as kronbench compare writes")
    records: list[Record] = []
    unread: list[str] = []
    for path in paths:
        try:
            record = read(path)
        except (OSError, ValueError) as error:
            unread.append(str(error))
            continue
        if record.end:
            records.append(record)
        else:
            unread.append(f"{path}: it has no end, the run is unfinished")
    if not records:
        more = f"; nor can the {len(unread) - 1} others" if len(unread) > 1 else ""
        raise ValueError(f"{unread[0]}{more}")
    return records, unread


def diff(before: Iterable[Record], after: Iterable[Record]) -> Diff:
    """Compare setup by setup, optimizer by optimizer."""
    old, new = _by_setup(before), _by_setup(after)
    return Diff(
        [_difference(setup, old[setup], new[setup]) for setup in old if setup in new],
        [setup for setup in old if setup not in new],
        [setup for setup in new if setup not in old],
    )


def _by_setup(records: Iterable[Record]) -> dict[Setup, list[Record]]:
    groups: dict[Setup, list[Record]] = {}
    for record in records:
        groups.setdefault(Setup.of(record), []).append(record)
    return groups


def _difference(setup: Setup, before: Sequence[Record], after: Sequence[Record]) -> Difference:
    old, new = by_optimizer(before), by_optimizer(after)
    target = target_of([*before, *after])
    rows = [row for name in old if name in new for row in _rows(name, old[name], new[name], target)]
    notes = [
        *(f"another machine, times are not compared: {text}" for text in _changes(_conditions, before, after)),
        *_changes(_software, before, after),
    ]
    one_sided = [f"{name} (before)" for name in old if name not in new]
    return Difference(setup, notes, rows, one_sided + [f"{name} (after)" for name in new if name not in old])


def _rows(name: str, before: Sequence[Record], after: Sequence[Record], target: float) -> list[Row]:
    options = _changes(lambda record: record.experiment.options, before, after, missing_counts=False)
    if options:
        return [Row(name, None, reason=f"other options: {', '.join(options)}")]
    elsewhere = bool(_changes(_conditions, before, after))
    return [_row(name, metric.at(target), before, after, target, elsewhere) for metric in METRICS.values()]


def _row(
    name: str, metric: Metric, before: Sequence[Record], after: Sequence[Record], target: float, elsewhere: bool
) -> Row:
    old, new = (metric.by_seed(records, target) for records in (before, after))
    was, is_now = (median_interval(side.values()) if side else None for side in (old, new))
    if not old or not new:
        return Row(name, metric, was, is_now, reason="not recorded")
    if metric.timed and elsewhere:
        return Row(name, metric, was, is_now, reason="another machine")
    return Row(name, metric, was, is_now, paired(old, new, metric.kind, metric.exact))


def _conditions(record: Record) -> dict[str, Any]:
    environment, experiment = record.environment, record.experiment
    return {
        **{name: getattr(environment, name) for name in _ENVIRONMENT},
        "GPU": environment.gpu and environment.gpu.name,
        "device": experiment.device,
        "CUDA graph": experiment.cuda_graph,
    }


def _software(record: Record) -> dict[str, Any]:
    environment = record.environment
    return {
        "commit": environment.commit,
        **{name: getattr(environment, name) for name in _SOFTWARE},
        **{name: getattr(environment.gpu, name, None) for name in ("driver", "cuda", "tf32")},
        **environment.packages,
    }


def _changes(
    facts: Callable[[Record], Mapping[str, Any]],
    before: Iterable[Record],
    after: Iterable[Record],
    missing_counts: bool = True,
) -> list[str]:
    """Facts that are not the same for all runs of both sides, as ``threads 2 -> 4``."""
    old, new = ([facts(record) for record in records] for records in (before, after))
    texts = []
    for name in dict.fromkeys(name for one in (*old, *new) for name in one):
        sides = [list(dict.fromkeys(str(one[name]) for one in side if name in one)) for side in (old, new)]
        if len({*sides[0], *sides[1]}) > 1 and (missing_counts or all(sides)):
            texts.append(f"{name} {', '.join(sides[0]) or '-'} -> {', '.join(sides[1]) or '-'}")
    return texts
