"""The figures of the page, as plotly's JSON: traces and layout of plain values.

The page fills in the colours of its theme: ``$c0``, ``$c1``, ... of :mod:`suites.harness.show.looks`, and ``$ink`` for
text. A trace may have ``along``, its x values by axis if readers can choose the axis, and ``method``, its label.
"""

import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from operator import attrgetter
from statistics import fmean
from typing import Any

import numpy as np

from suites.harness.analysis.curves import AXES, Curve, common_end, curve, points_of
from suites.harness.analysis.experiment import Experiment
from suites.harness.analysis.metrics import Metric, judged_by
from suites.harness.analysis.profiles import Profile
from suites.harness.names import shown_name
from suites.harness.records.facts import Point
from suites.harness.records.record import Record
from suites.harness.show.looks import Look, look_of, looks, marked

Trace = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """A picture to draw. alt: a description, for readers who do not see it."""

    title: str
    alt: str
    traces: list[Trace]
    layout: dict[str, object] = field(default_factory=dict)
    height: int = 340

    @property
    def plotly(self) -> dict[str, Any]:
        return {"data": self.traces, "layout": {**self.layout, "height": self.height}}


def literal(text: object) -> str:
    """Text that plotly shows as it is, without reading tags in it."""
    return html.escape(str(text), quote=False)


def line(label: str, look: Look) -> Trace:
    """The properties of every line of a method."""
    colour = f"$c{look.colour}"
    return {
        "name": literal(label),
        "method": label,
        "mode": "lines+markers",
        "line": {"color": colour, "dash": look.dash.plotly, "width": 2},
        "marker": {"color": colour, "symbol": look.marker.plotly + ("-open" if look.hollow else ""), "size": 7},
    }


def convergence(experiment: Experiment, metric: Metric) -> Figure:
    """A metric over training: medians with bands by method, and each unfinished run up to its last point."""
    traces: list[Trace] = []
    names, of_method = marked(experiment.methods), looks(experiment.methods)
    for spec, group in experiment.methods.items():
        label, look = names[spec], of_method[spec]
        finished = [record for record in group if record.completed]
        if finished:
            traces += banded(curve(list(map(points_of, finished)), attrgetter(metric.key)), label, look)
        for record in group:
            if not record.completed and record.points:
                traces.append(_broken_off(record, metric.key, label, look))
    layout: dict[str, object] = {"yaxis": {"type": "linear" if metric.larger_is_better else "log"}}
    layout["ends"] = {"seconds": _rounded(common_end([r for r in experiment.records if r.points and r.end]))}
    if metric.key == judged_by(experiment.records).key:
        layout["shapes"] = [rule("y", experiment.target)]
    who = ", ".join(names.values())
    return Figure(
        metric.axis, f"{metric.axis} of {who} on {experiment.name}, against what is chosen above", traces, layout
    )


def banded(drawn: Curve, label: str, look: Look) -> list[Trace]:
    """The line of a method with its band."""
    along = {axis: numbers(x) for axis, x in drawn.along.items()}
    own = {"along": along, "method": label, "hoverinfo": "skip", "mode": "lines", "line": {"width": 0}}
    band = {"fill": "tonexty", "fillcolor": f"$c{look.colour}/0.15"}
    middle = {**line(label, look), "along": along, "y": numbers(drawn.middle)}
    middle["marker"] = {**middle["marker"], "maxdisplayed": 9}
    return [{**own, "y": numbers(drawn.low)}, {**own, **band, "y": numbers(drawn.high)}, middle]


def _broken_off(record: Record, quantity: str, label: str, look: Look) -> Trace:
    """A run that did not finish, with a cross at its last point."""
    known = [point for point in points_of(record) if getattr(point, quantity) is not None]
    trace, colour = line(label, look), f"$c{look.colour}"
    trace["name"] = literal(f"{label}, seed {record.experiment.seed}: {record.status}")
    along = {axis: numbers(getattr(point, name) for point in known) for axis, (name, _) in AXES.items()}
    trace["along"] = {axis: x for axis, x in along.items() if None not in x}
    trace["line"] = {**trace["line"], "width": 1}
    cross = {"symbol": "x-thin-open", "size": [0] * (len(known) - 1) + [14]}
    trace["marker"] = {"color": colour, "line": {"color": colour, "width": 3}, **cross}
    return {**trace, "y": numbers(getattr(point, quantity) for point in known)}


def solver_health(groups: Mapping[str, Sequence[Record]], where: str) -> list[Figure]:
    """How solves went over training, where records say so: CG iterations, residuals, the negative eigenvalues before
    Pos-Eig, and KFI's pi.
    """
    over_training = (
        (_solver("iterations_mean", fmean), "CG iterations, mean of layers and steps", {"rangemode": "tozero"}),
        (_solver("residual_max", max), "relative residual, worst of layers and steps", {"type": "log"}),
        (_negative_eigenvalues, "negative eigenvalues of E[hess_z C], which Pos-Eig turns round", {}),
    )
    found, names, of_method = [], marked(groups), looks(groups)
    for number_of, title, axis in over_training:
        traces = []
        for spec, group in groups.items():
            watched = [[point for point in points_of(r) if number_of(point) is not None] for r in group if r.completed]
            watched = [points for points in watched if points]
            if any(number_of(point) for points in watched for point in points):
                traces += banded(curve(watched, number_of), names[spec], of_method[spec])
        if traces:
            found.append(Figure(title, f"{title}, over training on {where}", traces, {"yaxis": axis}))
    pis = {spec: pi for spec, group in groups.items() if (pi := _last_pi(group))}
    if pis:
        found.append(lines(pis, "pi_t of Eq. (12), by layer, at the end of training", "layer", "pi", names, dtick=1))
    return found


def _solver(name: str, summary: Callable[[Sequence[float]], float]) -> Callable[[Point], float | None]:
    """A summary of the solves since the last measuring point; None before the first step and for direct solvers."""

    def number_of(point: Point) -> float | None:
        values = point.solver and getattr(point.solver, name)
        return float(summary(values)) if values and None not in values else None

    return number_of


def _negative_eigenvalues(point: Point) -> float | None:
    return point.negative_curvature and float(point.negative_curvature.eigenvalues)


def _last_pi(group: Sequence[Record]) -> list[tuple[int, float]]:
    """The median over seeds, by layer from 1 on."""
    solvers = [record.points[-1].solver for record in group if record.completed]
    pis = [solver.pi for solver in solvers if solver and solver.pi]
    return list(enumerate(np.median(np.array(pis, dtype=float), axis=0).tolist(), start=1)) if pis else []


def performance_profile(found: Mapping[str, Profile], cost: str) -> Figure:
    """The share of problems solved within a factor of the best, as steps."""
    end = max([2.0, *(profile.factors[-1] for profile in found.values())]) * 1.1
    traces = []
    for method, profile in found.items():
        trace = line(method, look_of(method))
        trace["line"] = {**trace["line"], "shape": "hv"}
        trace["marker"] = {**trace["marker"], "maxdisplayed": 9}
        traces.append(
            {**trace, "x": numbers([*profile.factors, end]), "y": numbers([*profile.shares, profile.shares[-1]])}
        )
    layout = {
        "xaxis": {
            "title": {"text": "factor over the cheapest method"},
            "type": "log",
            "range": [0, float(np.log10(end))],
        },
        "yaxis": {"title": {"text": "share of problems"}, "range": [0, 1.02]},
        "showlegend": True,
    }
    title = f"Performance profiles in {cost}"
    return Figure(title, f"{title}: share of problems solved within a factor of the cheapest", traces, layout)


def lines(
    series: Mapping[str, Sequence[tuple[str | float, float]]],
    title: str,
    x: str,
    y: str,
    names: Mapping[str, str] | None = None,
    log: bool = True,
    **axis: object,
) -> Figure:
    """Lines through points in their order.

    Args:
        series: points by line, such as an optimizer.
        names: of the lines, for readers.
        log: whether y is logarithmic; if not, it begins at 0.
        axis: plotly's options for the x axis.
    """
    of_line = looks(series)
    traces = [
        {
            **line(names[name] if names else shown_name(name), of_line[name]),
            "x": [at if isinstance(at, str) else float(at) for at, _ in points],
            "y": numbers(v for _, v in points),
        }
        for name, points in series.items()
    ]
    layout = {
        "xaxis": {"title": {"text": x}, **axis},
        "yaxis": {
            "title": {"text": y},
            "exponentformat": "power",
            **({"type": "log"} if log else {"rangemode": "tozero"}),
        },
        "showlegend": True,
    }
    return Figure(title, f"{title}: {y} against {x}", traces, layout, 380)


def rule(axis: str, at: float) -> dict[str, object]:
    """A dashed line across the figure."""
    across = "x" if axis == "y" else "y"
    return {
        "type": "line",
        f"{axis}0": at,
        f"{axis}1": at,
        f"{across}ref": "paper",
        f"{across}0": 0,
        f"{across}1": 1,
        "line": {"color": "$ink", "width": 1.5, "dash": "dash"},
    }


def numbers(values: Iterable[float | None]) -> list[float | None]:
    """Numbers with five digits, as many as can be seen."""
    return [_rounded(value) for value in values]


def _rounded(value: float | None) -> float | None:
    """None if there is nothing to draw."""
    return None if value is None or not isfinite(value) else float(f"{float(value):.5g}")
