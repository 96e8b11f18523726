"""The method of conjugate gradients (CG) on many small systems at once.

symbol           name        shape
A p              q           [R, 1, n]
x, r             x, r        [R, 1, n]
p / ||r||^2      p           [R, 1, n]  so that an iteration takes no ratio of two norms
M r, M p         Mr, Mp      [R, 1, n]  M = I, or that of another inner product x^T M y
p^T M A p        curvature   [R, 1, 1]
||r||^2          squared     [R, 1, 1]  r^T M r

For small systems the calls take the time: all tensors have three dimensions, so that an iteration needs no views.
"""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from optimizers.core.solvers.solution import Status

Rows = Float[Tensor, "*rows n"]
Multiply = Callable[[list[bool] | None], object]


def conjugate_gradient(
    operator: Callable[[Rows, Rows, Rows], Multiply],
    right: Rows,
    max_iter: int,
    tolerance: float,
    metric: Callable[[Rows, Rows], object] | None = None,
) -> tuple[Rows, Int[Tensor, "*rows"], Float[Tensor, "*rows"], Bool[Tensor, "*rows"]]:
    """Solve A x = b from x = 0 for every row of ``right``, with an A of its own. A row that has converged no longer
    changes.

    Args:
        operator: takes p, M p and q, which begins as zeros, and returns a function that writes A p to q. CG changes p
            and M p in place. On a CPU the function is told of each row whether it is active, and may skip the others;
            on a GPU it gets None. Each A is symmetric and positive definite in the inner product.
        right: b.
        max_iter: the most iterations.
        tolerance: a row stops when ||r|| <= tolerance ||b||.
        metric: takes r and a tensor, and writes M r to the tensor, which begins as zeros, for the inner product
            x^T M y; None is x^T y. The scale of M does not matter.

    Returns:
        x; iterations; ||r|| / ||b||, which is 0 if b = 0 and NaN if a number was not finite; and whether p^T A p <= 0
        occurred. On a GPU nothing waits for a result: all ``max_iter`` iterations are queued, and a row that is done
        ignores the rest.
    """
    shape, rows = right.shape, right.reshape(-1, 1, right.shape[-1])
    # rows are scaled to a largest entry of 1, so that squares neither overflow nor underflow
    scale = rows.abs().amax(-1, keepdim=True).clamp_min_(torch.finfo(right.dtype).tiny)
    r = rows / scale
    Mr = torch.zeros_like(r) if metric else r
    weigh = partial(metric, r.view(shape), Mr.view(shape)) if metric else None
    if weigh:
        weigh()
    x, squared = torch.zeros_like(r), torch.bmm(r, Mr.mT)
    zero, never = right.new_zeros(()), right.new_full((), torch.inf)
    initial, threshold = squared, tolerance**2 * squared
    active = squared > threshold
    divisor = torch.where(active, squared, never)
    p, q = r / divisor, torch.zeros_like(r)
    Mp = Mr / divisor if metric else p
    multiply, Mr_column, q_column = operator(p.view(shape), Mp.view(shape), q.view(shape)), Mr.mT, q.mT
    working, moved = None, []
    for _ in range(max_iter):
        if active.device.type == "cpu":
            working = active.flatten().tolist()
            if not any(working):
                break
        multiply(working)
        curvature = torch.bmm(Mp, q_column)
        active = active & (curvature > zero)
        moved.append(active)
        step = torch.where(active, curvature, never)
        x.addcdiv_(p, step)
        r.addcdiv_(q, step, value=-1)
        if weigh:
            weigh()
        squared = torch.bmm(r, Mr_column)
        active = active & (squared > threshold)
        divisor = torch.where(active, squared, never)
        p.addcdiv_(r, divisor)
        if metric:
            Mp.addcdiv_(Mr, divisor)
    iterations = torch.stack(moved).sum(0) if moved else torch.zeros_like(active, dtype=torch.int64)
    broken = (iterations < len(moved)) & (squared > threshold)
    residual = squared / initial.clamp_min(torch.finfo(right.dtype).tiny)
    residual = residual.clamp_min_(0).sqrt_()  # rounding may take r^T M r below 0
    iterations, residual, broken = (one.view(shape[:-1]) for one in (iterations, residual, broken))
    return x.mul_(scale).view(shape), iterations, residual, broken


def status_of(
    residual: Float[Tensor, "*rows"], tolerance: float, broken: Bool[Tensor, "*rows"], total: Float[Tensor, "*rows"]
) -> Int[Tensor, "*rows"]:
    """The :class:`Status` of each row, from what CG returned, and the total of what must be finite."""
    not_finite = (residual + total).mul_(0) != 0
    status = (residual > tolerance).long().mul_(Status.MAX_ITERATIONS)
    status.masked_fill_(broken, Status.NEGATIVE_CURVATURE)
    return status.masked_fill_(not_finite, Status.NOT_FINITE)
