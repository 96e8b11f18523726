"""Curvature: a tape to an operator G^t a layer, positive semi-definite: the pre-activation block of a curvature matrix.

symbol                 name          shape
G^t                    G             [O, O]   for layer t, O = n_t; an operator, see optimizers.core.operators
phi'                   slope         [B, I]
E[phi'' * W^tT delta^t]   mean_bend   [I]

Fisher        G^t = E[delta^t delta^tT]
recursion     G^{t-1} = (W^tT G^t W^t) * E[phi' phi'^T] + diag(fix(E[phi'' * (W^tT delta^t)]))              Eq. (8)
              fix = 0 for Gauss-Newton, |.| for PCH-1 (gamma = -1), max(., 0) for PCH-2 (gamma = 0);
              G^k = E[hess_z C], for PCH with its eigenvalues' absolute values (Pos-Eig)
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import leaky_relu

from optimizers.core.criteria import Criterion
from optimizers.core.operators import Dense, Diagonal, Gram, Operator
from optimizers.core.product import scaled_product
from optimizers.core.ranges import GAMMA, check
from optimizers.core.symmetric import symmetric
from optimizers.core.tape import Layer, Tape

_Repair = Callable[[Float[Tensor, " I"]], Float[Tensor, " I"]]
_LARGEST_WEIGHT = 19.0  # a, for c = 99


def fisher(tape: Tape) -> list[Operator]:
    """The Fisher matrix with the labels of the batch, as in the paper: G^t = E[delta^t delta^tT]."""
    return [Gram(layer.delta) for layer in tape.layers]


def formed_fisher(tape: Tape) -> list[Operator]:
    """The same as matrices, as the paper has it."""
    return [Dense(G.dense()) for G in fisher(tape)]


def sampled_fisher(tape: Tape, generator: torch.Generator) -> list[Operator]:
    """The Fisher matrix with targets drawn from the model, one a sample, as Martens and Grosse do.

    Args:
        generator: a random generator on the tape's device.
    """
    deltas = sampled_deltas(tape, generator)
    return [Dense(Gram(delta).dense()) for delta in deltas]  # solves are for other deltas, which are not in its span


def sampled_deltas(tape: Tape, generator: torch.Generator) -> list[Float[Tensor, "B _O"]]:
    """The deltas of each layer for targets drawn from the model, one a sample."""
    assert tape.criterion.draw is not None, "checked when the optimizer was built"
    labels = tape.criterion.draw(tape.logits, generator)
    return tape.backward(tape.criterion.gradient(tape.logits, labels))


def exact_fisher(tape: Tape) -> list[Operator]:
    """The Fisher matrix of the model: E[delta^t delta^tT], also over all targets that the model may draw.

    It takes a backward pass for each logit.
    """
    assert tape.criterion.roots is not None, "checked when the optimizer was built"
    totals = [layer.weight.new_zeros(layer.outputs, layer.outputs) for layer in tape.layers]
    for root in tape.criterion.roots(tape.logits):
        for total, delta in zip(totals, tape.backward(root), strict=True):
            total.addmm_(delta.T, delta, alpha=1 / len(delta))
    return [Dense(total) for total in totals]


def require_draws(criterion: Criterion) -> None:
    """Refuse a criterion whose logits stand for no distribution, which the Fisher matrix of the model needs."""
    if criterion.draw is None or criterion.roots is None:
        raise ValueError(f"{criterion.name!r} says nothing of how its targets are drawn: use labels=batch")


def gauss_newton(tape: Tape) -> list[Operator]:
    """The Gauss-Newton matrix by KFRA's recursion: Eq. (8) without its second term.

    Raises:
        ValueError: if the criterion is not convex.
    """
    require_convex(tape.criterion)
    return _recursion(tape, tape.mean_hessian, repair=None)


def pch(tape: Tape, gamma: float = -1) -> list[Operator]:
    """The positive-curvature Hessian, Eq. (8).

    Args:
        gamma: what becomes of negative curvature: -1 takes absolute values (PCH-1), 0 removes it (PCH-2). In between,
            a negative entry is multiplied by gamma.

    Raises:
        ValueError: if gamma is not in [-1, 0].
    """
    check({"gamma": GAMMA}, {"gamma": gamma})
    return _recursion(tape, positive_output_hessian(tape), partial(leaky_relu, negative_slope=gamma))


def pch1(tape: Tape) -> list[Operator]:
    """PCH-1, the positive-curvature Hessian with negative curvature made positive (gamma = -1)."""
    return pch(tape, gamma=-1)


def pch2(tape: Tape) -> list[Operator]:
    """PCH-2, the positive-curvature Hessian with negative curvature removed (gamma = 0)."""
    return pch(tape, gamma=0)


def require_convex(criterion: Criterion) -> None:
    """Refuse a criterion for which the Gauss-Newton matrix is not positive semi-definite."""
    if not criterion.convex:
        raise ValueError(
            f"Gauss-Newton needs a convex criterion, and {criterion.name!r} is not convex: use PCH, which takes any "
            "criterion (ea_cg, pch1+kfi)"
        )


def positive_output_hessian(tape: Tape) -> Float[Tensor, "C C"] | Float[Tensor, " C"]:
    """G^k of PCH: Pos-Eig of the mean Hessian in the logits; that of a convex criterion needs no repair."""
    # deviates: absolute values for every gamma; the paper's gamma is of the diagonal in Eq. (8b) alone
    return tape.mean_hessian if tape.criterion.convex else pos_eig(tape.mean_hessian)


def pos_eig(matrix: Float[Tensor, "*n n"]) -> Float[Tensor, "*n n"]:
    """Pos-Eig: the symmetric matrix, or the diagonal of one, with every eigenvalue replaced by its absolute value.

    A matrix that is not finite comes back as it is, for the solver to say so.
    """
    if matrix.ndim == 1:
        return matrix.abs()
    if matrix.is_cuda:
        return absolute(matrix)
    if not matrix.isfinite().all():
        return matrix
    eigenvalues, vectors = torch.linalg.eigh(matrix)
    return (vectors * eigenvalues.abs()) @ vectors.T


def absolute(matrix: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """|A| = A sign(A) of a symmetric matrix, without eigenvalues, for which a GPU would have to wait.

    X <- X (a I + b X^2) (I + c X^2)^-1 from X = A / (n max |a_ij|) takes the eigenvalues to their signs: the weighted
    Halley iteration of Nakatsukasa, Bai and Gygi (2010), with weights that depend on the precision alone, and c at
    most 100, up to which Cholesky factorization is safe. Eigenvalues below eps times that bound may stay as they are.
    """
    bound = (len(matrix) * matrix.abs().amax()).clamp_min(torch.finfo(matrix.dtype).tiny)  # of the eigenvalues
    eye = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    X, smallest = matrix / bound, torch.finfo(matrix.dtype).eps
    while 1 - smallest > torch.finfo(matrix.dtype).eps:
        q = (4 * (1 - smallest**2) / smallest**4) ** (1 / 3)
        root = math.sqrt(1 + q)
        a = min(root + math.sqrt(8 - 4 * q + 8 * (2 - smallest**2) / (smallest**2 * root)) / 2, _LARGEST_WEIGHT)
        b = (a - 1) ** 2 / 4
        c = a + b - 1
        factor, _ = torch.linalg.cholesky_ex(eye + c * X @ X)
        X = b / c * X + (a - b / c) * torch.cholesky_solve(X, factor)
        X = (X + X.T) / 2  # rounding must not grow away from the symmetric
        smallest = smallest * (a + b * smallest**2) / (1 + c * smallest**2)
    product = matrix @ X
    return (product + product.T) / 2


@torch.no_grad()
def _recursion(tape: Tape, G: Float[Tensor, "C C"] | Float[Tensor, " C"], repair: _Repair | None) -> list[Operator]:
    """Eq. (8) from the last layer to the first. The first G, at the output, may be the diagonal of one."""
    factors = [G]
    for layer in tape.layers[:0:-1]:
        factors.append(propagate(layer, factors[-1], repair))
    return [Diagonal(G) if G.ndim == 1 else Dense(G) for G in reversed(factors)]


def propagate(
    layer: Layer, G: Float[Tensor, "*O {layer.outputs}"], repair: _Repair | None
) -> Float[Tensor, "{layer.inputs} {layer.inputs}"]:
    """Eq. (8) through one layer, from G [O, O] or the diagonal [O] of one.

    Args:
        repair: takes E[phi'' * W^tT delta^t]; None leaves it out.
    """
    W, slope = layer.weight, layer.slope
    GW = (G / layer.batch)[:, None] * W if G.ndim == 1 else scaled_product(G, W, 1 / layer.batch)

    def strip(rows: slice, columns: slice) -> Tensor:
        return (W[:, rows].T @ GW[:, columns]).mul_(slope[:, rows].T @ slope[:, columns])

    below = symmetric(strip, layer.inputs, like=W)
    if repair is not None:
        below.diagonal().add_(repair(layer.mean_bend))
    return below


@dataclass(frozen=True)
class Curvature:
    """A curvature by name; called like its function.

    function: takes a tape and returns one operator, G^t, for each layer.
    needs_convex: whether it is positive semi-definite for convex criteria only; others are refused at construction.
    """

    name: str
    function: Callable[[Tape], Sequence[Operator]]
    needs_convex: bool = False

    def __call__(self, tape: Tape) -> Sequence[Operator]:
        return self.function(tape)


CURVATURES: dict[str, Curvature] = {
    curvature.name: curvature
    for curvature in (
        Curvature("fisher", fisher),
        Curvature("gauss_newton", gauss_newton, needs_convex=True),
        Curvature("pch1", pch1),
        Curvature("pch2", pch2),
    )
}
