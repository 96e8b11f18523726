"""EA-CG with the full factor, Eq. (11a). Eq. (11b) is its approximation of rank one.

symbol             name          shape
G                  G             [O, O]   an operator
E[h h^T]           A             [I, I]   an operator as well: the Gram matrix of the rows of h
x                  x             [b, a]   coordinates of a matrix P: P^T = R^T x L
alpha              damping

R = h, with b = B, where B < I; else R = I. L = delta, with a = B, where G is the Gram matrix of these rows and B < O;
else L = I. These reach the Krylov space of the gradient, which is delta^T h / B.
"""

from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from optimizers.core.operators import Dense, Gram, Operator
from optimizers.core.product import Product
from optimizers.core.solvers.cg import Multiply, conjugate_gradient, status_of
from optimizers.core.solvers.solution import Solution
from optimizers.core.streams import side_by_side
from optimizers.core.tape import Layer

_Rows = Float[Tensor, "2 n"]  # b a coordinates of the weight; a of the bias, zeros behind


def full_factor(
    layers: Sequence[Layer], curvature: Sequence[Operator], damping: float, max_iter: int, tolerance: float
) -> Solution:
    """CG on ((1 - alpha) H + alpha I) d = -grad with H P = G P E[h h^T] for a weight and H = G for a bias.

    The iterates are those of CG on [O, I] matrices. An iteration costs one product with G and one with E[h h^T], or
    with what stands for them in the space of the batch. Each layer is solved by itself, its weight and bias at once.
    """
    works = [partial(_layer, *one, damping, max_iter, tolerance) for one in zip(layers, curvature, strict=True)]
    solved = side_by_side(works, layers[0].delta.device)
    return Solution(
        [direction for one in solved for direction in one.weights],
        [direction for one in solved for direction in one.biases],
        torch.cat([one.iterations for one in solved]),
        torch.cat([one.residual for one in solved]),
        torch.cat([one.status for one in solved]),
        tuple(slice(t, t + 1) for t in range(len(solved))),
        tuple(operations for one in solved for operations in one.operations),
    )


def _layer(layer: Layer, G: Operator, damping: float, max_iter: int, tolerance: float) -> Solution:
    """The solution of one layer.

    The inner product of matrices is that of x with R R^T x L L^T. In the space of the batch, R R^T and L L^T are B
    times what stands for E[h h^T] and G. So an iteration multiplies by each of these once, whatever the spaces: in the
    inner product where it is in the space of the batch, in the operator where it is not.
    """
    delta, A = layer.delta, Gram(layer.input)
    of_delta, of_input = isinstance(G, Gram) and G.is_in_batch and G.rows is delta, A.is_in_batch
    left = Dense(G.core() if of_delta else G.dense()) if isinstance(G, Gram) else G
    right = Dense(A.core())
    deltas = torch.eye(len(delta), dtype=delta.dtype, device=delta.device) if of_delta else delta
    a, b = left.size, right.size

    def used(rows: _Rows) -> Float[Tensor, "m a"]:
        return rows.view(-1, a)[: b + 1]

    def times(left: Operator | None, right: Dense | None, rows: _Rows, out: _Rows) -> _Rows:
        """What stands for G and for E[h h^T], or the identity, on both sides; for the bias, that of G alone."""
        found = used(out).copy_(left.product(used(rows)) if left else used(rows))
        if right:
            found[:b] = right.matrix @ found[:b]
        return out

    metric = partial(times, left if of_delta else None, right if of_input else None)
    remaining = partial(times, None if of_delta else left, None if of_input else right)

    def operator(p: _Rows, Mp: _Rows, q: _Rows) -> Multiply:
        return lambda active: remaining(Mp, q).mul_(1 - damping).add_(p, alpha=damping)

    start = delta.new_zeros(2, b * a)
    if of_input or of_delta:
        used(start)[:b] = (deltas if of_input else layer.input.T) / -layer.batch
    else:
        used(start)[:b] = -layer.weight_gradient.T
    used(start)[b] = -deltas.mean(0)
    found, iterations, residual, broken = conjugate_gradient(
        operator, start, max_iter, tolerance, metric if of_delta or of_input else None
    )
    rows = used(found) @ delta if of_delta else used(found).clone()  # without the zeros
    return Solution(
        [Product(rows[:b].T, layer.input) if of_input else Product(None, rows[:b].T)],
        [rows[b]],
        iterations.unsqueeze(0),
        residual.unsqueeze(0),
        status_of(residual, tolerance, broken, found.sum(-1)).unsqueeze(0),
        operations=(left.operations(b + 1) + right.operations(a) + 8 * a * b,),  # two inner products of two
    )
