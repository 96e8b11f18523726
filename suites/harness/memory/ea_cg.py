"""The formulas of memory for EA-CG; see :mod:`suites.harness.memory.formulas`."""

from collections.abc import Sequence
from itertools import compress

from optimizers.core.counts import factors_are_cheaper
from optimizers.core.operators import Dense, Diagonal, Gram, Operator, cheapest, stacked
from suites.harness.memory.formulas import Formula, Net, rows, symmetric
from suites.harness.memory.ledger import Ledger


def _ea_cg(net: Net, ledger: Ledger, curvature: Sequence[Operator], max_iter: int, factor: str) -> None:
    """Gram matrices or the gradient for ||grad||; CG on rows (v, c); then a direction for each layer."""
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
            by_factors = [factors_are_cheaper(B, i, o) for i, o in net.layers]
            rest = len(net.layers) * widest
            ledger.hold(directions=0 if all(by_factors) else rest)  # of the updates of rank one
            with ledger.during(workspace=rest if all(by_factors) else 0):
                for _, o in compress(net.layers, by_factors):
                    ledger.hold(directions=B * o)
        ledger.let_go(curvature=sum(size**2 for size in formed))


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


def _gradient_norm(net: Net, ledger: Ledger, i: int, o: int) -> None:
    """||grad||: from the Gram matrices h h^T and delta delta^T, of a scaled delta, or from the dense gradient."""
    B = net.batch
    if factors_are_cheaper(B, i, o):
        with ledger.during(workspace=B * o + B**2):
            symmetric(net, ledger, B, "inverse")
    else:
        ledger.hold(gradients=o * i)


FORMULAS: dict[str, Formula] = {"ea_cg": _ea_cg}
