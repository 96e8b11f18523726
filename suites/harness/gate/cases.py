"""What the gate holds: numbers by name, lower is better, the same in every process but for the times.

name                     number
step/OPTIMIZER           time of a training step on a small net, over that of a reference kernel
solve/SOLVER             time of a solver alone, over the same
curvature/CURVATURE      time of a curvature alone, over the same
peak_bytes/OPTIMIZER     the most that belongs to the optimizer within a step
kept_bytes/OPTIMIZER     what is still alive after some steps
train_loss/OPTIMIZER     after 5 epochs on the digits, in float64, so that rounding does not move it
epochs/OPTIMIZER         to a train accuracy of 0.9 in the same training; infinite where 40 do not suffice

A time is a ratio of minima: of many short blocks, the case's and the reference's in turn, the shortest of each. Half a
millisecond is short enough to be left alone by other loads now and then, and the reference, which does in plain torch
the same kinds of work, takes out the speed of the machine.
"""

import math
import random
from collections.abc import Callable
from functools import cache, partial

import torch

from optimizers.core import CURVATURES, Tape
from optimizers.core.kfi import INVERSES
from suites.harness.measure.components import curve, solve, solvers
from suites.harness.measure.live_bytes import kept_bytes, peak_state_bytes
from suites.harness.measure.step import Step
from suites.harness.measure.timing import interleaved_seconds
from suites.harness.records.conventions import REFERENCE
from suites.harness.training.catalog import choose, named
from suites.harness.training.experiment import Settings, Task
from suites.harness.training.runner import evaluate

_NETWORK = (64, 160, 10)  # steps below a millisecond, and a layer wider than the strips of curvature and Cholesky
_BATCH_SIZE = 32
_BLOCK_SECONDS = 0.0005
_ROUNDS = 25
_SETUPS, _MOST_SETUPS = 10, 20
_GAP = 2**14
_EPOCHS, _MOST_EPOCHS = 5, 40
_ACCURACY = 0.9

Number = Callable[[float], float]  # from a limit, below which a time need not be measured any closer


def cases(device: str) -> dict[str, Number]:
    """Every case; optimizers, solvers and their forms, and curvatures are those that there are."""
    timed: dict[str, Callable[[], Callable[[], object]]] = {}
    exact: dict[str, Callable[[], float]] = {}
    for name in named():
        timed[f"step/{name}"] = partial(_step, device, name)
    for name, solver in solvers().items():
        timed[f"solve/{name}"] = lambda solver=solver: solve(_tape(device), solver)
    for name, curvature in CURVATURES.items():
        timed[f"curvature/{name}"] = lambda curvature=curvature: curve(_tape(device), curvature)
    for spec in [*named(), *(f"kfac[inverse={inverse}]" for inverse in INVERSES)]:
        exact[f"peak_bytes/{spec}"] = partial(_peak_bytes, device, spec)
        exact[f"kept_bytes/{spec}"] = lambda spec=spec: kept_bytes(_fresh(device, spec))
    for name in named():
        exact[f"train_loss/{name}"] = lambda name=name: _train(device, name)[0]
        exact[f"epochs/{name}"] = lambda name=name: _train(device, name)[1]
    return {
        **{name: partial(_ratio_of_minima, device, begin) for name, begin in timed.items()},
        **{name: lambda limit, number=number: number() for name, number in exact.items()},
    }


def _ratio_of_minima(device: str, begin: Callable[[], Callable[[], object]], limit: float) -> float:
    """The shortest block of a case over the shortest of the reference; more rounds while that is above the limit.

    Both are set up anew from time to time: how fast they are depends by some percent on where their tensors lie.
    """
    best = best_reference = math.inf
    kept = []  # so that the next set-up gets other memory, at other distances
    for done in range(1, _MOST_SETUPS + 1):
        calls = {"reference": _reference(device), "case": begin()}
        kept += [*calls.values(), torch.empty(random.randrange(1, _GAP), device=device)]
        seconds = interleaved_seconds(calls, device, _ROUNDS, at_least=_ROUNDS, block_seconds=_BLOCK_SECONDS)
        best_reference = min(best_reference, *seconds["reference"])
        best = min(best, *seconds["case"])
        if done >= _SETUPS and best <= limit * best_reference:
            break
    return best / best_reference


def _reference(device: str) -> Callable[[], None]:
    """A bit of all that optimizers do: products, element-wise passes, reductions, a Cholesky solve."""
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
    """A step over and over on one batch, at all but no learning rate, so that each costs the same."""
    slow = f"{spec}[lr=1e-12]" if "lr" in choose(spec).entry.options else spec
    return _task(device).step(choose(slow), seed=0).repeat_batch()


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
    """Train loss after the first epochs, and epochs to the accuracy."""
    task = _digits(device, "float64")
    step = task.step(choose(spec), seed=0)
    loss, reached = math.inf, math.inf
    for epoch in range(1, _MOST_EPOCHS + 1):
        for _ in range(task.steps_per_epoch):
            step()
        current, accuracy = evaluate(task, step.network, task.dataset.train)
        loss = current if epoch <= _EPOCHS else loss
        reached = min(reached, epoch) if accuracy >= _ACCURACY else reached
        if epoch >= _EPOCHS and reached < math.inf:
            break
    return loss, reached
