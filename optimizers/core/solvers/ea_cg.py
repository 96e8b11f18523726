"""EA-CG: conjugate gradients under the expectation approximation, Eqs. (9)-(11).

symbol             name             shape
G                  G                [O, O]   an operator
hbar = E[h]        mean_input       [I]
u                  hbar / ||hbar||  [I]
alpha              damping
"""

from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from optimizers.core.operators import Operator, cheapest, stacked
from optimizers.core.product import Product, RankOneUpdate
from optimizers.core.solvers.cg import Multiply, conjugate_gradient, status_of
from optimizers.core.solvers.full_factor import full_factor
from optimizers.core.solvers.solution import Solution
from optimizers.core.streams import side_by_side
from optimizers.core.tape import Layer

_Rows = Float[Tensor, "L 2 n"]
FACTORS = ("rank_one", "full")


def ea_cg(
    layers: Sequence[Layer],
    curvature: Sequence[Operator],
    damping: float = 0.01,
    max_iter: int = 10,
    tolerance: float = 1e-2,
    factor: str = "rank_one",
) -> Solution:
    """EA-CG, Eqs. (9)-(11): CG on ((1 - alpha) H + alpha I) d = -grad.

    H = G for a bias, and H P = G P hbar hbar^T for a weight. The iterates are those of CG on [O, I] matrices, but an
    iteration costs one product with G. Let u = hbar/||hbar|| and grad_perp = grad - (grad u) u^T. The Krylov space lies
    in { v u^T + c grad_perp/||grad_perp|| }, so an iterate is a vector (c, v) in R^{1+O}. Inner products are those of
    vectors, and the operator maps (c, v) to (alpha c, (1 - alpha) ||hbar||^2 G v + alpha v). The weights and biases of
    all layers are rows of one tensor and are solved at once.

    Args:
        damping: alpha, Eq. (9), in (0, 1).
        max_iter: the most iterations.
        tolerance: epsilon; stop when ||r|| <= epsilon ||r_0||.
        factor: ``rank_one`` is the above, Eq. (11b). ``full`` is H P = G P E[h h^T], Eq. (11a), which Eq. (11b)
            approximates; see :func:`optimizers.core.solvers.full_factor.full_factor`.
    """
    if factor == "full":
        return full_factor(layers, curvature, damping, max_iter, tolerance)
    lengths = [layer.outputs for layer in layers]
    # rows: (layer, weight or bias); columns: c, then v, zeros behind
    right = layers[0].delta.new_zeros(len(layers), 2, 1 + max(lengths))
    works = [partial(_moments, layer, rows) for layer, rows in zip(layers, right, strict=True)]
    gradient_norm = torch.stack(side_by_side(works, right.device)).unsqueeze(1)
    tiny = torch.finfo(right.dtype).tiny
    squared_mean = torch.stack([torch.dot(layer.mean_input, layer.mean_input) for layer in layers]).unsqueeze(1)
    norm = squared_mean.sqrt().clamp_min_(tiny)  # ||hbar||
    along_mean = right[:, 0, 1:].div_(norm)  # grad u
    share_along = (along_mean / gradient_norm.clamp_min(tiny)).square_().sum(1, keepdim=True)
    perpendicular = gradient_norm * (1 - share_along).clamp_min_(0).sqrt_()  # ||grad_perp||
    right[:, 0, :1] = perpendicular
    scales = torch.stack([squared_mean, torch.ones_like(squared_mean)], dim=1).mul_(1 - damping)

    by_rows = stacked([cheapest(G, products=2 * max_iter) for G in curvature])
    operator = partial(_operator, by_rows, scales, damping)
    # deviates: in coordinates of the Krylov space, where the paper works on [O, I] matrices; the iterates are the same
    x, iterations, residual, broken = conjugate_gradient(operator, right.neg(), max_iter, tolerance)

    # d = v u^T + c grad_perp / ||grad_perp|| = share grad + rest hbar^T
    share = x[:, 0, :1] / perpendicular.masked_fill(perpendicular == 0, torch.inf)
    rest = torch.addcmul(x[:, 0, 1:], share, along_mean, value=-1).div_(norm)
    weights = []
    for layer, length, of_gradient, of_mean in zip(layers, lengths, share, rest, strict=True):
        of_mean = of_mean[:length]
        if layer.prefers_factors:  # hbar^T is the mean of the rows of h, so rest hbar^T is a product with h as well
            left = torch.addcmul(of_mean, of_gradient, layer.delta).div_(layer.batch)
            weights.append(Product(left.T, layer.input))
        else:
            weights.append(RankOneUpdate(of_gradient, layer.weight_gradient, of_mean, layer.mean_input))
    biases = [row[1, 1 : 1 + length] for row, length in zip(x, lengths, strict=True)]
    total = x.sum(-1)
    total[:, 0] += rest.sum(-1)
    status = status_of(residual, tolerance, broken, total)
    blocks, operations = zip(*((rows, G.operations(rows=2)) for rows, G in by_rows), strict=True)
    return Solution(weights, biases, iterations, residual, status, blocks, operations)


def _moments(layer: Layer, rows: Float[Tensor, "2 n"]) -> Float[Tensor, ""]:
    """||grad||; into ``rows`` go ||hbar|| grad u and the gradient of the bias."""
    along_mean, bias = rows[:, 1 : 1 + layer.outputs]
    if layer.prefers_factors:
        along_mean.addmv_(layer.delta.T, layer.input @ layer.mean_input, beta=0, alpha=1 / layer.batch)
    else:
        torch.mv(layer.weight_gradient, layer.mean_input, out=along_mean)
    bias.copy_(layer.bias_gradient)
    return layer.gradient_norm


def _operator(
    by_rows: Sequence[tuple[slice, Operator]],
    scales: Float[Tensor, "L 2 1"],
    damping: float,
    p: _Rows,
    _: _Rows,
    q: _Rows,
) -> Multiply:
    """What writes (alpha c, scale G v + alpha v) to q for p = (c, v)."""
    alpha = p.new_full((), damping)
    parts = [(rows, G, *(one[rows, :, 1 : 1 + G.size] for one in (p, q)), scales[rows]) for rows, G in by_rows]

    def multiply(active: list[bool] | None) -> None:
        torch.mul(p, alpha, out=q)
        for rows, G, v, Gv, scale in parts:
            if active is None or any(active[2 * rows.start : 2 * rows.stop]):
                Gv.addcmul_(G.product(v), scale)

    return multiply
