"""The tables of what was measured apart from training: step times, bytes, benches, the paper's tables, on what."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from suites.harness.show.collect import Measurement, PaperTable, Results
from suites.harness.show.table import Table, figure, interval, slug
from suites.harness.show.tables import machine
from suites.harness.units import shown_bytes


def step_times(measurement: Measurement, name: str) -> Table:
    """Milliseconds of a step with intervals, ratios, and what could not be measured."""
    shown = [
        {
            **{key: str(row.get(key, "-")) for key in ("network", "batch", "tf32", "graph", "optimizer")},
            "ms": "-" if "median" not in row else interval([1e3 * row[end] for end in ("median", "low", "high")]),
            "/ sgd": figure(row.get("ratio_to_sgd")),
            "status": _status(row),
        }
        for row in measurement.rows
    ]
    return Table(name, f"Step times, {measurement.path.parent.name}", pd.DataFrame(shown), _machine(measurement))


def memory(measurement: Measurement, name: str) -> Table:
    """Bytes predicted and measured under a budget."""
    shown = [
        {
            **{key: str(row.get(key, "-")) for key in ("optimizer", "network", "batch")},
            **{
                title: "-" if row.get(key) is None else shown_bytes(row[key])
                for title, key in (
                    ("budget", "budget_bytes"),
                    ("predicted peak", "predicted_bytes"),
                    ("measured peak", "peak_bytes"),
                    ("asked for", "asked_bytes"),
                )
            },
            "what happened": "fell back to rank_one" if row.get("fell_back") else _status(row),
        }
        for row in measurement.rows
    ]
    return Table(
        name,
        f"Peak bytes of a training step, {measurement.path.parent.name}",
        pd.DataFrame(shown),
        _machine(measurement),
    )


def bench(measurement: Measurement, name: str) -> Table:
    """What pytest-benchmark measured: medians and quartiles in milliseconds."""
    shown = [
        {
            "group": str(row.get("group")),
            "benchmark": row["name"],
            "ms": interval([1e3 * row["stats"][key] for key in ("median", "q1", "q3")]),
            "rounds": str(row["stats"]["rounds"]),
        }
        for row in measurement.rows
    ]
    return Table(name, f"pytest-benchmark, {measurement.path.parent.name}", pd.DataFrame(shown), _machine(measurement))


def paper(found: PaperTable) -> Table:
    """A table of the paper, ours beside the paper's, with four digits."""
    rows = [dict(zip(found.columns, map(_short, row), strict=False)) for row in found.rows]
    return Table(slug(found.path.parent.name), found.title, pd.DataFrame(rows, columns=found.columns))


def measured(results: Results) -> Table:
    """Of everything shown the machine, the software and the commit."""
    sources: dict[str, list[Mapping[str, Any]]] = {
        e.name: [record.header["environment"] for record in e.records] for e in results.experiments
    }
    for one in [*results.step_times, *results.memory, *results.benches]:
        if one.environment:
            sources[one.path.relative_to(results.folder).as_posix()] = [one.environment]
    rows = []
    for name, environments in sources.items():
        for environment in {machine(found): found for found in environments}.values():
            git, gpu = environment["git"] or {}, environment["gpu"] or {}
            row = {"what": name, "processor": environment.get("cpu"), "threads": environment.get("threads")}
            row |= {"GPU": gpu.get("name"), "driver": gpu.get("driver"), "TF32": gpu.get("tf32")}
            row |= {name: environment.get(name) for name in ("torch", "blas", "python", "platform")}
            row["commit"] = git.get("commit", "-")[:10] + (" with changes" if git.get("dirty") else "")
            rows.append({key: "-" if value is None else str(value) for key, value in row.items()})
    return Table("measured", "Machines, versions, commits", pd.DataFrame(rows))


def _status(row: Mapping[str, Any]) -> str:
    reason = row.get("reason")
    return f"{row['status']}: {' '.join(reason.split())[:120]}" if reason else str(row["status"])


def _machine(measurement: Measurement) -> str:
    return machine(measurement.environment) if measurement.environment else ""


def _short(cell: str) -> str:
    try:
        return f"{float(cell):.4g}"
    except ValueError:
        return cell or "-"
