"""KFI of several layers together on a CPU, where a small batch is the cheaper space for both sides of each.

symbol                            name         shape
delta delta^T / B, h h^T / B      systems      [c, L, B, B]  c = 3: once more for the biases; c = 2 if they are joint
(. + left I)^-1 (. + right I)^-1  core         [L, B, B]
(. + alpha I)^-1 1 / B            of_bias      [L, B, 1]

By push-through on both sides Eq. (12) is d = -delta^T core h / B, and d = -delta^T of_bias for a bias. All that is
B x B takes one call for all layers, since there the calls take the time. A layer by itself has only its products with
delta and h.
"""

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from optimizers.core.cholesky import Damping
from optimizers.core.operators import Gram, Operator
from optimizers.core.product import Product
from optimizers.core.solvers.solution import Solution
from optimizers.core.solvers.split import split
from optimizers.core.tape import Layer

SMALL = 128


def suits(batch: int, gpu: bool, G: Operator, A: Operator) -> bool:
    """Whether a layer is solved together with others: on a CPU, where a factorization takes no longer than its call."""
    if gpu or batch > SMALL:
        return False
    return isinstance(G, Gram) and G.is_in_batch and type(A) is Gram and A.is_in_batch


def solve(
    layers: Sequence[Layer], curvature: Sequence[Operator], inputs: Sequence[Operator], damping: Damping, joint: bool
) -> Solution:
    """The directions of some layers.

    Args:
        curvature: G, the Gram matrix of delta.
        inputs: A, that of h, or of (h, 1) if biases are ``joint``.
    """
    count, B = len(layers), layers[0].batch
    systems = layers[0].delta.new_empty(2 if joint else 3, count, B, B)
    _fill(systems[-2:], [*curvature, *inputs])
    traces = systems[-2:].diagonal(dim1=2, dim2=3).sum(-1)
    sizes = [[one.size for one in operators] for operators in (curvature, inputs)]
    shares = split(damping, traces, traces / traces.new_tensor(sizes))
    dampings = [shares.left, shares.right]
    if not joint:
        systems[0] = systems[1]
        dampings.insert(0, torch.zeros_like(shares.left) + damping)
    systems.diagonal(dim1=2, dim2=3).add_(torch.stack(dampings).unsqueeze(-1))
    systems = systems.mT  # column-major, as LAPACK wants it, in place
    info = systems.new_empty(systems.shape[:2], dtype=torch.int32)
    failed = torch.linalg.cholesky_ex(systems, out=(systems, info)).info != 0
    of_bias = None
    if not joint:
        # deviates: biases are solved with (G + alpha I)^-1; the paper states Eq. (12) for weights alone
        of_bias = torch.cholesky_solve(systems.new_full((count, B, 1), 1 / B), systems[0])
        of_bias.masked_fill_(failed[0].view(-1, 1, 1), 1 / B).neg_()  # the gradient, where it failed
    # cholesky_inverse raises at a pivot of 0
    systems[-2:].diagonal(dim1=2, dim2=3).masked_fill_(failed[-2:].unsqueeze(-1), 1)
    core = torch.bmm(*torch.cholesky_inverse(systems[-2:], out=systems[-2:]))
    del systems
    of_weight = failed[-2] | failed[-1]
    core.masked_fill_(of_weight[:, None, None], 0).diagonal(dim1=1, dim2=2).masked_fill_(of_weight[:, None], 1)
    core.div_(-B)
    weights, biases, sums = [], [], []
    for number, layer in enumerate(layers):
        left = layer.delta.T @ core[number]
        weights.append(Product(left, layer.input))
        biases.append(left.sum(1) if of_bias is None else torch.mv(layer.delta.T, of_bias[number, :, 0]))
        sums += [left.sum(), biases[-1].sum()]
    failed = torch.stack([of_weight, of_weight if joint else failed[0]], dim=1)
    return shares.solution(weights, biases, failed, torch.stack(sums).view(-1, 2), joint)


def _fill(systems: Float[Tensor, "2 L B B"], operators: Sequence[Operator]) -> None:
    """With the Gram matrices of all rows, over B."""
    for one, system in zip(operators, systems.flatten(0, 1), strict=True):
        rows = cast(Gram, one).rows
        torch.mm(rows, rows.T, out=system)
    systems.div_(systems.shape[-1])
