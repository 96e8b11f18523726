"""The only loop that times steps. Several steps take turns, block by block, so all meet the same state of the machine.
Their order changes from round to round.
"""

import random
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import chain
from typing import Any

import torch

from suites.harness.measure.clock import PhaseClock, gpu_alone, timer
from suites.harness.measure.step import Step

Block = Callable[[int], dict[str, float]]  # takes this number of steps; returns the mean seconds of each part of a step

BLOCK_SECONDS = 0.004  # the least of a block: the clock itself takes little beside it
_WARM_UP_STEPS = 5  # more than a step takes before it is captured
WHOLE_STEP = "whole step"


def interleaved_seconds(
    steps: Mapping[str, Callable[[], object]],
    device: str,
    rounds: int = 30,
    at_most_seconds: float = 20.0,
    at_least: int = 5,
    block_seconds: float = BLOCK_SECONDS,
    waits: bool = True,
) -> dict[str, list[float]]:
    """Seconds of one call of each step: the mean over a block of calls, one block of each step in every round.

    No round begins after ``at_most_seconds`` if ``at_least`` rounds are done. A few calls come first and are not
    counted. On CUDA the time is that between two events on the stream.

    Args:
        block_seconds: a block has as many calls as fill this time, and at least one.
        waits: False leaves out the time in which this thread waits for a core.

    Returns:
        By name, one number a round.
    """
    blocks = {name: partial(block_of_steps, step, timer(device, waits)) for name, step in steps.items()}
    samples = in_turn(blocks, device, rounds, at_most_seconds, at_least, block_seconds)
    return {name: [sample[WHOLE_STEP] for sample in own] for name, own in samples.items()}


def interleaved_phases(
    steps: Mapping[str, Step], device: str, rounds: int = 30, at_most_seconds: float = 20.0
) -> dict[str, dict[str, list[float]]]:
    """Seconds of each phase of a training step, measured like :func:`interleaved_seconds`.

    It stays the watcher of the steps. In a block of replays of a CUDA graph the last one counts.

    Returns:
        By name and phase, one number a round. A phase that a step does not have is left out.
    """
    blocks = {}
    for name, step in steps.items():
        clock = PhaseClock(device)
        step.watch(clock.mark)
        blocks[name] = partial(_block_of_phases, step, clock)
    samples = in_turn(blocks, device, rounds, at_most_seconds, at_least=3, block_seconds=BLOCK_SECONDS)
    return {
        name: {phase: [sample.get(phase, 0.0) for sample in own] for phase in dict.fromkeys(chain.from_iterable(own))}
        for name, own in samples.items()
    }


def in_turn(
    blocks: Mapping[str, Block],
    device: str,
    rounds: int,
    at_most_seconds: float,
    at_least: int,
    block_seconds: float,
    on_round: Callable[[int], None] = lambda done: None,
) -> dict[str, list[dict[str, float]]]:
    """Warm up, choose the length of each block, then go round. The GPU is locked meanwhile.

    Args:
        blocks: by name; the rest as for :func:`interleaved_seconds`.
        on_round: called with the number of rounds done.

    Returns:
        By name, the results of its blocks, one a round.
    """
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in blocks}
    with gpu_alone(device):
        lengths = {
            name: max(1, round(block_seconds / max(_warm_up(block, device, at_most_seconds), 1e-6)))
            for name, block in blocks.items()
        }
        started = time.perf_counter()
        order, names = random.Random(0), list(blocks)
        for done in range(1, rounds + 1):
            order.shuffle(names)  # what the block before leaves in the caches matters
            for name in names:
                samples[name].append(blocks[name](lengths[name]))
            on_round(done)
            if done >= at_least and time.perf_counter() - started > at_most_seconds:
                break
    if device == "cuda":
        torch.cuda.empty_cache()
    return samples


def _warm_up(block: Block, device: str, at_most_seconds: float) -> float:
    """Seconds of the fastest of the first steps, which on a CPU take at most a tenth of the time, and one step."""
    seconds: list[float] = []
    while len(seconds) < _WARM_UP_STEPS and (device == "cuda" or sum(seconds) <= at_most_seconds / 10):
        seconds.append(sum(block(1).values()))
    return min(seconds)


def block_of_steps(step: Callable[[], object], now: Callable[[], Any], count: int) -> dict[str, float]:
    """Seconds of a whole step, the mean over ``count`` of them."""
    begin = now()
    for _ in range(count):
        step()
    return {WHOLE_STEP: (now() - begin) / count}


def _block_of_phases(step: Step, clock: PhaseClock, count: int) -> dict[str, float]:
    for _ in range(count):
        step()
    return {phase: sum(seconds) / len(seconds) for phase, seconds in clock.drain().items()}
