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
from jaxtyping import Bool, Float
from torch import Tensor

from optimizers.core.operators import Operator, cheapest, stacked
from optimizers.core.product import Product
from optimizers.core.solvers.cg import conjugate_gradient
from optimizers.core.solvers.solution import Solution, Status
from optimizers.core.streams import side_by_side
from optimizers.core.tape import Layer


def ea_cg(
    layers: Sequence[Layer],
    curvature: Sequence[Operator],
    damping: float = 0.01,
    max_iter: int = 10,
    tolerance: float = 1e-2,
) -> Solution:
    """EA-CG, Eqs. (9)-(11): CG on ((1 - alpha) H + alpha I) d = -grad.

    H P = G P hbar hbar^T for a weight, and H = G for a bias. The iterates are those of CG on [O, I] matrices, but an
    iteration costs one product with G. Let u = hbar/||hbar|| and grad_perp = grad - (grad u) u^T. The Krylov space lies
    in { v u^T + c grad_perp/||grad_perp|| }, so an iterate is a vector (c, v) in R^{1+O}. Inner products are those of
    vectors, and the operator maps (c, v) to (alpha c, (1 - alpha) ||hbar||^2 G v + alpha v). The weights and biases of
    all layers are rows of one tensor and are solved at once.

    Args:
        damping: alpha, Eq. (9), in (0, 1).
        max_iter: the most iterations.
        tolerance: epsilon; stop when ||r|| <= epsilon ||r_0||.
    """
    lengths = [layer.outputs for layer in layers]
    # rows: (layer, weight or bias); columns: c, then v, zeros behind
    right = layers[0].delta.new_zeros(len(layers), 2, 1 + max(lengths))
    moments = side_by_side([partial(_moments, layer) for layer in layers], right.device)
    for row, (layer, length, (along_mean, _)) in enumerate(zip(layers, lengths, moments, strict=True)):
        right[row, 0, 1 : 1 + length] = along_mean
        right[row, 1, 1 : 1 + length] = layer.bias_gradient
    batch = layers[0].batch
    squared_mean, gradient_norm = torch.stack([norms for _, norms in moments], dim=1).unsqueeze(2)  # [L, 1]
    norm = squared_mean.sqrt().clamp_min(torch.finfo(right.dtype).tiny)  # ||hbar||
    along_mean = right[:, 0, 1:].div_(batch * norm)  # grad u
    share_along = (along_mean / gradient_norm.clamp_min(torch.finfo(right.dtype).tiny)).square().sum(1, keepdim=True)
    perpendicular = gradient_norm * (1 - share_along).clamp_min(0).sqrt()  # ||grad_perp||
    right[:, 0, :1] = perpendicular
    scales = (1 - damping) * torch.stack([squared_mean, torch.ones_like(squared_mean)], dim=1)

    by_rows = stacked([cheapest(G, products=2 * max_iter) for G in curvature])

    def operator(p: Float[Tensor, "L 2 n"], active: Bool[Tensor, "L 2"]) -> Float[Tensor, "L 2 n"]:
        q = damping * p
        for rows, G in by_rows:
            if active.device.type == "cpu" and not active[rows].any():
                continue
            columns = slice(1, 1 + G.size)
            q[rows, :, columns].addcmul_(G.product(p[rows, :, columns]), scales[rows])
        return q

    # deviates: in coordinates of the Krylov space, where the paper works on [O, I] matrices; the iterates are the same
    x, iterations, residual, broken = conjugate_gradient(operator, -right, max_iter, tolerance)

    # d = v u^T + c grad_perp / ||grad_perp|| = share grad + rest hbar^T
    share = torch.where(perpendicular > 0, x[:, 0, :1] / perpendicular, 0)
    rest = (x[:, 0, 1:] - share * along_mean) / norm
    weights = []
    for row, (layer, length) in enumerate(zip(layers, lengths, strict=True)):
        if layer.prefers_factors:  # hbar^T is the mean of the rows of h, so rest hbar^T is a product with h as well
            left = torch.addcmul(rest[row, :length], share[row], layer.delta).div_(batch)
            weights.append(Product(left.T, layer.input))
        else:
            dense = (share[row] * layer.weight_gradient).addr_(rest[row, :length], layer.mean_input)
            weights.append(Product(None, dense))
    biases = [x[row, 1, 1 : 1 + length] for row, length in enumerate(lengths)]
    status = torch.where(residual > tolerance, Status.MAX_ITERATIONS, Status.SOLVED)
    status = torch.where(broken, Status.NEGATIVE_CURVATURE, status)
    finite = (residual + x.sum(-1)).isfinite()
    finite[:, 0] &= rest.sum(-1).isfinite()
    status = torch.where(finite, status, Status.NOT_FINITE)
    return Solution(weights, biases, iterations, residual, status, tuple(rows for rows, _ in by_rows))


def _moments(layer: Layer) -> tuple[Float[Tensor, " O"], Float[Tensor, " 2"]]:
    """B ||hbar|| grad u; ||hbar||^2 and ||grad||."""
    squared_mean = torch.dot(layer.mean_input, layer.mean_input)
    along_mean = layer.delta.T @ (layer.input @ layer.mean_input)
    return along_mean, torch.stack([squared_mean, layer.gradient_norm])
