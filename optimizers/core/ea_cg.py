"""EA-CG: conjugate gradients under the expectation approximation, Eqs. (9)-(11).

symbol             name             shape
G                  G                [O, O]
hbar = E[h]        mean_input       [I]
u                  hbar / ||hbar||  [I]
alpha              damping
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from optimizers.core.cg import conjugate_gradient
from optimizers.core.solution import Direction, Solution, Status
from optimizers.core.tape import Layer


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
