"""The method of conjugate gradients (CG) on many small systems at once.

symbol           name        shape
A p              q           [..., n]
x, r             x, r        [..., n]
p / ||r||^2      p           [..., n]   so that an iteration takes no ratio of two norms
M r, M p         Mr, Mp      [..., n]   M = I, or that of another inner product x^T M y
p^T M A p        curvature   [...]
||r||^2          squared     [...]      r^T M r
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from optimizers.core.solvers.solution import Status

Rows = Float[Tensor, "*rows n"]
Multiply = Callable[[Bool[Tensor, "*rows"]], Rows]


def conjugate_gradient(
    operator: Callable[[Rows, Rows], Multiply],
    right: Rows,
    max_iter: int,
    tolerance: float,
    metric: Callable[[Rows, Rows], Rows] | None = None,
) -> tuple[Rows, Int[Tensor, "*rows"], Float[Tensor, "*rows"], Bool[Tensor, "*rows"]]:
    """Solve A x = b from x = 0 for every row of ``right``, with an A of its own. A row that has converged no longer
    changes.

    Args:
        operator: takes p and M p, and returns a function that computes A p. CG changes p and M p in place. The function
            takes a mask of the active rows, and may skip the others. Each A is symmetric and positive definite in the
            inner product.
        right: b.
        max_iter: the most iterations.
        tolerance: a row stops when ||r|| <= tolerance ||b||.
        metric: takes r and a tensor, writes M r to the tensor and returns it, for the inner product x^T M y; None is
            x^T y. The scale of M does not matter.

    Returns:
        x; iterations; ||r|| / ||b||, which is 0 if b = 0 and NaN if a number was not finite; and whether p^T A p <= 0
        occurred. On a GPU nothing waits for a result: all ``max_iter`` iterations are queued, and a row that is done
        ignores the rest.
    """
    # rows are scaled to a largest entry of 1, so that squares neither overflow nor underflow
    scale = right.abs().amax(-1, keepdim=True).clamp_min_(torch.finfo(right.dtype).tiny)
    r = right / scale
    Mr = metric(r, torch.zeros_like(r)) if metric else r
    x, initial = torch.zeros_like(r), _inner(r, Mr)
    zero, never = right.new_zeros(()), right.new_full((), torch.inf)
    squared, threshold = initial, tolerance**2 * initial
    active = squared > threshold
    divisor = torch.where(active, squared, never).unsqueeze(-1)
    p = r / divisor
    Mp = Mr / divisor if metric else p
    multiply, moved = operator(p, Mp), []
    for _ in range(max_iter):
        if active.device.type == "cpu" and not any(active.flatten().tolist()):
            break
        q = multiply(active)
        curvature = _inner(Mp, q)
        active = active & (curvature > zero)
        moved.append(active)
        step = torch.where(active, curvature, never).unsqueeze(-1)
        x.addcdiv_(p, step)
        r.addcdiv_(q, step, value=-1)
        if metric:
            metric(r, Mr)
        squared = _inner(r, Mr)
        active = active & (squared > threshold)
        divisor = torch.where(active, squared, never).unsqueeze(-1)
        p.addcdiv_(r, divisor)
        if metric:
            Mp.addcdiv_(Mr, divisor)
    iterations = torch.stack(moved).sum(0) if moved else torch.zeros_like(active, dtype=torch.int64)
    broken = (iterations < len(moved)) & (squared > threshold)
    residual = squared / initial.clamp_min(torch.finfo(right.dtype).tiny)
    residual = residual.clamp_min_(0).sqrt_()  # rounding may take r^T M r below 0
    return x.mul_(scale), iterations, residual, broken


def status_of(
    residual: Float[Tensor, "*rows"], tolerance: float, broken: Bool[Tensor, "*rows"], total: Float[Tensor, "*rows"]
) -> Int[Tensor, "*rows"]:
    """The :class:`Status` of each row, from what CG returned, and the total of what must be finite."""
    not_finite = (residual + total).mul_(0) != 0
    status = (residual > tolerance).long().mul_(Status.MAX_ITERATIONS)
    status.masked_fill_(broken, Status.NEGATIVE_CURVATURE)
    return status.masked_fill_(not_finite, Status.NOT_FINITE)


def _inner(a: Rows, b: Rows) -> Float[Tensor, "*rows"]:
    """The inner products of rows."""
    n = a.shape[-1]
    return torch.bmm(a.reshape(-1, 1, n), b.reshape(-1, n, 1)).view(a.shape[:-1])
