"""Runs experiments: trains, stops the clock for evaluation, and writes a record as it goes."""

import math
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from optimizers.core import FCNN
from optimizers.core.kfi import is_out_of_memory
from suites.harness.accounts import Accounts
from suites.harness.catalog import Choice
from suites.harness.clock import Stopwatch
from suites.harness.data import Split
from suites.harness.environment import describe
from suites.harness.experiments import Problem
from suites.harness.memory.live import peak_state_bytes, state_bytes
from suites.harness.operations import StepCost, probe
from suites.harness.records import Record, RecordWriter, read

_WARM_UP_STEPS = 2


def run(
    problem: Problem,
    choice: Choice,
    seed: int,
    epochs: int,
    folder: Path,
    on_epoch: Callable[[int], None] = lambda epoch: None,
    out_of_time: Callable[[], bool] = lambda: False,
) -> Record:
    """Train once; whatever happens but an interrupt ends up in the record.

    Args:
        folder: where the record goes, as ``<optimizer>_seed<seed>.jsonl``.
        on_epoch: called with the number of every epoch that is done.
        out_of_time: asked before every step; the run stops where it says so.
    """
    path = folder / f"{re.sub(r'[^A-Za-z0-9_.+=-]+', '_', choice.spec).strip('_')}_seed{seed}.jsonl"
    header = {
        "experiment": problem.describe(choice, seed, epochs),
        "environment": describe(problem.settings.device),
        "source": choice.entry.source,
    }
    with RecordWriter(path, header) as record:
        try:
            status, reason, measured = _train(problem, choice, seed, epochs, record, on_epoch, out_of_time)
            record.end(status, reason, **measured)
        except Exception as error:
            what = "out of memory" if is_out_of_memory(error) else type(error).__name__
            record.end("failed", f"{what}: {_first_line(error)}", traceback=traceback.format_exc())
    return read(path)


def _train(
    problem: Problem,
    choice: Choice,
    seed: int,
    epochs: int,
    record: RecordWriter,
    on_epoch: Callable[[int], None],
    out_of_time: Callable[[], bool],
) -> tuple[str, str | None, dict[str, Any]]:
    peak, cost = _warm_up(problem, choice, seed)
    step = problem.training_step(choice, seed)
    accounts = Accounts(step, cost, problem.settings.device)
    training, evaluation = Stopwatch(problem.settings.device), Stopwatch(problem.settings.device)
    measured = {"state_bytes": 0, "peak_state_bytes": peak, "gradient_operations": cost.gradient}
    for epoch in range(epochs + 1):
        if epoch:
            with training:
                for _ in range(problem.steps_per_epoch):
                    if out_of_time():
                        return "stopped", f"out of time in epoch {epoch}", measured
                    step()
                    accounts.watch()
        with evaluation:
            train_loss, train_accuracy = evaluate(problem, step.network, problem.dataset.train)
            test_loss, test_accuracy = evaluate(problem, step.network, problem.dataset.test)
        record.point(
            step=epoch * problem.steps_per_epoch,
            epoch=epoch,
            training_seconds=training.seconds,
            evaluation_seconds=evaluation.seconds,
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            test_loss=test_loss,
            test_accuracy=test_accuracy,
            **accounts.close(),
        )
        on_epoch(epoch)
        measured["state_bytes"] = state_bytes(step.optimizer)
        if not math.isfinite(train_loss):
            return "diverged", f"train loss is {train_loss} after epoch {epoch}", measured
    return "finished", None, measured


def _warm_up(problem: Problem, choice: Choice, seed: int) -> tuple[int, StepCost]:
    """Take a few steps of a network that is thrown away, off the clock; returns the peak of the optimizer's bytes, and
    what a step takes."""
    step = problem.step(choice, seed)
    cost = probe(step)
    for _ in range(_WARM_UP_STEPS):
        step()
    return peak_state_bytes(step), cost


@torch.no_grad()
def evaluate(problem: Problem, network: FCNN, split: Split) -> tuple[float, float]:
    """Mean of the criterion and accuracy over a whole split."""
    total = torch.zeros(2, dtype=torch.float64, device=split.images.device)
    for inputs, labels in problem.dataset.chunks(split):
        logits = network(inputs)
        total[0] += problem.criterion.value(logits, labels).sum()
        total[1] += (logits.argmax(1) == labels).sum()
    loss, accuracy = (total / len(split)).tolist()
    return loss, accuracy


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0]
