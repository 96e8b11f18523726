"""The runner: trains, stops the clock for evaluation, and writes a record as it goes."""

import itertools
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from optimizers.core import SecondOrder
from suites.harness.measure.clock import Stopwatch
from suites.harness.measure.contract import rest_of
from suites.harness.measure.environment import describe
from suites.harness.measure.limits import limited
from suites.harness.measure.live_bytes import peak_state_bytes, state_bytes
from suites.harness.measure.operations import StepCost, probe
from suites.harness.measure.step import Step
from suites.harness.names import file_name
from suites.harness.records.facts import GOALS, Header, Point, Status
from suites.harness.records.record import Record, read
from suites.harness.training.catalog import Choice
from suites.harness.training.evaluation import evaluate, negative_curvature, status_after_training
from suites.harness.training.experiment import Task
from suites.harness.training.identity import code_id, files_of, run_id
from suites.harness.training.resumable import Work, restore, run_once
from suites.harness.training.step_log import StepLog
from suites.harness.training.turns import Turns, in_one_go

T = TypeVar("T")

STEP_SECONDS = 600.0  # the most for a step: with more the optimizer hangs
_TURN_STEPS = 8  # then another run may go on
_WARM_UP_STEPS = 2
_WARM_UP_SHARE = 4  # the warm-up takes several steps, and may compile
_AT_THE_START = {"training": 0.0, "evaluation": 0.0, "resumed": [], "first_loss": math.nan, "best": math.nan}


def run_in_turns(
    task: Task,
    choice: Choice,
    seed: int,
    epochs: int | None,
    folder: Path,
    on_point: Callable[[Point], None] = lambda point: None,
    out_of_time: Callable[[], bool] = lambda: False,
    resume: bool = True,
    at_a_time: int = 1,
    step_seconds: float = STEP_SECONDS,
    lost: str = "",
) -> Turns[Record]:
    """Train once, see :func:`suites.harness.training.resumable.run_once`. Other runs have their turns every few steps.

    Args:
        epochs: None if only the budget of the settings ends the run.
        folder: of the record, ``<optimizer>_seed<seed>_<run id>.jsonl``.
        on_point: called with each new measuring point.
        out_of_time: called before every step; True stops the run.
        resume: read the record of the same run if it finished, and go on with one that was interrupted. A run that
            failed or diverged is done again.
        at_a_time: the number of runs that share the machine, for the record.
        step_seconds: a run with a longer step has failed.
        lost: why the run cannot be done. Nothing is trained then; the record has the reason.

    Raises:
        ValueError: if neither epochs nor a budget end the run.
        OSError: if the record or a checkpoint cannot be written; what was written before stays.
    """
    if epochs is None and task.settings.budget_seconds is None:
        raise ValueError("a run needs a number of epochs, a budget in seconds, or both")
    files = files_of(task.problem)
    header = Header(
        experiment=task.describe(choice, seed, epochs),
        environment=describe(task.settings.device, choice.entry.packages),
        source=choice.entry.source,
        code=code_id(*files),
        at_a_time=at_a_time,
        problem=task.problem.facts(),
        tuning=choice.tuning,
        edge=choice.edge,
        trials=choice.trials,
    )
    header = replace(header, run=run_id(header, *files))

    def work(under_way: Work) -> Turns[tuple[Status, str | None]]:
        if lost:
            return "failed", lost
        said: list[str] = []
        training = _Training(task, choice, seed, epochs, under_way, on_point, out_of_time, step_seconds)
        ended = yield from _within(partial(_warnings_kept, said), training.run())
        under_way.measured["warnings"] = tuple(said)
        return ended

    name = f"{file_name(choice.spec)}_seed{seed}_{header.run}"
    return (yield from run_once(folder / f"{name}.jsonl", header, task.settings.device, read, work, resume))


run = in_one_go(run_in_turns)


@contextmanager
def _warnings_kept(said: list[str]) -> Iterator[None]:
    """Collects the texts of warnings, such as that KFI's factor does not fit. Each is shown once."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def keep(message: Warning | str, *where: Any, **more: Any) -> None:
            if str(message) not in said:
                said.append(str(message))
                show(message, *where, **more)

        warnings.showwarning = keep
        yield


def _within(context: Callable[[], AbstractContextManager[None]], work: Turns[T]) -> Turns[T]:
    """The same work, with every turn inside a new context."""
    with closing(work):
        while True:
            with context():
                try:
                    next(work)
                except StopIteration as end:
                    return end.value
            yield


@dataclass
class _Training:
    """A run in progress."""

    task: Task
    choice: Choice
    seed: int
    epochs: int | None
    work: Work
    on_point: Callable[[Point], None]
    out_of_time: Callable[[], bool]
    step_seconds: float

    def run(self) -> Turns[tuple[Status, str | None]]:
        """Train from the start or from a checkpoint; returns status and reason."""
        task, device, saved = self.task, self.task.settings.device, self.work.saved
        with limited(_WARM_UP_SHARE * self.step_seconds, "the first steps took"):
            peak, cost = _warm_up(task, self.choice, self.seed)
        progress = saved["progress"] if saved else _AT_THE_START
        first = self.work.points  # the first point is that of epoch 0
        torch.manual_seed(self.seed)  # for optimizers that draw random numbers, as the warm-up may have done
        step = task.training_step(self.choice, self.seed, max(first, 1))
        schedule = task.schedule(self.choice, step.optimizer, self.epochs)
        if saved:
            restore(step, saved)
        resumed = [*progress["resumed"], *([first] if saved else [])]
        first_loss, best, train_loss = progress["first_loss"], progress["best"], math.nan
        goal = GOALS[task.problem.metric]
        log = StepLog(step, cost, device, progress.get("total"))
        training, evaluation = Stopwatch(device, progress["training"]), Stopwatch(device, progress["evaluation"])
        self.work.measured |= {
            "peak_state_bytes": peak,
            "gradient_operations": cost.gradient,
            "rest": rest_of(step.optimizer),
            "resumed": tuple(resumed),
        }
        for epoch in itertools.count(first):
            if epoch:
                numbers = range((epoch - 1) * task.steps_per_epoch, epoch * task.steps_per_epoch)
                with training:
                    for turn in range(0, task.steps_per_epoch, _TURN_STEPS):
                        with limited(self.step_seconds) as another:
                            for number in numbers[turn : turn + _TURN_STEPS]:
                                another()
                                if self.out_of_time():
                                    return "stopped", f"out of time in epoch {epoch}"
                                schedule.set(number)
                                step()
                                log.watch()
                        yield
            with evaluation:
                measured = self._measure(step)
            point = Point(
                step=epoch * task.steps_per_epoch,
                epoch=epoch,
                training_seconds=training.seconds,
                evaluation_seconds=evaluation.seconds,
                **measured,
                **log.close(),
            )
            self.work.point(point)
            self.on_point(point)
            train_loss = measured["train_loss"]
            first_loss = first_loss if epoch else train_loss
            value = measured[goal.field]
            best = best if epoch and not goal.better(value, best) else value
            self.work.measured["state_bytes"] = state_bytes(step.optimizer)
            if not math.isfinite(train_loss):
                return "diverged", f"train loss is {train_loss} after epoch {epoch}"
            if self._over(point):
                break
            self.work.keep(
                step,
                training=training.seconds,
                evaluation=evaluation.seconds,
                total=dict(log.total),
                resumed=resumed,
                first_loss=first_loss,
                best=best,
            )
        return status_after_training(task, first_loss, train_loss, best)

    def _over(self, point: Point) -> bool:
        """Whether this was the last epoch, or the budget is spent."""
        budget = self.task.settings.budget_seconds
        return point.epoch == self.epochs or (budget is not None and point.training_seconds >= budget)

    def _measure(self, step: Step) -> dict[str, Any]:
        """Losses, accuracies, and for second-order optimizers negative curvature, by their names in a point."""
        task = self.task
        with step.evaluating() as network:
            train_loss, train_accuracy = evaluate(task, network, task.dataset.train)
            test_loss, test_accuracy = evaluate(task, network, task.dataset.test)
        return {
            "train_loss": train_loss,
            "train_accuracy": train_accuracy,
            "test_loss": test_loss,
            "test_accuracy": test_accuracy,
            "negative_curvature": (
                negative_curvature(task, step.network) if isinstance(step.optimizer, SecondOrder) else None
            ),
        }


def _warm_up(task: Task, choice: Choice, seed: int) -> tuple[int, StepCost]:
    """Take a few steps, off the clock. Returns the peak of the optimizer's bytes, and the cost of a step."""
    step = task.step(choice, seed)
    cost = probe(step)
    for _ in range(_WARM_UP_STEPS):
        step()
    return peak_state_bytes(step), cost
