"""The expectation approximation, Eq. (6), and the bound of its error, Eq. (7), layer by layer.

symbol                    name          shape
H_b                       H             [c, O, O]   hess_{b^t} C of each sample of a chunk; O = n_t, I = n_{t-1}
X = W^tT H_b W^t                        [I, I]      of a sample, never formed
Y = phi' phi'^T                         [I, I]      of a sample
S = W^t W^tT              S             [O, O]
L                         lipschitz     |phi'| <= L: 1/4 of the sigmoid, 1 of tanh, softplus and ReLU
E, Var                                  over the samples, with 1/B

approximation   E[X * Y] ~ E[X] * E[Y]                                                                         Eq. (6)
bound           || E[X * Y] - E[X] * E[Y] ||_F^2 <= L^4 sum_{mu,nu} Var[X_{mu nu}]                              Eq. (7)

Proof: an entry of the difference is a covariance, Cov(X, Y)^2 <= Var(X) Var(Y), and Var(Y) <= E[Y^2] <= L^4 as
|Y| <= L^2. Where phi' >= 0, Y lies in [0, L^2], Var(Y) <= L^4 / 4 (Popoviciu), and half of the bound holds as well.

The difference needs nothing of single samples: E[X * Y] is the mean of Eq. (4) less E[phi'' * (W^tT delta^t)]. Nor do
the variances need X: ||X - E[X]||_F^2 = tr(((H_b - E[H]) S)^2), 2 O^3 operations a sample, with 2 O^2 numbers held.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from optimizers.core.curvature import propagate
from optimizers.core.hessian import mean_hessians
from optimizers.core.tape import Tape


@dataclass(frozen=True)
class Expectation:
    """The mean Hessians of a tape, and how well Eq. (6) approximates each step of their recursion.

    ``means``: E[hess_{b^t} C] of each layer, first to last. ``errors`` and ``bounds``: the square roots of both sides
    of Eq. (7), for each layer but the last.
    """

    means: list[Float[Tensor, "_O _O"]]
    errors: list[float]
    bounds: list[float]


@torch.no_grad()
def expectation(tape: Tape, chunk: int = 16) -> Expectation:
    """The mean Hessians of a tape, and the error of Eq. (6) and its bound for each step of the recursion.

    Args:
        chunk: samples at a time, see :func:`optimizers.core.hessian.mean_hessians`.
    """
    above = tape.layers[1:]
    spreads = [_Spread(layer.weight) for layer in above]
    means = mean_hessians(tape, chunk, watch=lambda t, H: spreads[t - 1].add(H))
    errors, bounds = [], []
    for layer, below, H, spread in zip(above, means[:-1], means[1:], spreads, strict=True):
        assert layer.fed_by is not None, "the first layer alone is fed by the data"
        errors.append((below - propagate(layer, H, repair=lambda mean: mean)).norm().item())
        bounds.append(layer.fed_by[0].lipschitz ** 2 * spread.variance.sqrt().item())
    return Expectation(means, errors, bounds)


class _Spread:
    """sum_{mu,nu} Var[X_{mu nu}] over samples that come in chunks.

    Chunks are merged as in Chan, Golub and LeVeque (1983). All terms are sums of squares, so nothing cancels.
    """

    def __init__(self, weight: Float[Tensor, "O I"]) -> None:
        self._S = weight @ weight.T
        self._mean = weight.new_zeros(())
        self._samples = 0
        self._squares = weight.new_zeros((), dtype=torch.float64)  # sum over samples of ||X - E[X]||_F^2

    def add(self, H: Float[Tensor, "c O O"]) -> None:
        """Take in a chunk."""
        before, self._samples = self._samples, self._samples + len(H)
        mean = H.mean(0)
        shift = mean - self._mean
        self._squares += self._square(H - mean) + self._square(shift) * (before * len(H) / self._samples)
        self._mean = self._mean + shift * (len(H) / self._samples)

    def _square(self, H: Float[Tensor, "*c O O"]) -> Float[Tensor, ""]:
        """||W^T H W||_F^2 = tr((H S)^2), of several together their sum."""
        HS = H @ self._S
        return (HS * HS.mT).sum()

    @property
    def variance(self) -> Float[Tensor, ""]:
        """The sum over all entries. Rounding does not take it below 0."""
        return self._squares.clamp_min(0) / self._samples
