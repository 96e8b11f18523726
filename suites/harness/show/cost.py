"""The sections on cost: seconds of a step by phase, batch and width, their growth, and bytes."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from suites.harness.analysis.statistics import Estimate, growth_exponent
from suites.harness.records.conventions import PHASES
from suites.harness.records.measured import StepTime
from suites.harness.show import figures, measurements
from suites.harness.show.collect import Measurement, PaperTable, Results
from suites.harness.show.experiment import Experiment
from suites.harness.show.figures import Figure, Styles
from suites.harness.show.section import Section
from suites.harness.show.table import Cell, Content, slug, table_of

_ROUNDING = 1e-5  # of the largest error: layer k of Gauss-Newton and PCH has none but rounding
_ASV_WIDTH = "scaling.Width.track_seconds"
Series = dict[str, list[tuple[float, float]]]


def sections(results: Results, styles: Styles) -> Iterator[Section]:
    """Step times, growth with the width, memory; one that has nothing to show says what makes it."""
    timed = [experiment for experiment in results.experiments if any(_phase_seconds(experiment).values())]
    pictures = [
        figures.phases(_phase_seconds(experiment), PHASES, f"{experiment.name}: a step by phase")
        for experiment in timed
    ]
    names = {measurement.path: f"{measurement.path.parent.name}-step-times" for measurement in results.step_times}
    for measurement in results.step_times:
        pictures += _step_time_figures(measurement, styles)
    found = [*(e.folder for e in timed), *(m.path for m in [*results.step_times, *results.benches])]
    yield Section(
        "step-times",
        "What a step takes",
        "Seconds of a step, split into forward and backward, curvature, solve and update, and against the batch."
        if found
        else "No step times recorded.",
        "kronbench gpu --output DIR",
        found,
        figures=pictures,
        tables=[
            *(measurements.step_times(m, slug(names[m.path])) for m in results.step_times),
            *(measurements.bench(m, slug(f"{m.path.parent.name}-{m.path.stem}")) for m in results.benches),
        ],
    )
    yield _growth(results)
    yield Section(
        "memory",
        "Memory",
        "Peak bytes of a step in a fresh process, predicted by formula and measured, under a budget that is enforced."
        if results.memory
        else "No memory recorded.",
        "kronbench memory",
        [measurement.path for measurement in results.memory],
        figures=[
            figures.memory([row for row in m.rows if row.status != "skipped"], f"Memory, {m.path.parent.name}")
            for m in results.memory
        ],
        tables=[measurements.memory(m, slug(f"{m.path.parent.name}-memory")) for m in results.memory],
    )


def _phase_seconds(experiment: Experiment) -> dict[str, dict[str, float]]:
    """By method, the median over runs and epochs of the mean seconds of each phase."""
    found = {}
    for method, records in experiment.methods.items():
        points = [point.phases for record in records for point in record.points if point.phases]
        seconds = {name: [p[name].seconds_mean for p in points if name in p] for name in PHASES}
        if points:
            found[method] = {name: float(np.median(values)) for name, values in seconds.items() if values}
    return found


def _step_time_figures(measurement: Measurement[StepTime], styles: Styles) -> list[Figure]:
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
                pictures.append(figures.lines(series, title, "batch", "milliseconds of a step", styles, type="log"))
        for network, batch in dict.fromkeys((row.network, row.batch) for row in own):
            case = {r.optimizer: r.phases for r in own if (r.network, r.batch) == (network, batch)}
            title = f"{where}, {network.partition('-')[0]} inputs, batch {batch}, {how}"
            pictures.append(figures.phases(case, PHASES, title))
    return pictures


def _growth(results: Results) -> Section:
    sources = {**_widths_of_asv(results), **_widths_of_benches(results.benches)}
    if not sources:
        text = "No curvature or solver timed against the width of a layer."
        return Section("growth", "Growth with the width", text, "tox run -e bench")
    rows: list[dict[str, Content]] = [
        {"where": where, "part": part, "widths": _span(points), "exponent": Cell(*exponent(points))}
        for where, series in sources.items()
        for part, points in series.items()
        if len(points) > 2
    ]
    note = "k of width^k, fitted to the wider half of the widths, three at the least, with 95 % intervals."
    return Section(
        "growth",
        "Growth with the width",
        "Curvature and solver alone, on a layer of n inputs and n outputs, batch 100.",
        "tox run -e bench",
        [m.path for m in results.benches],
        figures=[
            figures.lines(series, where, "width", "milliseconds", Styles(series), type="log")
            for where, series in sources.items()
        ],
        tables=[replace(table_of(rows, {"exponent": ".2f"}), name="growth", title="Exponents of growth", note=note)],
    )


def exponent(points: Sequence[tuple[float, float]]) -> Estimate:
    """k where values go as width^k, fitted to the wider half, three points at the least."""
    widths, values = zip(*sorted(points)[-max(3, (len(points) + 1) // 2) :], strict=True)
    return growth_exponent(widths, values)


def _span(points: Sequence[tuple[float, float]]) -> str:
    return f"{min(points)[0]:g} to {max(points)[0]:g}"


def _widths_of_benches(benches: Sequence[Measurement[dict[str, Any]]]) -> dict[str, Series]:
    found: dict[str, Series] = {}
    for measurement in benches:
        for row in measurement.rows:
            extra: Mapping[str, Any] = row.get("extra_info", {})
            part = extra.get("solver") or extra.get("curvature")
            if part and "width" in extra:
                series = found.setdefault(measurement.path.stem, {})
                series.setdefault(str(part), []).append((extra["width"], 1e3 * row["stats"]["median"]))
    return {where: {part: sorted(points) for part, points in series.items()} for where, series in found.items()}


def _widths_of_asv(results: Results) -> dict[str, Series]:
    """The newest commit of each machine."""
    found: dict[str, Series] = {}
    for benchmark in results.history:
        if benchmark.name == _ASV_WIDTH:
            for part, measured in benchmark.series.items():
                series = found.setdefault(f"asv on {benchmark.machine}", {})
                series.setdefault(part, []).append((float(benchmark.case), 1e3 * measured[-1].value))
    return {where: {part: sorted(points) for part, points in series.items()} for where, series in found.items()}


def errors_by_layer(paper: PaperTable, styles: Styles) -> Figure | None:
    """The errors of a table by layer, ours and the paper's; None of a table of another kind."""
    layers = [name for name in paper.columns if re.fullmatch(r"\d+", name)]
    if paper.columns[:2] != ["curvature", "by"] or not layers:
        return None
    series: dict[str, list[tuple[Any, float]]] = {}
    for curvature, by, *cells in paper.rows:
        points = [(layer, float(cell)) for layer, cell in zip(layers, cells, strict=False) if cell]
        largest = max((value for _, value in points), default=0.0)
        series[f"{curvature}, {by}"] = [(layer, value) for layer, value in points if value > _ROUNDING * largest]
    figure = figures.lines(series, paper.title, "layer", "error", styles, type="category")
    looks = Styles(row[0] for row in paper.rows)
    for trace, (curvature, by, *_) in zip(figure.traces, paper.rows, strict=True):
        look = looks.line(curvature)
        trace["line"] = {**look["line"], "dash": "solid" if by == "here" else "dot"}
        trace["marker"] = {**look["marker"], "symbol": look["marker"]["symbol"] + ("" if by == "here" else "-open")}
    return figure
