"""Measurements beside runs: the other files of a folder of results, read into facts."""

import csv
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from suites.harness.records.beside import Bench, Benches, MemoryFile, read_json
from suites.harness.records.facts import Environment
from suites.harness.records.measured import MemoryPeak, StepTime, read_stage

R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True)
class Measurement(Generic[R]):
    """A file of measurements: its rows, and their environment."""

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


def read_each(paths: Iterable[Path], read: Callable[[Path], T | None], unread: list[str]) -> Iterator[T]:
    """What ``read`` returns for each file, without None. A file that cannot be read becomes a line in ``unread``."""
    for path in paths:
        try:
            found = read(path)
        except (OSError, ValueError) as error:
            unread.append(str(error) if str(path) in str(error) else f"{path}: {error}")
            continue
        if found is not None:
            yield found


def step_times(folder: Path, unread: list[str]) -> list[Measurement[StepTime]]:
    """The step times of GPU runs."""
    return list(read_each(sorted(folder.rglob("step-times.jsonl")), partial(_stage, row=StepTime), unread))


def memory(folder: Path, unread: list[str]) -> list[Measurement[MemoryPeak]]:
    """The memory peaks of ``kronbench memory`` and of GPU runs."""
    return [
        *read_each(sorted(folder.rglob("memory.json")), _memory, unread),
        *read_each(sorted(folder.rglob("memory.jsonl")), partial(_stage, row=MemoryPeak), unread),
    ]


def benches(folder: Path, unread: list[str]) -> list[Measurement[Bench]]:
    """The measurements of pytest-benchmark."""
    paths = [*(folder / "bench").glob("*.json"), *folder.glob("gpu/*/*.json")]
    return list(read_each(sorted(paths), _benches, unread))


def papers(folder: Path, unread: list[str]) -> list[PaperTable]:
    """The paper's tables."""
    return list(read_each(sorted(folder.rglob("table.csv")), _paper, unread))


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
