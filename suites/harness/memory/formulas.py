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

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch

from optimizers.core.solvers.cholesky import LARGE, blocks_of, by_blocks
from optimizers.core.solvers.ea_cg import blocks
from optimizers.core.solvers.kfi import exact_form
from optimizers.core.symmetric import STRIP
from optimizers.core.tape import factors_are_cheaper
from suites.harness.memory.ledger import Ledger

Formula = Callable[..., None]


@dataclass(frozen=True)
class Net:
    """Sizes n_0 ... n_k, B, and whether matrices are processed by blocks, as on a CPU."""

    sizes: tuple[int, ...]
    batch: int
    by_blocks: bool

    @property
    def layers(self) -> list[tuple[int, int]]:
        """(i, o) of each layer."""
        return list(pairwise(self.sizes))


def _record(net: Net, ledger: Ledger) -> None:
    """x; z and delta of every layer; h, W^T delta and phi' of hidden layers."""
    B, (first, *hidden, last) = net.batch, net.sizes
    ledger.begin("forward_backward")
    ledger.hold(activations=B * (first + 2 * sum(hidden) + last))
    with ledger.during(workspace=B * last):  # p, of which the last delta is made
        ledger.hold(gradients=B * last)
    ledger.hold(gradients=3 * B * sum(hidden))


def sgd(net: Net, ledger: Ledger) -> None:
    """delta^T / B of every layer and the gradients of the biases; the rest is accumulated into the momenta."""
    _record(net, ledger)
    ledger.begin("update")
    ledger.hold(gradients=sum(net.batch * o + o for _, o in net.layers))
    ledger.end_step()


def second_order(net: Net, ledger: Ledger, curvature: "Formula", solver: "Formula") -> None:
    _record(net, ledger)
    ledger.forget_directions()
    ledger.begin("curvature")
    curvature(net, ledger)
    ledger.begin("solve")
    solver(net, ledger)
    ledger.begin("update")
    ledger.end_step()


def _symmetric(net: Net, ledger: Ledger, n: int, part: str, temporaries: int = 1) -> None:
    """A symmetric [n, n] matrix, as one product whose first temporary is the result, or in strips of rows."""
    whole = not net.by_blocks or n <= STRIP
    ledger.hold(**{part: n**2})
    with ledger.during(workspace=(temporaries - 1) * n**2 if whole else temporaries * STRIP * n):
        pass


def _fisher(net: Net, ledger: Ledger) -> None:
    """E[delta delta^T], with delta / B as a temporary."""
    for _, o in net.layers:
        with ledger.during(workspace=net.batch * o):
            _symmetric(net, ledger, o, "curvature")


def _sampled_fisher(net: Net, ledger: Ledger) -> None:
    """The Fisher of deltas for sampled labels, which are held beside those of the tape."""
    with ledger.during(gradients=net.batch * sum(net.sizes[1:])):
        _fisher(net, ledger)


def _recursion(net: Net, ledger: Ledger, *, bends: bool) -> None:
    """Eq. (8): for each G, G W [o, i], phi' / B and two strips of the product; for PCH also phi'' and its mean."""
    B, C = net.batch, net.sizes[-1]
    with ledger.during(workspace=B * C + 2 * C**2):  # p, diag(E[p]), and E[p p^T] before the difference
        ledger.hold(curvature=C**2)
    for i, o in net.layers[:0:-1]:
        with ledger.during(workspace=o * i + B * i):
            _symmetric(net, ledger, i, "curvature", temporaries=2)
            if bends:
                ledger.hold(activations=B * i)
                with ledger.during(workspace=2 * B * i):  # 2 h and 1 - 2 h
                    pass
                ledger.hold(activations=i)


def _kfi(net: Net, ledger: Ledger, inverse: str) -> None:
    """For each layer: the gradient times the right inverse, [o, m]; then two systems with G, for weight and bias."""
    for i, o in net.layers:
        m = _INVERSES[inverse](net, ledger, i, o)
        ledger.hold(gradients=o)
        _solve_damped(net, ledger, o, m, 1)
        is_dense = m == i and inverse not in ("gram", "rank_one")
        with ledger.during(workspace=0 if is_dense else net.batch * o):  # delta^T / B
            ledger.hold(directions=o * m + o)
        ledger.let_go(workspace=2 * o * m + o)  # that product, and the solutions
        if not is_dense:
            ledger.borrow(net.batch * i)


def _solve_damped(net: Net, ledger: Ledger, n: int, *columns: int) -> None:
    """(M + lam I)^-1 right, M [n, n], for right sides [n, m]; the solutions are held as workspace."""
    sides = [block.stop - block.start for block in blocks_of(n)]
    block, corners = sides[0], sum(side**2 for side in sides)
    if net.by_blocks and n > LARGE:
        systems = len(columns)
        with ledger.during(inverse=systems * n**2):  # all M + lam I, then their Cholesky factors
            with ledger.during(workspace=2 * systems * block * n):  # a panel, and its product with a corner
                pass
            with ledger.during(inverse=systems * corners):
                for m in columns:
                    ledger.hold(workspace=n * m)
                    with ledger.during(workspace=block * m):
                        pass
        return
    for m in columns:
        with ledger.during(inverse=n**2):
            with ledger.during(inverse=n**2):  # M + lam I and its Cholesky factor
                pass
            if net.by_blocks and by_blocks(n, m):
                with ledger.during(inverse=corners, workspace=block * m):
                    ledger.hold(workspace=n * m)
            else:
                with ledger.during(library=n**2):  # cholesky_solve copies the factor
                    ledger.hold(workspace=n * m)


def _factor(net: Net, ledger: Ledger, i: int, o: int) -> int:
    """A, and a system [i, i] with the dense gradient on the right."""
    with ledger.during(workspace=net.batch * i):
        _symmetric(net, ledger, i, "inverse")
    with ledger.during(workspace=net.batch * o):
        ledger.hold(gradients=o * i)
    _solve_damped(net, ledger, i, o)
    ledger.let_go(inverse=i**2)
    return i


def _gram(net: Net, ledger: Ledger, i: int, o: int) -> int:
    """h h^T, which the tape keeps, and a system [B, B] with the deltas on the right."""
    _symmetric(net, ledger, net.batch, "inverse")
    _solve_damped(net, ledger, net.batch, o)
    return net.batch


def _rank_one(net: Net, ledger: Ledger, i: int, o: int) -> int:
    """Sherman-Morrison: E[h], and the deltas less their share along it, divided by lam."""
    ledger.hold(activations=i, workspace=net.batch * o)
    return net.batch


def _exact(net: Net, ledger: Ledger, i: int, o: int) -> int:
    return _INVERSES[exact_form(net.batch, i)](net, ledger, i, o)


def _auto(net: Net, ledger: Ledger, i: int, o: int) -> int:
    """The factor form as far as the budget allows, then Eq. (13)."""
    ledger.enforced = True
    try:
        with ledger.during():
            return _factor(net, ledger, i, o)
    except MemoryError:
        pass
    finally:
        ledger.enforced = False
    return _rank_one(net, ledger, i, o)


def _ea_cg(net: Net, ledger: Ledger) -> None:
    """Gram matrices or the dense gradient for ||grad||; CG on rows (v, c); then a direction for each layer."""
    B, widest, outputs = net.batch, max(net.sizes[1:]), sum(net.sizes[1:])
    rows = 2 * len(net.layers) * widest  # less c, one number in each row
    with ledger.during(workspace=rows + outputs):  # right; along_mean of each layer
        for i, o in net.layers:
            ledger.hold(activations=i)
            _gradient_norm(net, ledger, i, o)
        ledger.hold(gradients=outputs)  # of the biases
        by_rows = [G for _, G in blocks(torch.empty(o, o, device="meta") for o in net.sizes[1:])]
        with ledger.during(workspace=sum(G.numel() for G in by_rows if len(G) > 1)):  # padded copies
            product = max(2 * len(G) * G.shape[-1] for G in by_rows)
            with ledger.during(workspace=5 * rows + product):  # -right, r, p, q, and the next q with its p G
                ledger.hold(directions=rows)  # x, of which the biases are views
            with ledger.during(workspace=len(net.layers) * widest):  # rest
                for i, o in net.layers:
                    if factors_are_cheaper(B, i, o):
                        ledger.hold(directions=B * o)
                        ledger.borrow(B * i)
                    else:
                        ledger.hold(directions=o * i)


def _gradient_norm(net: Net, ledger: Ledger, i: int, o: int) -> None:
    """||grad||: from the Gram matrices h h^T and delta delta^T, of a scaled delta, or from the dense gradient."""
    B = net.batch
    if factors_are_cheaper(B, i, o):
        with ledger.during(workspace=B * o + B**2):
            _symmetric(net, ledger, B, "inverse")
    else:
        with ledger.during(workspace=B * o):
            ledger.hold(gradients=o * i)


# by the names of curvatures and solvers
CURVATURES: dict[str, Formula] = {
    "fisher": _fisher,
    "sampled_fisher": _sampled_fisher,
    "gauss_newton": partial(_recursion, bends=False),
    **dict.fromkeys(("pch", "pch1", "pch2"), partial(_recursion, bends=True)),
}
SOLVERS: dict[str, Formula] = {"kfi": _kfi, "ea_cg": _ea_cg}
_INVERSES: dict[str, Callable[..., int]] = {
    "exact": _exact,
    "factor": _factor,
    "gram": _gram,
    "rank_one": _rank_one,
    "auto": _auto,
}
