"""Solvers: layers of a tape and their G^t to a descent direction for every weight and bias.

symbol             name             shape
G                  G                [O, O]
h^{t-1}            layer.input      [B, I]
hbar = E[h]        mean_input       [I]
delta^t            layer.delta      [B, O]
alpha              damping
d                  direction        [O, I] for a weight, [O] for a bias

Every direction but KFI's ``factor`` form is ``left @ h`` with ``left`` [O, B]: the layer's deltas preconditioned, so
that nothing of size O x I need be formed beside the weight itself.

No solver asks the device for a number: iterations, residual and status stay tensors until somebody reads them.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import torch
from torch import Tensor

from optimizers.core.cg import conjugate_gradient
from optimizers.core.cholesky import solve_damped
from optimizers.core.tape import Layer


class Status(IntEnum):
    """How a solve ended; ``advice`` says what to do about it."""

    SOLVED = 0
    MAX_ITERATIONS = 1
    NEGATIVE_CURVATURE = 2
    FAILED_FACTORIZATION = 3

    @property
    def advice(self) -> str:
        return _ADVICE[self]


_ADVICE = {
    Status.SOLVED: "the residual is below the tolerance",
    Status.MAX_ITERATIONS: "CG stopped at max_iter above its tolerance: raise max_iter, tolerance or damping",
    Status.NEGATIVE_CURVATURE: "CG met negative curvature: the curvature matrix must be positive semi-definite",
    Status.FAILED_FACTORIZATION: "a factor was not positive definite, so the gradient was used: raise damping or use "
    "float64",
}


class Direction(NamedTuple):
    """A direction in a weight, as the product ``left @ right`` ([O, r], [r, I]) or, without ``left``, dense [O, I]."""

    left: Tensor | None
    right: Tensor

    def add_to(self, weight: Tensor, scale: float) -> None:
        """``weight += scale * left @ right`` in place, without forming the product."""
        if self.left is None:
            weight.add_(self.right, alpha=scale)
        else:
            weight.addmm_(self.left, self.right, alpha=scale)

    def dense(self) -> Tensor:
        """The direction as an [O, I] matrix, for tests and small nets."""
        return self.right if self.left is None else self.left @ self.right


@dataclass(frozen=True)
class Solution:
    """Descent directions of L layers, and how the solves went; in the last three, columns are weight and bias.

    ``weights``: L directions. ``biases``: L tensors [O]. ``iterations`` [L, 2]: CG iterations, 0 for a direct solve.
    ``residual`` [L, 2]: ||r|| / ||r_0||, NaN for a direct solve. ``status`` [L, 2]: values of :class:`Status`.
    """

    weights: list[Direction]
    biases: list[Tensor]
    iterations: Tensor
    residual: Tensor
    status: Tensor


def ea_cg(
    layers: Sequence[Layer],
    factors: Sequence[Tensor],
    damping: float = 0.01,
    max_iter: int = 10,
    tolerance: float = 1e-2,
) -> Solution:
    """EA-CG, Eqs. (9)-(11): CG on ((1 - alpha) H + alpha I) d = -grad.

    H P = G P hbar hbar^T for a weight, and H = G for a bias. The iterates are those of CG on [O, I] matrices, at the
    cost of one product with G an iteration: with u = hbar/||hbar|| and grad_perp = grad - (grad u) u^T, the Krylov
    space lies in { v u^T + c grad_perp/||grad_perp|| }, so an iterate is the vector (v, c) in R^{O+1}, inner products
    are those of vectors, and the operator maps (v, c) to ((1 - alpha) ||hbar||^2 G v + alpha v, alpha c). All layers,
    weights and biases alike, run in step as rows of one tensor.

    Args:
        damping: alpha, Eq. (9), in (0, 1).
        max_iter: at most so many iterations.
        tolerance: epsilon; stop when ||r|| <= epsilon ||r_0||.
    """
    lengths = [layer.delta.shape[1] for layer in layers]
    # rows: (layer, weight or bias); columns: v, then c, zeros behind
    right = layers[0].delta.new_zeros(len(layers), 2, max(lengths) + 1)
    scales = right.new_empty(len(layers), 2, 1)
    in_mean = []  # (grad u, h u / ||hbar||) of each layer
    for row, layer in enumerate(layers):
        squared_mean = torch.dot(layer.mean_input, layer.mean_input)
        norm = squared_mean.sqrt().clamp_min(torch.finfo(right.dtype).tiny)
        along_mean = layer.delta.T @ (layer.input @ (layer.mean_input / norm)) / layer.batch  # grad u
        perpendicular = (layer.squared_gradient_norm - torch.dot(along_mean, along_mean)).clamp_min(0).sqrt()
        right[row, 0, : lengths[row]] = -along_mean
        right[row, 0, lengths[row]] = -perpendicular
        right[row, 1, : lengths[row]] = -layer.bias_gradient
        scales[row, 0] = (1 - damping) * squared_mean
        scales[row, 1] = 1 - damping
        in_mean.append((along_mean, norm, perpendicular))

    def operator(p: Tensor) -> Tensor:
        q, scaled = damping * p, scales * p
        for row, (length, G) in enumerate(zip(lengths, factors, strict=True)):
            q[row, :, :length].addmm_(scaled[row, :, :length], G)
        return q

    x, iterations, residual, broken = conjugate_gradient(operator, right, max_iter, tolerance)

    weights = []
    for row, (layer, (along_mean, norm, perpendicular)) in enumerate(zip(layers, in_mean, strict=True)):
        v, c = x[row, 0, : lengths[row]], x[row, 0, lengths[row]]
        # d = v u^T + c grad_perp / ||grad_perp|| = share * grad + rest u^T
        share = torch.where(perpendicular > 0, c / perpendicular, 0)
        rest = v - share * along_mean
        if layer.prefers_factors:  # u^T = sum_b h_b^T / (B ||hbar||), so rest u^T is a product with h as well
            left = (share * layer.delta + rest / norm).T / layer.batch
            weights.append(Direction(left, layer.input))
        else:
            weights.append(Direction(None, torch.addr(share * layer.weight_gradient, rest, layer.mean_input / norm)))
    status = torch.where(
        broken, Status.NEGATIVE_CURVATURE, torch.where(residual > tolerance, Status.MAX_ITERATIONS, Status.SOLVED)
    )
    biases = [x[row, 1, :length] for row, length in enumerate(lengths)]
    return Solution(weights, biases, iterations, residual, status)


def kfi(layers: Sequence[Layer], factors: Sequence[Tensor], damping: float = 0.01, inverse: str = "exact") -> Solution:
    """The Kronecker-factored inverse, Eq. (12): d = -(G + sqrt(alpha)/pi I)^-1 grad (E[h h^T] + pi sqrt(alpha) I)^-1.

    pi^2 = (tr E[h h^T] / I) / (tr G / O); for biases d = -(G + alpha I)^-1 grad b. A layer whose factorization fails
    goes along its negative gradient.

    Args:
        damping: alpha, in (0, 1).
        inverse: how the right factor is inverted: ``factor`` forms E[h h^T] as the paper does; ``gram`` gets the same
            direction from the B x B matrix h h^T; ``exact`` takes the cheaper of the two for a layer; ``rank_one``
            puts hbar hbar^T for E[h h^T], Eq. (13); ``auto`` is the paper's way: ``factor``, and ``rank_one`` for a
            layer whose factor does not fit into memory.
    """
    weights, biases, status = [], [], []
    for layer, G in zip(layers, factors, strict=True):
        weight, weight_info = INVERSES[inverse](layer, G, damping)
        bias, bias_info = solve_damped(G, damping, layer.bias_gradient.neg().unsqueeze(1))
        weights.append(weight)
        biases.append(bias.squeeze(1))
        status += [weight_info, bias_info]
    failed = torch.stack(status).view(-1, 2) != 0
    return Solution(
        weights,
        biases,
        torch.zeros_like(failed, dtype=torch.int64),
        torch.full_like(failed, math.nan, dtype=layers[0].delta.dtype),
        torch.where(failed, Status.FAILED_FACTORIZATION, Status.SOLVED),
    )


_Inverse = Callable[[Layer, Tensor, float], tuple[Direction, Tensor]]


def _factor(layer: Layer, G: Tensor, damping: float) -> tuple[Direction, Tensor]:
    """Eq. (12) as it stands, with the I x I factor."""
    left, right = _dampings(layer, G, damping)
    A = (layer.input / layer.batch).T @ layer.input
    half, left_info = solve_damped(G, left, layer.weight_gradient)
    whole, right_info = solve_damped(A, right, half.T)
    info = left_info + right_info
    return Direction(None, torch.where(info == 0, whole.T, layer.weight_gradient).neg_()), info


def _gram(layer: Layer, G: Tensor, damping: float) -> tuple[Direction, Tensor]:
    """Eq. (12) by push-through: grad (E[h h^T] + lam I)^-1 = delta^T (h h^T + B lam I)^-1 h."""
    left, right = _dampings(layer, G, damping)
    rows, right_info = solve_damped(layer.input_gram, right * layer.batch, layer.delta)
    return _preconditioned(layer, G, left, rows * layer.batch, right_info)


def _rank_one(layer: Layer, G: Tensor, damping: float) -> tuple[Direction, Tensor]:
    """Eq. (13), (hbar hbar^T + lam I)^-1 for the right factor, by the Sherman-Morrison formula.

    (hbar hbar^T + lam I)^-1 = (I - hbar hbar^T / (lam + ||hbar||^2)) / lam, and hbar^T is the mean of the rows of h.
    """
    left, right = _dampings(layer, G, damping)
    hbar = layer.mean_input
    shrink = (layer.delta.T @ (layer.input @ hbar)) / layer.batch / (right + torch.dot(hbar, hbar))
    return _preconditioned(layer, G, left, (layer.delta - shrink) / right, torch.zeros_like(right, dtype=torch.int32))


def _exact(layer: Layer, G: Tensor, damping: float) -> tuple[Direction, Tensor]:
    return (_gram if layer.batch < layer.input.shape[1] else _factor)(layer, G, damping)


def _auto(layer: Layer, G: Tensor, damping: float) -> tuple[Direction, Tensor]:
    try:
        return _factor(layer, G, damping)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    warnings.warn(
        f"the {layer.input.shape[1]} x {layer.input.shape[1]} factor of KFI does not fit into memory: falling back to "
        "rank_one, Eq. (13); inverse='exact' gives the exact direction in less memory",
        stacklevel=2,
    )
    return _rank_one(layer, G, damping)


INVERSES: dict[str, _Inverse] = {
    "exact": _exact,
    "factor": _factor,
    "gram": _gram,
    "rank_one": _rank_one,
    "auto": _auto,
}


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch refused an allocation, on a GPU or on a CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def _dampings(layer: Layer, G: Tensor, damping: float) -> tuple[Tensor, Tensor]:
    """sqrt(alpha)/pi for G and pi sqrt(alpha) for E[h h^T], scalars."""
    tiny = torch.finfo(G.dtype).tiny
    mean_input = layer.input.square().mean().clamp_min(tiny)  # tr E[h h^T] / I
    mean_delta = G.diagonal().mean().clamp_min(tiny)  # tr G / O
    pi = (mean_input / mean_delta).sqrt()
    return math.sqrt(damping) / pi, math.sqrt(damping) * pi


def _preconditioned(
    layer: Layer, G: Tensor, damping: Tensor, rows: Tensor, right_info: Tensor
) -> tuple[Direction, Tensor]:
    """-(G + damping I)^-1 rows^T h / B, or the negative gradient where a factorization failed; ``rows`` is [B, O]."""
    left, left_info = solve_damped(G, damping, rows.T)
    info = left_info + right_info
    return Direction(torch.where(info == 0, left, layer.delta.T).div_(-layer.batch), layer.input), info


SOLVERS: dict[str, Callable[..., Solution]] = {"kfi": kfi, "ea_cg": ea_cg}
