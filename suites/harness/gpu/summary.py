"""The summary of a GPU run: a table for each stage, from its record."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from suites.harness.data.problem import target_of
from suites.harness.records.beside import read_step_seconds
from suites.harness.records.conventions import PHASES
from suites.harness.records.facts import Environment
from suites.harness.records.measured import AtOnce, Check, MemoryPeak, Row, StepTime, Trained, read_stage
from suites.harness.records.record import Record, read
from suites.harness.show.captions import caption, machine
from suites.harness.show.comparison import comparison_table
from suites.harness.show.table import UNKNOWN, Cell, Column, Content, Table, markdown, table_of
from suites.harness.training.experiment import Settings


def convergence_folder(folder: Path, settings: Settings) -> Path:
    """The folder of the runs on one data set with one criterion."""
    return folder / "convergence" / f"{settings.problem}-{settings.criterion}"


def read_runs(folder: Path) -> list[Record]:
    """The records of runs that ended in time."""
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
    facts = [machine(environment), environment.cpu or UNKNOWN]
    for name in ("cuda", "driver", "sm_clock_mhz", "throttle_reasons") if gpu else ():
        value = getattr(gpu, name)
        if value is not None:
            facts.append(f"{name} {value if isinstance(value, str | int) else ', '.join(value) or 'none'}")
    return f"# {gpu.name if gpu else 'no GPU: a rehearsal'}\n\n{', '.join(facts)}"


def _correctness(folder: Path, rows: list[Check]) -> str:
    """The table of checks: a row for each optimizer, a column for each check."""
    wide: dict[str, dict[str, Content]] = {}
    for row in rows:
        cell = row.status if row.difference is None else Cell(row.difference, note=row.status)
        wide.setdefault(row.optimizer, {"optimizer": row.optimizer})[row.check] = cell
    note = "Differences are over the way that the weights went in the same steps."
    return "\n\n".join([markdown(table_of(list(wide.values()), ".0e")), note, *_reasons(rows)])


def _step_times(folder: Path, rows: list[StepTime]) -> str:
    cells = [
        {
            **{name: getattr(row, name) for name in ("network", "batch", "tf32", "optimizer", "graph")},
            "ms": Cell(*row.milliseconds),
            "/ sgd": row.ratio_to_sgd,
            "/ torch's SGD": row.ratio_to_torch_sgd,
            **{phase: 1e3 * row.phases.get(phase, 0.0) for phase in PHASES},
        }
        for row in rows
        if row.milliseconds
    ]
    columns = [
        *(Column(name, name) for name in ("network", "batch", "tf32", "optimizer", "graph")),
        Column("ms", "ms", ".3g", narrow=True),
        *(Column(name, name, ".2f") for name in ("/ sgd", "/ torch's SGD")),
        *(Column(phase, f"{phase.replace('_', '+')}, ms", ".3g") for phase in PHASES),
    ]
    shown = [markdown(Table(columns, cells))] if cells else []
    return "\n\n".join([*shown, *_reasons(rows)])


def _at_once(folder: Path, rows: list[AtOnce]) -> str:
    columns = [
        *(Column(name, name) for name in ("optimizer", "runs", "epochs", "status")),
        Column("seconds_alone", "one alone, s", ".3g"),
        Column("seconds", "all at once, s", ".3g"),
        Column("ratio", "ratio", ".2f"),
        Column("same", "same numbers"),
    ]
    cells = [{column.key: getattr(row, column.key) for column in columns} for row in rows]
    where = f"Network {rows[0].network}, batch {rows[0].batch}."
    return "\n\n".join([where, markdown(Table(columns, cells)), *_reasons(rows)])


def _memory(folder: Path, rows: list[MemoryPeak]) -> str:
    columns = [
        *(Column(name, name) for name in ("optimizer", "batch", "status")),
        *(Column(f"{name}_bytes", f"{name}_bytes", ",.0f") for name in ("budget", "predicted", "peak", "asked")),
        Column("step_seconds", "step_seconds", ".3g"),
        Column("fell_back", "fell back"),
    ]
    sizes = [column.key for column in columns if column.key.endswith("_bytes")]
    cells = [
        {column.key: getattr(row, column.key) for column in columns}
        | {key: None if getattr(row, key) is None else Cell(getattr(row, key)) for key in sizes}
        for row in rows
    ]
    return "\n\n".join([f"Network {rows[0].network}.", markdown(Table(columns, cells)), *_reasons(rows)])


def _convergence(folder: Path, rows: list[Trained]) -> str:
    """A comparison table for each criterion."""
    parts = []
    for path in sorted((folder / "convergence").glob("*/step_seconds.json")):
        records = read_runs(path.parent)
        if records:
            target = target_of(records)
            table = comparison_table(records, read_step_seconds(path), target)
            parts.append(f"{markdown(table)}\n\n{caption(records, target)}")
    return "\n\n".join([*parts, *_reasons([row for row in rows if row.status != "finished"])])


def _reasons(rows: Sequence[Row]) -> list[str]:
    """The reasons for skipped and failed parts, in one paragraph, shortened; empty if there are none."""
    who: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.reason is not None:
            optimizers = who.setdefault((row.status, " ".join(row.reason.split())[:200]), [])
            if row.optimizer not in optimizers:
                optimizers.append(row.optimizer)
    lines = [f"- {status}: {reason} ({', '.join(optimizers)})" for (status, reason), optimizers in who.items()]
    return ["\n".join(lines)] if lines else []


_TABLES: dict[str, tuple[type[Row], Callable[[Path, list[Any]], str]]] = {
    "correctness": (Check, _correctness),
    "step-times": (StepTime, _step_times),
    "at-once": (AtOnce, _at_once),
    "memory": (MemoryPeak, _memory),
    "convergence": (Trained, _convergence),
}
