"""Floating-point operations of a training step, counted while it runs, and its cost in gradient-equivalents.

One *gradient* is one forward and one backward pass with all weight gradients. The operations of a step over those of
one gradient, on the same network and batch, are its *gradient-equivalents*: the field's own unit of cost.

``torch.utils.flop_counter`` counts products, a multiplication with an addition as two operations. Solves and
factorizations have the usual counts of dense linear algebra (LAPACK Working Note 41). Elementwise work, sums and
copies are not counted, as in torch's own counter.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import prod
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

from optimizers.core import SecondOrder, Solution
from suites.harness.measure.step import EveryOperation, Step
from suites.harness.records.conventions import PHASES

_PROBED_STEPS = 10  # of an optimizer whose steps may differ, as one that renews its curvature now and then

_NONE: Mapping[str, int] = MappingProxyType({})

aten = torch.ops.aten


def _of_vectors(a: Tensor, b: Tensor, *rest: object, **named: object) -> int:
    """Two for each number of the larger operand: products of a matrix and a vector, and of two vectors."""
    return 2 * max(a.numel(), b.numel())


def _of_triangle(matrix: Tensor, *rest: object, **named: object) -> int:
    """Cholesky: n^3/3 + n^2/2 + n/6."""
    n = matrix.shape[-1]
    return _batch(matrix) * n * (n + 1) * (2 * n + 1) // 6


def _cubic(square: int, cube: int, divisor: int = 1) -> Callable[..., int]:
    """(square m n^2 + cube n^3) / divisor for a matrix m x n or n x m, m >= n."""

    def formula(matrix: Tensor, *rest: object, **named: object) -> int:
        n, m = sorted(matrix.shape[-2:])
        return _batch(matrix) * (square * m * n * n + cube * n**3) // divisor

    return formula


def _solves(triangle: Tensor, right: Tensor, times: int = 1) -> int:
    """Substitution in one triangle: n^2 for each column of the right side."""
    return times * triangle.shape[-1] * right.numel()


def _batch(matrix: Tensor) -> int:
    return prod(matrix.shape[:-2])


_FORMULAS: dict[object, Callable[..., int]] = {
    **flop_registry,
    aten.addmm_: flop_registry[aten.addmm],
    aten.baddbmm_: flop_registry[aten.baddbmm],
    aten.mv: _of_vectors,
    aten.dot: _of_vectors,
    aten.vdot: _of_vectors,
    **dict.fromkeys((aten.addmv, aten.addmv_), lambda bias, *operands, **named: _of_vectors(*operands)),
    **dict.fromkeys((aten.addr, aten.addr_), lambda matrix, *vectors, **named: 2 * matrix.numel()),
    aten.cholesky_solve: lambda right, factor, *rest, **named: _solves(factor, right, times=2),
    aten.linalg_solve_triangular: lambda triangle, right, **named: _solves(triangle, right),
    aten.cholesky_inverse: _cubic(0, 2, 3),
}
_FACTORIZATIONS: dict[object, Callable[..., int]] = {
    aten.linalg_cholesky_ex: _of_triangle,
    aten.linalg_lu_factor_ex: _cubic(0, 2, 3),
    aten.linalg_inv_ex: _cubic(0, 2),
    aten._linalg_solve_ex: lambda matrix, right, **named: _cubic(0, 2, 3)(matrix) + _solves(matrix, right, times=2),
    aten.linalg_qr: _cubic(12, -4, 3),  # Q and R, by Householder
    # with vectors, as Golub and Van Loan count them (Matrix Computations, 8.3 and 8.6)
    aten._linalg_eigh: _cubic(0, 9),
    aten._linalg_svd: _cubic(14, 8),
}


class OperationCounter(EveryOperation):
    """Counts operations while it is active: ``counts`` has them by phase, and the number of ``factorizations``.

    The phase is the one that ``mark`` named last.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self._phase: str | None = PHASES[0]
        self._factorizations = Fraction(0)

    def mark(self, phase: str | None) -> None:
        """A phase begins here; None ends the step."""
        self._phase = phase

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = getattr(func, "_overloadpacket", None)
        formula = _FACTORIZATIONS.get(packet) or _FORMULAS.get(packet)
        if formula is None:
            with self:  # inference mode shows composite operations whole: count their parts
                parts = func.decompose(*args, **kwargs)
            return func(*args, **kwargs) if parts is NotImplemented else parts
        result = func(*args, **kwargs)
        self.counts[self._phase or PHASES[-1]] += formula(*args, **kwargs, out_val=result)
        if packet in _FACTORIZATIONS:
            self._factorizations += _share_of_factorization(args[0])
            self.counts["factorizations"] = round(self._factorizations)
        return result


def _share_of_factorization(matrix: Tensor) -> Fraction:
    """1 for a matrix; less for a diagonal block of one, so that a factorization by blocks adds up to 1."""
    size = max(matrix.shape[-1], 1)
    return _batch(matrix) * Fraction(size, max(size, *matrix.stride()[-2:]))


def count(step: Step) -> Counter[str]:
    """Take a step and count it: operations by phase, ``forwards``, ``backwards`` and ``factorizations``.

    From now on nothing watches the phases of the step.
    """
    counter, before = OperationCounter(), Counter(step.passes)
    step.watch(counter.mark)
    with counter:
        step()
    step.watch(lambda phase: None)
    passes = step.passes - before
    both = 1 + passes["evaluations"] + passes["products"]
    counter.counts.update(forwards=both + passes["forwards"] + passes["tangents"], backwards=both + passes["backwards"])
    return counter.counts


def count_gradient(step: Step) -> int:
    """Operations of one gradient of a step's network and batch: forward, backward, and all weight gradients."""
    with OperationCounter() as counter:
        step.record().write_gradients()
    for parameter in step.network.parameters():
        parameter.grad = None
    return counter.counts.total()


@dataclass(frozen=True)
class StepCost:
    """The cost of a step, in the counts of :func:`count`.

    ``gradient``: operations of one gradient. ``fixed``: what every step costs. ``iteration``: what CG adds, one entry
    for each parameter group that CG solves. Its first count is of every iteration; the others are of the product of
    one block each, which stops when the rows of the block have converged. ``passes``: what one of each kind of
    :attr:`suites.harness.measure.step.Step.passes` adds, where steps differ in their number.
    """

    gradient: int
    fixed: Counter[str]
    iteration: tuple[tuple[Counter[str], ...], ...] = ()
    passes: Mapping[str, Counter[str]] = field(default_factory=dict)

    def of(self, iterations: Sequence[Sequence[int]], passes: Mapping[str, int] = _NONE) -> Counter[str]:
        """The counts of a step, from the iterations of each group as :func:`iterations_run` returns them, and from the
        passes of each kind.
        """
        total = Counter(self.fixed)
        for kind, one in self.passes.items():
            total.update(_times(passes.get(kind, 0), one))
        for of_group, costs in zip(iterations, self.iteration, strict=True):
            for times, one in zip(of_group, costs, strict=True):
                total.update(_times(times, one))
        return total

    def gradient_equivalents(self, counts: Counter[str]) -> float:
        """Operations of some steps over those of one gradient."""
        return sum(counts[phase] for phase in PHASES) / self.gradient


def probe(step: Step) -> StepCost:
    """The cost of a step, found by taking a few.

    Steps of a :class:`SecondOrder` optimizer differ in their CG iterations alone: one more iteration tells the cost of
    each. They leave the network as it was. If its work repeats after a period of several steps, their mean stands for
    all. Of any other optimizer, the mean of some steps stands for all, without passes that some steps may take and
    others not: a run counts these.
    """
    gradient = count_gradient(step)
    if not isinstance(step.optimizer, SecondOrder):
        total, before = Counter[str](), Counter(step.passes)
        for _ in range(_PROBED_STEPS):
            total.update(count(step))
        passes = {kind: one for kind, one in _passes(step, gradient).items() if step.passes[kind] > before[kind]}
        for kind, one in passes.items():
            total.subtract(_times(step.passes[kind] - before[kind], one))
        return StepCost(gradient, _mean(total, _PROBED_STEPS), passes=passes)
    groups = step.optimizer.param_groups
    kept = [dict(group) for group in groups]
    solved_by_cg = list(enumerate(groups)) if step.optimizer.solver.iterative else []
    for group in groups:
        group["lr"] = 0.0
    for _, group in solved_by_cg:
        group.update(max_iter=1, tolerance=0.0)  # no row stops before its time
    period = step.optimizer.period
    first, iteration = _mean(sum((count(step) for _ in range(period)), Counter[str]()), period), []
    fixed = Counter(first)
    for number, group in solved_by_cg:
        group["max_iter"] = 2
        one = count(step)
        group["max_iter"] = 1
        one.subtract(first)
        fixed.subtract(one)
        products = [Counter(solve=product) for product in step.optimizer.solutions[number].operations]
        for product in products:
            one.subtract(product)
        iteration.append((one, *products))
    for group, values in zip(groups, kept, strict=True):
        group.update(values)
    return StepCost(gradient, fixed, tuple(iteration))


def _passes(step: Step, gradient: int) -> dict[str, Counter[str]]:
    """The counts of one pass of each kind that only some steps may take."""
    tape, forward, product = step.record(), OperationCounter(), OperationCounter()
    with forward:
        tape.loss_now()
    with product:
        tape.gauss_newton_product([(layer.weight, layer.bias) for layer in tape.layers])
    return {
        "evaluations": Counter(forward_backward=gradient, forwards=1, backwards=1),
        "forwards": Counter(update=forward.counts.total(), forwards=1),
        "products": Counter(solve=product.counts.total(), forwards=1, backwards=1),
    }


def _times(number: int, counts: Counter[str]) -> Counter[str]:
    return Counter({name: number * count for name, count in counts.items()})


def _mean(total: Counter[str], steps: int) -> Counter[str]:
    """Of the counts of some steps, whole where it is."""
    means: dict[str, Any] = {n: number / steps if number % steps else number // steps for n, number in total.items()}
    return Counter(means)


def iterations_run(solution: Solution, iterations: Tensor, max_iter: int) -> Tensor:
    """CG iterations of the solves of a parameter group: of all rows, then of each block, [..., 1 + blocks].

    On a GPU every solve takes ``max_iter`` iterations.

    Args:
        solution: of the group; its blocks are used.
        iterations: of each row, [..., L, 2].
    """
    ran = torch.stack([iterations[..., rows, :].amax((-2, -1)) for rows in (slice(None), *solution.blocks)], dim=-1)
    return ran if ran.device.type == "cpu" else torch.full_like(ran, max_iter)
