"""Tables and figures of measurements other than training, and of the machines."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from suites.harness.analysis.costs import Series, exponent, phase_shares
from suites.harness.analysis.experiment import Experiment, Results
from suites.harness.analysis.verdicts import step_ratios
from suites.harness.names import shown_name
from suites.harness.records.beside import Bench
from suites.harness.records.conventions import PHASES
from suites.harness.records.measured import MemoryPeak, Row, StepTime
from suites.harness.records.results import Measurement, PaperTable
from suites.harness.show.captions import machine
from suites.harness.show.comparison import median_cell
from suites.harness.show.figures import Figure, Trace, lines, literal, numbers, rule
from suites.harness.show.looks import look_of, marked
from suites.harness.show.table import Cell, Column, Content, Table, slug, table_of
from suites.harness.units import shown_bytes

_ROUNDING = 1e-5  # of the largest error: layer k of Gauss-Newton and PCH has only rounding


def step_times(measurement: Measurement[StepTime], name: str) -> Table:
    """Milliseconds of a step with intervals and ratios, and why some are missing."""
    rows: list[dict[str, Content]] = [
        {
            **{key: _text(getattr(row, key)) for key in ("network", "batch", "tf32", "graph", "optimizer")},
            "ms": Cell(*row.milliseconds) if row.milliseconds else None,
            "/ sgd": row.ratio_to_sgd,
            "status": _status(row),
        }
        for row in measurement.rows
    ]
    return _named(table_of(rows, {"ms": ".3g"}), name, "Step times", measurement)


def memory(measurement: Measurement[MemoryPeak], name: str) -> Table:
    """Bytes predicted and measured under a budget."""
    columns = [
        *(Column(key, key) for key in ("optimizer", "network", "batch")),
        Column("budget_bytes", "budget", shown_bytes),
        Column("predicted_bytes", "predicted peak", shown_bytes),
        Column("peak_bytes", "measured peak", shown_bytes),
        Column("asked_bytes", "asked for", shown_bytes),
        Column("outcome", "what happened"),
    ]
    rows: list[dict[str, Content]] = [
        {
            **{key: _text(getattr(row, key)) for key in ("optimizer", "network", "batch")},
            **{c.key: _bytes(getattr(row, c.key)) for c in columns if c.form is shown_bytes},
            "outcome": "fell back to rank_one" if row.fell_back else _status(row),
        }
        for row in measurement.rows
    ]
    return _named(Table(columns, rows), name, "Peak bytes of a training step", measurement)


def bench(measurement: Measurement[Bench], name: str) -> Table:
    """Measurements of pytest-benchmark: medians and quartiles in milliseconds."""
    rows: list[dict[str, Content]] = [
        {
            "group": row.group,
            "benchmark": row.name,
            "ms": Cell(1e3 * row.stats.median, 1e3 * row.stats.q1, 1e3 * row.stats.q3),
            "rounds": row.stats.rounds,
        }
        for row in measurement.rows
    ]
    return _named(table_of(rows, {"ms": ".3g"}), name, "pytest-benchmark", measurement)


def growth(sources: Mapping[str, Series]) -> Table:
    """The exponents of growth with the width, for lines of at least three points."""
    rows: list[dict[str, Content]] = [
        {"where": where, "part": part, "widths": f"{min(p)[0]:g} to {max(p)[0]:g}", "exponent": Cell(*exponent(p))}
        for where, series in sources.items()
        for part, p in series.items()
        if len(p) > 2
    ]
    note = "k of width^k, fitted to the wider half of the widths, three at the least, with 95 % intervals."
    return replace(table_of(rows, {"exponent": ".2f"}), name="growth", title="Exponents of growth", note=note)


def paper(found: PaperTable) -> Table:
    """A table of the paper, with our values beside the paper's, with four digits."""
    rows = [
        dict(zip(found.columns, (None if cell == "" else cell for cell in row), strict=False)) for row in found.rows
    ]
    return Table([Column(name, name) for name in found.columns], rows, slug(found.path.parent.name), found.title)


def measured(results: Results) -> Table:
    """The machine, software and commit of every measurement."""
    sources = {e.name: [record.environment for record in e.records] for e in results.experiments}
    for one in [*results.step_times, *results.memory, *results.benches]:
        if one.environment:
            sources[one.path.relative_to(results.folder).as_posix()] = [one.environment]
    rows: list[dict[str, Content]] = []
    for name, environments in sources.items():
        for environment in {machine(found): found for found in environments}.values():
            gpu = environment.gpu
            row = {"what": name, "processor": environment.cpu, "threads": environment.threads}
            row |= {"GPU": gpu and gpu.name, "driver": gpu and gpu.driver, "TF32": gpu and gpu.tf32}
            row |= {name: getattr(environment, name) for name in ("torch", "blas", "python", "platform")}
            row["commit"] = environment.commit or None
            rows.append({key: _text(value) for key, value in row.items()})
    return replace(table_of(rows), name="measured", title="Machines, versions, commits")


def _named(table: Table, name: str, what: str, measurement: Measurement[Any]) -> Table:
    note = machine(measurement.environment) if measurement.environment else ""
    return replace(table, name=name, title=f"{what}, {measurement.path.parent.name}", note=note)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _bytes(value: int | None) -> Cell | None:
    return None if value is None else Cell(value)


def _status(row: Row) -> str:
    return f"{row.status}: {' '.join(row.reason.split())[:120]}" if row.reason else row.status


def step_time_figures(measurement: Measurement[StepTime]) -> list[Figure]:
    """In float32 without TF32: lines against the batch, and bars by phase at each network and batch."""
    rows = [row for row in measurement.rows if row.milliseconds and not row.tf32]
    where, pictures = measurement.path.parent.name, []
    for graph, how in ((False, "launched by the host"), (True, "in a CUDA graph")):
        own = [row for row in rows if row.graph == graph]
        for network in dict.fromkeys(row.network for row in own):
            series: Series = {}
            for row in own:
                if row.network == network and row.milliseconds:
                    series.setdefault(row.optimizer, []).append((row.batch, row.milliseconds[0]))
            if max(map(len, series.values())) > 1:
                title = f"{where}, {network}, {how}"
                pictures.append(lines(series, title, "batch", "milliseconds of a step", type="log"))
        for network, batch in dict.fromkeys((row.network, row.batch) for row in own):
            case = [row for row in own if (row.network, row.batch) == (network, batch)]
            bars = {shown_name(row.optimizer): _split(row) for row in case}
            title = f"{where}, {network.partition('-')[0]} inputs, batch {batch}, {how}"
            pictures.append(phase_bars(bars, title, "milliseconds of a step"))
    return pictures


def _split(row: StepTime) -> dict[str, float]:
    """The milliseconds of a step, divided as its phases were."""
    whole = sum(row.phases.values())
    return {phase: row.milliseconds[0] * part / whole for phase, part in row.phases.items()} if row.milliseconds else {}


def errors_by_layer(paper: PaperTable) -> Figure | None:
    """The errors of a table by layer, ours and the paper's; None for other tables."""
    layers = [name for name in paper.columns if name.isdigit()]
    if paper.columns[:2] != ["curvature", "by"] or not layers:
        return None
    series: dict[str, list[tuple[str | float, float]]] = {}
    rows = [(str(row[0]), str(row[1]), row[2:]) for row in paper.rows if len(row) > 1]
    for curvature, by, cells in rows:
        points = [(layer, cell) for layer, cell in zip(layers, cells, strict=False) if isinstance(cell, float)]
        largest = max((value for _, value in points), default=0.0)
        series[f"{curvature}, {by}"] = [(layer, value) for layer, value in points if value > _ROUNDING * largest]
    figure = lines(series, paper.title, "layer", "error", type="category")
    for trace, (curvature, by, _) in zip(figure.traces, rows, strict=False):
        look, here = look_of(curvature), by == "here"
        colour = f"$c{look.colour}"
        trace["line"] = {"color": colour, "width": 2, "dash": "solid" if here else "dot"}
        symbol = look.marker.plotly if here else f"{look.marker.plotly}-open"
        trace["marker"] = {"color": colour, "size": 7, "symbol": symbol}
    return figure


def phases(experiment: Experiment) -> Figure:
    """A step by phase. The length of a bar is the step time of the table; its parts are divided as in the runs."""
    names = marked(experiment.methods)
    bars = {
        names[spec]: {phase: ratio.value * share for phase, share in shares.items()}
        for spec, shares in phase_shares(experiment.methods).items()
        if (ratio := median_cell(step_ratios(experiment.step_seconds, spec)))
    }
    return phase_bars(bars, "Step time / SGD, by phase", "step time / SGD")


def phase_bars(rows: Mapping[str, Mapping[str, float]], title: str, unit: str) -> Figure:
    """Stacked bars by phase, one for each method."""
    lines_of = [_wrapped(label) for label in rows]
    traces = [
        {
            **_bars(name.replace("_", " + "), lines_of, f"$ink/{shade}", shape),
            "x": numbers(of_label.get(name, 0) for of_label in rows.values()),
        }
        for name, shade, shape in zip(PHASES, (0.2, 0.4, 0.6, 0.8), ("", "/", "x", "."), strict=True)
        if rows
    ]
    axis = {"title": {"text": unit}, "rangemode": "tozero"}
    layout = {"barmode": "stack", "xaxis": axis, "yaxis": {"autorange": "reversed"}, "showlegend": True}
    return Figure(title, f"{title}, of {', '.join(rows)}", traces, layout, 130 + 32 * len(rows))


def memory_bars(rows: Sequence[MemoryPeak], title: str) -> Figure:
    """Bars of predicted and measured bytes, with a line at the budget. Skipped rows have no bars."""
    rows = [row for row in rows if row.status != "skipped"]
    labels = [
        f"{_wrapped(row.optimizer)}{chr(0x200B) * position}" for position, row in enumerate(rows)
    ]  # an invisible suffix makes them distinct
    said = ["" if row.status == "finished" else literal(row.status) for row in rows]
    traces = [
        {**_bars(name, labels, colour, shape), "x": numbers(getattr(row, key) for row in rows), "text": texts}
        for name, key, colour, shape, texts in (
            ("predicted", "predicted_bytes", "$c6", "/", [""] * len(rows)),
            ("measured", "peak_bytes", "$c1", "", said),
        )
    ]
    budgets = sorted({row.budget_bytes for row in rows if row.budget_bytes})
    layout = {
        "barmode": "group",
        "xaxis": {"title": {"text": "bytes"}, "type": "log", "exponentformat": "SI", "dtick": 1},
        "yaxis": {"autorange": "reversed"},
        "shapes": [rule("x", budget) for budget in budgets],
        "showlegend": True,
    }
    alt = f"{title}: bytes predicted and measured, with the budget as a dashed line"
    return Figure(title, alt, traces, layout, 130 + 44 * len(rows))


def _bars(name: str, labels: list[str], colour: str, shape: str) -> Trace:
    pattern = {"shape": shape, "fillmode": "overlay", "fgcolor": "$ink", "fgopacity": 0.45, "size": 6}
    marker = {"color": colour, "pattern": pattern}
    return {"type": "bar", "orientation": "h", "name": name, "y": labels, "marker": marker, "textposition": "outside"}


def _wrapped(name: str) -> str:
    """A long name in two lines."""
    stem, bracket, options = literal(name).partition("[")
    return f"{stem}<br>{bracket}{options}" if len(name) > 20 and bracket else stem + bracket + options
