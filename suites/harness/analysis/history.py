"""The history of performance: what asv recorded of every commit."""

import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

T = TypeVar("T")

_LINES = ("optimizer", "part")  # parameters whose values are lines of one picture


class Measured(NamedTuple):
    """A value at a commit; ``date`` in milliseconds since 1970."""

    date: int
    commit: str
    value: float


@dataclass(frozen=True)
class Benchmark:
    """A benchmark on a machine, with one value of every parameter but the one that tells its lines apart.

    ``case``: those values; ``series``: by optimizer, or by part of one, what was measured in the order of the commits.
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
        """Of all lines, from the oldest to the newest; a line may lack some."""
        return list(dict.fromkeys(one.commit for one in sorted(itertools.chain(*self.series.values()))))


@dataclass(frozen=True)
class _Known:
    """A benchmark as asv's ``benchmarks.json`` has it."""

    param_names: list[str] = field(default_factory=list)
    unit: str | None = None
    version: str | int | None = None


@dataclass(frozen=True)
class _OfCommit:
    """A file of asv's results; a file of a machine has none."""

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
    """asv's results, version 2, with what was neither measured nor finite left out; none without the folder.

    Args:
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
    """A file of JSON in which asv may write NaN."""
    try:
        return msgspec.convert(json.loads(path.read_text(encoding="utf-8")), kind)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None


def _measured(of_commit: _OfCommit, known: dict[str, _Known]) -> Iterator[tuple[str, str, str, Measured]]:
    """Name, case, line and value of each benchmark that is known in this version."""
    for name, cells in of_commit.results.items():
        # trailing nulls are dropped
        row = msgspec.convert(dict(zip(of_commit.result_columns, cells, strict=False)), _Row)
        if name not in known or str(row.version) != str(known[name].version):
            continue  # another workload: not to be compared
        for case, line, value in _values(known[name].param_names, row):
            yield name, case, line, Measured(of_commit.date, of_commit.commit_hash[:7], value)


def _values(names: list[str], row: _Row) -> Iterator[tuple[str, str, float]]:
    """The case, the line and the value; asv's values run over the product of the parameters, given as ``repr``."""
    for values, value in zip(itertools.product(*(row.params or [])), row.result or [], strict=False):
        if value is not None and math.isfinite(value):
            given = dict(zip(names, (text.strip("'") for text in values), strict=True))
            line = next((given.pop(name) for name in _LINES if name in given), "")
            yield ", ".join(given.values()), line, value
