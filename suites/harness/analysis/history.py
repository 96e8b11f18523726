"""The history of performance: what asv recorded for each commit."""

import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

_LINES = ("optimizer", "part")  # parameters whose values are lines of one picture


class Measured(NamedTuple):
    """A value at a commit; ``date`` in milliseconds since 1970."""

    date: int
    commit: str
    value: float


@dataclass(frozen=True)
class Benchmark:
    """A benchmark on a machine. One parameter tells its lines apart; all others have one value.

    ``case``: these values. ``series``: for each line (an optimizer, or a part of one), the measurements in the order of
    commits.
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


def read_history(folder: Path) -> list[Benchmark]:
    """asv's results, version 2, without missing and non-finite values; empty if there is no folder."""
    if not (folder / "benchmarks.json").exists():
        return []
    known = json.loads((folder / "benchmarks.json").read_text(encoding="utf-8"))
    found: dict[tuple[str, str, str], dict[str, list[Measured]]] = {}
    for path in sorted(folder.glob("*/*.json")):
        of_commit = json.loads(path.read_text(encoding="utf-8"))
        for name, row in of_commit.get("results", {}).items():
            columns = dict(zip(of_commit["result_columns"], row, strict=False))  # trailing nulls are dropped
            if name not in known or str(columns.get("version")) != str(known[name].get("version")):
                continue  # another workload: not to be compared
            for case, line, value in _values(known[name].get("param_names", []), columns):
                measured = Measured(of_commit["date"], of_commit["commit_hash"][:7], value)
                found.setdefault((name, case, path.parent.name), {}).setdefault(line, []).append(measured)
    return [
        Benchmark(name, case, machine, known[name].get("unit") or "", {line: sorted(v) for line, v in series.items()})
        for (name, case, machine), series in found.items()
    ]


def _values(names: list[str], columns: dict[str, Any]) -> Iterator[tuple[str, str, float]]:
    """Case, line and value. asv's values run over the product of the parameters, which are given as ``repr``."""
    for values, value in zip(
        itertools.product(*(columns.get("params") or [])), columns.get("result") or [], strict=False
    ):
        if isinstance(value, int | float) and math.isfinite(value):
            given = dict(zip(names, (text.strip("'") for text in values), strict=True))
            line = next((given.pop(name) for name in _LINES if name in given), "")
            yield ", ".join(given.values()), line, value
