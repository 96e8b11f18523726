"""Tables 2-5: errors of curvature matrices against the true Hessian, averaged over the iterates of a training run.

symbol                         name
theta^0, ..., theta^{s-1}      iterates         s of them, ``steps_between`` training steps from one to the next
E                              images           training images in the mean, as many of each class; None for all
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from suites.harness.measure.environment import describe
from suites.harness.measure.step import Step
from suites.harness.names import pick
from suites.harness.problems.dataset import Split
from suites.harness.records.config import write_config
from suites.harness.records.facts import Header, Status
from suites.harness.records.record import write_atomically
from suites.harness.reproduce import tables2to5_errors
from suites.harness.reproduce.paper import LABELS, PUBLISHED, stand_ins
from suites.harness.reproduce.request import Reproduction, Request, adapted
from suites.harness.reproduce.tables2to5_errors import layer_errors, record_in_chunks
from suites.harness.reproduce.tables2to5_text import (
    Iterate,
    Scale,
    TableExperiment,
    bound_frame,
    errors_frame,
    page,
    read_errors,
)
from suites.harness.show.progress import progress_bars
from suites.harness.training.catalog import choose
from suites.harness.training.checkpoint import restore
from suites.harness.training.experiment import Settings, Task
from suites.harness.training.identity import run_id
from suites.harness.training.resumable import Work, run_once

# the paper does not say which optimizer its iterates come from
OPTIMIZER = "ea_cg[lr=0.1,damping=0.01,gamma=-1]"


# deviates: the paper averages over every iterate from theta^0 to theta^{s-1} and does not give s; here iterates lie
# many steps apart, and titles say how many there are
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
        return f"errors of {', '.join(LABELS[c] for c in self.curvatures)} against the true Hessian, by layer"

    def load(self, scale: Scale, device: str, data_root: Path | None) -> Task:
        """The task of this table at a scale.

        Raises:
            ValueError: one line, if the data are not there or not enough.
        """
        settings = Settings(scale.dataset or self.dataset, self.criterion, device=device)
        task = Task.load(settings, data_root)
        balanced(task, scale.images)
        return task

    def title(self, scale: Scale, task: Task) -> str:
        """The name of the table, and all that differs from the paper's data and length."""
        found = stand_ins(task, self.dataset)
        if scale.images:
            found.append(f"the mean over {scale.images} of the {len(task.dataset.train)} training images")
        found.append(f"{scale.iterates} iterates")
        of = f"Table {self.number}: {self.shows}; {self.criterion}, {self.dataset}"
        return f"{of} (scale {scale.name}: {'; '.join(found)})"

    def prepare(self, request: Request) -> Callable[[], Reproduction]:
        """Load what the table needs, and return a function that computes it.

        Raises:
            ValueError: one line, if the scale, a number or the data are bad.
        """
        request.only(self.name, "seed", "iterates", "steps_between", "images", "resume")
        scale = adapted(
            pick("scale", request.scale, SCALES),
            iterates=request.iterates,
            steps_between=request.steps_between,
            images=request.images,
        )
        task = self.load(scale, request.device, request.data_root)

        def run() -> Reproduction:
            with progress_bars() as progress:
                bar = progress.add_task(f"iterates: {self.name}, {scale.name}", total=scale.iterates)
                return reproduce(self, scale, task, request, lambda done: progress.update(bar, completed=done))

        return run


TABLES = {
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
    counts = torch.bincount(train.labels, minlength=classes)
    if counts.min() < each:
        raise ValueError(
            f"data set {task.dataset.name}: {each} training images of each class are needed, "
            f"{task.dataset.classes[int(counts.argmin())]} has {int(counts.min())}"
        )
    rows = torch.cat([(train.labels == label).nonzero()[:each, 0] for label in range(classes)])
    return Split(train.images[rows], train.labels[rows])


def reproduce(
    table: Table,
    scale: Scale,
    task: Task,
    request: Request,
    on_iterate: Callable[[int], None] = lambda done: None,
) -> Reproduction:
    """Train and measure the errors at every iterate, see :func:`suites.harness.training.resumable.run_once`.

    Writes errors.jsonl, table.md, table.csv, bound.csv, and config.toml with the flags that make it again.
    """
    choice, device, output = choose(OPTIMIZER), task.settings.device, request.output
    epochs = math.ceil((scale.iterates - 1) * scale.steps_between / task.steps_per_epoch)
    seed = request.seed or 0
    header = Header(
        experiment=TableExperiment(**asdict(task.describe(choice, seed, epochs)), table=table.name, scale=scale),
        environment=describe(device),
        source=choice.entry.source,
    )
    header = replace(header, run=run_id(header, Path(__file__), Path(tables2to5_errors.__file__)))

    def work(under_way: Work) -> tuple[Status, str | None]:
        return _measure(table, scale, task, seed, under_way, on_iterate)

    done = run_once(output / "errors.jsonl", header, device, read_errors, work, request.resume)
    on_iterate(len(done.points))
    if not done.completed:
        return Reproduction([done])
    for name, frame in (("table", errors_frame(table.name, done.points)), ("bound", bound_frame(done.points))):
        write_atomically(output / f"{name}.csv", frame.to_csv(index=False, lineterminator="\n"))
    text = page(table.title(scale, task), table.name, done)
    write_atomically(output / "table.md", text)
    sizes = {"iterates": scale.iterates, "steps_between": scale.steps_between, "images": scale.images}
    write_config(output / "config.toml", request.flags(table.name, device=device, seed=seed, **sizes))
    return Reproduction([done], text)


def _measure(
    table: Table, scale: Scale, task: Task, seed: int, work: Work, on_iterate: Callable[[int], None]
) -> tuple[Status, str | None]:
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
        errors = layer_errors(tape, table.curvatures).to_json()
        work.point(Iterate(step=iterate * scale.steps_between, loss=loss, accuracy=accuracy, errors=errors))
        on_iterate(iterate + 1)
        if iterate + 1 < scale.iterates:
            work.keep(step)
    return "finished", None


def _step_after(task: Task, seed: int, steps: int) -> Step:
    """A fresh step that skips this many batches."""
    epochs, rest = divmod(steps, task.steps_per_epoch)
    step = task.step(choose(OPTIMIZER), seed, epochs + 1)
    for _ in range(rest):
        next(step.batches)
    return step
