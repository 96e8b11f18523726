"""The formulas of memory: a training step replayed on a ledger. Each line stands for the line of code that it counts.

symbol        meaning
B             batch
i, o          n_{t-1}, n_t: inputs and outputs of layer t
x = h^0       B n_0
h^t, z^t      B n_t                activation and pre-activation
delta^t       B n_t                with W^tT delta^t and phi' of the same size at each hidden layer
G^t           o^2                  curvature
A = E[hh^T]   i^2                  KFI's ``factor`` form; in ``gram``, h h^T: B^2
d             o B, or o i dense    direction, as ``left`` of the product left @ h

A formula holds a tensor from the line that makes it to the line that frees it. The ledger keeps the peak of each phase.
Parts of a footprint:

parameters, state   weights and biases; what the optimizer keeps (momenta)
activations         x, h, z and the means and second derivatives computed from them
gradients           delta, W^T delta, phi', and gradients if they are formed
curvature           G
inverse             KFI's factor A or Gram matrix, and the Cholesky factor of any system
directions          d; between steps also the inputs in its product
workspace           temporaries of one line
library             copies inside one call of LAPACK, which are no tensors of ours
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch

from optimizers.core import CRITERIA
from optimizers.core.cholesky import LARGE, blocks_of, by_blocks, by_size
from optimizers.core.counts import factors_are_cheaper
from optimizers.core.kept import Kept
from optimizers.core.operators import Dense, Diagonal, Gram, Operator, cheapest, stacked
from optimizers.core.solvers.kfi import INVERSES, SMALL, are_together, one_by_one
from optimizers.core.symmetric import STRIP
from suites.harness.memory.ledger import Ledger

Formula = Callable[..., Any]
PREDICTED = ("cross-entropy", "squared-error", "bernoulli")  # criteria


@dataclass(frozen=True)
class Kind:
    """What a network is trained for.

    criterion: its name. activation: as :class:`optimizers.core.FCNN` takes it.
    """

    criterion: str = "cross-entropy"
    activation: str | tuple[str, ...] = "sigmoid"

    def __str__(self) -> str:
        return f"{self.activation if isinstance(self.activation, str) else '-'.join(self.activation)}, {self.criterion}"


USUAL = Kind()


@dataclass(frozen=True)
class Net:
    """Sizes n_0 ... n_k, B, whether matrices are processed by blocks, as on a CPU, and what it is trained for.

    Targets that are vectors as wide as the inputs are the inputs themselves.
    """

    sizes: tuple[int, ...]
    batch: int
    by_blocks: bool
    kind: Kind = USUAL

    @property
    def layers(self) -> list[tuple[int, int]]:
        """(i, o) of each layer."""
        return list(pairwise(self.sizes))


def _record(net: Net, ledger: Ledger) -> None:
    """x and targets; z and delta of every layer; h, W^T delta and phi' of hidden layers. A linear h is its z."""
    B, (first, *hidden, last), given = net.batch, net.sizes, net.kind.activation
    activations = [given] * len(hidden) if isinstance(given, str) else given
    of_hidden = sum(n * (1 if name == "linear" else 2) for n, name in zip(hidden, activations, strict=True))
    targets = last if CRITERIA[net.kind.criterion].vectors and first != last else 0
    ledger.begin("forward_backward")
    ledger.hold(activations=B * (first + of_hidden + last + targets))
    ledger.hold(gradients=B * last)
    with ledger.during(workspace=B * last if net.kind.criterion == "bernoulli" else 0):  # p
        pass
    ledger.hold(gradients=3 * B * sum(hidden))


def sgd(net: Net, ledger: Ledger) -> None:
    """delta^T / B of every layer and the gradients of the biases; the rest is accumulated into the momenta."""
    _record(net, ledger)
    ledger.begin("update")
    ledger.hold(gradients=sum(net.batch * o + o for _, o in net.layers))
    ledger.end_step()


def second_order(net: Net, ledger: Ledger, curvature: "Formula", solver: "Formula", update: "Formula") -> None:
    _record(net, ledger)
    ledger.forget_directions()
    ledger.begin("curvature")
    operators = curvature(net, ledger)
    ledger.begin("solve")
    are_formed = solver(net, ledger, operators)
    ledger.begin("update")
    update(net, ledger, are_formed)
    ledger.end_step()


def symmetric(net: Net, ledger: Ledger, n: int, part: str, temporaries: int = 1) -> None:
    """A symmetric [n, n] matrix, as one product whose first temporary is the result, or in strips of rows."""
    whole = not net.by_blocks or n <= STRIP
    ledger.hold(**{part: n**2})
    with ledger.during(workspace=(temporaries - 1) * n**2 if whole else temporaries * STRIP * n):
        pass


def rows(batch: int, width: int) -> Gram:
    """A Gram matrix of rows that have a shape and no numbers."""
    return Gram(torch.empty(batch, width, device="meta"))


def matrix(width: int) -> Dense:
    return Dense(torch.empty(width, width, device="meta"))


def fisher(net: Net, ledger: Ledger) -> list[Operator]:
    """The deltas, of which a solver may form E[delta delta^T]."""
    return [rows(net.batch, o) for _, o in net.layers]


def formed_fisher(net: Net, ledger: Ledger) -> list[Operator]:
    """E[delta delta^T]."""
    for _, o in net.layers:
        symmetric(net, ledger, o, "curvature")
    return [matrix(o) for _, o in net.layers]


def sampled_fisher(net: Net, ledger: Ledger) -> list[Operator]:
    """E[delta delta^T] of deltas for sampled targets, which are held beside those of the tape meanwhile."""
    sampled_deltas(net, ledger)
    operators = formed_fisher(net, ledger)
    ledger.let_go(gradients=net.batch * sum(net.sizes[1:]))
    return operators


def sampled_deltas(net: Net, ledger: Ledger) -> None:
    """The deltas of all layers; the targets that they are for are let go when these are there."""
    B, (*hidden, last), criterion = net.batch, net.sizes[1:], net.kind.criterion
    with ledger.during(workspace=B * last if CRITERIA[criterion].vectors else 0):  # the targets
        with ledger.during(workspace=B * last if criterion == "bernoulli" else 0):  # p
            ledger.hold(gradients=B * last)
        for n in reversed(hidden):
            with ledger.during(workspace=B * n):  # W^T delta
                ledger.hold(gradients=B * n)


def _recursion(net: Net, ledger: Ledger, *, bends: bool) -> list[Operator]:
    """Eq. (8): for each G, G W [o, i] and two strips of the product; for PCH also phi'' and its mean."""
    B = net.batch
    last = _output_hessian(net, ledger)
    for i, o in net.layers[:0:-1]:
        with ledger.during(workspace=o * i):
            symmetric(net, ledger, i, "curvature", temporaries=2)
            if bends:
                ledger.hold(activations=B * i)
                with ledger.during(workspace=B * i):  # 1 - 2 h, then phi'' * W^T delta
                    ledger.hold(activations=i)
    return [*(matrix(o) for _, o in net.layers[:-1]), last]


def _output_hessian(net: Net, ledger: Ledger) -> Operator:
    """E[hess_z C]."""
    B, C = net.batch, net.sizes[-1]
    if not CRITERIA[net.kind.criterion].vectors:
        with ledger.during(workspace=B * C + 2 * C**2):  # p, diag(E[p]), and E[p p^T] before the difference
            ledger.hold(curvature=C**2)
        return matrix(C)
    entries = B * C if net.kind.criterion == "bernoulli" else 0
    with ledger.during(workspace=entries):  # p (1 - p)
        with ledger.during(workspace=entries):  # p
            pass
        ledger.hold(curvature=C)
    return Diagonal(torch.empty(C, device="meta"))


def _kfi(net: Net, ledger: Ledger, curvature: Sequence[Operator], inverse: str) -> list[bool]:
    inputs = [INVERSES[inverse](rows(net.batch, i).rows) for i, _ in net.layers]
    return kronecker(net, ledger, curvature, inputs, inverse)


def kronecker(
    net: Net,
    ledger: Ledger,
    curvature: Sequence[Operator],
    inputs: Sequence[Operator],
    inverse: str,
    joint: bool = False,
) -> list[bool]:
    """The factors in the space of the batch, of all layers; then those of each layer, and its solves.

    Returns:
        Of each layer whether the gradient of the weight, and a direction of its size, is formed.
    """
    B = net.batch
    at_once = are_together(B, not net.by_blocks, curvature, inputs)
    sides = [*((G, 1 if joint else 2) for G in curvature), *((A, 1) for A in inputs)]
    sides = [side for side, together in zip(sides, at_once, strict=True) if together]
    kept = 0
    for n, numbers in by_size([one.core_size for one, _ in sides], 0 if net.by_blocks else SMALL).items():
        formed = sum(isinstance(sides[number][0], Gram) for number in numbers)
        kept += _factorize(net, ledger, n, sum(sides[number][1] for number in numbers), formed)
    ready = {one for one, _ in sides}
    for (i, o), G, A in zip(net.layers, curvature, inputs, strict=True):
        held = 0
        if not A.is_in_batch and A not in ready:
            more = _factor_within_budget(net, ledger, A) if inverse == "auto" else _factorize_of(net, ledger, A)
            if more is None:
                A = INVERSES["rank_one"](rows(B, A.size).rows)
            held += more or 0
        with ledger.during(workspace=o * A.size if joint and not A.is_in_batch else 0):  # [grad W, grad b]
            _of_outputs(net, ledger, i, o, G, A, G in ready, joint)
            if A.is_in_batch and A not in ready:
                held += _factorize_of(net, ledger, A) if A.core_size > 1 else 0
            _direction(net, ledger, i, o, A, A in ready, joint)
        ledger.let_go(inverse=held)
    ledger.let_go(inverse=kept)
    return [not A.is_in_batch for A in inputs]


def _factor_within_budget(net: Net, ledger: Ledger, A: Operator) -> int | None:
    """The numbers kept; None where they do not fit."""
    ledger.enforced = True
    try:
        with ledger.during():
            return _factorize_of(net, ledger, A)
    except MemoryError:
        return None
    finally:
        ledger.enforced = False


def _of_outputs(
    net: Net, ledger: Ledger, i: int, o: int, G: Operator, A: Operator, is_ready: bool, joint: bool
) -> None:
    """What is solved with G: the bias, and the rows of delta, or of the gradient, which are held as workspace."""
    B = net.batch
    if not A.is_in_batch:
        ledger.hold(gradients=o * A.size)
    formed, held = 0, 0
    by_itself = not is_ready and not joint and one_by_one(not net.by_blocks, G)
    if by_itself:
        if isinstance(G, Gram):
            symmetric(net, ledger, o, "inverse")
            formed = o**2
        held = _factorize(net, ledger, o, 1, formed=0)
    elif not is_ready:
        held = _factorize_of(net, ledger, G, 1 if joint else 2)
    if not joint:
        with ledger.during(workspace=B if G.is_in_batch else 0):  # as many times 1 / B
            _solve_with(net, ledger, G, 1)
        ledger.let_go(workspace=G.size if isinstance(G, Diagonal) else G.core_size)
        ledger.hold(gradients=o, directions=o)
    if by_itself:
        ledger.let_go(inverse=held)
        held = _factorize(net, ledger, o, 1, formed=0)
    if A.is_in_batch:
        _solve_with(net, ledger, G, o if G.is_in_batch else B)
    elif G.is_in_batch:
        with ledger.during(workspace=B * A.size):
            _solve(net, ledger, B, A.size)
        ledger.hold(workspace=o * A.size)
        ledger.let_go(workspace=B * A.size)
    else:
        _solve_with(net, ledger, G, A.size)
    ledger.let_go(inverse=held + formed)


def _direction(net: Net, ledger: Ledger, i: int, o: int, A: Operator, is_ready: bool, joint: bool) -> None:
    """The solve with A of those rows, and the gradient where it failed."""
    B, m = net.batch, net.batch if A.is_in_batch else A.size
    if A.core_size == 1:
        with ledger.during(workspace=2 * o + B * o):
            ledger.hold(workspace=B * o)
    else:
        _solve_with(net, ledger, A, o, is_ready)
    ledger.let_go(workspace=o * m)
    ledger.hold(directions=o * m)
    if joint and A.is_in_batch:
        ledger.hold(directions=o)
    elif joint:
        with ledger.during(workspace=o * m):  # the columns of the weight by themselves, and that of the bias
            pass
    ledger.let_go(workspace=o * m)
    if A.is_in_batch:
        ledger.borrow(B * i)


def _factorize_of(net: Net, ledger: Ledger, matrix: Operator, systems: int = 1) -> int:
    """The Cholesky factors of a damped operator, or inverses that go into the state; returns the numbers kept."""
    n = matrix.core_size
    if not isinstance(matrix, Kept):
        return _factorize(net, ledger, n, systems, formed=int(isinstance(matrix, Gram)))
    for _ in range(systems):
        ledger.let_go(state=n**2)
        factor = _factorize(net, ledger, n, 1, formed=0)
        ledger.hold(state=n**2)  # I, which becomes the inverse
        _solve(net, ledger, n, n, inverted=False)
        ledger.let_go(workspace=n**2, inverse=factor)
    return 0


def _solve_with(net: Net, ledger: Ledger, matrix: Operator, m: int, inverted: bool = True) -> None:
    """Of m right sides; the solution is held as workspace."""
    if isinstance(matrix, Kept | Diagonal):
        ledger.hold(workspace=matrix.size * m)
    else:
        _solve(net, ledger, matrix.core_size, m, inverted)


def _factorize(net: Net, ledger: Ledger, n: int, systems: int, formed: int) -> int:
    """M + lam I of several systems [n, n], then their Cholesky factors in place; returns the numbers kept.

    formed: how many M are computed for it, one after the other.
    """
    if formed:
        symmetric(net, ledger, n, "inverse")
    ledger.hold(inverse=systems * n**2)
    if formed > 1:
        ledger.let_go(inverse=n**2)
        symmetric(net, ledger, n, "inverse")
    ledger.let_go(inverse=n**2 if formed else 0)
    if not net.by_blocks and systems > 1 and n <= LARGE:
        with ledger.during(inverse=systems * n**2):  # their inverses, which take their place
            pass
    if not (net.by_blocks and n > LARGE):
        return systems * n**2
    block = blocks_of(n)[0].stop
    with ledger.during(workspace=2 * systems * block * n):  # a panel, and its product with a corner
        pass
    corners = systems * sum((block.stop - block.start) ** 2 for block in blocks_of(n))
    ledger.hold(inverse=corners)
    return systems * n**2 + corners


def _solve(net: Net, ledger: Ledger, n: int, m: int, inverted: bool = True) -> None:
    """A system [n, n] for right sides [n, m]; the solution is held as workspace.

    inverted: whether its factor was, with others of a batch, if that is what a GPU does.
    """
    sides = [block.stop - block.start for block in blocks_of(n)]
    if not net.by_blocks and inverted and n <= LARGE:
        with ledger.during(workspace=n * m):  # L^-1 of the right sides
            ledger.hold(workspace=n * m)
    elif not (net.by_blocks and by_blocks(n, m)):
        with ledger.during(library=n**2):  # cholesky_solve copies the factor
            ledger.hold(workspace=n * m)
    elif len(sides) == 1:
        with ledger.during(inverse=2 * n**2):  # the inverse of the factor, and that of the matrix
            ledger.hold(workspace=n * m)
    else:
        corners = 0 if n > LARGE else sum(side**2 for side in sides)
        with ledger.during(inverse=corners, workspace=sides[0] * m):
            ledger.hold(workspace=n * m)


def _ea_cg(net: Net, ledger: Ledger, curvature: Sequence[Operator], max_iter: int, factor: str) -> None:
    """Gram matrices or the dense gradient for ||grad||; CG on rows (v, c); then a direction for each layer."""
    if factor == "full":
        return _full_factor(net, ledger, curvature)
    B, widest = net.batch, max(net.sizes[1:])
    rows = 2 * len(net.layers) * widest  # less c, one number in each row
    with ledger.during(workspace=rows):  # right
        for i, o in net.layers:
            ledger.hold(activations=i, gradients=o)
            _gradient_norm(net, ledger, i, o)
        operators = [cheapest(G, 2 * max_iter) for G in curvature]
        formed = [G.size if G is not given else 0 for G, given in zip(operators, curvature, strict=True)]
        for size in filter(None, formed):
            symmetric(net, ledger, size, "curvature")
        by_rows = stacked(operators)
        padded = [(of_rows, G.matrix.numel()) for of_rows, G in by_rows if isinstance(G, Dense) and G.matrix.ndim == 3]
        with ledger.during(workspace=sum(numbers for _, numbers in padded)):
            for of_rows, _ in padded:
                ledger.let_go(curvature=sum(size**2 for size in formed[of_rows]))
                formed[of_rows] = [0] * len(formed[of_rows])
            inner = [B if isinstance(G, Gram) else 0 for _, G in by_rows]  # of delta^T (delta p)
            products = [
                2 * (of_rows.stop - of_rows.start) * (G.size + m)
                for (of_rows, G), m in zip(by_rows, inner, strict=True)
            ]
            with ledger.during(workspace=4 * rows + max(products)):  # -right, r, p, q, and p G
                ledger.hold(directions=rows)  # x, of which the biases are views
            with ledger.during(workspace=len(net.layers) * widest):  # rest
                for i, o in net.layers:
                    if factors_are_cheaper(B, i, o):
                        ledger.hold(directions=B * o)
                        ledger.borrow(B * i)
                    else:
                        ledger.hold(directions=o * i)
        ledger.let_go(curvature=sum(size**2 for size in formed))


def _plain(net: Net, ledger: Ledger, are_formed: Any) -> None:
    """Directions are added to the parameters."""


def _full_factor(net: Net, ledger: Ledger, curvature: Sequence[Operator]) -> None:
    """Layer by layer: what stands for G and E[h h^T], CG on two rows of a b numbers, and the direction."""
    B = net.batch
    for (i, o), G in zip(net.layers, curvature, strict=True):
        A = rows(B, i)
        a, b = G.size if isinstance(G, Diagonal) else G.core_size, A.core_size
        if isinstance(G, Gram):
            symmetric(net, ledger, a, "curvature")
        symmetric(net, ledger, b, "inverse")
        if not (A.is_in_batch or G.is_in_batch):
            ledger.hold(gradients=o * i)
        vectors = 5 if A.is_in_batch or G.is_in_batch else 3  # r, p, q, and M r, M p if M is not I
        with ledger.during(workspace=2 * a * b + (B**2 if G.is_in_batch else 0)):  # -grad, and I as the rows of delta
            with ledger.during(workspace=vectors * 2 * a * b + (b + 1) * a):  # and a product with G
                ledger.hold(workspace=2 * a * b)  # x
            ledger.hold(directions=(b + 1) * o)
        ledger.let_go(workspace=2 * a * b, inverse=b**2, curvature=a**2 if isinstance(G, Gram) else 0)
        if A.is_in_batch:
            ledger.borrow(B * i)


def _gradient_norm(net: Net, ledger: Ledger, i: int, o: int) -> None:
    """||grad||: from the Gram matrices h h^T and delta delta^T, of a scaled delta, or from the dense gradient."""
    B = net.batch
    if factors_are_cheaper(B, i, o):
        with ledger.during(workspace=B * o + B**2):
            symmetric(net, ledger, B, "inverse")
    else:
        ledger.hold(gradients=o * i)
        with ledger.during(workspace=o * i):
            pass


# by the names of curvatures, solvers and update rules; the hyper-parameters that one needs are its other parameters
FORMULAS: dict[str, Formula] = {
    "fisher": fisher,
    "formed_fisher": formed_fisher,
    "sampled_fisher": sampled_fisher,
    "gauss_newton": partial(_recursion, bends=False),
    **dict.fromkeys(("pch", "pch1", "pch2"), partial(_recursion, bends=True)),
    "kfi": _kfi,
    "ea_cg": _ea_cg,
    "plain": _plain,
}
