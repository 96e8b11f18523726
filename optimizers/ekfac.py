"""EKFAC: the Fisher matrix with exact second moments along the eigenvectors of KFAC (George et al. 2018).

symbol                          name         shape
G = U_G diag(.) U_G^T           G            [O, O]   the Gram matrix of rows delta, of any labels
A = E[h h^T] = U_A diag(.) U_A^T             [I, I]   that of the rows of h
x                               x            [B, n]   delta of the gradient, or h
x U                             projected    [B, n]
(x U)^2                         squares      [B, n]   on the left of the rows of G, summed over labels
E[(U_G^T delta h^T U_A)^2]      moments      [O, I]   = (squares of delta)^T (squares of h) / B
lambda                          damping

    d = -U_G [(U_G^T grad U_A) / (moments + lambda)] U_A^T,    U_G^T grad U_A = (delta U_G)^T (h U_A) / B

Where B < n, x x^T / B = V diag(k) V^T [B, B] has all that is not 0: U = x^T V / sqrt(B k), x U = V sqrt(B k). The roots
cancel in d, which takes V for x U, and x^T V for U. Where k = 0 the moments are 0, and so is x^T V.
"""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from optimizers.core import (
    CURVATURES,
    Criterion,
    Curvature,
    Gram,
    Layer,
    Operator,
    Params,
    Product,
    SecondOrder,
    Solution,
    Solver,
    Span,
    Status,
    Tape,
)
from optimizers.core.curvature import require_draws, sampled_deltas
from optimizers.core.kept import count
from optimizers.core.product import scaled_product
from optimizers.core.ranges import BELOW_1, BETWEEN_0_AND_1, COUNT, check, one_of

_LABELS = ("batch", "sampled", "exact")
# in weight and bias, the sums of their entries, and the traces of their matrices
_Directions = tuple[Product, Float[Tensor, " O"], Float[Tensor, " 2"], Float[Tensor, " 2"]]
_ROUNDINGS = 32  # a damping below so many roundings of the trace of the matrix is lost


class EKFAC(SecondOrder):
    """George, Laurent, Bouthillier, Ballas and Vincent's method: KFAC's basis, and in it the right diagonal.

    Of all matrices that are diagonal in this basis, EKFAC's is the nearest to the Fisher matrix of each weight, in the
    Frobenius norm. Biases are solved by themselves, with (G + lambda I)^-1 where the basis is new.

    A step with a new basis makes a GPU wait for the host, so no step can be captured in a CUDA graph. Where eigenvalues
    coincide, the basis is not unique, and neither is the direction.

    Args:
        params: parameters of an ``FCNN``, or groups of them.
        lr: learning rate, above 0.
        damping: lambda, in (0, 1), which is added to the moments.
        labels: of the Fisher matrix: ``batch``, ``sampled`` or ``exact``; see :class:`optimizers.kfac.KFAC`.
        interval: steps from one basis to the next; moments are new in every step. Above 1 the basis is kept, as [I, I]
            and [O, O].
        decay: of moving averages of the moments. They begin with the basis, whose k-th batch has the weight
            max(1 / k, 1 - decay). They need an ``interval`` above 1.
        criterion: the training criterion. Any suits ``labels=batch``.

    Raises:
        ValueError: for a hyper-parameter out of range, or a criterion that does not suit ``labels``.
    """

    ranges = MappingProxyType({**SecondOrder.ranges, "labels": one_of(_LABELS)})
    waits = True  # torch.linalg.eigh reads whether it converged
    # it is added to products of two eigenvalues; KFAC adds a root of its damping to each
    space = MappingProxyType({**SecondOrder.space, "damping": Span(1e-7, 0.1)})

    def __init__(
        self,
        params: Params,
        lr: float = 0.1,
        damping: float = 0.01,
        labels: str = "batch",
        interval: int = 1,
        decay: float = 0.0,
        criterion: Criterion | None = None,
    ) -> None:
        check(self.ranges, {"labels": labels})
        if decay and interval == 1:
            raise ValueError("decay averages moments in one basis, which lasts one step: raise interval above 1")
        if criterion is not None and labels != "batch":
            require_draws(criterion)
        curvature = {
            "batch": CURVATURES["fisher"],
            "sampled": Curvature("sampled_rows", self._sampled),
            "exact": Curvature("exact_rows", exact_rows),
        }[labels]
        ranges = {"damping": BETWEEN_0_AND_1, "interval": COUNT, "decay": BELOW_1}
        solver = Solver("ekfi", self._solve, ranges)
        parts = {"curvature": curvature, "solver": solver, "period": interval, "capturable": None}
        super().__init__(params, lr=lr, **parts, criterion=criterion, damping=damping, interval=interval, decay=decay)

    def _sampled(self, tape: Tape) -> list[Operator]:
        """The k-th draw has the seed k. The count is state, so a resumed run draws the same."""
        generator = Generator(tape.logits.device).manual_seed(count(self.state, "sampling"))
        return [Gram(delta) for delta in sampled_deltas(tape, generator)]

    def _solve(
        self, layers: Sequence[Layer], curvature: Sequence[Operator], damping: float, interval: int, decay: float
    ) -> Solution:
        found = [self._layer(*one, damping, interval, decay) for one in zip(layers, curvature, strict=True)]
        weights, biases, sums, traces = zip(*found, strict=True)
        total = torch.stack(sums)
        lost = torch.stack(traces) / damping > 1 / (_ROUNDINGS * torch.finfo(total.dtype).eps)
        status = torch.where(lost, Status.ILL_CONDITIONED, Status.SOLVED)
        status = torch.where(total.isfinite(), status, Status.NOT_FINITE)
        return Solution([*weights], [*biases], torch.zeros_like(status), torch.full_like(total, math.nan), status)

    def _layer(self, layer: Layer, G: Operator, damping: float, interval: int, decay: float) -> _Directions:
        assert isinstance(G, Gram), "the Fisher matrix is made of rows"
        A = Gram(layer.input)
        state = self._basis(layer, G, A, interval) if interval > 1 else {}
        left, right = _side(layer.delta, G, state.get("U_G")), _side(layer.input, A, state.get("U_A"))
        moments = [scaled_product(left.squares.T, right.squares, 1 / layer.batch), left.squares.mean(0)]
        if decay:
            weight = max(1 / state["batches"], 1 - decay)
            moments = [old.lerp(new, weight) for old, new in zip(state.get("moments", moments), moments, strict=True)]
            state["moments"] = moments
        of_weight, of_bias = moments
        return _directions(layer.batch, left, right, of_weight, of_bias, damping)

    def _basis(self, layer: Layer, G: Gram, A: Gram, interval: int) -> dict[str, Any]:
        """The state of a layer: its basis for this step, and the number of batches since the basis was new."""
        mine = {param for group in self.param_groups for param in group["params"]}
        state = self.state[layer.weight if layer.weight in mine else layer.bias]
        state["batches"] = state.get("batches", 0) % interval + 1
        if state["batches"] == 1:
            for stale in ("U_G", "U_A", "moments"):
                state.pop(stale, None)
            state["U_G"] = eigh(G.dense())[1]
            state["U_A"] = eigh(A.dense())[1]
        return state


@dataclass(frozen=True)
class _Side:
    """One side of a layer in its basis. ``vectors`` is U; in the space of the batch it is V, and ``rows`` is x."""

    projected: Float[Tensor, "B c"]
    squares: Float[Tensor, "B c"]
    vectors: Float[Tensor, "n c"]
    rows: Float[Tensor, "B m"] | None = None

    def back(self, coordinates: Float[Tensor, "m c"]) -> Product:
        """Rows from the basis to the original coordinates: times U^T, or V^T x."""
        inside = coordinates @ self.vectors.T
        return Product(None, inside) if self.rows is None else Product(inside, self.rows)


def _side(x: Float[Tensor, "B n"], G: Gram, kept: Float[Tensor, "n n"] | None) -> _Side:
    """One side of a layer in the eigenbasis of G, or in a basis that was kept."""
    if kept is None and G.rows is x and G.is_in_batch:
        eigenvalues, V = eigh(G.core())
        return _Side(V, V.square().mul_(len(x) * eigenvalues.clamp_min(0)), V, x)
    U = eigh(G.dense())[1] if kept is None else kept
    projected = x @ U
    squares = projected.square() if G.rows is x else (G.rows @ U).square_().view(-1, *x.shape).mean(0)
    return _Side(projected, squares, U)


def _directions(
    batch: int,
    left: _Side,
    right: _Side,
    moments: Float[Tensor, "a b"],
    bias_moments: Float[Tensor, " a"],
    damping: float,
) -> _Directions:
    """The directions of a layer: the gradient divided by moments + damping in the basis."""
    coordinates = scaled_product(left.projected.T, right.projected, -1 / batch).div_(moments + damping)
    weight = right.back(left.back(coordinates.T).dense().T)
    bias = left.back(left.projected.mean(0).neg_().div_(bias_moments + damping).unsqueeze(0)).dense()[0]
    total = weight.right if weight.left is None else weight.left
    sums = torch.stack([total.sum(), bias.sum()])
    return weight, bias, sums, torch.stack([moments.sum(), bias_moments.sum()])


def exact_rows(tape: Tape) -> list[Operator]:
    """The Fisher matrix over all targets that the model may draw, as the Gram matrix of their rows."""
    assert tape.criterion.roots is not None, "checked when the optimizer was built"
    deltas = [tape.backward(root) for root in tape.criterion.roots(tape.logits)]
    return [Gram(torch.cat(of_layer).mul_(math.sqrt(len(deltas)))) for of_layer in zip(*deltas, strict=True)]


def eigh(matrix: Float[Tensor, "n n"]) -> tuple[Float[Tensor, " n"], Float[Tensor, "n n"]]:
    """Eigenvalues and eigenvectors; NaN of a matrix that is not finite, and where LAPACK gives up."""
    if matrix.sum().isfinite():
        with suppress(torch.linalg.LinAlgError):  # pyright: ignore[reportPrivateImportUsage]
            return torch.linalg.eigh(matrix)
    matrix = torch.full_like(matrix, math.nan)
    return matrix.diagonal(), matrix
