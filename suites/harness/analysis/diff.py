"""Two folders of records, before and after: what got better or worse, what cannot be told apart, and why not.

An *experiment* is what makes losses comparable: data, criterion, network, batch, epochs. Within one, runs of the same
optimizer are paired by seed. *Conditions* are what decides about times: the machine, its threads, CUDA graphs; where
they differ, times are not compared.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suites.harness.analysis.metrics import Metric, metrics, values_by_seed
from suites.harness.analysis.statistics import median_interval
from suites.harness.analysis.verdicts import paired, verdict
from suites.harness.problems.problem import target_of
from suites.harness.records.facts import Experiment
from suites.harness.records.groups import by_optimizer
from suites.harness.records.record import Record, read

_ENVIRONMENT = ("platform", "cpu", "cores", "threads")
_SOFTWARE = ("torch", "blas", "python", "kronbench")


@dataclass(frozen=True)
class Row:
    """One metric of one optimizer. ``outcome``: better, worse, same, untold or not compared."""

    optimizer: str
    metric: str
    before: str
    after: str
    outcome: str
    verdict: str


@dataclass(frozen=True)
class Difference:
    """An experiment that both sides have.

    notes: what differs between the environments; one_sided: optimizers that one side alone has.
    """

    experiment: str
    notes: list[str]
    rows: list[Row]
    one_sided: list[str]


@dataclass(frozen=True)
class Diff:
    """All experiments of two folders: those of both, and the names of those that one side alone has."""

    differences: list[Difference]
    only_before: list[str]
    only_after: list[str]


def read_folder(folder: Path) -> list[Record]:
    """All records in the folders called ``runs`` in and below a folder.

    Raises:
        ValueError: if there is none, or one that cannot be read.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder; give one that kronbench compare wrote")
    paths = sorted(path for path in folder.resolve().rglob("*.jsonl") if path.parent.name == "runs")
    if not paths:
        raise ValueError(f"{folder}: no records in it; there should be runs/*.jsonl, as kronbench compare writes")
    return [read(path) for path in paths]


def diff(before: Iterable[Record], after: Iterable[Record]) -> Diff:
    """Compare experiment by experiment, optimizer by optimizer."""
    old, new = _by_experiment(before), _by_experiment(after)
    return Diff(
        [_difference(name, old[name], new[name]) for name in old if name in new],
        [name for name in old if name not in new],
        [name for name in new if name not in old],
    )


def _by_experiment(records: Iterable[Record]) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(_title(record.experiment), []).append(record)
    return groups


def _title(experiment: Experiment) -> str:
    """All that makes an experiment, in words."""
    synthetic = "synthetic " if experiment.synthetic else ""
    images = f"{experiment.train_images} + {experiment.test_images} {synthetic}images"
    sizes = "-".join(map(str, experiment.network))
    return (
        f"{experiment.dataset} ({images}), {experiment.criterion}, {experiment.activation}, {sizes}, "
        f"batch {experiment.batch_size}, {experiment.dtype}, {experiment.epochs} epochs"
    )


def _difference(title: str, before: Sequence[Record], after: Sequence[Record]) -> Difference:
    old, new = by_optimizer(before), by_optimizer(after)
    target = target_of(before[0].header)
    rows = [row for name in old if name in new for row in _rows(name, old[name], new[name], target)]
    notes = [
        *(f"another machine, times are not compared: {text}" for text in _changes(_conditions, before, after)),
        *_changes(_software, before, after),
    ]
    one_sided = [f"{name} (before)" for name in old if name not in new]
    return Difference(title, notes, rows, one_sided + [f"{name} (after)" for name in new if name not in old])


def _rows(name: str, before: Sequence[Record], after: Sequence[Record], target: float) -> list[Row]:
    options = _changes(lambda record: record.experiment.options, before, after, missing_counts=False)
    if options:
        return [Row(name, "all", "", "", "not compared", f"other options: {', '.join(options)}")]
    elsewhere = bool(_changes(_conditions, before, after))
    return [_row(name, metric, before, after, target, elsewhere) for metric in metrics(target)]


def _row(
    name: str, metric: Metric, before: Sequence[Record], after: Sequence[Record], target: float, elsewhere: bool
) -> Row:
    old, new = (values_by_seed(metric, records, target) for records in (before, after))
    was, is_now = (metric.form(median_interval(side.values()).median) if side else "-" for side in (old, new))
    outcome, words = "not compared", "another machine"
    if not old or not new:
        words = "not recorded"
    elif not (metric.timed and elsewhere):
        comparison = paired(old, new, metric.kind, metric.exact)
        words = verdict(comparison, metric.smaller, metric.larger)
        if comparison and not comparison.changed:
            outcome = "same"
        elif comparison and comparison.direction:
            outcome = "better" if (comparison.direction > 0) == metric.larger_is_better else "worse"
        else:
            outcome = "untold"
    return Row(name, metric.name, was, is_now, outcome, words)


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
