"""Reads a folder of results into facts. Nothing is computed here, and nothing that is there is dropped."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from suites.harness.analysis.experiment import Experiment, Tuning
from suites.harness.analysis.history import Benchmark, read_history
from suites.harness.problems.problem import name_of, target_of
from suites.harness.records.config import read_toml
from suites.harness.records.facts import Environment
from suites.harness.records.groups import by_optimizer
from suites.harness.records.measured import MemoryPeak, StepTime, read_stage
from suites.harness.records.record import Record, read

R = TypeVar("R")


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
    rows: list[list[str]]


@dataclass(frozen=True)
class Results:
    """All of a folder. ``unread``: one line for each file that could not be read."""

    folder: Path
    experiments: list[Experiment]
    tunings: list[Tuning]
    step_times: list[Measurement[StepTime]]
    memory: list[Measurement[MemoryPeak]]
    benches: list[Measurement[dict[str, Any]]]
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
    tunings = list(_tunings(folder))
    found = Results(
        folder,
        list(_experiments(folder, tunings, unread)),
        tunings,
        list(_stages(folder, "step-times.jsonl", StepTime, unread)),
        [*_memory(folder), *_stages(folder, "memory.jsonl", MemoryPeak, unread)],
        list(_benches(folder)),
        list(_papers(folder)),
        read_history(folder / "asv"),
        unread,
    )
    if not any(
        (found.experiments, tunings, found.step_times, found.memory, found.benches, found.papers, found.history)
    ):
        raise ValueError(f"{folder}: nothing to report; `kronbench compare` writes records to results/latest")
    return found


def _experiments(results: Path, tunings: list[Tuning], unread: list[str]) -> Iterator[Experiment]:
    for runs in sorted(path for path in results.rglob("runs") if path.is_dir()):
        paths = sorted(runs.parent.glob("*.toml"), key=lambda path: (len(path.name), path.name))
        configs = {path: read_toml(path) for path in paths}
        flags = configs.get(runs.parent / "config.toml", {})
        order = {spec: position for position, spec in enumerate(flags.get("optimizer", ["sgd"]))}
        records = [record for path in sorted(runs.glob("*.jsonl")) if (record := _record(path, unread))]
        if not records or any(record.experiment.validation for record in records):
            continue  # those of a search are its own
        records.sort(key=lambda r: (order.get(r.experiment.optimizer, len(order)), r.experiment.optimizer))
        steps = runs.parent / "step_seconds.json"
        yield Experiment(
            runs.parent.relative_to(results).as_posix() if runs.parent != results else results.resolve().name,
            runs.parent,
            records,
            flags.get("target", target_of(records[0].header)),
            configs,
            json.loads(steps.read_text(encoding="utf-8")) if steps.exists() else {},
            {name: t for name, group in by_optimizer(records).items() for t in tunings if _searched(t, name, group[0])},
        )


def _record(path: Path, unread: list[str]) -> Record | None:
    try:
        return read(path)
    except ValueError as error:
        unread.append(str(error))
        return None


def _tunings(results: Path) -> Iterator[Tuning]:
    for path in sorted(results.rglob("*.toml")):
        beside = path.with_suffix(".json")
        if beside.exists():
            found = json.loads(beside.read_text(encoding="utf-8"))
            if "training_seconds" in found and "setting" in found:
                yield Tuning(beside, read_toml(path), found)


def _searched(tuning: Tuning, optimizer: str, record: Record) -> bool:
    """Whether the search found exactly this setting for this problem."""
    flags, experiment = tuning.flags, record.experiment
    same = all(flags.get(name) == getattr(experiment, name) for name in ("criterion", "batch_size"))
    return same and name_of(str(flags.get("problem"))) == experiment.dataset and tuning.found["setting"] == optimizer


def _stages(results: Path, name: str, row: type[R], unread: list[str]) -> Iterator[Measurement[R]]:
    for path in sorted(results.rglob(name)):
        try:
            record = read_stage(path, row)
        except ValueError as error:
            unread.append(str(error))
            continue
        yield Measurement(path, record.points, record.environment)


def _memory(results: Path) -> Iterator[Measurement[MemoryPeak]]:
    """Rows like those of ``memory.jsonl``, from the files of ``kronbench memory``."""
    for path in sorted(results.rglob("memory.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        case = found["case"]
        rows = [
            MemoryPeak(
                optimizer=row["optimizer"],
                network="-".join(map(str, case["network"])),
                batch=case["batch_size"],
                predicted_bytes=(row["predicted"] or {}).get("peak_bytes"),
                **row["measured"],
            )
            for row in found["rows"]
        ]
        yield Measurement(path, rows, msgspec.convert(found["environment"], Environment))


def _benches(results: Path) -> Iterator[Measurement[dict[str, Any]]]:
    for path in sorted([*(results / "bench").glob("*.json"), *results.glob("gpu/*/*.json")]):
        found = json.loads(path.read_text(encoding="utf-8"))
        if "benchmarks" in found:
            yield Measurement(
                path, found["benchmarks"], msgspec.convert(found["machine_info"].get("kronbench"), Environment | None)
            )


def _papers(results: Path) -> Iterator[PaperTable]:
    for path in sorted(results.rglob("table.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            columns, *rows = csv.reader(file)
        beside = path.with_suffix(".md")
        first = beside.read_text(encoding="utf-8").split("\n", 1)[0] if beside.exists() else ""
        yield PaperTable(path, first.removeprefix("# ") if first.startswith("# ") else path.parent.name, columns, rows)
