"""The stage of runs side by side: the time of several against one, and whether each has the numbers of a run alone."""

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from suites.harness.gpu.stages import Skipped, Stage
from suites.harness.records.facts import Point
from suites.harness.records.measured import AtOnce
from suites.harness.records.record import Record
from suites.harness.training.catalog import Choice, choose
from suites.harness.training.experiment import Settings, Task
from suites.harness.training.runner import run_in_turns
from suites.harness.training.turns import at_once

_SPECS = ("sgd", "kfac", "kfra", "ea_cg")
_RUNS = 8
_BOUND = {"cuda": 2.5}  # the most of all, over the time of one
_EPOCHS = {"cuda": 3, "cpu": 1}


def side_by_side(stage: Stage) -> None:
    """For each optimizer, train one run alone and then several at once, at the paper's smallest batch."""
    on_cuda = stage.device == "cuda"
    task = Task.load(Settings("synthetic-cifar10" if on_cuda else "digits", device=stage.device, cuda_graph=on_cuda))
    for spec in _SPECS:
        row = AtOnce(
            optimizer=spec,
            network="-".join(map(str, task.settings.network)),
            batch=task.settings.batch_size,
            runs=_RUNS,
            epochs=_EPOCHS[stage.device],
            bound=_BOUND.get(stage.device),
            status="ok",
        )
        stage.measure(spec, row, partial(_measured, task=task, choice=choose(spec), stage=stage))


def _measured(row: AtOnce, task: Task, choice: Choice, stage: Stage) -> list[AtOnce]:
    if stage.device == "cuda" and row.optimizer not in stage.captured:
        raise Skipped("not captured, see correctness")
    _timed(1, 1, task, choice, stage)  # the first steps load libraries
    seconds, (alone,) = _timed(1, row.epochs, task, choice, stage)
    row = replace(row, seconds_alone=seconds)
    seconds, records = _timed(row.runs, row.epochs, task, choice, stage)
    row = replace(row, seconds=seconds, same=numbers(records[0]) == numbers(alone))
    if not row.same:
        return [replace(row, status="failed", reason="its numbers are not those of a run alone")]
    if row.bound is not None and row.ratio is not None and row.ratio > row.bound:
        return [replace(row, status="failed", reason=f"more than {row.bound:g} times the time of one")]
    return [row]


def _timed(runs: int, epochs: int, task: Task, choice: Choice, stage: Stage) -> tuple[float, list[Record]]:
    """The seconds of all runs together, and their records in the order of seeds."""
    with TemporaryDirectory() as folder:
        works = (
            run_in_turns(task, choice, seed, epochs, Path(folder), out_of_time=stage.out_of_time, at_a_time=runs)
            for seed in range(runs)
        )
        started = time.monotonic()
        records = dict(at_once(works, runs, stage.device))
        seconds = time.monotonic() - started
    for record in records.values():
        if record.status == "stopped":
            raise Skipped("out of time")
        if record.status == "failed":
            raise RuntimeError(record.reason)
    return seconds, [records[seed] for seed in range(runs)]


def numbers(record: Record) -> list[Point]:
    """The measuring points without their times."""
    return [replace(point, training_seconds=0.0, evaluation_seconds=0.0, phases={}) for point in record.points]
