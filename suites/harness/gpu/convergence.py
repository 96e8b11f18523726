"""Training in the time that is left: every optimizer, both criteria, and as many seeds and epochs as fit."""

import json
import time
from contextlib import suppress
from dataclasses import replace

from optimizers.core import CRITERIA
from suites.harness.data.problem import DataError, target_of
from suites.harness.gpu.stages import Stage
from suites.harness.gpu.summary import convergence_folder, read_runs
from suites.harness.measure.timing import interleaved_seconds
from suites.harness.records.measured import Trained
from suites.harness.records.record import write_atomically
from suites.harness.show.pictures import draw_convergence
from suites.harness.training.catalog import Choice, choose
from suites.harness.training.evaluation import evaluate
from suites.harness.training.experiment import Settings, Task
from suites.harness.training.runner import run

_ROUNDS = 10  # of step times, from which the number of epochs follows
_SHARE_OF_TIMING = 0.1
_SEEDS = 3  # at least, which must fit into the time
_MOST_SEEDS, _MOST_EPOCHS = 20, 40
# the paper's Figures 1 to 8: {Fisher, Gauss-Newton, PCH-1} x {KFI, EA-CG}, and SGD
_LEARNERS = ("sgd", "kfac", "kfra", "pch1+kfi", "fisher+ea_cg", "gauss_newton+ea_cg", "ea_cg")


def train_for_the_time_left(stage: Stage) -> None:
    """Train seed by seed, each with all criteria and optimizers, until the time is up."""
    choices = [choose(spec) for spec in _LEARNERS if stage.device == "cpu" or spec in stage.captured]
    chosen = {task: suited(task, choices) for task in _problems(stage)}
    epochs = _epochs_that_fit(stage, chosen)
    for seed in range(_MOST_SEEDS):
        for task, choice in ((p, choice) for p in chosen for choice in chosen[p]):
            if not stage.out_of_time():
                _train(stage, task, choice, seed, epochs)
    for task in chosen:
        folder = convergence_folder(stage.folder, task.settings)
        records = read_runs(folder)
        if any(record.completed for record in records):
            draw_convergence(records, folder, task.title, target_of(records))


def suited(task: Task, choices: list[Choice]) -> list[Choice]:
    """The optimizers that accept the criterion of the task."""
    found = []
    for choice in choices:
        with suppress(ValueError):
            task.check(choice)
            found.append(choice)
    return found


def _train(stage: Stage, task: Task, choice: Choice, seed: int, epochs: int) -> None:
    folder = convergence_folder(stage.folder, task.settings) / "runs"
    record = run(task, choice, seed, epochs, folder, out_of_time=stage.out_of_time)
    last, experiment = record.points[-1] if record.points else None, record.experiment
    row = Trained(
        status=record.status,
        reason=record.reason,
        optimizer=experiment.optimizer,
        **{name: getattr(experiment, name) for name in ("dataset", "criterion", "seed", "epochs")},
        **{name: getattr(last, name, None) for name in ("epoch", "training_seconds", "train_loss", "test_accuracy")},
    )
    stage.row(f"{task.settings.criterion}, {choice.spec}, seed {seed}", row)


def _problems(stage: Stage) -> list[Task]:
    """One task a criterion: on CIFAR-10 if its images are on disk (nothing is downloaded), else on the digits."""
    settings = Settings("cifar10", device=stage.device, cuda_graph=stage.device == "cuda")
    try:
        first = Task.load(settings, stage.data_root, download=False)
    except DataError as error:
        reason = str(error) if stage.data_root else "no data root was given, and none are in the cache folder"
        stage.row("no CIFAR-10 images", Trained(status="digits in place of CIFAR-10", reason=reason))
        first = Task.load(replace(settings, problem="digits"))
    bounded = replace(first.settings, criterion="bounded")
    return [first, replace(first, settings=bounded, criterion=CRITERIA[bounded.criterion])]


def _epochs_that_fit(stage: Stage, chosen: dict[Task, list[Choice]]) -> int:
    """The number of epochs for which ``_SEEDS`` seeds of every optimizer fit. Measures step times and writes them."""
    seconds = 0.0
    for task, choices in chosen.items():
        at_most = stage.left * _SHARE_OF_TIMING / len(chosen)
        timed = {choice.spec: task.training_step(choice, seed=0) for choice in choices}
        samples = interleaved_seconds(timed, task.settings.device, _ROUNDS, at_most, at_least=1)
        folder = convergence_folder(stage.folder, task.settings)
        write_atomically(folder / "step_seconds.json", json.dumps(samples))
        started = time.monotonic()
        for split in (task.dataset.train, task.dataset.test):
            evaluate(task, task.network(0), split)
        evaluation = time.monotonic() - started
        steps = sum(min(own) for own in samples.values())
        seconds += steps * task.steps_per_epoch + evaluation * len(samples)
    return max(1, min(_MOST_EPOCHS, int(stage.left / _SEEDS / seconds)))
