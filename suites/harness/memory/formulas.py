"""The formulas of memory: a training step replayed on a ledger, line by line as in the code.

This module has the step and the curvatures; each solver has a module of its name.

symbol        meaning
B             batch
i, o          n_{t-1}, n_t: inputs and outputs of layer t
x = h^0       B n_0
h^t, z^t      B n_t                activation and pre-activation
delta^t       B n_t                with W^tT delta^t and phi' of the same size at each hidden layer
G^t           o^2                  curvature
A = E[hh^T]   i^2                  KFI's ``factor`` form; in ``gram``, h h^T: B^2
d             o B, or o i dense    direction, as ``left`` of the product left @ h

A formula holds a tensor from the line that makes it to the line that frees it, but may leave out a temporary that is
never part of a peak. The ledger keeps the peak of each phase.
Parts of a footprint:

parameters, state   weights and biases; what the optimizer keeps (momenta)
activations         x, h, z and the means and second derivatives computed from them
gradients           delta, W^T delta, phi', and gradients if they are formed
curvature           G
inverse             KFI's factor A or Gram matrix, and the Cholesky factor of any system
directions          d
workspace           temporaries of one line
library             copies inside one call of LAPACK
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch

from optimizers.core import CRITERIA
from optimizers.core.operators import Dense, Diagonal, Gram, Operator
from optimizers.core.symmetric import STRIP
from suites.harness.memory.ledger import Ledger

Formula = Callable[..., Any]
PREDICTED = ("cross-entropy", "squared-error", "bernoulli")  # the criteria that have formulas


@dataclass(frozen=True)
class Kind:
    """Criterion and activation of a network.

    criterion: its name. activation: as :class:`optimizers.core.FCNN` takes it.
    """

    criterion: str = "cross-entropy"
    activation: str | tuple[str, ...] = "sigmoid"

    def __str__(self) -> str:
        return f"{self.activation if isinstance(self.activation, str) else '-'.join(self.activation)}, {self.criterion}"


USUAL = Kind()


@dataclass(frozen=True)
class Net:
    """A network and its batch: sizes n_0 ... n_k, B, whether matrices are processed by blocks, as on a CPU, and its
    kind.

    Target vectors as wide as the inputs are taken to be the inputs themselves.
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
    """delta^T / B of every layer and the gradients of the biases. Gradients of weights go straight into the momenta."""
    _record(net, ledger)
    ledger.begin("update")
    ledger.hold(gradients=sum(net.batch * o + o for _, o in net.layers))


def second_order(net: Net, ledger: Ledger, curvature: "Formula", solver: "Formula", update: "Formula") -> None:
    _record(net, ledger)
    ledger.begin("curvature")
    operators = curvature(net, ledger)
    ledger.begin("solve")
    formed = solver(net, ledger, operators)
    ledger.begin("update")
    update(net, ledger, formed)


def symmetric(net: Net, ledger: Ledger, n: int, part: str, temporaries: int = 1) -> None:
    """A symmetric [n, n] matrix, as one product, whose first temporary is the result, or in strips of rows."""
    whole = not net.by_blocks or n <= STRIP
    ledger.hold(**{part: n**2})
    with ledger.during(workspace=(temporaries - 1) * n**2 if whole else temporaries * STRIP * n):
        pass


def rows(batch: int, width: int) -> Gram:
    """A Gram matrix without numbers: its rows lie on the device ``meta``."""
    return Gram(torch.empty(batch, width, device="meta"))


def matrix(width: int) -> Dense:
    return Dense(torch.empty(width, width, device="meta"))


def fisher(net: Net, ledger: Ledger) -> list[Operator]:
    """The deltas. A solver may form E[delta delta^T] from them."""
    return [rows(net.batch, o) for _, o in net.layers]


def formed_fisher(net: Net, ledger: Ledger) -> list[Operator]:
    """E[delta delta^T]."""
    for _, o in net.layers:
        symmetric(net, ledger, o, "curvature")
    return [matrix(o) for _, o in net.layers]


def sampled_fisher(net: Net, ledger: Ledger) -> list[Operator]:
    """E[delta delta^T] of deltas for sampled targets; meanwhile these deltas are held beside those of the tape."""
    sampled_deltas(net, ledger)
    operators = formed_fisher(net, ledger)
    ledger.let_go(gradients=net.batch * sum(net.sizes[1:]))
    return operators


def sampled_deltas(net: Net, ledger: Ledger) -> None:
    """The deltas of all layers. The sampled targets are held until the deltas are there."""
    B, (*hidden, last), criterion = net.batch, net.sizes[1:], net.kind.criterion
    vectors = CRITERIA[criterion].vectors
    with ledger.during(workspace=0 if vectors else 2 * B * last):  # p, and random numbers
        pass
    with ledger.during(workspace=B * last if vectors else 0):  # the targets
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
                with ledger.during(workspace=B * i):  # phi'' * W^T delta
                    ledger.hold(activations=i)
    return [*(matrix(o) for _, o in net.layers[:-1]), last]


def _output_hessian(net: Net, ledger: Ledger) -> Operator:
    """E[hess_z C]."""
    B, C = net.batch, net.sizes[-1]
    if not CRITERIA[net.kind.criterion].vectors:
        with ledger.during(workspace=B * C + C**2):  # p and diag(E[p])
            ledger.hold(curvature=C**2)
        return matrix(C)
    entries = B * C if net.kind.criterion == "bernoulli" else 0
    with ledger.during(workspace=entries):  # p (1 - p)
        with ledger.during(workspace=entries):  # p
            pass
        ledger.hold(curvature=C)
    return Diagonal(torch.empty(C, device="meta"))


def _plain(net: Net, ledger: Ledger, formed: object) -> None:
    """Directions are added to the parameters."""


# by the names of curvatures and update rules; the hyper-parameters that one needs are its other parameters
FORMULAS: dict[str, Formula] = {
    "fisher": fisher,
    "formed_fisher": formed_fisher,
    "sampled_fisher": sampled_fisher,
    "gauss_newton": partial(_recursion, bends=False),
    **dict.fromkeys(("pch", "pch1", "pch2"), partial(_recursion, bends=True)),
    "plain": _plain,
}
