"""One solve of a damped system by the method of conjugate gradients (CG), where that takes less than a factorization.

symbol          name        shape
M               lower       [n, n]   symmetric, positive semi-definite
lambda          damping
b               right       [n, 1]
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from optimizers.core.cholesky import Factor, Request, factorize
from optimizers.core.solvers.cg import conjugate_gradient

# On one core a factorization takes the time of 7 iterations at n = 256, 23 at 512, 60 at 1024. CG may take a third of
# that before it gives up; up to FEW it gains nothing.
FEW = 256
_ROWS_AN_ITERATION = 64


@dataclass(frozen=True)
class Once(Factor):
    """M + lambda I on a CPU for one right side, with M in place of ``lower``. A solve fills in ``info``.

    The eigenvalues lie between lambda and lambda + tr M. So ||r|| <= eps ||b|| takes about
    sqrt(1 + tr M / lambda) / 2 * log(2 / eps) iterations at the most, and usually a quarter of that. Where this is too
    many, or CG has not converged in time, the system is factorized.
    """

    def solve(self, right: Float[Tensor, "n 1"]) -> Float[Tensor, "n 1"]:
        """(M + lambda I)^-1 right, to the precision of the dtype."""
        M, damping, eps = self.lower, float(self.damping), torch.finfo(right.dtype).eps
        most = len(M) // _ROWS_AN_ITERATION
        if (1 + M.trace() / damping).sqrt() * -math.log(eps) / 8 <= most:
            x, _, residual, _ = conjugate_gradient(
                lambda p, _, q: lambda active: torch.mm(M, p.T, out=q.T).T.add_(p, alpha=damping), right.T, most, eps
            )
            if residual <= eps:
                return x.T
        ((factor,),) = factorize([Request(len(M), lambda: M, [damping])])
        self.info.copy_(factor.info)
        return factor.solve(right)
