"""Step times as ratios: every optimizer in turn, in one process, against SGD with momentum."""

import time
from collections.abc import Callable, Mapping

import torch

from suites.harness.measure.clock import gpu_alone, timer
from suites.harness.records.conventions import REFERENCE
from suites.harness.training.catalog import Choice, choose
from suites.harness.training.experiment import Task

_BLOCK_SECONDS = 0.004  # a block of steps is at least so long, so that the clock is no part of it
_WARM_UP_STEPS = 5  # more than a step takes before it is captured


def interleaved_step_seconds(
    task: Task,
    choices: list[Choice],
    rounds: int = 30,
    at_most_seconds: float = 20.0,
    on_round: Callable[[int], None] = lambda done: None,
    at_least: int = 5,
) -> dict[str, list[float]]:
    """Seconds of one training step of each optimizer, by specification; see :func:`interleaved_seconds`."""
    steps = {choice.spec: task.training_step(choice, seed=0) for choice in choices}
    return interleaved_seconds(steps, task.settings.device, rounds, at_most_seconds, on_round, at_least)


def interleaved_seconds(
    steps: Mapping[str, Callable[[], None]],
    device: str,
    rounds: int = 30,
    at_most_seconds: float = 20.0,
    on_round: Callable[[int], None] = lambda done: None,
    at_least: int = 5,
) -> dict[str, list[float]]:
    """Seconds of one call of each of ``steps``, one number a round, taken in turn within each round.

    A round is left out where ``at_most_seconds`` have passed and there are ``at_least`` rounds. On CUDA the time is
    that between two events on the stream.

    Returns:
        By name: as many samples as there were rounds, sample i of each taken in round i.
    """
    sizes: dict[str, int] = {}
    samples: dict[str, list[float]] = {name: [] for name in steps}
    with gpu_alone(device):
        for name, step in steps.items():
            for _ in range(_WARM_UP_STEPS):
                step()
            sizes[name] = max(1, round(_BLOCK_SECONDS / max(_seconds(step, 1, device), 1e-6)))
        started = time.perf_counter()
        for done in range(rounds):
            for name, step in steps.items():
                samples[name].append(_seconds(step, sizes[name], device))
            on_round(done + 1)
            if done + 1 >= at_least and time.perf_counter() - started > at_most_seconds:
                break
    if device == "cuda":
        torch.cuda.empty_cache()
    return samples


def autograd_step(task: Task) -> Callable[[], None]:
    """A step as PyTorch's users take it: autograd, and ``torch.optim.SGD(momentum=0.9, foreach=True)``."""
    step = task.step(choose(REFERENCE), seed=0)
    network, batches, value = step.network, step.batches, step.criterion.value
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, foreach=True)

    def call() -> None:
        inputs, labels = next(batches)
        optimizer.zero_grad()
        value(network(inputs), labels).mean().backward()
        optimizer.step()

    return call


def _seconds(step: Callable[[], None], times: int, device: str) -> float:
    """Seconds of a step, the mean of a block of them."""
    now = timer(device)
    begin = now()
    for _ in range(times):
        step()
    return (now() - begin) / times
