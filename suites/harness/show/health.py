"""How the solves of the methods went over training, and what their curvature was like."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from suites.harness.analysis.curves import curve
from suites.harness.records.record import Record
from suites.harness.show.experiment import Experiment
from suites.harness.show.figures import Figure, Styles, banded, lines

Point = Mapping[str, Any]


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
            watched = [_with_number(r, number_of) for r in group if r.completed]
            watched = [record for record in watched if record.points]
            if any(point["health"] for record in watched for point in record.points):
                traces += banded(curve(watched, "health"), method, styles)
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
        values = (point.get("solver") or {}).get(name)
        return float(summary(values)) if values and None not in values else None

    return number_of


def _negative_eigenvalues(point: Point) -> float | None:
    found = point.get("negative_curvature")
    return found and float(found["eigenvalues"])


def _with_number(record: Record, number_of: Callable[[Point], float | None]) -> Record:
    """The run with one number a measuring point as ``health``; those without are left out."""
    numbers = [(point, number_of(point)) for point in record.points]
    points = [{**point, "health": number} for point, number in numbers if number is not None]
    return Record(record.path, record.header, points, record.end)


def _last_pi(group: Sequence[Record]) -> list[tuple[int, float]]:
    """The median over seeds, by layer from 1 on."""
    finished = [record.points[-1].get("solver") or {} for record in group if record.completed]
    pis = [solver["pi"] for solver in finished if "pi" in solver]
    return list(enumerate(np.median(pis, axis=0).tolist(), start=1)) if pis else []
