"""The summary of a GPU run: a table of each stage, from the records in its folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from suites.harness.problems.problem import target_of
from suites.harness.records.conventions import PHASES
from suites.harness.records.record import Record, read
from suites.harness.show.captions import caption, machine
from suites.harness.show.comparison import comparison_table
from suites.harness.show.table import Cell, Content, markdown, table_of
from suites.harness.training.experiment import Settings


def convergence_folder(folder: Path, settings: Settings) -> Path:
    """Where the runs on one data set with one criterion are."""
    return folder / "convergence" / f"{settings.problem}-{settings.criterion}"


def read_runs(folder: Path) -> list[Record]:
    """The runs that the time sufficed for."""
    records = [read(path) for path in sorted((folder / "runs").glob("*.jsonl"))]
    return [record for record in records if record.status != "stopped"]


def summarize(folder: Path) -> str:
    """Markdown: the machine, and for each stage how it ended and its table."""
    parts = []
    for title, table in _TABLES.items():
        path = folder / f"{title}.jsonl"
        if not path.exists():
            continue
        record = read(path)
        if not parts:
            parts.append(_machine(record.header["environment"]))
        reason = f": {record.end['reason']}" if record.end and record.end["reason"] else ""
        parts.append(f"## {title}\n\n{record.status}{reason}")
        if record.points:
            parts.append(table(folder, record.points))
    return "\n\n".join(parts) + "\n"


def _machine(environment: dict[str, Any]) -> str:
    gpu = environment["gpu"] or {"name": "no GPU: a rehearsal"}
    facts = [machine(environment), environment["cpu"]]
    facts += [f"{name} {gpu[name]}" for name in ("cuda", "driver", "sm_clock_mhz", "throttle_reasons") if name in gpu]
    return f"# {gpu['name']}\n\n{', '.join(facts)}"


def _correctness(folder: Path, rows: list[dict[str, Any]]) -> str:
    """Optimizers down, checks across."""
    wide: dict[str, dict[str, Content]] = {}
    for row in rows:
        difference = row.get("difference")
        shown = row["status"] if difference is None else f"{row['status']} {difference:.0e}"
        wide.setdefault(row["optimizer"], {"optimizer": row["optimizer"]})[row["check"]] = shown
    note = "Differences are over the way that the weights went in the same steps."
    return "\n\n".join([markdown(table_of(list(wide.values()))), note, *_reasons(rows)])


def _step_times(folder: Path, rows: list[dict[str, Any]]) -> str:
    phases = {phase: f"{phase.replace('_', '+')}, ms" for phase in PHASES}
    table: list[dict[str, Content]] = [
        {
            **{name: row[name] for name in ("network", "batch", "tf32", "optimizer", "graph")},
            "ms": Cell(*(1e3 * row[end] for end in ("median", "low", "high"))),
            "/ sgd": row["ratio_to_sgd"],
            "/ torch's SGD": row["ratio_to_torch_sgd"],
            **{title: 1e3 * row["phases"].get(phase, 0.0) for phase, title in phases.items()},
        }
        for row in rows
        if row["status"] == "ok"
    ]
    forms = {"/ sgd": ".2f", "/ torch's SGD": ".2f", **dict.fromkeys(("ms", *phases.values()), ".3g")}
    shown = [markdown(table_of(table, forms, narrow=True))] if table else []
    return "\n\n".join([*shown, *_reasons(rows)])


def _memory(folder: Path, rows: list[dict[str, Any]]) -> str:
    shown = ("budget_bytes", "predicted_bytes", "peak_bytes", "asked_bytes", "step_seconds")
    table = [
        {
            **{name: row[name] for name in ("optimizer", "batch", "status")},
            **{name: _number(row.get(name)) for name in shown},
            "fell back": row.get("fell_back", ""),
        }
        for row in rows
    ]
    return "\n\n".join([f"Network {rows[0]['network']}.", markdown(table_of(table)), *_reasons(rows)])


def _convergence(folder: Path, rows: list[dict[str, Any]]) -> str:
    """The table of a comparison for each criterion."""
    parts = []
    for path in sorted((folder / "convergence").glob("*/step_seconds.json")):
        records = read_runs(path.parent)
        if records:
            target = target_of(records[0].header)
            table = comparison_table(records, json.loads(path.read_text(encoding="utf-8")), target)
            parts.append(f"{markdown(table)}\n\n{caption(records, target)}")
    return "\n\n".join([*parts, *_reasons([row for row in rows if row["status"] != "finished"])])


def _reasons(rows: list[dict[str, Any]]) -> list[str]:
    """A list of why something was skipped or failed, in one paragraph, if anything was; the whole is in the record."""
    who: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        reason = row.get("reason")
        if reason is not None:
            optimizers = who.setdefault((row["status"], " ".join(reason.split())[:200]), [])
            if (optimizer := row.get("optimizer", "all")) not in optimizers:
                optimizers.append(optimizer)
    lines = [f"- {status}: {reason} ({', '.join(optimizers)})" for (status, reason), optimizers in who.items()]
    return ["\n".join(lines)] if lines else []


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


_TABLES: dict[str, Callable[[Path, list[dict[str, Any]]], str]] = {
    "correctness": _correctness,
    "step-times": _step_times,
    "memory": _memory,
    "convergence": _convergence,
}
