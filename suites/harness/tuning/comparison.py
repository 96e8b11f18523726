"""The main job: several optimizers on one problem with several seeds; writes records, a table and pictures."""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from rich.progress import Progress

from suites.harness.data.problem import target_of
from suites.harness.measure.limits import within_memory
from suites.harness.measure.timing import interleaved_seconds
from suites.harness.records.conventions import REFERENCE
from suites.harness.records.facts import Point
from suites.harness.records.record import Record, write_atomically
from suites.harness.show.captions import caption
from suites.harness.show.comparison import comparison_table
from suites.harness.show.pictures import draw_convergence
from suites.harness.show.table import markdown
from suites.harness.training.catalog import Choice, choose
from suites.harness.training.experiment import Task
from suites.harness.training.parallel import Job, Workers, run_jobs
from suites.harness.training.runner import run_in_turns
from suites.harness.training.turns import Turns, at_once
from suites.harness.tuning.progress import progress_bars

DEFAULT_OPTIMIZERS = ("sgd", "torch.optim.Adam", "kfac", "kfra", "ea_cg", "ea_cg[gamma=0]")
_ROUNDS = 40  # of each sitting
_BLOCK_SECONDS = 0.002
_AT_MOST_SECONDS = 60.0  # of all sittings together


def compare(
    task: Task,
    choices: Sequence[Choice],
    seeds: int,
    epochs: int | None,
    output: Path,
    data_root: Path | None = None,
    resume: bool = True,
    workers: Workers | None = None,
) -> list[Record]:
    """Train every optimizer with seeds 0 ... seeds - 1, time their steps against SGD, and write all into ``output``.

    All optimizers train with one seed before the next seed begins, so a machine that slows down slows all of them.
    Steps are timed in one sitting after each seed, so the sittings show the drift of the machine.
    """
    runs = [(task, choice, seed) for seed in range(seeds) for choice in choices]
    sittings: list[dict[str, list[float]]] = []
    timed = {choice.spec: choice for choice in (choose(REFERENCE), *choices)}
    with progress_bars() as progress:

        def sit(done: Sequence[Record]) -> None:
            for record in done:
                if record.status == "failed":
                    timed.pop(record.experiment.optimizer, None)
            sittings.append(
                interleaved_seconds(
                    {spec: task.training_step(choice, len(sittings)) for spec, choice in timed.items()},
                    task.settings.device,
                    _ROUNDS,
                    _AT_MOST_SECONDS / seeds,
                    block_seconds=_BLOCK_SECONDS,
                    waits=False,
                )
            )

        records = train(runs, epochs, output / "runs", progress, data_root, resume, workers, sit)
    step_seconds = {spec: [sitting[spec] for sitting in sittings] for spec in timed}
    write_atomically(output / "step_seconds.json", json.dumps(step_seconds))
    target = target_of(records, task.problem.targets)
    table = comparison_table(records, step_seconds, target)
    write_atomically(output / "table.md", f"{markdown(table)}\n\n{caption(records, target)}\n")
    draw_convergence(records, output, task.title, target)
    return records


def train(
    runs: Sequence[tuple[Task, Choice, int]],
    epochs: int | None,
    folder: Path,
    progress: Progress,
    data_root: Path | None = None,
    resume: bool = True,
    workers: Workers | None = None,
    after_seed: Callable[[Sequence[Record]], None] = lambda done: None,
) -> list[Record]:
    """Train each task's choice with its seed, here or by workers; returns the records in that order.

    Args:
        folder: of the records.
        progress: gets a bar that counts runs, and shows shares of the runs that this process does.
        after_seed: called after each seed with the runs so far. If several runs go on at a time, seeds have no order;
            then all calls are made at the end.
    """
    workers = workers or Workers()
    alone = workers.here and workers.at_a_time == 1
    bar = progress.add_task("runs".ljust(36), total=len(runs))
    records: dict[int, Record] = {}
    done = dict.fromkeys(range(len(runs)), 0.0)  # the share of each run

    def begun() -> Iterator[Turns[Record]]:
        for number, (task, choice, seed) in enumerate(runs):
            progress.update(bar, description=f"runs: {choice.spec}, seed {seed}".ljust(36))
            yield run_in_turns(
                *(task, choice, seed, epochs, folder, partial(on_point, number)),
                resume=resume,
                at_a_time=workers.at_a_time,
                step_seconds=workers.step_seconds,
            )

    def on_point(number: int, point: Point) -> None:
        budget = runs[number][0].settings.budget_seconds
        shares = [point.epoch / epochs] if epochs else []
        shares += [point.training_seconds / budget] if budget else []
        done[number] = min(1, max(shares))
        progress.update(bar, completed=sum(done.values()))

    if workers.here:
        with within_memory():
            for number, record in at_once(begun(), workers.at_a_time, runs[0][0].settings.device):
                records[number] = record
                done[number] = 1.0
                progress.update(bar, completed=sum(done.values()))
                if alone and (number + 1 == len(runs) or runs[number + 1][2] != runs[number][2]):
                    after_seed(list(records.values()))
    else:
        jobs = [
            Job(
                *(task.settings, data_root, choice.given, seed, epochs, folder.resolve(), resume),
                choice.tuning,
                choice.edge,
                choice.trials,
            )
            for task, choice, seed in runs
        ]
        records.update(enumerate(run_jobs(jobs, workers, lambda record: progress.advance(bar))))
    in_order = [records[number] for number in range(len(runs))]
    for _ in () if alone else {seed for _, _, seed in runs}:
        after_seed(in_order)
    return in_order
