"""Computes one of Tables 2-5: trains, measures the errors at every iterate, and writes record and tables."""

import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from suites.harness.measure.environment import describe
from suites.harness.measure.step import Step
from suites.harness.names import pick
from suites.harness.records.record import write_atomically
from suites.harness.reproduce import errors
from suites.harness.reproduce.errors import layer_errors, record_in_chunks
from suites.harness.reproduce.request import Reproduction, Request, adapted
from suites.harness.reproduce.summary import bound_frame, errors_frame, summary
from suites.harness.reproduce.tables import OPTIMIZER, SCALES, Scale, Table, balanced
from suites.harness.show.progress import progress_bars
from suites.harness.training.catalog import choose
from suites.harness.training.checkpoint import restore
from suites.harness.training.experiment import Task
from suites.harness.training.identity import run_id
from suites.harness.training.resumable import Work, once


def prepare(table: Table, request: Request) -> Callable[[], Reproduction]:
    """Load what a table needs; what is returned computes it.

    Raises:
        ValueError: one line, if the scale, a number or the data are not as they must be.
    """
    request.only(table.name, "seed", "iterates", "steps_between", "images", "resume")
    scale = adapted(
        pick("scale", request.scale, SCALES),
        iterates=request.iterates,
        steps_between=request.steps_between,
        images=request.images,
    )
    task = table.load(scale, request.device, request.data_root)

    def run() -> Reproduction:
        with progress_bars() as progress:
            bar = progress.add_task(f"iterates: {table.name}, {scale.name}", total=scale.iterates)
            return reproduce(
                table,
                scale,
                task,
                request.output,
                request.seed or 0,
                on_iterate=lambda done: progress.update(bar, completed=done),
                resume=request.resume,
            )

    return run


def reproduce(
    table: Table,
    scale: Scale,
    task: Task,
    output: Path,
    seed: int = 0,
    on_iterate: Callable[[int], None] = lambda done: None,
    resume: bool = True,
) -> Reproduction:
    """Train and measure the errors at every iterate, see :func:`suites.harness.training.resumable.once`; write
    errors.jsonl, table.md, table.csv and bound.csv into ``output``."""
    choice = choose(OPTIMIZER)
    epochs = math.ceil((scale.iterates - 1) * scale.steps_between / task.steps_per_epoch)
    header: dict[str, Any] = {
        "experiment": {**task.describe(choice, seed, epochs), "table": table.name, "scale": asdict(scale)},
        "environment": describe(task.settings.device),
        "source": choice.entry.source,
    }
    header["run"] = run_id(header, Path(__file__), Path(errors.__file__))

    def work(under_way: Work) -> tuple[str, str | None]:
        return _measure(table, scale, task, seed, under_way, on_iterate)

    done = once(output / "errors.jsonl", header, task.settings.device, work, resume)
    on_iterate(len(done.points))
    if done.status != "finished":
        return Reproduction([done])
    text = summary(table, scale, task, done)
    for name, frame in (("table", errors_frame(table, done)), ("bound", bound_frame(done))):
        write_atomically(output / f"{name}.csv", frame.to_csv(index=False, lineterminator="\n"))
    write_atomically(output / "table.md", text)
    return Reproduction([done], text)


def _measure(
    table: Table, scale: Scale, task: Task, seed: int, work: Work, on_iterate: Callable[[int], None]
) -> tuple[str, str | None]:
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
        found = layer_errors(tape, table.curvatures)
        work.point(step=iterate * scale.steps_between, loss=loss, accuracy=accuracy, errors=found)
        on_iterate(iterate + 1)
        if iterate + 1 < scale.iterates:
            work.keep(step)
    return "finished", None


def _step_after(task: Task, seed: int, steps: int) -> Step:
    """A fresh step whose next batch is the one that follows so many."""
    epochs, rest = divmod(steps, task.steps_per_epoch)
    step = task.step(choose(OPTIMIZER), seed, epochs + 1)
    for _ in range(rest):
        next(step.batches)
    return step
