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

import torch
from jaxtyping import Float, Int
from torch import Tensor

from optimizers.core.solvers.cholesky import solve_damped
from optimizers.core.solvers.solution import Direction, Solution, Status
from optimizers.core.streams import side_by_side
from optimizers.core.symmetric import gram
from optimizers.core.tape import Layer

_ROUNDINGS = 32  # a damping below so many roundings of the trace of its matrix is lost


def kfi(
    layers: Sequence[Layer],
    factors: Sequence[Float[Tensor, "_O _O"]],
    damping: float = 0.01,
    inverse: str = "exact",
) -> Solution:
    """The Kronecker-factored inverse, Eq. (12): d = -(G + sqrt(alpha)/pi I)^-1 grad (E[h h^T] + pi sqrt(alpha) I)^-1.

    pi^2 = (tr E[h h^T] / I) / (tr G / O). Biases: d = -(G + alpha I)^-1 grad b. If a factorization fails, the layer
    takes its negative gradient.

    Args:
        damping: alpha, in (0, 1).
        inverse: how the right factor is inverted. ``factor`` forms E[h h^T], as the paper does. ``gram`` gets the same
            direction from the B x B matrix h h^T. ``exact`` takes the cheaper of the two for each layer. ``rank_one``
            replaces E[h h^T] by hbar hbar^T, Eq. (13). ``auto`` is the paper's way: ``factor``, and ``rank_one`` for a
            layer whose factor does not fit into memory.
    """
    works = [partial(_layer, layer, G, damping, INVERSES[inverse]) for layer, G in zip(layers, factors, strict=True)]
    weights, biases, infos, numbers = zip(*side_by_side(works, layers[0].delta.device), strict=True)
    failed, numbers = torch.stack(infos) != 0, torch.stack(numbers)
    input_trace, G_trace, pi, sums = *numbers[:, :3].unbind(1), numbers[:, 3:]
    rounding = _ROUNDINGS * torch.finfo(sums.dtype).eps
    of_weight = torch.maximum(input_trace / pi, G_trace * pi) / math.sqrt(damping)
    lost = torch.stack([of_weight, G_trace / damping], dim=1) > 1 / rounding
    status = torch.where(lost, Status.ILL_CONDITIONED, Status.SOLVED)
    status = torch.where(failed, Status.FAILED_FACTORIZATION, status)
    finite = (sums * (pi / pi).unsqueeze(1)).isfinite()  # pi / pi is NaN where pi is 0 or infinite
    return Solution(
        list(weights),
        list(biases),
        torch.zeros_like(failed, dtype=torch.int64),
        torch.full_like(sums, math.nan),
        torch.where(finite, status, Status.NOT_FINITE),
        pi=pi,
    )


# grad (E[h h^T] + lam I)^-1, and the ``info`` of its factorization
_Half = tuple[Direction, Int[Tensor, ""]]
_Inverse = Callable[[Layer, Float[Tensor, ""]], _Half]


def _layer(
    layer: Layer, G: Float[Tensor, "{layer.outputs} {layer.outputs}"], damping: float, inverse: _Inverse
) -> tuple[Direction, Float[Tensor, " {layer.outputs}"], Int[Tensor, " 2"], Float[Tensor, " 5"]]:
    """Directions in weight and bias, the ``info`` of their factorizations, and five numbers: tr E[h h^T], tr G, pi,
    and the sum of the entries of each direction."""
    input_trace, G_trace = _traces(layer, G)
    pi = _pi(layer, input_trace, G_trace)
    left, right = math.sqrt(damping) / pi, math.sqrt(damping) * pi
    half, half_info = inverse(layer, right)
    is_dense = half.left is None
    # deviates: biases are solved with (G + alpha I)^-1; the paper states Eq. (12) for weights alone
    sides = (left, half.right if half.left is None else half.left), (damping, layer.bias_gradient.unsqueeze(1))
    (whole, whole_info), (bias, bias_info) = solve_damped(G, *sides)
    info = half_info + whole_info
    gradient = layer.weight_gradient if is_dense else layer.delta.T / layer.batch
    direction = torch.where(info == 0, whole, gradient).neg_()
    bias_direction = torch.where(bias_info == 0, bias.squeeze(1), layer.bias_gradient).neg_()
    return (
        Direction(None, direction) if is_dense else Direction(direction, half.right),
        bias_direction,
        torch.stack([info, bias_info]),
        torch.stack([input_trace, G_trace, pi, direction.sum(), bias_direction.sum()]),
    )


def _factor(layer: Layer, lam: Float[Tensor, ""]) -> _Half:
    """With the I x I factor, as written."""
    ((half, info),) = solve_damped(gram(layer.input.T, 1 / layer.batch), (lam, layer.weight_gradient.T))
    return Direction(None, half.T), info


def _gram(layer: Layer, lam: Float[Tensor, ""]) -> _Half:
    """By push-through: grad (E[h h^T] + lam I)^-1 = delta^T (h h^T + B lam I)^-1 h."""
    ((rows, info),) = solve_damped(layer.input_gram, (lam * layer.batch, layer.delta))
    return Direction(rows.T, layer.input), info


def _rank_one(layer: Layer, lam: Float[Tensor, ""]) -> _Half:
    """Eq. (13), hbar hbar^T for E[h h^T], by the Sherman-Morrison formula.

    (hbar hbar^T + lam I)^-1 = (I - hbar hbar^T / (lam + ||hbar||^2)) / lam, and hbar^T is the mean of the rows of h.
    """
    # deviates: pi is that of the other forms, from tr E[h h^T]; the paper does not say which
    hbar = layer.mean_input
    shrink = (layer.delta.T @ (layer.input @ hbar)) / layer.batch / (lam + torch.dot(hbar, hbar))
    rows = (layer.delta - shrink) / (lam * layer.batch)
    return Direction(rows.T, layer.input), torch.zeros_like(lam, dtype=torch.int32)


def exact_form(batch: int, inputs: int) -> str:
    """The form that ``exact`` takes for a layer: the one with the smaller matrix."""
    return "gram" if batch < inputs else "factor"


def _exact(layer: Layer, lam: Float[Tensor, ""]) -> _Half:
    # deviates: the paper always forms the I x I factor; the direction is the same
    return INVERSES[exact_form(layer.batch, layer.inputs)](layer, lam)


def _auto(layer: Layer, lam: Float[Tensor, ""]) -> _Half:
    try:
        return _factor(layer, lam)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    warnings.warn(
        f"the {layer.inputs} x {layer.inputs} factor of KFI does not fit into memory: falling back to "
        "rank_one, Eq. (13); inverse='exact' gives the exact direction in less memory",
        stacklevel=2,
    )
    return _rank_one(layer, lam)


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


def _traces(layer: Layer, G: Float[Tensor, "O O"]) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """tr E[h h^T] and tr G."""
    h = layer.input.flatten()
    return torch.dot(h, h) / layer.batch, G.trace()


def _pi(layer: Layer, input_trace: Float[Tensor, ""], G_trace: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """pi^2 = (tr E[h h^T] / I) / (tr G / O): G is damped by sqrt(alpha)/pi, E[h h^T] by pi sqrt(alpha)."""
    tiny = torch.finfo(G_trace.dtype).tiny
    return ((input_trace / layer.inputs).clamp_min(tiny) / (G_trace / layer.outputs).clamp_min(tiny)).sqrt()
