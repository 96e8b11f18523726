"""Tables 2-5 from the record of a run: averages beside the paper's values, with title and caption."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import truediv
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from suites.harness.records.facts import Experiment
from suites.harness.records.journal import Journal, read_journal
from suites.harness.reproduce.paper import LABELS, PUBLISHED, TOTAL
from suites.harness.reproduce.tables2to5_errors import LayerErrors, total
from suites.harness.show.captions import machine
from suites.harness.show.table import markdown, table_of

HESSIAN = "norm of the Hessian"  # the last row
HERE, PAPER = "here", "paper"  # whose values a row shows


@dataclass(frozen=True)
class Scale:
    """How much of a table is computed. ``dataset``: what stands in for the table's own."""

    name: str
    iterates: int
    steps_between: int
    images: int | None = None
    dataset: str | None = None


@dataclass(frozen=True, kw_only=True)
class TableExperiment(Experiment):
    """The training run whose iterates a table averages over."""

    table: str
    scale: Scale


@dataclass(frozen=True, kw_only=True)
class Iterate:
    """A measuring point: the criterion, the accuracy and the errors on the images of the mean."""

    step: int
    loss: float
    accuracy: float
    errors: Mapping[str, list[float]]

    @property
    def layers(self) -> LayerErrors:
        return LayerErrors.from_json(self.errors)


ErrorsRecord: TypeAlias = Journal[TableExperiment, Iterate]


def read_errors(path: Path) -> ErrorsRecord:
    """Read the record of a table, see :func:`suites.harness.records.journal.read_journal`."""
    return read_journal(path, TableExperiment, Iterate)


def page(title: str, name: str, record: ErrorsRecord) -> str:
    """The table called ``name`` as Markdown, with its title and caption; below it the bound of Eq. (7)."""
    iterates = record.points
    frame = errors_frame(name, iterates)
    return (
        f"# {title}\n\n{_markdown(frame)}\n\n{_caption(frame, iterates, record)}\n\n"
        f"{_markdown(bound_frame(iterates), '.3g')}\n\n{_bound_caption(iterates)}\n"
    )


def errors_frame(name: str, iterates: Sequence[Iterate]) -> pd.DataFrame:
    """Errors averaged over the iterates, each row of ours above the paper's; the norm of the Hessian is the last."""
    rows: list[dict[str, Any]] = []
    for curvature, printed in PUBLISHED[name].items():
        means = _means([iterate.layers.curvatures[curvature] for iterate in iterates])
        rows.append({"curvature": LABELS[curvature], "by": HERE, **_columns(means, total(means))})
        rows.append({"curvature": LABELS[curvature], "by": PAPER, **_columns(printed[:-1], printed[-1])})
    norms = _means([iterate.layers.hessian for iterate in iterates])
    rows.append({"curvature": HESSIAN, "by": HERE, **_columns(norms, total(norms))})
    layers = sorted({column for row in rows for column in row if column.isdigit()}, key=int)
    return pd.DataFrame(rows, columns=["curvature", "by", *layers, TOTAL])


def bound_frame(iterates: Sequence[Iterate]) -> pd.DataFrame:
    """The error of Eq. (6) and its bound in each layer but the last, averaged over the iterates."""
    error = _means([iterate.layers.expectation for iterate in iterates])
    bound = _means([iterate.layers.bound for iterate in iterates])
    rows = {"error of Eq. (6)": error, "bound of Eq. (7)": bound, "error / bound": map(truediv, error, bound)}
    return pd.DataFrame(
        [{"": name, **{str(t): value for t, value in enumerate(values, start=1)}} for name, values in rows.items()]
    )


def _means(layers: Sequence[Sequence[float]]) -> list[float]:
    """Over the iterates, for each layer."""
    return [sum(values) / len(values) for values in zip(*layers, strict=True)]


def order(frame: pd.DataFrame, by: str) -> str:
    """Curvatures from the largest total error to the smallest, ``Fisher > GN``."""
    rows = frame[(frame["by"] == by) & (frame["curvature"] != HESSIAN)]
    totals = sorted(zip(rows[TOTAL], rows["curvature"], strict=True), reverse=True)
    return " > ".join(name for _, name in totals)


def accumulation(frame: pd.DataFrame) -> str:
    """The errors of each curvature over the norm of the Hessian, by layer, and which of them grow towards the first
    layer.
    """
    here = frame[frame["by"] == HERE].set_index("curvature").drop(columns=["by", TOTAL]).dropna(axis=1)
    shares = here.drop(HESSIAN) / here.loc[HESSIAN]
    listed = "; ".join(f"{name} {', '.join(f'{share:.2g}' for share in row)}" for name, row in shares.iterrows())
    growing = [str(name) for name, row in shares.iterrows() if row.is_monotonic_decreasing]
    return (
        f"Errors over the norm of the Hessian, layers 1 to {len(here.columns)}: {listed}. They grow with every layer "
        f"towards the first, as accumulating errors do: {', '.join(growing) or 'of no curvature'}."
    )


def _caption(frame: pd.DataFrame, iterates: Sequence[Iterate], record: ErrorsRecord) -> str:
    """How the values were computed, the order of the totals, and the machine."""
    experiment, first, last = record.experiment, iterates[0], iterates[-1]
    images = experiment.scale.images or experiment.train_images
    return (
        f"Errors || G - |E[H]| ||_F in the biases, averaged over {len(iterates)} iterates, each "
        f"{experiment.scale.steps_between} steps after the one before, of {experiment.optimizer} "
        f"(batch {experiment.batch_size}, {experiment.activation}, seed {experiment.seed}, "
        f"{experiment.dtype}); E is the mean over {images} training images, on which the criterion went from "
        f"{first.loss:.4g} to {last.loss:.4g} and the accuracy from {first.accuracy:.3g} to {last.accuracy:.3g}. "
        "Total: the root of the sum of squares over layers. The paper's values are those of its own images, iterates "
        f"and network of 8 layers. {machine(record.environment)}.\n\n"
        f"Order of the totals here: {order(frame, HERE)}. In the paper: {order(frame, PAPER)}.\n\n"
        f"{accumulation(frame)}"
    )


def _bound_caption(iterates: Sequence[Iterate]) -> str:
    pairs = [
        pair for iterate in iterates for pair in zip(iterate.layers.expectation, iterate.layers.bound, strict=True)
    ]
    above = sum(error > bound for error, bound in pairs)
    return (
        "The expectation approximation, Eq. (6), of each step of the recursion from the exact Hessian of the layer "
        "above, at the same iterates and images: ||E[X * Y] - E[X] * E[Y]||_F with X = W^T H W and Y = phi' phi'^T. "
        "Bound: L^2 (sum Var[X])^(1/2), where L is the Lipschitz constant of the activation. "
        f"The error is above its bound in {above} of {len(pairs)} layers and iterates."
    )


def _columns(layers: Sequence[float], whole: float) -> dict[str, float]:
    return {**{str(t): value for t, value in enumerate(layers, start=1)}, TOTAL: whole}


def _markdown(frame: pd.DataFrame, form: str = ".4f") -> str:
    """The numbers as the paper prints them."""
    rows = [{key: None if pd.isna(cell) else cell for key, cell in row.items()} for row in frame.to_dict("records")]
    return markdown(table_of(rows, form))
