"""What a solver returns: a descent direction for every weight and bias, and how the solves went.

symbol             name             shape
d                  direction        [O, I] for a weight, [O] for a bias

A direction is the product ``left @ right``, with ``right`` = h [B, I] and ``left`` [O, B], the preconditioned deltas of
the layer. So nothing of size O x I is formed beside the weight itself. Only KFI's ``factor`` form and cases where the
product costs more give a dense direction.
"""

from dataclasses import dataclass
from enum import IntEnum

from jaxtyping import Float, Int
from torch import Tensor


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


def add_scaled(target: Float[Tensor, "*n"], tensor: Float[Tensor, "*n"], scale: float | Float[Tensor, ""]) -> None:
    """``target += scale * tensor`` in place. If the scale is a tensor, its number is not read."""
    if isinstance(scale, Tensor):
        target.addcmul_(tensor, scale)
    else:
        target.add_(tensor, alpha=scale)


@dataclass(frozen=True)
class Direction:
    """A direction in a weight, as ``left @ right`` or, without ``left``, dense: ``right`` is then [O, I]."""

    left: Float[Tensor, "O r"] | None
    right: Float[Tensor, "r I"]

    def add_to(self, weight: Float[Tensor, "O I"], scale: float | Float[Tensor, ""]) -> None:
        """``weight += scale * left @ right`` in place, without forming the product."""
        if self.left is None:
            add_scaled(weight, self.right, scale)
        elif isinstance(scale, Tensor):
            weight.addmm_(self.left * scale, self.right)
        else:
            weight.addmm_(self.left, self.right, alpha=scale)

    def dense(self) -> Float[Tensor, "O I"]:
        """The direction as a matrix, for tests and small nets."""
        return self.right if self.left is None else self.left @ self.right


@dataclass(frozen=True)
class Solution:
    """Descent directions of L layers, and how the solves went. In [L, 2] the columns are weight and bias.

    ``weights``, ``biases``: L directions each.
    ``iterations``: CG iterations, 0 for a direct solve.
    ``residual``: ||r|| / ||r_0||, NaN for a direct solve.
    ``status``: values of :class:`Status`.
    ``blocks``: CG multiplies the rows of neighbouring layers by their G in one product. Each slice selects the layers
    of one product, which is computed until all their rows are done.
    ``pi``: how KFI splits the damping between its two factors, Eq. (12); None for other solvers.
    """

    weights: list[Direction]
    biases: list[Float[Tensor, " _O"]]
    iterations: Int[Tensor, "L 2"]
    residual: Float[Tensor, "L 2"]
    status: Int[Tensor, "L 2"]
    blocks: tuple[slice, ...] = ()
    pi: Float[Tensor, " L"] | None = None
