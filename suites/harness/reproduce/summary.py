"""A table from the record of a reproduction: averages beside the paper's values, with title and caption."""

import math
from operator import truediv
from typing import Any

import pandas as pd

from suites.harness.records.record import Record
from suites.harness.reproduce.errors import BOUND, EXPECTATION, NORM, total
from suites.harness.reproduce.published import PUBLISHED, TOTAL, TRAIN_IMAGES
from suites.harness.reproduce.tables import LABELS, Scale, Table
from suites.harness.show.tables import machine, markdown
from suites.harness.training.experiment import Task


def summary(table: Table, scale: Scale, task: Task, record: Record) -> str:
    """The table as Markdown, with its title and caption; below it the bound of Eq. (7)."""
    frame = errors_frame(table, record)
    return (
        f"# {title(table, scale, task)}\n\n{markdown(_shown(frame))}\n\n{caption(frame, record)}\n\n"
        f"{markdown(_shown(bound_frame(record), '.3g'))}\n\n{_bound_caption(record)}\n"
    )


def errors_frame(table: Table, record: Record) -> pd.DataFrame:
    """Errors averaged over the iterates, each row of ours above the paper's; the norm of the Hessian is the last."""
    rows: list[dict[str, Any]] = []
    for name in (*table.curvatures, NORM):
        means = _means(record, name)
        rows.append({"curvature": LABELS[name], "by": "here", **_columns(means, total(means))})
        if name in PUBLISHED[table.name]:
            *paper, papers_total = PUBLISHED[table.name][name]
            rows.append({"curvature": LABELS[name], "by": "paper", **_columns(paper, papers_total)})
    return pd.DataFrame(rows, columns=["curvature", "by", *_layer_names(rows), TOTAL])


def bound_frame(record: Record) -> pd.DataFrame:
    """The error of Eq. (6) and its bound in each layer but the last, averaged over the iterates."""
    error, bound = (_means(record, name) for name in (EXPECTATION, BOUND))
    rows = {"error of Eq. (6)": error, "bound of Eq. (7)": bound, "error / bound": map(truediv, error, bound)}
    return pd.DataFrame(
        [{"": name, **{str(t): value for t, value in enumerate(values, start=1)}} for name, values in rows.items()]
    )


def _means(record: Record, name: str) -> list[float]:
    layers = [point["errors"][name] for point in record.points]
    return [sum(values) / len(values) for values in zip(*layers, strict=True)]


def order(frame: pd.DataFrame, by: str) -> str:
    """Curvatures from the largest total error to the smallest, ``Fisher > GN``."""
    rows = frame[(frame["by"] == by) & (frame["curvature"] != LABELS[NORM])]
    totals = sorted(zip(rows[TOTAL], rows["curvature"], strict=True), reverse=True)
    return " > ".join(name for _, name in totals)


def accumulation(frame: pd.DataFrame) -> str:
    """Each curvature's errors over the norm of the Hessian, by layer, and whose grow all the way to the first."""
    here = frame[frame["by"] == "here"].set_index("curvature").drop(columns=["by", TOTAL]).dropna(axis=1)
    shares = here.drop(LABELS[NORM]) / here.loc[LABELS[NORM]]
    listed = "; ".join(f"{name} {', '.join(f'{share:.2g}' for share in row)}" for name, row in shares.iterrows())
    growing = [str(name) for name, row in shares.iterrows() if row.is_monotonic_decreasing]
    return (
        f"Errors over the norm of the Hessian, layers 1 to {len(here.columns)}: {listed}. They grow with every layer "
        f"towards the first, as accumulating errors do: {', '.join(growing) or 'of no curvature'}."
    )


def title(table: Table, scale: Scale, task: Task) -> str:
    """What the table is, and all that stands in for what the paper had."""
    found = stand_ins(task, table.dataset)
    if scale.images:
        found.append(f"the mean over {scale.images} of the {len(task.dataset.train)} training images")
    found.append(f"{scale.iterates} iterates")
    of = f"Table {table.name.removeprefix('table')}: {table.shows}; {table.criterion}, {table.dataset}"
    return f"{of} (scale {scale.name}: {'; '.join(found)})"


def stand_ins(task: Task, dataset: str) -> list[str]:
    """What stands in for the paper's images of a data set."""
    have, published = len(task.dataset.train), TRAIN_IMAGES.get(task.dataset.name)
    if task.dataset.name != dataset:
        return [f"{task.dataset.name} in place of {dataset}, network {'-'.join(map(str, task.settings.network))}"]
    return [f"{have} training images in place of {published}"] if published and have != published else []


def caption(frame: pd.DataFrame, record: Record) -> str:
    """How the values came about, in which order the totals are, and on what it was measured."""
    experiment, points = record.experiment, record.points
    scale = experiment["scale"]
    images = scale["images"] or experiment["train_images"]
    return (
        f"Errors || G - |E[H]| ||_F in the biases, averaged over {len(points)} iterates, each {scale['steps_between']} "
        f"steps after the one before, of {experiment['optimizer']} (batch {experiment['batch_size']}, "
        f"{experiment['activation']}, seed {experiment['seed']}, {experiment['dtype']}); E is the mean over {images} "
        f"training images, on which the criterion went from {points[0]['loss']:.4g} to {points[-1]['loss']:.4g} and "
        f"the accuracy from {points[0]['accuracy']:.3g} to {points[-1]['accuracy']:.3g}. "
        "Total: the root of the sum of squares over layers. The paper's values are those of its own images, iterates "
        f"and network of 8 layers. {machine(record.header['environment'])}.\n\n"
        f"Order of the totals here: {order(frame, 'here')}. In the paper: {order(frame, 'paper')}.\n\n"
        f"{accumulation(frame)}"
    )


def _bound_caption(record: Record) -> str:
    pairs = [
        pair
        for point in record.points
        for pair in zip(point["errors"][EXPECTATION], point["errors"][BOUND], strict=True)
    ]
    above = sum(error > bound for error, bound in pairs)
    return (
        "The expectation approximation, Eq. (6), of each step of the recursion from the exact Hessian of the layer "
        "above, at the same iterates and images: ||E[X * Y] - E[X] * E[Y]||_F with X = W^T H W and Y = phi' phi'^T. "
        "Bound: L^2 (sum Var[X])^(1/2), where L is the Lipschitz constant of the activation. "
        f"The error is above its bound in {above} of {len(pairs)} layers and iterates."
    )


def _columns(layers: list[float], whole: float) -> dict[str, float]:
    return {**{str(t): value for t, value in enumerate(layers, start=1)}, TOTAL: whole}


def _layer_names(rows: list[dict[str, Any]]) -> list[str]:
    return sorted({name for row in rows for name in row if name.isdigit()}, key=int)


def _shown(frame: pd.DataFrame, form: str = ".4f") -> pd.DataFrame:
    """The numbers as the paper prints them."""
    return frame.map(lambda value: value if isinstance(value, str) else "-" if math.isnan(value) else f"{value:{form}}")
