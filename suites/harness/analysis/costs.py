"""The cost of a step by phase, and how the cost of its parts grows with the width of a layer."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from suites.harness.analysis.history import Benchmark
from suites.harness.analysis.statistics import Estimate, growth_exponent
from suites.harness.records.beside import Bench
from suites.harness.records.conventions import PHASES
from suites.harness.records.record import Record

Series = dict[str, list[tuple[float, float]]]  # points by the name of their line
_ASV_WIDTH = "scaling.Width.track_seconds"


def phase_shares(groups: Mapping[str, Sequence[Record]]) -> dict[str, dict[str, float]]:
    """The share of each phase in a step, by method: from the mean seconds, as medians over runs and epochs. Methods
    without recorded phases are left out.
    """
    found = {}
    for method, records in groups.items():
        points = [point.phases for record in records if record.header.alone for point in record.points if point.phases]
        seconds = {name: [p[name].seconds_mean for p in points if name in p] for name in PHASES}
        medians = {name: float(np.median(values)) for name, values in seconds.items() if values}
        if whole := sum(medians.values()):
            found[method] = {name: value / whole for name, value in medians.items()}
    return found


def exponent(points: Sequence[tuple[float, float]]) -> Estimate:
    """The exponent k of growth like width^k, fitted to the wider half of the widths, at least three."""
    widths, values = zip(*sorted(points)[-max(3, (len(points) + 1) // 2) :], strict=True)
    return growth_exponent(widths, values)


def milliseconds_by_width(benches: Mapping[str, Sequence[Bench]], history: Iterable[Benchmark]) -> dict[str, Series]:
    """Widths and milliseconds of curvatures and solvers alone, by source.

    Args:
        benches: by name, the rows of a file of pytest-benchmark.
        history: of asv; the newest commit of each machine counts.
    """
    found: dict[str, Series] = {}
    for benchmark in history:
        if benchmark.name == _ASV_WIDTH:
            for part, measured in benchmark.series.items():
                series = found.setdefault(f"asv on {benchmark.machine}", {})
                if benchmark.case.isdigit():
                    series.setdefault(part, []).append((float(benchmark.case), 1e3 * measured[-1].value))
    for name, rows in benches.items():
        for row in rows:
            extra = row.extra_info
            if (part := extra.solver or extra.curvature) and extra.width:
                found.setdefault(name, {}).setdefault(part, []).append((extra.width, 1e3 * row.stats.median))
    return {where: {part: _by_width(points) for part, points in series.items()} for where, series in found.items()}


def _by_width(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points in the order of widths, one a width, with values above 0."""
    return sorted({width: value for width, value in points if width > 0 and value > 0}.items())
