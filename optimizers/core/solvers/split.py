"""How KFI splits its damping between its two factors, Eq. (12).

symbol             name        shape
tr G, tr A         traces      [2, L]
alpha              damping
pi                 pi          [L]   pi^2 = (tr A / I) / (tr G / O)
sqrt(alpha)/pi     left        [L]   damps G
pi sqrt(alpha)     right       [L]   damps A
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from optimizers.core.cholesky import Damping
from optimizers.core.product import Direction
from optimizers.core.solvers.solution import Solution, Status

_ROUNDINGS = 32  # a damping below so many roundings of the trace of its matrix is lost


@dataclass(frozen=True)
class Split:
    """The shares of the damping, and what they come from."""

    damping: Damping
    traces: Float[Tensor, "2 L"]
    pi: Float[Tensor, " L"]
    left: Float[Tensor, " L"]
    right: Float[Tensor, " L"]

    def solution(
        self,
        weights: list[Direction],
        biases: list[Float[Tensor, " _O"]],
        failed: Bool[Tensor, "L 2"],
        sums: Float[Tensor, "L 2"],
        joint: bool,
    ) -> Solution:
        """The solution with these directions, with their status.

        Args:
            failed: whether a factorization failed, for weight and bias.
            sums: of the entries of the directions.
            joint: whether weight and bias are one matrix.
        """
        (of_G, of_A), root = self.traces, self.left * self.pi
        of_weight = torch.maximum(of_A / self.pi, of_G * self.pi) / root
        of_bias = of_weight if joint else of_G / self.damping
        lost = torch.stack([of_weight, of_bias], dim=1) > 1 / (_ROUNDINGS * torch.finfo(sums.dtype).eps)
        status = lost.long().mul_(Status.ILL_CONDITIONED).masked_fill_(failed, Status.FAILED_FACTORIZATION)
        not_finite = (sums * (self.pi / self.pi).unsqueeze(1)).mul_(0) != 0  # pi / pi is NaN where pi is 0 or infinite
        status.masked_fill_(not_finite, Status.NOT_FINITE)
        iterations, residual = torch.zeros_like(status), torch.full_like(sums, math.nan)
        return Solution(weights, biases, iterations, residual, status, pi=self.pi)


def split(damping: Damping, traces: Float[Tensor, "2 L"], means: Float[Tensor, "2 L"]) -> Split:
    """The split of the damping.

    Args:
        damping: alpha.
        means: of the eigenvalues, tr G / O and tr A / I. They are kept above 0.
    """
    root = damping.sqrt() if isinstance(damping, Tensor) else math.sqrt(damping)
    of_G, of_A = means.clamp_min(torch.finfo(means.dtype).tiny)
    pi = (of_A / of_G).sqrt()
    return Split(damping, traces, pi, root / pi, root * pi)
