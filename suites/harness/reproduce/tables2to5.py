"""Tables 2-5: errors of curvature matrices against the true Hessian, averaged over the iterates of a training run.

symbol                         name
theta^0, ..., theta^{s-1}      iterates         s of them, ``steps_between`` training steps from one to the next
E                              images           training images in the mean, the same number of each class; None: all
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from suites.harness.data.dataset import Split
from suites.harness.measure.environment import describe
from suites.harness.measure.step import Step
from suites.harness.records.facts import Header, Status
from suites.harness.reproduce import tables2to5_errors
from suites.harness.reproduce.paper import LABELS, PUBLISHED, stand_ins
from suites.harness.reproduce.request import Reproduction, Request
from suites.harness.reproduce.tables2to5_errors import layer_errors, record_in_chunks
from suites.harness.reproduce.tables2to5_text import (
    Iterate,
    TableExperiment,
    TableScale,
    bound_table,
    errors_table,
    page,
    read_errors,
)
from suites.harness.training.catalog import choose
from suites.harness.training.experiment import Settings, Task
from suites.harness.training.identity import files_of, run_id
from suites.harness.training.resumable import Work, restore, run_once
from suites.harness.training.turns import Turns, in_one_go
from suites.harness.tuning.progress import progress_bars

# the paper does not say which optimizer made its iterates
OPTIMIZER = "ea_cg[lr=0.1,damping=0.01,gamma=-1]"

# deviates: the paper averages over every iterate from theta^0 to theta^{s-1} and does not give s; here iterates lie
# many steps apart, and titles say how many there are
SCALES = {
    scale.name: scale
    for scale in (
        TableScale("smoke", iterates=3, steps_between=20, images=100, dataset="digits"),
        TableScale("cpu", iterates=10, steps_between=100, images=500),
        TableScale("paper", iterates=100, steps_between=100),
    )
}


_COSTS = {  # estimates come from 1.6 10^9 operations an image and iterate, and the steps between
    "cifar10": {
        "smoke": "seconds",
        "cpu": "4 minutes on an idle core",
        "paper": "19 hours on two cores, minutes on a GPU (estimates)",
    },
    "imagenet10": {
        "smoke": "seconds",
        "cpu": "half an hour on two cores (estimate)",
        "paper": "8 hours on two cores, minutes on a GPU (estimates)",
    },
}


@dataclass(frozen=True)
class Table:
    """One of the paper's Tables 2-5."""

    number: int
    criterion: str
    dataset: str

    @property
    def name(self) -> str:
        return f"table{self.number}"

    @property
    def curvatures(self) -> tuple[str, ...]:
        return tuple(PUBLISHED[self.name])

    @property
    def shows(self) -> str:
        curvatures = ", ".join(LABELS[curvature] for curvature in self.curvatures)
        return f"errors of {curvatures} against the true Hessian, by layer; {self.criterion}, {self.dataset}"

    @property
    def costs(self) -> Mapping[str, str]:
        return _COSTS[self.dataset]

    def load(self, scale: TableScale, device: str, data_root: Path | None) -> Task:
        """The task of this table at a scale.

        Raises:
            ValueError: one line, if data are missing or too few.
        """
        task = Task.load(Settings(scale.dataset or self.dataset, self.criterion, device=device), data_root)
        balanced(task, scale.images)
        return task

    def title(self, scale: TableScale, task: Task) -> str:
        """The name of the table, and the differences from the paper's data and length."""
        found = stand_ins(task, self.dataset)
        if scale.images:
            found.append(f"the mean over {scale.images} of the {len(task.dataset.train)} training images")
        found.append(f"{scale.iterates} iterates")
        return f"Table {self.number}: {self.shows} (scale {scale.name}: {'; '.join(found)})"

    def prepare(self, request: Request) -> Callable[[], Reproduction]:
        """See :class:`suites.harness.reproduce.request.Result`."""
        scale = request.scaled(self.name, SCALES, "seed")
        task = self.load(scale, request.device, request.data_root)
        return lambda: reproduce(self, scale, task, request)


RESULTS = {
    table.name: table
    for table in (
        Table(2, "cross-entropy", "cifar10"),
        Table(3, "cross-entropy", "imagenet10"),
        Table(4, "bounded", "cifar10"),
        Table(5, "bounded", "imagenet10"),
    )
}


def balanced(task: Task, images: int | None) -> Split:
    """The first training images of each class, the same number of each; all training images if ``images`` is None.

    Raises:
        ValueError: if a class has too few, or ``images`` is no multiple of the number of classes.
    """
    train, classes = task.dataset.train, len(task.dataset.classes)
    if images is None:
        return train
    each, rest = divmod(images, classes)
    if rest or not each:
        raise ValueError(f"images must be a multiple of the {classes} classes of {task.dataset.name}, got {images}")
    counts = torch.bincount(train.targets, minlength=classes)
    if counts.min() < each:
        raise ValueError(
            f"data set {task.dataset.name}: {each} training images of each class are needed, "
            f"{task.dataset.classes[int(counts.argmin())]} has {int(counts.min())}"
        )
    rows = torch.cat([(train.targets == label).nonzero()[:each, 0] for label in range(classes)])
    return Split(train.images[rows], train.targets[rows])


def reproduce(table: Table, scale: TableScale, task: Task, request: Request) -> Reproduction:
    """Train and measure the errors at every iterate, see :func:`suites.harness.training.resumable.run_once`.

    Writes errors.jsonl, table.md, table.csv, bound.csv, and config.toml.
    """
    choice, device, seed = choose(OPTIMIZER), task.settings.device, request.seed or 0
    epochs = math.ceil((scale.iterates - 1) * scale.steps_between / task.steps_per_epoch)
    header = Header(
        experiment=TableExperiment(**asdict(task.describe(choice, seed, epochs)), table=table.name, scale=scale),
        environment=describe(device),
        source=choice.entry.source,
    )
    files = *files_of(task.problem), Path(__file__), Path(tables2to5_errors.__file__)
    header = replace(header, run=run_id(header, *files))
    with progress_bars() as progress:
        bar = progress.add_task(f"iterates: {table.name}, {scale.name}", total=scale.iterates)

        def work(under_way: Work) -> Turns[tuple[Status, str | None]]:
            return _measure(table, scale, task, seed, under_way, lambda done: progress.update(bar, completed=done))

        done = in_one_go(run_once)(request.output / "errors.jsonl", header, device, read_errors, work, request.resume)
        progress.update(bar, completed=len(done.points))
    if not done.completed:
        return Reproduction([done])
    text = page(table.title(scale, task), table.name, done)
    tables = {"table": errors_table(table.name, done.points), "bound": bound_table(done.points)}
    request.write(table.name, scale, text, tables, request.output / "table.md", device=device, seed=seed)
    return Reproduction([done], text)


def _measure(
    table: Table, scale: TableScale, task: Task, seed: int, work: Work, on_iterate: Callable[[int], None]
) -> Turns[tuple[Status, str | None]]:
    split = balanced(task, scale.images)
    step = _step_after(task, seed, max(work.points - 1, 0) * scale.steps_between)
    if work.saved:
        restore(step, work.saved)
    for iterate in range(work.points, scale.iterates):
        if iterate:
            for _ in range(scale.steps_between):
                step()
        tape = record_in_chunks(step.network, task.criterion, task.dataset.chunks(split))
        loss = tape.loss.item()
        if not math.isfinite(loss):
            return "diverged", f"loss is {loss} at iterate {iterate}"
        accuracy = (tape.logits.argmax(1) == tape.labels).double().mean().item()
        errors = layer_errors(tape, table.curvatures)
        work.point(Iterate(step=iterate * scale.steps_between, loss=loss, accuracy=accuracy, errors=errors))
        on_iterate(iterate + 1)
        if iterate + 1 < scale.iterates:
            work.keep(step)
        yield
    return "finished", None


def _step_after(task: Task, seed: int, steps: int) -> Step:
    """A fresh step that skips this many batches."""
    epochs, rest = divmod(steps, task.steps_per_epoch)
    step = task.step(choose(OPTIMIZER), seed, epochs + 1)
    for _ in range(rest):
        next(step.batches)
    return step
