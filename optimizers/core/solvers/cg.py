"""The method of conjugate gradients (CG) on many small systems at once."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def conjugate_gradient(
    operator: Callable[[Float[Tensor, "*rows n"], Bool[Tensor, "*rows"]], Float[Tensor, "*rows n"]],
    right: Float[Tensor, "*rows n"],
    max_iter: int,
    tolerance: float,
) -> tuple[Float[Tensor, "*rows n"], Int[Tensor, "*rows"], Float[Tensor, "*rows"], Bool[Tensor, "*rows"]]:
    """Solve A x = b from x = 0 for every row of ``right``, with an A of its own. A row that has converged no longer
    changes.

    Args:
        operator: maps p to A p; each A is symmetric and positive definite. It also gets a mask of the active rows; the
            products of the others are not needed.
        right: b.
        max_iter: the most iterations.
        tolerance: a row stops when ||r|| <= tolerance ||b||.

    Returns:
        x; iterations; ||r|| / ||b||, which is 0 if b = 0 and NaN if a number was not finite; and whether p^T A p <= 0
        occurred. On a GPU nothing waits for a result: all ``max_iter`` iterations are
        queued, and a row that is done ignores the rest.
    """
    # every row has its largest entry at 1, so that the square of a tiny or a huge one is still a number
    scale = right.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(right.dtype).tiny)
    r = right / scale
    x, p = torch.zeros_like(r), r.clone()
    squared = initial = torch.linalg.vecdot(r, r)
    threshold = tolerance**2 * initial
    iterations = torch.zeros_like(initial, dtype=torch.int64)
    active, least = squared > threshold, torch.full_like(initial, torch.inf)
    for _ in range(max_iter):
        if active.device.type == "cpu" and not active.any():
            break
        q = operator(p, active)
        curvature = torch.linalg.vecdot(p, q)
        least = torch.where(active, torch.minimum(least, curvature), least)  # NaN once it was met
        active &= curvature > 0
        step = torch.where(active, squared / curvature, 0).unsqueeze(-1)
        x.addcmul_(step, p)
        r.addcmul_(step, q, value=-1)
        iterations += active
        previous, squared = squared, torch.linalg.vecdot(r, r)
        active &= squared > threshold
        p = torch.addcmul(r, p, torch.where(active, squared / previous, 0).unsqueeze(-1))
    residual = torch.where(initial == 0, 0, (squared / initial).sqrt())
    return x.mul_(scale), iterations, residual, least <= 0
