"""KFI: the Kronecker-factored inverse, Eqs. (12) and (13), in its forms.

symbol                   name             shape
G                        G                [O, O]
h^{t-1}                  layer.input      [B, I]
E[h h^T]                 A                [I, I]
hbar = E[h]              mean_input       [I]
delta^t                  layer.delta      [B, O]
alpha                    damping
lam = pi sqrt(alpha)     right            scalar; sqrt(alpha)/pi is left
"""

import math
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor

from optimizers.core.cholesky import solve_damped
from optimizers.core.solution import Direction, Solution, Status
from optimizers.core.streams import side_by_side
from optimizers.core.symmetric import gram
from optimizers.core.tape import Layer


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
    pairs = list(zip(layers, factors, strict=True))
    for_weights = [partial(INVERSES[inverse], layer, G, damping) for layer, G in pairs]
    for_biases = [partial(_bias, layer, G, damping) for layer, G in pairs]
    solved = side_by_side([*for_weights, *for_biases], layers[0].delta.device)
    directions, infos = zip(*solved, strict=True)
    failed = torch.stack(infos).view(2, -1).T != 0
    return Solution(
        cast(list[Direction], list(directions[: len(layers)])),
        cast(list[Tensor], list(directions[len(layers) :])),
        torch.zeros_like(failed, dtype=torch.int64),
        torch.full_like(failed, math.nan, dtype=layers[0].delta.dtype),
        torch.where(failed, Status.FAILED_FACTORIZATION, Status.SOLVED),
    )


_Inverse = Callable[[Layer, Tensor, float], tuple[Direction, Tensor]]


def _bias(layer: Layer, G: Tensor, damping: float) -> tuple[Tensor, Tensor]:
    """-(G + damping I)^-1 grad b, or the negative gradient where the factorization failed."""
    solution, info = solve_damped(G, damping, layer.bias_gradient.unsqueeze(1))
    return torch.where(info == 0, solution.squeeze(1), layer.bias_gradient).neg_(), info


def _factor(layer: Layer, G: Tensor, damping: float) -> tuple[Direction, Tensor]:
    """Eq. (12) as it stands, with the I x I factor."""
    left, right = _dampings(layer, G, damping)
    A = gram(layer.input.T, 1 / layer.batch)
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
    h = layer.input.flatten()
    mean_input = (torch.dot(h, h) / len(h)).clamp_min(tiny)  # tr E[h h^T] / I
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
