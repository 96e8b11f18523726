"""The summary of a GPU run: a table of each stage, from the records in its folder."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from suites.harness.problems.problem import target_of
from suites.harness.records.beside import read_step_seconds
from suites.harness.records.conventions import PHASES
from suites.harness.records.facts import Environment
from suites.harness.records.measured import Check, MemoryPeak, Row, StepTime, Trained, read_stage
from suites.harness.records.record import Record, read
from suites.harness.show.captions import caption, machine
from suites.harness.show.comparison import comparison_table
from suites.harness.show.table import Cell, Content, markdown, table_of
from suites.harness.training.experiment import Settings


def convergence_folder(folder: Path, settings: Settings) -> Path:
    """The folder of the runs on one data set with one criterion."""
    return folder / "convergence" / f"{settings.problem}-{settings.criterion}"


def read_runs(folder: Path) -> list[Record]:
    """The runs that ended in time."""
    records = [read(path) for path in sorted((folder / "runs").glob("*.jsonl"))]
    return [record for record in records if record.status != "stopped"]


def summarize(folder: Path) -> str:
    """Markdown: the machine, and for each stage its outcome and its table."""
    parts = []
    for title, (row, table) in _TABLES.items():
        path = folder / f"{title}.jsonl"
        if not path.exists():
            continue
        record = read_stage(path, row)
        if not parts:
            parts.append(_machine(record.environment))
        reason = f": {record.reason}" if record.reason else ""
        parts.append(f"## {title}\n\n{record.status}{reason}")
        if record.points:
            parts.append(table(folder, record.points))
    return "\n\n".join(parts) + "\n"


def _machine(environment: Environment) -> str:
    gpu = environment.gpu
    facts = [machine(environment), environment.cpu or "-"]
    if gpu:
        told = {name: getattr(gpu, name) for name in ("cuda", "driver", "sm_clock_mhz", "throttle_reasons")}
        facts += [f"{name} {value}" for name, value in told.items() if value is not None]
    return f"# {gpu.name if gpu else 'no GPU: a rehearsal'}\n\n{', '.join(facts)}"


def _correctness(folder: Path, rows: list[Check]) -> str:
    """The table of checks: a row for each optimizer, a column for each check."""
    wide: dict[str, dict[str, Content]] = {}
    for row in rows:
        shown = row.status if row.difference is None else f"{row.status} {row.difference:.0e}"
        wide.setdefault(row.optimizer, {"optimizer": row.optimizer})[row.check] = shown
    note = "Differences are over the way that the weights went in the same steps."
    return "\n\n".join([markdown(table_of(list(wide.values()))), note, *_reasons(rows)])


def _step_times(folder: Path, rows: list[StepTime]) -> str:
    phases = {phase: f"{phase.replace('_', '+')}, ms" for phase in PHASES}
    table: list[dict[str, Content]] = [
        {
            **{name: getattr(row, name) for name in ("network", "batch", "tf32", "optimizer", "graph")},
            "ms": Cell(*row.milliseconds),
            "/ sgd": row.ratio_to_sgd,
            "/ torch's SGD": row.ratio_to_torch_sgd,
            **{title: 1e3 * row.phases.get(phase, 0.0) for phase, title in phases.items()},
        }
        for row in rows
        if row.milliseconds
    ]
    forms = {"/ sgd": ".2f", "/ torch's SGD": ".2f", **dict.fromkeys(("ms", *phases.values()), ".3g")}
    shown = [markdown(table_of(table, forms, narrow=True))] if table else []
    return "\n\n".join([*shown, *_reasons(rows)])


def _memory(folder: Path, rows: list[MemoryPeak]) -> str:
    shown = ("budget_bytes", "predicted_bytes", "peak_bytes", "asked_bytes", "step_seconds")
    table = [
        {
            **{name: getattr(row, name) for name in ("optimizer", "batch", "status")},
            **{name: _number(getattr(row, name)) for name in shown},
            "fell back": row.fell_back,
        }
        for row in rows
    ]
    return "\n\n".join([f"Network {rows[0].network}.", markdown(table_of(table)), *_reasons(rows)])


def _convergence(folder: Path, rows: list[Trained]) -> str:
    """A comparison table for each criterion."""
    parts = []
    for path in sorted((folder / "convergence").glob("*/step_seconds.json")):
        records = read_runs(path.parent)
        if records:
            target = target_of(records[0].header)
            table = comparison_table(records, read_step_seconds(path), target)
            parts.append(f"{markdown(table)}\n\n{caption(records, target)}")
    return "\n\n".join([*parts, *_reasons([row for row in rows if row.status != "finished"])])


def _reasons(rows: Sequence[Row]) -> list[str]:
    """Why parts were skipped or failed, in one paragraph; empty if there is nothing. The record has the whole text."""
    who: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.reason is not None:
            optimizers = who.setdefault((row.status, " ".join(row.reason.split())[:200]), [])
            if row.optimizer not in optimizers:
                optimizers.append(row.optimizer)
    lines = [f"- {status}: {reason} ({', '.join(optimizers)})" for (status, reason), optimizers in who.items()]
    return ["\n".join(lines)] if lines else []


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


_TABLES: dict[str, tuple[type[Row], Callable[[Path, list[Any]], str]]] = {
    "correctness": (Check, _correctness),
    "step-times": (StepTime, _step_times),
    "memory": (MemoryPeak, _memory),
    "convergence": (Trained, _convergence),
}
