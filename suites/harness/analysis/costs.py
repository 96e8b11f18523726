"""What a step costs by phase, and how the cost of its parts grows with the width of a layer."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from suites.harness.analysis.history import Benchmark
from suites.harness.analysis.statistics import Estimate, growth_exponent
from suites.harness.records.conventions import PHASES
from suites.harness.records.record import Record

Series = dict[str, list[tuple[float, float]]]  # points by the name of their line
_ASV_WIDTH = "scaling.Width.track_seconds"


def phase_seconds(groups: Mapping[str, Sequence[Record]]) -> dict[str, dict[str, float]]:
    """By method and phase, the median over runs and epochs of the mean seconds; empty where none were recorded."""
    found = {}
    for method, records in groups.items():
        points = [point.phases for record in records for point in record.points if point.phases]
        seconds = {name: [p[name].seconds_mean for p in points if name in p] for name in PHASES}
        if points:
            found[method] = {name: float(np.median(values)) for name, values in seconds.items() if values}
    return found


def exponent(points: Sequence[tuple[float, float]]) -> Estimate:
    """k where values go as width^k, fitted to the wider half, three points at the least."""
    widths, values = zip(*sorted(points)[-max(3, (len(points) + 1) // 2) :], strict=True)
    return growth_exponent(widths, values)


def milliseconds_by_width(
    benches: Mapping[str, Sequence[Mapping[str, Any]]], history: Iterable[Benchmark]
) -> dict[str, Series]:
    """Widths and milliseconds of curvatures and solvers alone, by where they were measured.

    Args:
        benches: by name, the rows of a file of pytest-benchmark.
        history: of asv; of each machine the newest commit counts.
    """
    found: dict[str, Series] = {}
    for benchmark in history:
        if benchmark.name == _ASV_WIDTH:
            for part, measured in benchmark.series.items():
                series = found.setdefault(f"asv on {benchmark.machine}", {})
                series.setdefault(part, []).append((float(benchmark.case), 1e3 * measured[-1].value))
    for name, rows in benches.items():
        for row in rows:
            extra = row.get("extra_info", {})
            part = extra.get("solver") or extra.get("curvature")
            if part and "width" in extra:
                points = found.setdefault(name, {}).setdefault(str(part), [])
                points.append((extra["width"], 1e3 * row["stats"]["median"]))
    return {where: {part: sorted(points) for part, points in series.items()} for where, series in found.items()}
