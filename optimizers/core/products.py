"""Products with the Gauss-Newton matrix of a whole network, by the R-operator: one forward and one backward pass each.

symbol                                        name      shape
v^t                                           vector    [O, I] of a weight, [O] of a bias
R z^t = V^t h^{t-1} + v_b^t + W^t R h^{t-1}             [B, O]   derivative of z^t along v
R h^t = phi'(z^t) * R z^t                               [B, O]
hess_z C  R z^k                               delta     [B, C]   then backwards as any delta

G v = E[J^T hess_z C J v], J the Jacobian of the logits in all parameters (Schraudolph 2002; Martens 2010).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from optimizers.core.tape import Tape

Vector = tuple[Float[Tensor, "O I"], Float[Tensor, " O"]]  # of a weight and of a bias


@torch.no_grad()
def gauss_newton_product(tape: Tape, vectors: Sequence[Vector]) -> list[Vector]:
    """G v, for a criterion that is convex.

    Args:
        vectors: one pair for each layer of the tape, first to last.
    """
    moved = torch.zeros_like(tape.layers[0].input)  # R h^{t-1}; inputs do not move
    for number, (layer, (of_weight, of_bias)) in enumerate(zip(tape.layers, vectors, strict=True)):
        moved = torch.addmm(of_bias, layer.input, of_weight.T) + (moved @ layer.weight.T if number else 0)
        if number + 1 < len(tape.layers):
            moved = tape.layers[number + 1].slope * moved
    deltas = tape.backward(tape.criterion.product(tape.logits, tape.labels, moved))
    return [
        (delta.T @ layer.input / layer.batch, delta.mean(0)) for layer, delta in zip(tape.layers, deltas, strict=True)
    ]


@torch.no_grad()
def loss_now(tape: Tape) -> Float[Tensor, ""]:
    """The mean of the criterion over the batch of a tape, at the weights and biases as they are now."""
    h = tape.layers[0].input
    for layer, after in zip(tape.layers, [*tape.layers[1:], None], strict=True):
        h = torch.addmm(layer.bias, h, layer.weight.T)
        if after is not None and after.fed_by is not None:
            h = after.fed_by[0].value(h)
    return tape.criterion.value(h, tape.labels).mean()
