"""The main job: several optimizers on one problem with several seeds, to records, a table and pictures."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress

from suites.harness.measure.timing import interleaved_seconds
from suites.harness.records.conventions import REFERENCE
from suites.harness.records.record import Record, write_atomically
from suites.harness.show.captions import caption as caption_of
from suites.harness.show.comparison import comparison_table
from suites.harness.show.pictures import draw_convergence
from suites.harness.show.progress import progress_bars
from suites.harness.show.table import Table, markdown
from suites.harness.training.catalog import Choice, choose
from suites.harness.training.experiment import Task
from suites.harness.training.parallel import Job, Workers, run_jobs
from suites.harness.training.runner import run

DEFAULT_OPTIMIZERS = ("sgd", "torch.optim.Adam", "kfac", "kfra", "ea_cg", "ea_cg[gamma=0]")
_ROUNDS = 30


@dataclass(frozen=True)
class Comparison:
    """What a comparison gave."""

    records: list[Record]
    table: Table
    caption: str


def compare(
    task: Task,
    choices: Sequence[Choice],
    seeds: int,
    epochs: int,
    target: float,
    output: Path,
    data_root: Path | None = None,
    resume: bool = True,
    workers: Workers | None = None,
) -> Comparison:
    """Train every optimizer with seeds 0 ... seeds - 1, time their steps against SGD, and write all into ``output``.

    All optimizers train with one seed before the next seed begins, so a machine that slows down slows all of them.
    """
    runs = [(task, choice, seed) for seed in range(seeds) for choice in choices]
    with progress_bars() as progress:
        records = train(runs, epochs, output / "runs", progress, data_root, resume, workers)
        bar = progress.add_task("rounds: step times against SGD".ljust(36), total=_ROUNDS)
        failed = {record.experiment.optimizer for record in records if record.status == "failed"}
        timed = {spec: choice for choice in (choose(REFERENCE), *choices) if (spec := choice.spec) not in failed}
        steps = {spec: task.training_step(choice, seed=0) for spec, choice in timed.items()}
        step_seconds = interleaved_seconds(
            steps, task.settings.device, _ROUNDS, on_round=lambda done: progress.update(bar, completed=done)
        )
        progress.update(bar, completed=_ROUNDS)
    write_atomically(output / "step_seconds.json", json.dumps(step_seconds))
    table = comparison_table(records, step_seconds, target)
    caption = caption_of(records, target)
    write_atomically(output / "table.md", f"{markdown(table)}\n\n{caption}\n")
    draw_convergence(records, output, task.title, target)
    return Comparison(records, table, caption)


def train(
    runs: Sequence[tuple[Task, Choice, int]],
    epochs: int,
    folder: Path,
    progress: Progress,
    data_root: Path | None = None,
    resume: bool = True,
    workers: Workers | None = None,
) -> list[Record]:
    """Train each task's choice with its seed, in turn here or by workers; returns the records in that order.

    Args:
        folder: of the records.
        progress: gets a bar that counts epochs.
        workers: None, or one worker of this machine, is this process, which shows every epoch.
    """
    bar = progress.add_task("epochs".ljust(36), total=len(runs) * epochs)
    if workers not in (None, Workers()):
        jobs = [
            Job(
                task.settings,
                data_root,
                choice.given,
                seed,
                epochs,
                folder.resolve(),
                resume,
                choice.tuning,
                choice.edge,
            )
            for task, choice, seed in runs
        ]
        return run_jobs(jobs, workers, lambda record: progress.advance(bar, epochs))
    records = []
    for number, (task, choice, seed) in enumerate(runs):
        progress.update(bar, description=f"epochs: {choice.spec}, seed {seed}".ljust(36))

        def on_epoch(epoch: int, before: int = number * epochs) -> None:
            progress.update(bar, completed=before + epoch)

        records.append(run(task, choice, seed, epochs, folder, on_epoch, resume=resume))
        on_epoch(epochs)
    return records
