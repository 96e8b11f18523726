"""The formulas of memory for KFI; see :mod:`suites.harness.memory.formulas`."""

from collections.abc import Sequence
from itertools import compress
from operator import not_
from typing import NamedTuple

from optimizers.core.cholesky import LARGE, blocks_of, by_blocks, by_size
from optimizers.core.kept import Kept
from optimizers.core.operators import Diagonal, Gram, Operator
from optimizers.core.solvers import small_batch
from optimizers.core.solvers.inverses import INVERSES
from optimizers.core.solvers.kfi import is_together, one_by_one
from suites.harness.memory.formulas import Formula, Net, rows, symmetric
from suites.harness.memory.ledger import Ledger


class Formed(NamedTuple):
    """Which gradients of a layer are formed: that of the weight, and a direction of its size; that of the bias."""

    weight: bool
    bias: bool


def _kfi(net: Net, ledger: Ledger, curvature: Sequence[Operator], inverse: str) -> list[Formed]:
    inputs = [INVERSES[inverse](rows(net.batch, i).rows) for i, _ in net.layers]
    return kronecker(net, ledger, curvature, inputs, inverse)


def kronecker(
    net: Net,
    ledger: Ledger,
    curvature: Sequence[Operator],
    inputs: Sequence[Operator],
    inverse: str,
    joint: bool = False,
) -> list[Formed]:
    """What is solved or factorized at once; then the factors of each layer, and its solves.

    Returns:
        Which gradients of each layer are formed.
    """
    B = net.batch
    layers = [*zip(net.layers, curvature, inputs, strict=True)]
    together = [small_batch.suits(B, not net.by_blocks, G, A) for _, G, A in layers]
    if any(together):
        _small_batch(net, ledger, [*compress(net.layers, together)], joint)
    sides = [] if net.by_blocks else [*((G, 1 if joint else 2) for G in curvature), *((A, 1) for A in inputs)]
    sides = [side for side in sides if is_together(side[0])]
    kept = 0
    for n, numbers in by_size([one.core_size for one, _ in sides], small_batch.SMALL).items():
        formed = any(isinstance(sides[number][0], Gram) for number in numbers)
        kept += _factorize(net, ledger, n, sum(sides[number][1] for number in numbers), formed)
    ready = {one for one, _ in sides}
    for (i, o), G, A in compress(layers, map(not_, together)):
        held = 0
        if not A.is_in_batch and A not in ready:
            more = _factor_within_budget(net, ledger, A) if inverse == "auto" else _factorize_of(net, ledger, A)
            if more is None:
                A = INVERSES["rank_one"](rows(B, A.size).rows)
            held += more or 0
        with ledger.during(workspace=o * A.size if joint and not A.is_in_batch else 0):  # [grad W, grad b]
            _of_outputs(net, ledger, o, G, A, G in ready, joint)
            if A.is_in_batch and A not in ready:
                held += _factorize_of(net, ledger, A) if A.core_size > 1 else 0
            _direction(net, ledger, i, o, A, A in ready, joint)
        ledger.let_go(inverse=held)
    ledger.let_go(inverse=kept)
    return [Formed(not A.is_in_batch, not one) for A, one in zip(inputs, together, strict=True)]


def _small_batch(net: Net, ledger: Ledger, layers: Sequence[tuple[int, int]], joint: bool) -> None:
    """Of some layers, what is B x B, and their directions."""
    B, L = net.batch, len(layers)
    systems = (2 if joint else 3) * L * B**2
    ledger.hold(inverse=systems)
    of_bias = 0 if joint else L * B
    with ledger.during(workspace=of_bias, library=B * of_bias):  # as many times 1 / B; cholesky_solve copies the factor
        ledger.hold(workspace=of_bias)
    ledger.hold(inverse=L * B**2)
    ledger.let_go(inverse=systems)
    for _, o in layers:
        ledger.hold(directions=B * o + o)
    ledger.let_go(inverse=L * B**2, workspace=of_bias)


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


def _of_outputs(net: Net, ledger: Ledger, o: int, G: Operator, A: Operator, is_ready: bool, joint: bool) -> None:
    """What is solved with G: the bias, and the rows of delta, or of the gradient, which are held as workspace."""
    B = net.batch
    if not A.is_in_batch:
        ledger.hold(gradients=o * A.size)
    formed, held = 0, 0
    by_itself = not is_ready and not joint and one_by_one(not net.by_blocks, G)
    if by_itself:
        if isinstance(G, Gram):
            formed = G.core_size**2
            symmetric(net, ledger, G.core_size, "inverse")
        held = _factorize(net, ledger, G.core_size, 1, formed=False)
    elif not is_ready:
        held = _factorize_of(net, ledger, G, 1 if joint else 2)
    if not joint:
        _solve_with(net, ledger, G, 1)
        ledger.let_go(workspace=G.size if isinstance(G, Diagonal) else G.core_size)
        ledger.hold(gradients=o, directions=o)
    if by_itself:
        ledger.let_go(inverse=held)
        held = _factorize(net, ledger, G.core_size, 1, formed=False)
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


def _factorize_of(net: Net, ledger: Ledger, matrix: Operator, systems: int = 1) -> int:
    """The Cholesky factors of a damped operator, or inverses that go into the state; returns the numbers kept."""
    n = matrix.core_size
    if not isinstance(matrix, Kept):
        return _factorize(net, ledger, n, systems, formed=isinstance(matrix, Gram))
    for _ in range(systems):
        ledger.let_go(state=n**2)
        factor = _factorize(net, ledger, n, 1, formed=False)
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


def _factorize(net: Net, ledger: Ledger, n: int, systems: int, formed: bool) -> int:
    """M + lam I of several systems [n, n], then their Cholesky factors in place; returns the numbers kept.

    formed: whether M is computed for it.
    """
    if formed:
        symmetric(net, ledger, n, "inverse")
    ledger.hold(inverse=systems * n**2)
    ledger.let_go(inverse=n**2 if formed else 0)
    if not net.by_blocks and systems > 1 and n <= LARGE:
        with ledger.during(inverse=systems * n**2):  # their inverses, which take their place
            pass
    if not (net.by_blocks and n > LARGE):
        return systems * n**2
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


FORMULAS: dict[str, Formula] = {"kfi": _kfi}
