"""The forms of KFI's right factor: operators of the rows of h whose solves are those with E[h h^T].

symbol          name        shape
h^{t-1}         rows        [B, I]
hbar = E[h]     hbar        [I]
lam             damping     scalar
"""

import warnings
from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from optimizers.core.cholesky import Damping, Factor
from optimizers.core.operators import Damped, Gram, Operator
from optimizers.core.product import Product


class _RankOne(Gram):
    """Eq. (13), hbar hbar^T for E[h h^T], by the Sherman-Morrison formula.

    (hbar hbar^T + lam I)^-1 = (I - hbar hbar^T / (lam + ||hbar||^2)) / lam, and hbar^T is the mean of the rows of h.
    """

    # deviates: the trace, and so pi, is that of the other forms, tr E[h h^T]; the paper does not say which

    @property
    def core_size(self) -> int:
        return 1

    def core(self) -> Float[Tensor, "1 1"]:
        hbar = self.rows.mean(0)
        return torch.dot(hbar, hbar).view(1, 1)

    def solve(self, factor: Factor, right: Product) -> Product:
        assert right.left is not None
        along = right.left @ (self.rows @ self.rows.mean(0))
        shrink = factor.solve(along.unsqueeze(0)).T / len(self.rows)
        return Product((right.left - shrink) / factor.damping, self.rows)


class _FactorOrRankOne(Gram):
    """``factor``, and ``rank_one`` where that does not fit into memory."""

    def damped(self, *dampings: Damping) -> list[Damped]:
        try:
            return super().damped(*dampings)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        warnings.warn(
            f"the {self.size} x {self.size} factor of KFI does not fit into memory: falling back to "
            "rank_one, Eq. (13); inverse='exact' gives the exact direction in less memory",
            stacklevel=2,
        )
        return _RankOne(self.rows, in_batch=True).damped(*dampings)


INVERSES: dict[str, Callable[[Float[Tensor, "B I"]], Operator]] = {
    "exact": Gram,  # deviates: the paper always forms the I x I factor; the direction is the same
    "factor": partial(Gram, in_batch=False),
    "gram": partial(Gram, in_batch=True),
    "rank_one": partial(_RankOne, in_batch=True),
    "auto": partial(_FactorOrRankOne, in_batch=False),
}


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch refused an allocation, on a GPU or on a CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
