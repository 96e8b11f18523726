"""Seconds and bytes of a step by phase."""

import time

from suites.harness.measure.clock import PhaseClock
from suites.harness.measure.live_bytes import LiveBytes
from suites.harness.measure.step import Step
from suites.harness.training.catalog import Choice
from suites.harness.training.experiment import Task

_WARM_UP_STEPS = 3
_BLOCK_SECONDS = 0.004
_FEWEST_ROUNDS = 3


def interleaved_phase_seconds(
    task: Task, choices: list[Choice], rounds: int = 30, at_most_seconds: float = 20.0
) -> dict[str, dict[str, list[float]]]:
    """Seconds of each phase of a training step of each optimizer, blocks of steps taken in turn within each round.

    A round is left out where ``at_most_seconds`` have passed and there are three rounds or more; the first steps of all
    are left out, as many as fit into a tenth of that time, from one to three.

    Returns:
        By specification and phase: the mean over the steps of each block; a phase that an optimizer lacks is left out.
    """
    steps, clocks, sizes = {}, {}, {}
    for choice in choices:
        step, clock = task.step(choice, seed=0), PhaseClock(task.settings.device)
        step.watch(clock.mark)
        warm_up: list[float] = []
        while len(warm_up) < _WARM_UP_STEPS and sum(warm_up) <= at_most_seconds / 10:
            step()
            warm_up.append(sum(seconds for (seconds,) in clock.drain().values()))
        steps[choice.spec], clocks[choice.spec] = step, clock
        sizes[choice.spec] = max(1, round(_BLOCK_SECONDS / max(warm_up[-1], 1e-6)))
    samples: dict[str, dict[str, list[float]]] = {spec: {} for spec in steps}
    started = time.perf_counter()
    for done in range(rounds):
        if done >= _FEWEST_ROUNDS and time.perf_counter() - started > at_most_seconds:
            break
        for spec, step in steps.items():
            for _ in range(sizes[spec]):
                step()
            for phase, seconds in clocks[spec].drain().items():
                samples[spec].setdefault(phase, []).append(sum(seconds) / len(seconds))
    return samples


def phase_bytes(step: Step) -> dict[str, int]:
    """The most bytes alive at once in each phase that were not there before the step, what it keeps included.

    Runs one step. Counts whole tensors as operations return them; scratch space inside a library call is not seen.
    """
    peaks: dict[str, int] = {}
    now: str | None = None

    def mark(phase: str | None) -> None:
        nonlocal now
        if now is not None:
            peaks[now] = max(peaks.get(now, 0), live.peak)
        now, live.peak = phase, live.current

    step.watch(mark)
    with LiveBytes() as live:
        step()
    return peaks
