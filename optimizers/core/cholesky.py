"""Damped positive definite systems by Cholesky factorization; large ones on a CPU by blocks, as matrix products.

symbol              name        shape
M + lambda I        matrix      [n, n]   symmetric; = L L^T
L                   factor      [n, n]   lower
(L_jj)^-1           corners     [b, b]   of the diagonal blocks
"""

import torch
from torch import Tensor

# torch's triangular solves with many right sides, and its factorization of a large matrix, run at a third of the speed
# of products on a CPU
BLOCK = 96
LARGE = 512
MANY = 256


def solve_damped(matrix: Tensor, damping: Tensor | float, right: Tensor) -> tuple[Tensor, Tensor]:
    """(matrix + damping I)^-1 right.

    Args:
        matrix: symmetric, [n, n].
        damping: a number or a scalar tensor.
        right: [n, m].

    Returns:
        The solution [n, m], and ``info`` [], which is not 0 where the damped matrix is not positive definite and the
        solution means nothing. Nothing waits for the device.
    """
    factor = matrix.mT.clone()  # column-major, as LAPACK wants it
    factor.diagonal().add_(damping)
    size, many = right.shape
    if factor.device.type != "cpu" or not by_blocks(size, many):
        factor, info = torch.linalg.cholesky_ex(factor)
        return torch.cholesky_solve(right, factor), info
    blocks = [slice(start, start + BLOCK) for start in range(0, size, BLOCK)]
    if size > LARGE:
        corners, info = _factorize(factor, blocks)
    else:
        factor, info = torch.linalg.cholesky_ex(factor)
        corners = [_inverse(factor[block, block]) for block in blocks]
    return _substitute(factor, corners, blocks, right), info


def by_blocks(size: int, many: int) -> bool:
    """Whether a CPU takes a system of this size with so many right sides by blocks."""
    return size > LARGE or (size > BLOCK and many >= MANY)


def _factorize(factor: Tensor, blocks: list[slice]) -> tuple[list[Tensor], Tensor]:
    """Turn a lower triangle into L in place, all but the diagonal blocks, of which the inverses return."""
    corners, infos = [], []
    for columns in blocks:
        done, panel = slice(columns.start), factor[columns.start :, columns]
        panel.addmm_(factor[columns.start :, done], factor[columns, done].T, alpha=-1)
        size = panel.shape[1]
        corner, info = torch.linalg.cholesky_ex(panel[:size])
        corners.append(_inverse(corner))
        infos.append(info)
        panel[size:] = panel[size:] @ corners[-1].T
    return corners, torch.stack(infos).amax()


def _substitute(factor: Tensor, corners: list[Tensor], blocks: list[slice], right: Tensor) -> Tensor:
    """L^-T L^-1 right, forwards and backwards through the blocks."""
    x = right.clone()
    for rows, corner in zip(blocks, corners, strict=True):
        x[rows] = corner @ x[rows].addmm_(factor[rows, : rows.start], x[: rows.start], alpha=-1)
    for rows, corner in zip(blocks[::-1], corners[::-1], strict=True):
        x[rows] = corner.T @ x[rows].addmm_(factor[rows.stop :, rows].T, x[rows.stop :], alpha=-1)
    return x


def _inverse(corner: Tensor) -> Tensor:
    identity = torch.eye(len(corner), dtype=corner.dtype, device=corner.device)
    return torch.linalg.solve_triangular(corner, identity, upper=False)
