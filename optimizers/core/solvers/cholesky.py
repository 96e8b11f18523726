"""Damped positive definite systems by Cholesky factorization. On a CPU, large ones are solved by blocks, as matrix
products.

symbol              name        shape
M + lambda I        matrix      [n, n]   symmetric; = L L^T
L                   factor      [n, n]   lower
(L_jj)^-1           corners     [b, b]   of the diagonal blocks
"""

import math
from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from optimizers.core.streams import side_by_side

# torch's triangular solves with many right sides, and its factorization of a large matrix, run at a third of the speed
# of products on a CPU
BLOCK = 96
LARGE = 512
MANY = 256


# damping and right side; solution and ``info``
System = tuple[Float[Tensor, ""] | float, Float[Tensor, "n _m"]]
Solved = tuple[Float[Tensor, "n _m"], Int[Tensor, ""]]


def solve_damped(matrix: Float[Tensor, "n n"], *systems: System) -> list[Solved]:
    """(matrix + damping I)^-1 right for several systems with one matrix.

    Args:
        matrix: symmetric.
        systems: for each system the damping, and the right side.

    Returns:
        For each system the solution and ``info``. If ``info`` is not 0, the damped matrix is not positive
        definite, and the solution means nothing. Nothing waits for the device.
    """
    if matrix.device.type == "cpu" and len(matrix) > LARGE:
        return _solve_by_blocks(matrix, systems)
    return side_by_side([partial(_solve, matrix, *system) for system in systems], matrix.device)


def _solve(matrix: Float[Tensor, "n n"], damping: Float[Tensor, ""] | float, right: Float[Tensor, "n m"]) -> Solved:
    """One system by LAPACK's factorization."""
    factor = matrix.mT.clone()  # column-major, as LAPACK wants it
    factor.diagonal().add_(damping)
    factor, info = torch.linalg.cholesky_ex(factor)
    if factor.device.type != "cpu" or not by_blocks(*right.shape):
        return torch.cholesky_solve(right, factor), info
    blocks = blocks_of(len(factor))
    corners = [_inverse(factor[block, block]) for block in blocks]
    return _substitute(factor, corners, blocks, right), info


def _solve_by_blocks(matrix: Float[Tensor, "n n"], systems: Sequence[System]) -> list[Solved]:
    """All systems at once."""
    factors = matrix.expand(len(systems), -1, -1).clone()
    for factor, (damping, _) in zip(factors, systems, strict=True):
        factor.diagonal().add_(damping)
    blocks = blocks_of(len(matrix))
    corners, infos = _factorize(factors, blocks)
    return [
        (_substitute(factor, [corner[number] for corner in corners], blocks, right), infos[number])
        for number, (factor, (_, right)) in enumerate(zip(factors, systems, strict=True))
    ]


def by_blocks(size: int, many: int) -> bool:
    """Whether a CPU solves a system of this size, with this number of right sides, by blocks."""
    return size > LARGE or many >= MANY


def blocks_of(size: int) -> list[slice]:
    """Blocks of about ``BLOCK`` rows. All but the last have the same length, a multiple of 16 for aligned products."""
    length = 16 * math.ceil(size / max(1, round(size / BLOCK)) / 16)
    return [slice(start, min(start + length, size)) for start in range(0, size, length)]


def _factorize(
    factors: Float[Tensor, "k n n"], blocks: list[slice]
) -> tuple[list[Float[Tensor, "k b b"]], Int[Tensor, " k"]]:
    """Turn lower triangles into L in place, except the diagonal blocks; returns the inverses of these."""
    corners, infos = [], []
    for columns in blocks:
        done = slice(columns.start)
        panel = factors[:, columns.start :, columns]
        if columns.start:
            panel = torch.baddbmm(panel, factors[:, columns.start :, done], factors[:, columns, done].mT, alpha=-1)
        size = panel.shape[2]
        factors[:, columns, columns] = panel[:, :size]
        corner, info = torch.linalg.cholesky_ex(factors[:, columns, columns])
        corners.append(_inverse(corner))
        infos.append(info)
        factors[:, columns.stop :, columns] = panel[:, size:] @ corners[-1].mT
    return corners, torch.stack(infos).amax(0)


def _substitute(
    factor: Float[Tensor, "n n"],
    corners: list[Float[Tensor, "_b _b"]],
    blocks: list[slice],
    right: Float[Tensor, "n m"],
) -> Float[Tensor, "n m"]:
    """L^-T L^-1 right, forwards and backwards through the blocks."""
    x = right.clone()
    for rows, corner in zip(blocks, corners, strict=True):
        x[rows] = corner @ x[rows].addmm_(factor[rows, : rows.start], x[: rows.start], alpha=-1)
    for rows, corner in zip(blocks[::-1], corners[::-1], strict=True):
        x[rows] = corner.T @ x[rows].addmm_(factor[rows.stop :, rows].T, x[rows.stop :], alpha=-1)
    return x


def _inverse(corner: Float[Tensor, "*k b b"]) -> Float[Tensor, "*k b b"]:
    identity = torch.eye(corner.shape[-1], dtype=corner.dtype, device=corner.device).expand_as(corner)
    return torch.linalg.solve_triangular(corner, identity, upper=False)
