"""Solvers and curvatures alone, on a tape that was recorded once."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch

from optimizers.core import SOLVERS, Curvature, Layer, Solution, Tape, pch
from optimizers.core.kfi import INVERSES

Solver = Callable[..., Solution]


def solvers() -> dict[str, Solver]:
    """Every solver in each of its forms; CG takes all of its iterations, so that rounding does not change its work."""
    found: dict[str, Solver] = {}
    for name, solver in SOLVERS.items():
        known = inspect.signature(solver).parameters
        if "inverse" in known:
            found |= {f"{name}[{inverse}]": partial(solver, inverse=inverse) for inverse in INVERSES}
        else:
            found[name] = partial(solver, tolerance=0) if "tolerance" in known else solver
    return found


def solve(tape: Tape, solver: Solver) -> Callable[[], Solution]:
    """A call of a solver with the factors of the PCH."""
    factors = pch(tape)
    return torch.no_grad()(lambda: solver(_fresh(tape.layers), factors))


def curve(tape: Tape, curvature: Curvature) -> Callable[[], object]:
    """A call of a curvature."""
    return lambda: curvature(replace(tape, layers=_fresh(tape.layers)))


def _fresh(layers: Sequence[Layer]) -> list[Layer]:
    """Layers that have computed nothing yet, so that each call pays for what it asks of them."""
    return [replace(layer) for layer in layers]
