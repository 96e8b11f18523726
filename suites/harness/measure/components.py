"""Calls of one solver or one curvature on a recorded tape."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch

from optimizers.core import SOLVERS, Curvature, Layer, Solution, Tape, pch
from optimizers.core.solvers.inverses import INVERSES

Solver = Callable[..., Solution]


def solvers() -> dict[str, Solver]:
    """Every solver in each of its forms. CG takes all its iterations, so that the work is always the same."""
    found: dict[str, Solver] = {}
    for name, solver in SOLVERS.items():
        if "inverse" in solver.options:
            found |= {f"{name}[{inverse}]": partial(solver, inverse=inverse) for inverse in INVERSES}
        else:
            found[name] = partial(solver, tolerance=0) if solver.iterative else solver
    return found


def solve(tape: Tape, solver: Solver) -> Callable[[], Solution]:
    """A function that calls the solver with the curvature of PCH."""
    factors = pch(tape)
    return torch.no_grad()(lambda: solver(_fresh(tape.layers), factors))


def curve(tape: Tape, curvature: Curvature) -> Callable[[], object]:
    """A function that calls the curvature."""
    return lambda: curvature(replace(tape, layers=_fresh(tape.layers)))


def _fresh(layers: Sequence[Layer]) -> list[Layer]:
    """Copies with nothing cached, so that each call computes all that it uses."""
    return [replace(layer) for layer in layers]
