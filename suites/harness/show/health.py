"""How the solves of the methods went over training, and what their curvature was like."""

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from suites.harness.analysis.curves import curve
from suites.harness.records.facts import Point
from suites.harness.records.record import Record
from suites.harness.show.experiment import Experiment
from suites.harness.show.figures import Figure, Styles, banded, lines


def solver_health(experiment: Experiment, styles: Styles) -> list[Figure]:
    """Of those methods whose records carry them: CG iterations, residuals, eigenvalues turned round, and KFI's pi."""
    over_training = (
        (_solver("iterations_mean", fmean), "CG iterations, mean of layers and steps", {"rangemode": "tozero"}),
        (_solver("residual_max", max), "relative residual, worst of layers and steps", {"type": "log"}),
        (_negative_eigenvalues, "negative eigenvalues of E[hess_z C], which Pos-Eig turns round", {}),
    )
    figures = []
    for number_of, title, axis in over_training:
        traces = []
        for method, group in experiment.methods.items():
            watched = [[point for point in r.points if number_of(point) is not None] for r in group if r.completed]
            watched = [points for points in watched if points]
            if any(number_of(point) for points in watched for point in points):
                traces += banded(curve(watched, number_of), method, styles)
        if traces:
            figures.append(Figure(title, f"{title}, over training on {experiment.name}", traces, {"yaxis": axis}))
    pis = {method: pi for method, group in experiment.methods.items() if (pi := _last_pi(group))}
    if pis:
        title = "pi_t of Eq. (12), by layer, at the end of training"
        figures.append(lines(pis, title, "layer", "pi", styles, dtick=1))
    return figures


def _solver(name: str, summary: Callable[[Any], Any]) -> Callable[[Point], float | None]:
    """Of the solves since the last measuring point; None before the first step, and of a direct solver."""

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
