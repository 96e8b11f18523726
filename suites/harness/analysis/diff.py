"""Two folders of records, before and after: what got better or worse, what cannot be told apart, and why not.

Losses are comparable within a *setup*: data, criterion, network, batch, length, schedule. There, runs of the same
optimizer are paired by seed. Of times, only the step time over SGD's is judged; seconds are shown. If *conditions*
differ (the machine, its threads, CUDA graphs), no time is judged.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Literal, TypeAlias

from suites.harness.analysis.metrics import STEP_RATIO, Metric, metrics_of
from suites.harness.analysis.statistics import Interval, median_interval
from suites.harness.analysis.verdicts import (
    SMALLEST_EFFECT,
    Compared,
    StepSeconds,
    paired,
    step_ratios,
    times_changed,
    verdict,
)
from suites.harness.data.problem import target_of
from suites.harness.records.beside import read_step_seconds
from suites.harness.records.conventions import REFERENCE
from suites.harness.records.groups import Setup, by_optimizer
from suites.harness.records.record import Record, read
from suites.harness.records.results import read_each

Outcome = Literal["better", "worse", "same", "inconclusive", "not compared"]
Pair: TypeAlias = tuple[str, str]  # an optimizer before, and after

_ENVIRONMENT = ("platform", "cpu", "cores", "threads")
_SOFTWARE = ("torch", "blas", "python", "kronbench")


@dataclass(frozen=True)
class Side:
    """The runs of a folder, or some of them.

    step_seconds: by the output folder of a command. unread: a line for each file that is left out.
    """

    records: list[Record]
    step_seconds: Mapping[Path, StepSeconds]
    unread: list[str]

    def by_setup(self) -> dict[Setup, "Side"]:
        groups: dict[Setup, list[Record]] = {}
        for record in self.records:
            groups.setdefault(Setup.of(record), []).append(record)
        return {setup: replace(self, records=records) for setup, records in groups.items()}

    def by_optimizer(self) -> dict[str, "Side"]:
        return {name: replace(self, records=records) for name, records in by_optimizer(self.records).items()}

    def step_ratios(self) -> list[list[float]]:
        """Step time / SGD of the first record's optimizer: for each output folder, one a sitting."""
        folders = dict.fromkeys(map(_folder, self.records))
        optimizer = self.records[0].experiment.optimizer
        found = (step_ratios(self.step_seconds.get(folder, {}), optimizer) for folder in folders)
        return [ratios for ratios in found if ratios]


@dataclass(frozen=True)
class Row:
    """One metric of an optimizer, or of two that a user pairs.

    metric: None if no metric of the optimizer is compared.
    before, after: medians with their intervals; None if unknown.
    change: None if it is not compared. reason: why not.
    """

    pair: Pair
    metric: Metric | None
    before: Interval | None = None
    after: Interval | None = None
    change: Compared | None = None
    reason: str = ""

    @property
    def optimizer(self) -> str:
        return " -> ".join(dict.fromkeys(self.pair))

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


def read_folder(folder: Path) -> Side:
    """The records in the folders called ``runs`` in and below a folder, and the step times beside them.

    Records that cannot be read or have no end are left out. So are step times that cannot be read, or that lie beside
    records of several setups, since they do not say of which they are.

    Raises:
        ValueError: if there is no record, or none that can be compared.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder; give one that kronbench compare wrote")
    paths = sorted(path for path in folder.resolve().rglob("*.jsonl") if path.parent.name == "runs")
    if not paths:
        raise ValueError(f"{folder}: no records in it; there should be runs/*.jsonl, as kronbench compare writes")
    unread: list[str] = []
    found = list(read_each(paths, read, unread))
    unread += [f"{record.path}: it has no end, the run is unfinished" for record in found if not record.end]
    records = [record for record in found if record.end]
    if not records:
        more = f"; nor can {len(unread) - 1} more" if len(unread) > 1 else ""
        raise ValueError(f"{unread[0]}{more}")
    setups = Counter(folder for folder, _ in {(_folder(record), Setup.of(record)) for record in records})
    times = (folder / "step_seconds.json" for folder, count in setups.items() if count == 1)
    seconds = dict(read_each(filter(Path.exists, times), lambda path: (path.parent, read_step_seconds(path)), unread))
    return Side(records, seconds, unread)


def diff(before: Side, after: Side, pairs: Sequence[Pair] = (), smallest: float = SMALLEST_EFFECT) -> Diff:
    """Compare setup by setup, optimizer by optimizer.

    Args:
        pairs: optimizers to compare although their names or options differ.
        smallest: the share by which a time must change to count.

    Raises:
        ValueError: one line, if no setup has both optimizers of a pair.
    """
    old, new = before.by_setup(), after.by_setup()
    differences = [_difference(setup, old[setup], new[setup], pairs, smallest) for setup in old if setup in new]
    found = {row.pair for difference in differences for row in difference.rows}
    for pair in pairs:
        if pair not in found:
            there = (", ".join(side.by_optimizer()) for side in (before, after))
            raise ValueError(
                f"pair {'='.join(pair)}: no setup has the first before and the second after; before: {next(there)}; "
                f"after: {next(there)}"
            )
    return Diff(
        differences,
        [setup for setup in old if setup not in new],
        [setup for setup in new if setup not in old],
    )


def _difference(setup: Setup, before: Side, after: Side, given: Sequence[Pair], smallest: float) -> Difference:
    old, new = before.by_optimizer(), after.by_optimizer()
    target = target_of([*before.records, *after.records])
    chosen = [(one, other) for one, other in given if one in old and other in new]
    taken = {one for one, _ in chosen}, {other for _, other in chosen}
    rows: list[Row] = []
    for pair in chosen + [(name, name) for name in old if name in new and name not in taken[0] | taken[1]]:
        sides = old[pair[0]], new[pair[1]]
        options = _changes(lambda record: record.experiment.options, *sides, missing_counts=False)
        if options and pair not in chosen:
            rows.append(Row(pair, None, reason=f"other options: {', '.join(options)}"))
        else:
            rows += _rows(pair, *sides, target, smallest)
    notes = [
        *(f"another machine, times are not compared: {text}" for text in _changes(_conditions, before, after)),
        *_changes(_software, before, after),
    ]
    one_sided = [f"{name} (before)" for name in old if name not in new and name not in taken[0]]
    one_sided += [f"{name} (after)" for name in new if name not in old and name not in taken[1]]
    return Difference(setup, notes, rows, one_sided)


def _rows(pair: Pair, before: Side, after: Side, target: float, smallest: float) -> list[Row]:
    """The rows of a pair, one a metric. ``reason`` is empty if the metric can be compared."""
    rows = []
    alone = all(record.header.alone for side in (before, after) for record in side.records)
    for metric in (metric.at(target) for metric in metrics_of(after.records)):
        old, new = (metric.by_seed(side.records, target) for side in (before, after))
        reason = ("seconds of two runs" if alone else "other runs shared the machine") if metric.timed else ""
        rows.append(_row(pair, metric, old.values(), new.values(), paired(old, new, metric.kind, metric.exact), reason))
    if pair != (REFERENCE, REFERENCE):
        was, is_now = before.step_ratios(), after.step_ratios()
        reason = "another machine" if _changes(_conditions, before, after) else ""
        compared = times_changed(was, is_now, smallest)
        rows.append(_row(pair, STEP_RATIO, list(chain(*was)), list(chain(*is_now)), compared, reason))
    return rows


def _row(
    pair: Pair, metric: Metric, old: Collection[float], new: Collection[float], compared: Compared | None, reason: str
) -> Row:
    was, is_now = (median_interval(side) if side else None for side in (old, new))
    reason = reason or ("" if old and new else "not recorded")
    return Row(pair, metric, was, is_now, None if reason else compared, reason)


def _folder(record: Record) -> Path:
    """The output folder of the command that wrote it."""
    return record.path.parent.parent


def _conditions(record: Record) -> dict[str, object]:
    environment, experiment = record.environment, record.experiment
    return {
        **{name: getattr(environment, name) for name in _ENVIRONMENT},
        "GPU": environment.gpu and environment.gpu.name,
        "device": experiment.device,
        "CUDA graph": experiment.cuda_graph,
    }


def _software(record: Record) -> dict[str, object]:
    environment = record.environment
    return {
        "commit": environment.commit,
        **{name: getattr(environment, name) for name in _SOFTWARE},
        **{name: getattr(environment.gpu, name, None) for name in ("driver", "cuda", "tf32")},
        **environment.packages,
    }


def _changes(
    facts: Callable[[Record], Mapping[str, object]],
    before: Side,
    after: Side,
    missing_counts: bool = True,
) -> list[str]:
    """The facts that differ among the runs of both sides, as ``threads 2 -> 4``."""
    old, new = ([facts(record) for record in side.records] for side in (before, after))
    texts = []
    for name in dict.fromkeys(name for one in (*old, *new) for name in one):
        sides = [list(dict.fromkeys(str(one[name]) for one in side if name in one)) for side in (old, new)]
        if len({*sides[0], *sides[1]}) > 1 if all(sides) else missing_counts:
            texts.append(f"{name} {', '.join(sides[0]) or '-'} -> {', '.join(sides[1]) or '-'}")
    return texts
