"""Damped positive definite systems by Cholesky factorization."""

import torch
from torch import Tensor

_BLOCK = 128  # LAPACK's own factorization of 1024 x 1024, with torch's copies around it, takes twice as long on a CPU


def solve_damped(matrix: Tensor, damping: Tensor | float, right: Tensor) -> tuple[Tensor, Tensor]:
    """(matrix + damping I)^-1 right.

    Args:
        matrix: symmetric, [n, n].
        damping: a number or a scalar tensor.
        right: [n, m].

    Returns:
        The solution [n, m], or ``right`` itself where the damped matrix is not positive definite, and ``info`` [],
        which is not 0 in that case. Nothing waits for the device.
    """
    factor, info = _factorize(matrix, damping)
    return torch.where(info == 0, torch.cholesky_solve(right, factor), right), info


def _factorize(matrix: Tensor, damping: Tensor | float) -> tuple[Tensor, Tensor]:
    """The lower Cholesky factor, block column by block column; what is above its diagonal is not cleared."""
    factor = matrix.mT.clone()  # column-major, as LAPACK wants it
    factor.diagonal().add_(damping)
    size = len(factor)
    block = _BLOCK if factor.device.type == "cpu" else size
    infos = []
    for start in range(0, size, block):
        end = min(start + block, size)
        corner, info = torch.linalg.cholesky_ex(factor[start:end, start:end])
        infos.append(info)
        factor[start:end, start:end] = corner
        if end < size:
            panel = torch.linalg.solve_triangular(corner, factor[end:, start:end].mT, upper=False).mT
            factor[end:, start:end] = panel
            factor[end:, end:].addmm_(panel, panel.mT, alpha=-1)
    return factor, torch.stack(infos).amax()
