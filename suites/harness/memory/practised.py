"""The formulas of memory for K-FAC as practised: averaged factors, kept inverses, and the update rule.

symbol        meaning
A             [n, n] with n = i, or i + 1 where the bias is joint
v             momentum, as many numbers as there are parameters

They are those of the largest step, in which factors, inverses and damping are all due.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch

from optimizers.core.kept import Kept
from optimizers.core.operators import Gram, Operator
from optimizers.core.solvers.inverses import INVERSES
from suites.harness.memory.formulas import (
    Formula,
    Net,
    fisher,
    formed_fisher,
    matrix,
    rows,
    sampled_fisher,
    symmetric,
)
from suites.harness.memory.kfi import Formed, kronecker
from suites.harness.memory.ledger import Ledger


def state(net: Net, group: Mapping[str, Any]) -> int:
    """The count of numbers kept between steps: averages, inverses, momenta."""
    sizes = [(i + group["joint_bias"], o) for i, o in net.layers]
    factors = sum(n**2 + o**2 for n, o in sizes)
    numbers = factors if _keeps(group["decay"], group["inverse_interval"]) else 0
    if group["inverse_interval"] > 1:
        numbers += factors if group["joint_bias"] else factors + sum(o**2 for _, o in sizes)
    if group["momentum"] or group["quadratic"]:
        numbers += sum(o * (i + 1) for i, o in net.layers)
    return numbers


def _keeps(decay: float, inverse_interval: int) -> bool:
    return decay > 0 or inverse_interval > 1


def _kept(of_batch: Formula, net: Net, ledger: Ledger, joint_bias: bool, decay: float) -> list[Operator]:
    """Layer by layer G of the batch beside the average, then A. G of all layers is let go at the end."""
    found = of_batch(net, ledger)
    formed = [0 if isinstance(G, Gram) else G.size**2 for G in found]
    for (i, o), of_G in zip(net.layers, formed, strict=True):
        n = i + joint_bias
        if not of_G:
            symmetric(net, ledger, o, "curvature")
            ledger.let_go(curvature=o**2)
        ledger.let_go(curvature=0 if decay else of_G)  # without an average it becomes the state
        with ledger.during(workspace=net.batch * n if joint_bias else 0):  # (h, 1)
            symmetric(net, ledger, n, "curvature")
            ledger.let_go(curvature=n**2)
    ledger.let_go(curvature=sum(formed) if decay else 0)
    return [matrix(o) for _, o in net.layers]


def _kept_kfi(
    net: Net,
    ledger: Ledger,
    curvature: Sequence[Operator],
    inverse: str,
    joint_bias: bool,
    decay: float,
    inverse_interval: int,
) -> list[Formed]:
    """KFI from the averages, or from (h, 1) of all layers."""
    B, sizes = net.batch, [i + joint_bias for i, _ in net.layers]
    if inverse_interval > 1:
        curvature, inputs = map(_inverted, ([o for _, o in net.layers], sizes))
    elif _keeps(decay, inverse_interval):
        inputs = [matrix(n) for n in sizes]
    else:
        inputs = [INVERSES[inverse](rows(B, n).rows) for n in sizes]
    of_rows = sum(B * A.size for A in inputs if isinstance(A, Gram))
    with ledger.during(workspace=of_rows):
        return kronecker(net, ledger, curvature, inputs, inverse, joint_bias)


def _inverted(sizes: Sequence[int]) -> list[Operator]:
    return [Kept(torch.empty(n, n, device="meta"), {}, (), due=True) for n in sizes]


def _with_momentum(
    net: Net,
    ledger: Ledger,
    formed: Sequence[Formed],
    momentum: float,
    quadratic: bool,
    kl_clip: float | None,
    damping_interval: int | None,
) -> None:
    """d where it is a product, all gradients for slopes; J d and J v for the model; the loss after the step."""
    B, C = net.batch, net.sizes[-1]
    products = sum(i * o for (i, o), one in zip(net.layers, formed, strict=True) if not one.weight)
    of_biases = sum(o for (_, o), one in zip(net.layers, formed, strict=True) if not one.bias)
    vectors = 2 if momentum or quadratic else 1
    with ledger.during(workspace=products):
        if quadratic or kl_clip is not None or damping_interval is not None:
            ledger.hold(gradients=products + of_biases)
        if quadratic or damping_interval is not None:
            with ledger.during(workspace=(vectors - 1) * B * C):
                _tangent(net, ledger)
            of_product = {"bernoulli": 2, "squared-error": 1}.get(net.kind.criterion, 3)
            with ledger.during(workspace=(2 * vectors - 1 + of_product) * B * C):  # hess_z C J v
                pass
        if damping_interval is not None:
            _loss(net, ledger)


def _tangent(net: Net, ledger: Ledger) -> None:
    """R z^{t-1} and phi' R z^{t-1} beside R z^t."""
    for number, (i, o) in enumerate(net.layers):
        with ledger.during(workspace=net.batch * (o + 2 * i * (number > 0))):
            pass


def _loss(net: Net, ledger: Ledger) -> None:
    """z^t beside h^{t-1}, then beside h^t; at the output beside its log-softmax."""
    for number, (i, o) in enumerate(net.layers):
        with ledger.during(workspace=net.batch * (o + max(i * (number > 0), o))):
            pass


FORMULAS: dict[str, Formula] = {
    "kept_fisher": partial(_kept, fisher),
    "kept_formed_fisher": partial(_kept, formed_fisher),
    "kept_sampled_fisher": partial(_kept, sampled_fisher),
    "kept_kfi": _kept_kfi,
    "with_momentum": _with_momentum,
}
