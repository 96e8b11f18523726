"""The history of performance: what asv recorded of every commit."""

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple


class Measured(NamedTuple):
    """A value at a commit, with the ends of asv's interval where it has one; ``date`` in milliseconds since 1970."""

    date: int
    commit: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Benchmark:
    """A benchmark on a machine: by the names of its parameters, what was measured, in the order of the commits."""

    name: str
    machine: str
    unit: str
    series: dict[str, list[Measured]]


def read_history(folder: Path) -> list[Benchmark]:
    """asv's results, version 2, with what was neither measured nor finite left out; none without the folder."""
    if not (folder / "benchmarks.json").exists():
        return []
    known = json.loads((folder / "benchmarks.json").read_text(encoding="utf-8"))
    found: dict[tuple[str, str], dict[str, list[Measured]]] = {}
    for path in sorted(folder.glob("*/*.json")):
        of_commit = json.loads(path.read_text(encoding="utf-8"))
        for name, row in of_commit.get("results", {}).items():
            columns = dict(zip(of_commit["result_columns"], row, strict=False))  # trailing nulls are dropped
            if name not in known or str(columns.get("version")) != str(known[name].get("version")):
                continue  # another workload: not to be compared
            series = found.setdefault((name, path.parent.name), {})
            for label, measured in _values(of_commit, columns):
                series.setdefault(label, []).append(measured)
    return [
        Benchmark(name, machine, known[name].get("unit") or "", {k: sorted(v) for k, v in series.items()})
        for (name, machine), series in sorted(found.items())
        if series
    ]


def _values(of_commit: dict[str, Any], columns: dict[str, Any]) -> list[tuple[str, Measured]]:
    """Values run over the product of the parameters."""
    values = columns.get("result") or []
    lows, highs = ((columns.get(name) or [None] * len(values)) for name in ("stats_ci_99_a", "stats_ci_99_b"))
    labels = [", ".join(one).replace("'", "") for one in itertools.product(*(columns.get("params") or []))]
    return [
        (
            label,
            Measured(
                of_commit["date"],
                of_commit["commit_hash"][:10],
                value,
                *(value if end is None else end for end in (low, high)),
            ),
        )
        for label, value, low, high in zip(labels, values, lows, highs, strict=False)
        if isinstance(value, int | float)
    ]
