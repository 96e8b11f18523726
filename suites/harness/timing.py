"""Step times as ratios: every optimizer in turn, in one process, against SGD with momentum."""

import time
from collections.abc import Callable

import torch

from suites.harness.catalog import Choice
from suites.harness.clock import Stopwatch
from suites.harness.experiments import Problem

REFERENCE = "sgd"
_BLOCK_SECONDS = 0.004  # a block of steps is at least so long, so that the clock is no part of it
_WARM_UP_STEPS = 3


def interleaved_step_seconds(
    problem: Problem,
    choices: list[Choice],
    rounds: int = 30,
    at_most_seconds: float = 20.0,
    on_round: Callable[[int], None] = lambda done: None,
) -> dict[str, list[float]]:
    """Seconds of one training step of each optimizer, one number a round, taken in turn within each round.

    A round is left out where ``at_most_seconds`` have passed and there are five rounds or more.

    Returns:
        By specification: as many samples as there were rounds, sample i of each taken in round i.
    """
    steps = {choice.spec: problem.step(choice, seed=0) for choice in choices}
    sizes: dict[str, int] = {}
    for spec, step in steps.items():
        for _ in range(_WARM_UP_STEPS):
            step()
        once = Stopwatch(problem.settings.device)
        with once:
            step()
        sizes[spec] = max(1, round(_BLOCK_SECONDS / max(once.seconds, 1e-6)))
    samples: dict[str, list[float]] = {spec: [] for spec in steps}
    started = time.perf_counter()
    for done in range(rounds):
        for spec, step in steps.items():
            block = Stopwatch(problem.settings.device)
            with block:
                for _ in range(sizes[spec]):
                    step()
            samples[spec].append(block.seconds / sizes[spec])
        on_round(done + 1)
        if done >= 4 and time.perf_counter() - started > at_most_seconds:
            break
    if problem.settings.device == "cuda":
        torch.cuda.empty_cache()
    return samples
