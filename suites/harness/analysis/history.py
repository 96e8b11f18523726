"""The history of performance, as asv recorded it commit by commit."""

import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

T = TypeVar("T")

_LINES = ("optimizer", "part")  # each value of these parameters is a line in a picture


class Measured(NamedTuple):
    """A value at a commit; ``date`` in milliseconds since 1970."""

    date: int
    commit: str
    value: float


@dataclass(frozen=True)
class Benchmark:
    """A benchmark on a machine: one picture, with fixed values of all parameters but the one that names its lines.

    ``case``: the fixed values. ``series``: the measured values by line, from the oldest commit to the newest.
    """

    name: str
    case: str
    machine: str
    unit: str
    series: dict[str, list[Measured]]

    @property
    def title(self) -> str:
        return ", ".join(filter(None, (self.name, self.case))) + f" on {self.machine}"

    @property
    def commits(self) -> list[str]:
        """The commits of all lines, from the oldest to the newest. A line may lack some."""
        return list(dict.fromkeys(one.commit for one in sorted(itertools.chain(*self.series.values()))))


@dataclass(frozen=True)
class _Known:
    """A benchmark in asv's ``benchmarks.json``."""

    param_names: list[str] = field(default_factory=list)
    unit: str | None = None
    version: str | int | None = None


@dataclass(frozen=True)
class _OfCommit:
    """A file of asv's results of a commit. The file of a machine has none."""

    commit_hash: str = ""
    date: int = 0
    result_columns: list[str] = field(default_factory=list)
    results: dict[str, list[object]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Row:
    """The columns of a result that are shown."""

    result: list[float | None] | None = None
    params: list[list[str]] | None = None
    version: str | int | None = None


def read_history(folder: Path, unread: list[str]) -> list[Benchmark]:
    """asv's results, version 2. Values that are missing or not finite are left out.

    Args:
        folder: of the results; it may be missing.
        unread: gets a line for each file that cannot be read.
    """
    if not (folder / "benchmarks.json").exists():
        return []
    found: dict[tuple[str, str, str], dict[str, list[Measured]]] = {}
    known: dict[str, _Known] = {}
    try:
        listed = _read(folder / "benchmarks.json", dict[str, _Known | int])
        known = {name: one for name, one in listed.items() if isinstance(one, _Known)}
    except ValueError as error:
        unread.append(str(error))
    for path in sorted(folder.glob("*/*.json")):
        try:
            measured = list(_measured(_read(path, _OfCommit), known))
        except (ValueError, TypeError) as error:
            unread.append(str(error) if str(path) in str(error) else f"{path}: {error}")
            continue
        for name, case, line, value in measured:
            found.setdefault((name, case, path.parent.name), {}).setdefault(line, []).append(value)
    return [
        Benchmark(name, case, machine, known[name].unit or "", {line: sorted(v) for line, v in series.items()})
        for (name, case, machine), series in found.items()
    ]


def _read(path: Path, kind: type[T]) -> T:
    """A JSON file of asv, which may have NaN."""
    try:
        return msgspec.convert(json.loads(path.read_text(encoding="utf-8")), kind)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None


def _measured(of_commit: _OfCommit, known: dict[str, _Known]) -> Iterator[tuple[str, str, str, Measured]]:
    """Name, case, line and value of each benchmark whose version is the current one."""
    for name, cells in of_commit.results.items():
        # trailing nulls are dropped
        row = msgspec.convert(dict(zip(of_commit.result_columns, cells, strict=False)), _Row)
        if name not in known or str(row.version) != str(known[name].version):
            continue  # it measured another workload
        for case, line, value in _values(known[name].param_names, row):
            yield name, case, line, Measured(of_commit.date, of_commit.commit_hash[:7], value)


def _values(names: list[str], row: _Row) -> Iterator[tuple[str, str, float]]:
    """The case, the line and the value of each measurement, over the product of the parameters' values."""
    for values, value in zip(itertools.product(*(row.params or [])), row.result or [], strict=False):
        if value is not None and math.isfinite(value):
            given = dict(zip(names, (text.strip("'") for text in values), strict=True))
            line = next((given.pop(name) for name in _LINES if name in given), "")
            yield ", ".join(given.values()), line, value
