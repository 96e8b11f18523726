"""The cases of the gate: numbers by name; lower is better.

name                     number
step/OPTIMIZER           time of a training step on a small network over that of a reference kernel; for optimizers that
                         the user names, over that of a step of SGD
solve/SOLVER             time of a solver alone over that of the kernel
curvature/CURVATURE      time of a curvature alone over that of the kernel
peak_bytes/OPTIMIZER     peak of the optimizer's bytes within a step
kept_bytes/OPTIMIZER     bytes that are still alive after some steps
train_loss/OPTIMIZER     loss after 5 epochs on the digits, in float64 so that rounding does not move it
epochs/OPTIMIZER         epochs to a train accuracy of 0.9 in the same training; 41 if 40 are too few

Bytes, losses and epochs are the same in every process. Times are not, so they are ratios of minima: the case and the
reference kernel take turns in many short blocks, and the shortest block of each counts. Some blocks, of half a
millisecond each, escape other loads of the machine. The kernel does the same kinds of work in plain torch, so the ratio
does not depend on the speed of the machine.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial

import torch

from optimizers.core import CURVATURES, Tape
from optimizers.core.solvers.inverses import INVERSES
from suites.harness.measure.components import curve, solve, solvers
from suites.harness.measure.live_bytes import kept_bytes, peak_state_bytes
from suites.harness.measure.step import Step
from suites.harness.measure.timing import interleaved_seconds
from suites.harness.records.conventions import REFERENCE
from suites.harness.training.catalog import choose, named
from suites.harness.training.evaluation import evaluate
from suites.harness.training.experiment import Settings, Task

_NETWORK = (64, 160, 10)  # steps below a millisecond, and a layer wider than the strips of curvature and Cholesky
_BATCH_SIZE = 32
_BLOCK_SECONDS = 0.0005
_ROUNDS = 25
_SETUPS, _MOST_SETUPS = 10, 20
_GAP = 2**14
_EPOCHS, _MOST_EPOCHS = 5, 40
_ACCURACY = 0.9

Number = Callable[[float], float]
"""Measures the number of a case, given its limit. A time below the limit is not measured again."""


def cases(device: str, specs: Sequence[str] = ()) -> dict[str, Number]:
    """The cases by name: of the given optimizers, or of all optimizers, solvers and curvatures of the package."""
    if specs:
        numbers: dict[str, Number] = {}
        for given in specs:
            spec = choose(given).spec
            numbers[f"step/{spec}"] = partial(
                _ratio_of_minima, device, partial(_step, device, given), partial(_step, device, REFERENCE)
            )
            exact = _bytes_of(device, spec, given) | _convergence_of(device, spec, given)
            numbers |= {name: lambda limit, number=number: number() for name, number in exact.items()}
        return numbers
    timed: dict[str, Callable[[], Callable[[], object]]] = {}
    exact: dict[str, Callable[[], float]] = {}
    for name in named():
        timed[f"step/{name}"] = partial(_step, device, name)
    for name, solver in solvers().items():
        timed[f"solve/{name}"] = lambda solver=solver: solve(_tape(device), solver)
    for name, curvature in CURVATURES.items():
        timed[f"curvature/{name}"] = lambda curvature=curvature: curve(_tape(device), curvature)
    for spec in [*named(), *(f"kfac[inverse={inverse}]" for inverse in INVERSES)]:
        exact |= _bytes_of(device, spec, spec)
    for name in named():
        exact |= _convergence_of(device, name, name)
    return {
        **{
            name: partial(_ratio_of_minima, device, begin, partial(_reference, device)) for name, begin in timed.items()
        },
        **{name: lambda limit, number=number: number() for name, number in exact.items()},
    }


def _bytes_of(device: str, name: str, spec: str) -> dict[str, Callable[[], float]]:
    return {
        f"peak_bytes/{name}": lambda: _peak_bytes(device, spec),
        f"kept_bytes/{name}": lambda: kept_bytes(_fresh(device, spec)),
    }


def _convergence_of(device: str, name: str, spec: str) -> dict[str, Callable[[], float]]:
    return {
        f"train_loss/{name}": lambda: _train(device, spec)[0],
        f"epochs/{name}": lambda: _train(device, spec)[1],
    }


def _ratio_of_minima(
    device: str,
    begin: Callable[[], Callable[[], object]],
    reference: Callable[[], Callable[[], object]],
    limit: float,
) -> float:
    """The shortest block of a case over the shortest block of the reference.

    Both are set up again many times, since the place of their tensors in memory changes their speed by some percent.
    While the ratio is above the limit, there are more set-ups.

    Args:
        begin, reference: set up case and reference, and return the function to time.
    """
    best = best_reference = math.inf
    kept = []  # so that the next set-up gets other memory
    for done in range(1, _MOST_SETUPS + 1):
        calls = {"reference": reference(), "case": begin()}
        kept += [*calls.values(), torch.empty(random.randrange(1, _GAP), device=device)]
        seconds = interleaved_seconds(calls, device, _ROUNDS, at_least=_ROUNDS, block_seconds=_BLOCK_SECONDS)
        best_reference = min(best_reference, *seconds["reference"])
        best = min(best, *seconds["case"])
        if done >= _SETUPS and best <= limit * best_reference:
            break
    return best / best_reference


def _reference(device: str) -> Callable[[], None]:
    """A little of everything that optimizers do: products, element-wise passes, reductions, a Cholesky solve."""
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(100, 60, generator=generator).to(device)
    W = torch.randn(60, 60, generator=generator).to(device)
    damped = W @ W.T + 60 * torch.eye(60, device=device)

    def kernel() -> None:
        z = h @ W
        gram = z.T @ z
        gram.diagonal().add_(1)
        (h * 0.5 + z).mean(0)
        factor, info = torch.linalg.cholesky_ex(damped)
        torch.where(info == 0, torch.cholesky_solve(gram, factor), gram)

    return kernel


@cache
def _task(device: str) -> Task:
    return Task.load(Settings(network=_NETWORK, batch_size=_BATCH_SIZE, device=device))


def _step(device: str, spec: str) -> Step:
    """A step on the same batch at a tiny learning rate, so that every step costs the same.

    An optimizer that needs a closure has its own learning rate and changing batches, since it may stop early otherwise.
    """
    choice = choose(spec)
    step = _task(device).step(choice, seed=0)
    if step.takes_closure:
        return step
    if "lr" in choice.entry.options:
        step = _task(device).step(replace(choice, options={**choice.options, "lr": 1e-12}), seed=0)
    return step.repeat_batch()


def _tape(device: str) -> Tape:
    return _step(device, REFERENCE).record()


def _peak_bytes(device: str, spec: str) -> float:
    step = _fresh(device, spec)
    for _ in range(2):
        step()
    return peak_state_bytes(step)


def _fresh(device: str, spec: str) -> Step:
    return _digits(device, "float32").step(choose(spec), seed=0).repeat_batch()


@cache
def _digits(device: str, dtype: str) -> Task:
    return Task.load(Settings(dtype=dtype, device=device))


@cache
def _train(device: str, spec: str) -> tuple[float, float]:
    """Train loss after 5 epochs, and epochs to the accuracy."""
    task = _digits(device, "float64")
    step = task.step(choose(spec), seed=0)
    loss, reached = math.inf, _MOST_EPOCHS + 1
    for epoch in range(1, _MOST_EPOCHS + 1):
        for _ in range(task.steps_per_epoch):
            step()
        with step.evaluating() as network:
            current, accuracy = evaluate(task, network, task.dataset.train)
        loss = current if epoch <= _EPOCHS else loss
        reached = min(reached, epoch) if (accuracy or 0.0) >= _ACCURACY else reached
        if epoch >= _EPOCHS and reached <= _MOST_EPOCHS:
            break
    return loss, reached
