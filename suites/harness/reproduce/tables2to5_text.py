"""Tables 2-5 from the record of a run: averages beside the paper's values, with title and caption."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import truediv
from pathlib import Path
from typing import TypeAlias

import numpy as np

from suites.harness.records.facts import Experiment
from suites.harness.records.journal import Journal, read_journal
from suites.harness.reproduce.paper import LABELS, PUBLISHED, TOTAL
from suites.harness.reproduce.request import Scale
from suites.harness.show.captions import machine
from suites.harness.show.table import Column, Content, Table, markdown

HESSIAN = "norm of the Hessian"  # the last row
HERE, PAPER = "here", "paper"  # the source of a row's values


@dataclass(frozen=True)
class TableScale(Scale):
    """How much of a table is computed. ``dataset``: stands in for the table's own."""

    iterates: int
    steps_between: int
    images: int | None = None
    dataset: str | None = None


@dataclass(frozen=True, kw_only=True)
class TableExperiment(Experiment):
    """The training run whose iterates a table averages over."""

    table: str
    scale: TableScale


@dataclass(frozen=True, kw_only=True)
class Iterate:
    """A measuring point: the criterion and the accuracy on the images of the mean, and the errors by
    :func:`suites.harness.reproduce.tables2to5_errors.layer_errors`.
    """

    step: int
    loss: float
    accuracy: float
    errors: Mapping[str, list[float]]


ErrorsRecord: TypeAlias = Journal[TableExperiment, Iterate]


def read_errors(path: Path) -> ErrorsRecord:
    """Read the record of a table, see :func:`suites.harness.records.journal.read_journal`."""
    return read_journal(path, TableExperiment, Iterate)


def page(title: str, name: str, record: ErrorsRecord) -> str:
    """The table called ``name`` as Markdown, with its title and caption; below it the bound of Eq. (7)."""
    table = errors_table(name, record.points)
    bound = markdown(bound_table(record.points))
    parts = (f"# {title}", markdown(table), _caption(table, record), bound, _bound_caption(record.points))
    return "\n\n".join(parts) + "\n"


def errors_table(name: str, iterates: Sequence[Iterate]) -> Table:
    """Errors averaged over the iterates, each row above the paper's; the norm of the Hessian comes last."""
    rows = []
    for curvature, (*printed, whole) in PUBLISHED[name].items():
        rows.append(_row(LABELS[curvature], HERE, _mean(iterates, curvature)))
        rows.append({**_row(LABELS[curvature], PAPER, printed), TOTAL: whole})
    rows.append(_row(HESSIAN, HERE, _mean(iterates, "hessian")))
    layers = map(str, range(1, max(map(len, rows)) - 2))
    return Table([Column(key, key, ".4f") for key in ("curvature", "by", *layers, TOTAL)], rows)


def _row(curvature: str, by: str, errors: Sequence[float]) -> dict[str, Content]:
    """The errors by layer, and in total: the root of the sum of squares."""
    return {"curvature": curvature, "by": by, **_by_layer(errors), TOTAL: math.hypot(*errors)}


def bound_table(iterates: Sequence[Iterate]) -> Table:
    """The error of Eq. (6) and its bound in each layer but the last, averaged over the iterates."""
    error, bound = _mean(iterates, "expectation"), _mean(iterates, "bound")
    rows = {"error of Eq. (6)": error, "bound of Eq. (7)": bound, "error / bound": list(map(truediv, error, bound))}
    columns = [Column(key, key, ".3g") for key in ("", *_by_layer(error))]
    return Table(columns, [{"": name, **_by_layer(values)} for name, values in rows.items()])


def _by_layer(values: Sequence[float]) -> dict[str, Content]:
    return {str(t): value for t, value in enumerate(values, start=1)}


def _mean(iterates: Sequence[Iterate], name: str) -> list[float]:
    """Means over the iterates, one a layer."""
    return _all(iterates, name).mean(axis=0).tolist()


def _all(iterates: Sequence[Iterate], name: str) -> np.ndarray:
    """Values [iterates, layers]; no layers for what an old record lacks."""
    return np.array([iterate.errors.get(name, []) for iterate in iterates])


def order(table: Table, by: str) -> str:
    """Curvatures from the largest total error to the smallest, ``Fisher > GN``."""
    totals = [(row[TOTAL], row["curvature"]) for row in table.rows if row["by"] == by and row["curvature"] != HESSIAN]
    return " > ".join(str(name) for _, name in sorted(totals, reverse=True))


def accumulation(table: Table) -> str:
    """The errors of each curvature over the norm of the Hessian, by layer, and which of them grow towards the first
    layer.
    """
    here = {str(row["curvature"]): _layers(row) for row in table.rows if row["by"] == HERE}
    norms = here.pop(HESSIAN)
    shares = {name: list(map(truediv, errors, norms)) for name, errors in here.items()}
    listed = "; ".join(f"{name} {', '.join(f'{share:.2g}' for share in own)}" for name, own in shares.items())
    growing = [name for name, own in shares.items() if all(lower >= upper for lower, upper in pairwise(own))]
    return (
        f"Errors over the norm of the Hessian, layers 1 to {len(norms)}: {listed}. They grow with every layer "
        f"towards the first, as accumulating errors do: {', '.join(growing) or 'of no curvature'}."
    )


def _layers(row: Mapping[str, Content]) -> list[float]:
    return [value for key, value in row.items() if key.isdigit() and isinstance(value, float)]


def _caption(table: Table, record: ErrorsRecord) -> str:
    """How the values were computed, the order of the totals, and the machine."""
    experiment, first, last = record.experiment, record.points[0], record.points[-1]
    images = experiment.scale.images or experiment.train_images
    return (
        f"Errors || G - |E[H]| ||_F in the biases, averaged over {len(record.points)} iterates, each "
        f"{experiment.scale.steps_between} steps after the one before, of {experiment.optimizer} "
        f"(batch {experiment.batch_size}, {experiment.activation}, seed {experiment.seed}, "
        f"{experiment.dtype}); E is the mean over {images} training images, on which the criterion went from "
        f"{first.loss:.4g} to {last.loss:.4g} and the accuracy from {first.accuracy:.3g} to {last.accuracy:.3g}. "
        "Total: the root of the sum of squares over layers. The paper's values are those of its own images, iterates "
        f"and network of 8 layers. {machine(record.environment)}.\n\n"
        f"Order of the totals here: {order(table, HERE)}. In the paper: {order(table, PAPER)}.\n\n"
        f"{accumulation(table)}"
    )


def _bound_caption(iterates: Sequence[Iterate]) -> str:
    error, bound = _all(iterates, "expectation"), _all(iterates, "bound")
    return (
        "The expectation approximation, Eq. (6), of each step of the recursion from the exact Hessian of the layer "
        "above, at the same iterates and images: ||E[X * Y] - E[X] * E[Y]||_F with X = W^T H W and Y = phi' phi'^T. "
        "Bound: L^2 (sum Var[X])^(1/2), where L is the Lipschitz constant of the activation. "
        f"The error is above its bound in {(error > bound).sum()} of {error.size} layers and iterates."
    )
