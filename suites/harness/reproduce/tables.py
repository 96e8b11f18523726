"""Tables 2-5: errors of curvature matrices against the true Hessian, averaged over the iterates of a training run.

symbol                         name
theta^0, ..., theta^{s-1}      iterates         s of them, ``steps_between`` training steps from one to the next
E                              images           training images in the mean, as many of each class; None for all
"""

import math
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from suites.harness.catalog import choose
from suites.harness.data import Split
from suites.harness.environment import describe
from suites.harness.experiments import Problem, Settings
from suites.harness.records import Record, RecordWriter, read, write_atomically
from suites.harness.report import machine, markdown
from suites.harness.reproduce.errors import NORM, layer_errors, record_in_chunks, total
from suites.harness.reproduce.published import PUBLISHED, TOTAL

LABELS = {"fisher": "Fisher", "gauss_newton": "GN", "pch1": "PCH-1", "pch2": "PCH-2", NORM: "norm of the Hessian"}
OPTIMIZER = "ea_cg[lr=0.1,damping=0.01,gamma=-1]"
_TRAIN_IMAGES = {"cifar10": 50_000}  # of the set as published


@dataclass(frozen=True)
class Scale:
    """How much of a table is computed. ``dataset``: what stands in for the table's own.

    The iterates are chosen here, those of ``paper`` as well: the titles of tables say how many they are.
    """

    name: str
    iterates: int
    steps_between: int
    images: int | None = None
    dataset: str | None = None

    def adapted(self, **changes: int | None) -> "Scale":
        """The same with other ``iterates``, ``steps_between`` or ``images``, where they are not None.

        Raises:
            ValueError: if one is below 1.
        """
        chosen = {name: value for name, value in changes.items() if value is not None}
        for name, value in chosen.items():
            if value < 1:
                raise ValueError(f"{name.replace('_', ' ')} must be 1 or more, got {value}")
        return replace(self, **chosen)


SCALES = {
    scale.name: scale
    for scale in (
        Scale("smoke", iterates=3, steps_between=20, images=100, dataset="digits"),
        Scale("cpu", iterates=10, steps_between=100, images=500),
        Scale("paper", iterates=100, steps_between=100),
    )
}


@dataclass(frozen=True)
class Table:
    """One of the paper's Tables 2-5."""

    name: str
    dataset: str
    criterion: str

    @property
    def curvatures(self) -> tuple[str, ...]:
        return tuple(PUBLISHED[self.name])

    @property
    def shows(self) -> str:
        return f"errors of {', '.join(LABELS[c] for c in self.curvatures)} against the true Hessian, by layer"

    def load(self, scale: Scale, device: str, data_root: Path | None) -> Problem:
        """The problem of this table at a scale.

        Raises:
            ValueError: one line, if the data are not there or not enough.
        """
        settings = Settings(scale.dataset or self.dataset, self.criterion, device=device)
        problem = Problem.load(settings, data_root)
        balanced(problem, scale.images)
        return problem


TABLES = {
    table.name: table
    for table in (
        Table("table2", "cifar10", "cross-entropy"),
        Table("table3", "imagenet10", "cross-entropy"),
        Table("table4", "cifar10", "bounded"),
        Table("table5", "imagenet10", "bounded"),
    )
}


@dataclass(frozen=True)
class Reproduction:
    """What running a table gave; there is no frame where the run did not finish."""

    record: Record
    frame: pd.DataFrame | None
    text: str = ""


def reproduce(
    table: Table,
    scale: Scale,
    problem: Problem,
    output: Path,
    seed: int = 0,
    on_iterate: Callable[[int], None] = lambda done: None,
) -> Reproduction:
    """Train, measure the errors at every iterate, and write errors.jsonl, table.md and table.csv into ``output``."""
    path, choice = output / "errors.jsonl", choose(OPTIMIZER)
    epochs = math.ceil((scale.iterates - 1) * scale.steps_between / problem.steps_per_epoch)
    header = {
        "experiment": {**problem.describe(choice, seed, epochs), "table": table.name, "scale": asdict(scale)},
        "environment": describe(problem.settings.device),
    }
    with RecordWriter(path, header) as record:
        try:
            record.end(*_measure(table, scale, problem, seed, record, on_iterate))
        except Exception as error:
            record.end("failed", f"{type(error).__name__}: {error}", traceback=traceback.format_exc())
    done = read(path)
    if done.status != "finished":
        return Reproduction(done, None)
    frame = errors_frame(table, done)
    text = f"# {title(table, scale, problem)}\n\n{markdown(_shown(frame))}\n\n{caption(table, frame, done)}\n"
    write_atomically(output / "table.csv", frame.to_csv(index=False, lineterminator="\n"))
    write_atomically(output / "table.md", text)
    return Reproduction(done, frame, text)


def _measure(
    table: Table, scale: Scale, problem: Problem, seed: int, record: RecordWriter, on_iterate: Callable[[int], None]
) -> tuple[str, str | None]:
    step, split = problem.step(choose(OPTIMIZER), seed), balanced(problem, scale.images)
    for iterate in range(scale.iterates):
        tape = record_in_chunks(step.network, problem.criterion, problem.dataset.chunks(split))
        loss = tape.loss.item()
        if not math.isfinite(loss):
            return "diverged", f"loss is {loss} at iterate {iterate}"
        accuracy = (tape.logits.argmax(1) == tape.labels).double().mean().item()
        errors = layer_errors(tape, table.curvatures)
        record.point(step=iterate * scale.steps_between, loss=loss, accuracy=accuracy, errors=errors)
        on_iterate(iterate + 1)
        if iterate + 1 < scale.iterates:
            for _ in range(scale.steps_between):
                step()
    return "finished", None


def balanced(problem: Problem, images: int | None) -> Split:
    """The first training images of each class, as many of each; all training images where ``images`` is none.

    Raises:
        ValueError: if a class has too few, or the images are no multiple of the classes.
    """
    train, classes = problem.dataset.train, len(problem.dataset.classes)
    if images is None:
        return train
    each, rest = divmod(images, classes)
    if rest or not each:
        raise ValueError(f"images must be a multiple of the {classes} classes of {problem.dataset.name}, got {images}")
    counts = torch.bincount(train.labels, minlength=classes)
    if counts.min() < each:
        raise ValueError(
            f"data set {problem.dataset.name}: {each} training images of each class are needed, "
            f"{problem.dataset.classes[int(counts.argmin())]} has {int(counts.min())}"
        )
    rows = torch.cat([(train.labels == label).nonzero()[:each, 0] for label in range(classes)])
    return Split(train.images[rows], train.labels[rows])


def errors_frame(table: Table, record: Record) -> pd.DataFrame:
    """Errors averaged over the iterates, each row of ours above the paper's; the norm of the Hessian is the last."""
    rows: list[dict[str, Any]] = []
    for name in (*table.curvatures, NORM):
        layers = [point["errors"][name] for point in record.points]
        means = [sum(values) / len(values) for values in zip(*layers, strict=True)]
        rows.append({"curvature": LABELS[name], "by": "here", **_columns(means, total(means))})
        if name in PUBLISHED[table.name]:
            *paper, papers_total = PUBLISHED[table.name][name]
            rows.append({"curvature": LABELS[name], "by": "paper", **_columns(paper, papers_total)})
    return pd.DataFrame(rows, columns=["curvature", "by", *_layer_names(rows), TOTAL])


def order(frame: pd.DataFrame, by: str) -> str:
    """Curvatures from the largest total error to the smallest, ``Fisher > GN``."""
    rows = frame[(frame["by"] == by) & (frame["curvature"] != LABELS[NORM])]
    totals = sorted(zip(rows[TOTAL], rows["curvature"], strict=True), reverse=True)
    return " > ".join(name for _, name in totals)


def title(table: Table, scale: Scale, problem: Problem) -> str:
    """What the table is, and all that stands in for what the paper had."""
    stand_ins = []
    have, published = len(problem.dataset.train), _TRAIN_IMAGES.get(problem.dataset.name)
    if scale.dataset:
        sizes = "-".join(map(str, problem.settings.network))
        stand_ins.append(f"{scale.dataset} in place of {table.dataset}, network {sizes}")
    if published and have != published:
        stand_ins.append(f"{have} training images in place of {published}")
    if scale.images:
        stand_ins.append(f"the mean over {scale.images} of the {have} training images")
    stand_ins.append(f"{scale.iterates} iterates")
    of = f"Table {table.name.removeprefix('table')}: {table.shows}; {table.criterion}, {table.dataset}"
    return f"{of} (scale {scale.name}: {'; '.join(stand_ins)})"


def caption(table: Table, frame: pd.DataFrame, record: Record) -> str:
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
        f"Order of the totals here: {order(frame, 'here')}. In the paper: {order(frame, 'paper')}."
    )


def _columns(layers: list[float], whole: float) -> dict[str, float]:
    return {**{str(t): value for t, value in enumerate(layers, start=1)}, TOTAL: whole}


def _layer_names(rows: list[dict[str, Any]]) -> list[str]:
    return sorted({name for row in rows for name in row if name.isdigit()}, key=int)


def _shown(frame: pd.DataFrame) -> pd.DataFrame:
    """The numbers as the paper prints them."""
    return frame.map(lambda value: value if isinstance(value, str) else "-" if math.isnan(value) else f"{value:.4f}")
