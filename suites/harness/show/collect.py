"""Reads a folder of results into facts. Nothing is computed here, and nothing that is there is dropped."""

import csv
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from suites.harness.analysis.experiment import Experiment, Tuning
from suites.harness.analysis.history import Benchmark, read_history
from suites.harness.problems.problem import named, target_of
from suites.harness.problems.tuned import beside, read_tuned
from suites.harness.records.beside import Bench, Benches, MemoryFile, checked_flags, read_json, read_step_seconds
from suites.harness.records.config import read_toml
from suites.harness.records.facts import Environment
from suites.harness.records.groups import by_optimizer, experiments
from suites.harness.records.measured import MemoryPeak, StepTime, read_stage
from suites.harness.records.record import Record, read

R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True)
class Measurement(Generic[R]):
    """A file of figures: its rows, and the environment of the measurement."""

    path: Path
    rows: list[R]
    environment: Environment | None


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper, computed again: the cells of its CSV file."""

    path: Path
    title: str
    columns: list[str]
    rows: list[list[float | str]]


@dataclass(frozen=True)
class Results:
    """All of a folder. ``unread``: one line for each file that could not be read."""

    folder: Path
    experiments: list[Experiment]
    tunings: list[Tuning]
    step_times: list[Measurement[StepTime]]
    memory: list[Measurement[MemoryPeak]]
    benches: list[Measurement[Bench]]
    papers: list[PaperTable]
    history: list[Benchmark]
    unread: list[str]


def collect(folder: Path) -> Results:
    """Read everything under a folder of results; a folder ``runs`` stands for the one that it is in.

    Raises:
        ValueError: one line, if there is no such folder, or nothing in it to report.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder; `kronbench compare` writes one")
    if folder.resolve().name == "runs":
        folder = folder.resolve().parent
    unread: list[str] = []
    tunings = _tunings(sorted(folder.rglob("tuned.toml")), unread)
    of_problems = _tunings(filter(Path.exists, map(beside, named().values())), unread)
    experiments = list(_experiments(folder, [*tunings, *of_problems], unread))
    ran = [tuning for experiment in experiments for tuning in experiment.tunings.values()]
    found = Results(
        folder,
        experiments,
        [*tunings, *(tuning for tuning in of_problems if tuning in ran)],
        list(_each(sorted(folder.rglob("step-times.jsonl")), partial(_stage, row=StepTime), unread)),
        [
            *_each(sorted(folder.rglob("memory.json")), _memory, unread),
            *_each(sorted(folder.rglob("memory.jsonl")), partial(_stage, row=MemoryPeak), unread),
        ],
        list(_each(sorted([*(folder / "bench").glob("*.json"), *folder.glob("gpu/*/*.json")]), _benches, unread)),
        list(_each(sorted(folder.rglob("table.csv")), _paper, unread)),
        read_history(folder / "asv", unread),
        unread,
    )
    if not any(
        (found.experiments, tunings, found.step_times, found.memory, found.benches, found.papers, found.history)
    ):
        why = "; ".join([*unread[:3], *(["..."] if unread[3:] else [])])
        raise ValueError(
            f"{folder}: nothing to report; "
            + (f"not read: {why}" if why else "`kronbench compare` writes records to results/latest")
        )
    return found


def _each(paths: Iterable[Path], read: Callable[[Path], T | None], unread: list[str]) -> Iterator[T]:
    """What is read from each file that holds some; what cannot be read is a line in ``unread``."""
    for path in paths:
        try:
            found = read(path)
        except (OSError, ValueError) as error:
            unread.append(str(error) if str(path) in str(error) else f"{path}: {error}")
            continue
        if found is not None:
            yield found


def _experiments(results: Path, tunings: list[Tuning], unread: list[str]) -> Iterator[Experiment]:
    for runs in sorted(path for path in results.rglob("runs") if path.is_dir()):
        paths = sorted(runs.parent.glob("*.toml"), key=lambda path: (len(path.name), path.name))
        configs = dict(_each(paths, lambda path: (path, checked_flags(path, read_toml(path))), unread))
        flags = configs.get(runs.parent / "config.toml", {})
        order = {spec: position for position, spec in enumerate(flags.get("optimizer", ["sgd"]))}
        records = list(_each(sorted(runs.glob("*.jsonl")), read, unread))
        if not records or any(record.experiment.validation for record in records):
            continue  # those of a search are its own
        records.sort(key=lambda r: (order.get(r.experiment.optimizer, len(order)), r.experiment.optimizer))
        steps = list(_each(runs.parent.glob("step_seconds.json"), read_step_seconds, unread))
        folder = runs.parent.relative_to(results).as_posix() if runs.parent != results else results.resolve().name
        for number, group in enumerate(experiments(records), start=1):
            of_optimizers = by_optimizer(group.records).items()
            yield Experiment(
                folder if number == 1 else f"{folder} ({number})",
                runs.parent,
                group,
                target_of(group.records, flags.get("target")),
                configs,
                steps[0] if steps and number == 1 else {},
                {name: t for name, runs_of in of_optimizers for t in tunings if _searched(t, name, runs_of[0])},
            )


def _tunings(paths: Iterable[Path], unread: list[str]) -> list[Tuning]:
    files = _each(paths, lambda path: [Tuning(path, found) for found in read_tuned(path)], unread)
    return [tuning for found in files for tuning in found]


def _searched(tuning: Tuning, optimizer: str, record: Record) -> bool:
    """Whether the search found exactly this setting for this problem."""
    facts = record.experiment
    task = facts.dataset, facts.criterion, facts.network, facts.activation, facts.batch_size
    return tuning.found.task == task and tuning.found.spec == optimizer


def _stage(path: Path, row: type[R]) -> Measurement[R]:
    record = read_stage(path, row)
    return Measurement(path, record.points, record.environment)


def _memory(path: Path) -> Measurement[MemoryPeak]:
    """Rows like those of ``memory.jsonl``, from a file of ``kronbench memory``."""
    found = read_json(path, MemoryFile)
    rows = [
        MemoryPeak(
            optimizer=row.optimizer,
            network="-".join(map(str, found.case.network)),
            batch=found.case.batch_size,
            predicted_bytes=row.predicted and row.predicted.peak_bytes,
            **vars(row.measured),
        )
        for row in found.rows
    ]
    return Measurement(path, rows, found.environment)


def _benches(path: Path) -> Measurement[Bench] | None:
    found = read_json(path, Benches)
    return Measurement(path, list(found.benchmarks), found.machine_info.kronbench) if found.benchmarks else None


def _paper(path: Path) -> PaperTable:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            columns, *rows = csv.reader(file)
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path}: expected a table of comma-separated values: {error}") from None
    beside = path.with_suffix(".md")
    first = beside.read_text(encoding="utf-8").split("\n", 1)[0] if beside.exists() else ""
    title = first.removeprefix("# ") if first.startswith("# ") else path.parent.name
    return PaperTable(path, title, columns, [[_cell(cell) for cell in row] for row in rows])


def _cell(text: str) -> float | str:
    """A number where it is one."""
    try:
        return float(text)
    except ValueError:
        return text
