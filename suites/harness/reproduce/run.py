"""Computes one of Tables 2-5: trains, measures the errors at every iterate, and writes record and tables."""

import math
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from suites.harness.catalog import choose
from suites.harness.environment import describe
from suites.harness.experiments import Problem
from suites.harness.names import pick
from suites.harness.progress import progress_bars
from suites.harness.records import RecordWriter, read, write_atomically
from suites.harness.reproduce.errors import layer_errors, record_in_chunks
from suites.harness.reproduce.request import Reproduction, Request, adapted
from suites.harness.reproduce.summary import bound_frame, errors_frame, summary
from suites.harness.reproduce.tables import OPTIMIZER, SCALES, Scale, Table, balanced


def prepare(table: Table, request: Request) -> Callable[[], Reproduction]:
    """Load what a table needs; what is returned computes it.

    Raises:
        ValueError: one line, if the scale, a number or the data are not as they must be.
    """
    request.only(table.name, "seed", "iterates", "steps_between", "images")
    scale = adapted(
        pick("scale", request.scale, SCALES),
        iterates=request.iterates,
        steps_between=request.steps_between,
        images=request.images,
    )
    problem = table.load(scale, request.device, request.data_root)

    def run() -> Reproduction:
        with progress_bars() as progress:
            bar = progress.add_task(f"iterates: {table.name}, {scale.name}", total=scale.iterates)
            return reproduce(
                table,
                scale,
                problem,
                request.output,
                request.seed or 0,
                on_iterate=lambda done: progress.update(bar, completed=done),
            )

    return run


def reproduce(
    table: Table,
    scale: Scale,
    problem: Problem,
    output: Path,
    seed: int = 0,
    on_iterate: Callable[[int], None] = lambda done: None,
) -> Reproduction:
    """Train, measure the errors at every iterate, and write errors.jsonl, table.md, table.csv and bound.csv into
    ``output``."""
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
        return Reproduction([done])
    text = summary(table, scale, problem, done)
    for name, frame in (("table", errors_frame(table, done)), ("bound", bound_frame(done))):
        write_atomically(output / f"{name}.csv", frame.to_csv(index=False, lineterminator="\n"))
    write_atomically(output / "table.md", text)
    return Reproduction([done], text)


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
