"""The formulas of memory for EKFAC: eigenvectors of both sides of a layer, and the second moments along them.

symbol        meaning
a, b          sides of the moments: o and i, or B where a side is in the space of the batch
U             [a, a], [b, b]        eigenvectors
x U           B a, B b              the rows of delta and h in them, with their squares

Where eigenvectors are kept, the formulas are those of a step that renews them.
"""

from collections.abc import Sequence
from dataclasses import replace

from optimizers.core.operators import Gram, Operator
from suites.harness.memory.formulas import Formula, Net, rows, sampled_deltas, symmetric
from suites.harness.memory.ledger import Ledger


def state(net: Net, interval: int, decay: float) -> int:
    """The count of numbers kept between steps: eigenvectors, and averages of the moments."""
    return sum(_kept(o, i, decay) for i, o in net.layers) if interval > 1 else 0


def _kept(a: int, b: int, decay: float) -> int:
    return a**2 + b**2 + (a * b + a if decay else 0)


def _sampled_rows(net: Net, ledger: Ledger) -> list[Operator]:
    """Deltas for sampled labels. They are no rows of a direction, so no basis lies in their space."""
    sampled_deltas(net, ledger)
    return [replace(rows(net.batch, o), in_batch=False) for _, o in net.layers]


def _ekfi(net: Net, ledger: Ledger, curvature: Sequence[Operator], interval: int, decay: float) -> None:
    """Layer by layer: both sides in their basis, the moments, and the gradient divided by them."""
    B, keeps = net.batch, interval > 1
    for (i, o), G in zip(net.layers, curvature, strict=True):
        assert isinstance(G, Gram), "the Fisher matrix is made of rows"
        sides = G, rows(B, i)
        inside = [one.is_in_batch and not keeps for one in sides]
        a, b = (B if is_inside else one.size for one, is_inside in zip(sides, inside, strict=True))
        if keeps:
            ledger.let_go(state=_kept(a, b, decay))
            _eigenvectors(net, ledger, a, "state")
            _eigenvectors(net, ledger, b, "state")
        held = 0
        for n, is_inside, is_other in zip((a, b), inside, (G.in_batch is False, False), strict=True):
            if not keeps:
                _eigenvectors(net, ledger, n, "inverse")
            with ledger.during(workspace=B * n if is_other else 0):  # rows that are not those of the direction
                held += n**2 if is_inside else 2 * B * n
                ledger.hold(workspace=n**2 if is_inside else 2 * B * n)
        if decay:
            with ledger.during(workspace=a * b + a):  # the moments of the batch
                ledger.hold(state=a * b + a)
        with ledger.during(workspace=a * b + (0 if decay else a * b + a)):  # the gradient in the basis, the moments
            with ledger.during(workspace=a * b):  # the moments with the damping
                pass
            with ledger.during(workspace=b * o):  # the rows of the direction, back in the space of delta
                with ledger.during(workspace=b * B if inside[0] else 0):
                    pass
                ledger.hold(directions=o * (B if inside[1] else i))
            ledger.hold(directions=o)
        ledger.let_go(inverse=0 if keeps else a**2 + b**2, workspace=held)


def _eigenvectors(net: Net, ledger: Ledger, n: int, part: str) -> None:
    """The eigenvectors and eigenvalues of a matrix, with LAPACK's workspace, twice as large."""
    symmetric(net, ledger, n, "curvature")
    with ledger.during(library=2 * n**2, workspace=n):
        ledger.hold(**{part: n**2})
    ledger.let_go(curvature=n**2)


FORMULAS: dict[str, Formula] = {"sampled_rows": _sampled_rows, "ekfi": _ekfi}
