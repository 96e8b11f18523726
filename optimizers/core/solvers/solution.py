"""What a solver returns: a descent direction for every weight and bias, and how the solves went.

symbol             name             shape
d                  direction        [O, I] for a weight, [O] for a bias

A direction is the product ``left @ right``, with ``right`` = h [B, I] and ``left`` [O, B], the preconditioned deltas of
the layer. So nothing of size O x I is formed beside the weight itself. Where the product costs more, EA-CG with the
rank one gives a share of the gradient and an update of rank one. All others give a dense direction there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import torch
from jaxtyping import Float, Int
from torch import Tensor

from optimizers.core.product import Direction


class Status(IntEnum):
    """How a solve ended; ``advice`` says what to do about it."""

    SOLVED = 0
    MAX_ITERATIONS = 1
    NEGATIVE_CURVATURE = 2
    FAILED_FACTORIZATION = 3
    NOT_FINITE = 4
    ILL_CONDITIONED = 5

    @property
    def advice(self) -> str:
        return _ADVICE[self]


_ADVICE = {
    Status.SOLVED: "the residual is below the tolerance, or the factorizations of a direct solve succeeded",
    Status.MAX_ITERATIONS: "CG stopped at max_iter above its tolerance: raise max_iter, tolerance or damping",
    Status.NEGATIVE_CURVATURE: "CG met negative curvature: the curvature matrix must be positive semi-definite",
    Status.FAILED_FACTORIZATION: "a factor was not positive definite, so the gradient was used: raise damping or use "
    "float64",
    Status.NOT_FINITE: "a number was NaN or beyond what its dtype can hold, so the direction means nothing: lower the "
    "learning rate, normalize the inputs or use float64",
    Status.ILL_CONDITIONED: "the damping is lost in the rounding of a factor, so the direction may be far off: raise "
    "damping or use float64",
}


@dataclass(frozen=True)
class Solution:
    """Descent directions of L layers, and how the solves went. In [L, 2] the columns are weight and bias.

    ``weights``, ``biases``: L directions each.
    ``iterations``: CG iterations, 0 for a direct solve.
    ``residual``: ||r|| / ||r_0||, NaN for a direct solve.
    ``status``: values of :class:`Status`.
    ``blocks``: CG multiplies the rows of neighbouring layers by their G in one product. Each slice selects the layers
    of one product, which is computed until all their rows are done. ``operations``: of one iteration of each block.
    ``pi``: how KFI splits the damping between its two factors, Eq. (12); None for other solvers.
    """

    weights: list[Direction]
    biases: list[Float[Tensor, " _O"]]
    iterations: Int[Tensor, "L 2"]
    residual: Float[Tensor, "L 2"]
    status: Int[Tensor, "L 2"]
    blocks: tuple[slice, ...] = ()
    operations: tuple[int, ...] = ()
    pi: Float[Tensor, " L"] | None = None


def joined(parts: Sequence[Solution], places: Sequence[int]) -> Solution:
    """One solution of direct solves, from those of some layers each, which have these places."""
    if len(parts) == 1:
        return parts[0]
    order = sorted(range(len(places)), key=places.__getitem__)
    weights, biases = [w for one in parts for w in one.weights], [b for one in parts for b in one.biases]
    tensors = [(one.iterations, one.residual, one.status, one.pi) for one in parts]
    index = torch.tensor(order, device=parts[0].status.device)
    iterations, residual, status, pi = (torch.cat(of_parts)[index] for of_parts in zip(*tensors, strict=True))
    return Solution([weights[t] for t in order], [biases[t] for t in order], iterations, residual, status, pi=pi)
