"""Damped positive definite systems by Cholesky factorization. On a CPU, large ones are solved by blocks, as matrix
products. On a GPU, those of a batch are all solved with the inverses of their factors, which are products as well.

symbol              name        shape
M + lambda I        matrix      [n, n]   symmetric; = L L^T
L                   lower       [n, n]   lower triangle
(L_jj)^-1           corners     [b, b]   of the diagonal blocks
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


Damping = Float[Tensor, ""] | float


@dataclass(frozen=True)
class Request:
    """M + lambda I is wanted for several lambdas; ``matrix`` computes the symmetric M [size, size]."""

    size: int
    matrix: Callable[[], Float[Tensor, "n n"]]
    dampings: Sequence[Damping]


@dataclass(frozen=True)
class Factor:
    """M + lambda I = L L^T. If ``info`` is not 0, it is not positive definite, and solutions mean nothing.

    corners: where the factorization was by blocks; the diagonal blocks of ``lower`` are not used then. A single one is
        L^-1, which then stands for ``lower`` as well.
    """

    damping: Damping
    lower: Float[Tensor, "n n"]
    info: Int[Tensor, ""]
    corners: Sequence[Float[Tensor, "_b _b"]] | None = None

    def solve(self, right: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
        """(M + lambda I)^-1 right."""
        corners = self.corners
        if corners is not None and len(corners) == 1:
            return corners[0].T @ (corners[0] @ right)
        if corners is None and (right.device.type != "cpu" or not by_blocks(*right.shape)):
            return torch.cholesky_solve(right, self.lower)
        blocks = blocks_of(len(self.lower))
        if corners is None:
            if len(blocks) == 1:
                corner = _inverse(self.lower)
                return corner.T @ corner @ right
            corners = [_inverse(self.lower[block, block]) for block in blocks]
        return _substitute(self.lower, corners, blocks, right)


def factorize(requests: Sequence[Request], padded: int = 0) -> list[list[Factor]]:
    """The factors of each request, one for each damping. Those of one size are factorized as one batch.

    Nothing waits for the device.

    Args:
        padded: sizes up to it are one batch, in which ones on the diagonal fill up the smaller matrices.
    """
    if len(requests) == 1:
        return [_factorize_batch(requests, requests[0].size)]
    factors: list[list[Factor]] = [[] for _ in requests]
    for size, numbers in by_size([request.size for request in requests], padded).items():
        found = iter(_factorize_batch([requests[number] for number in numbers], size))
        for number in numbers:
            factors[number] = [next(found) for _ in requests[number].dampings]
    return factors


def by_size(sizes: Sequence[int], padded: int) -> dict[int, list[int]]:
    """The numbers of the matrices of each batch, by their size within it."""
    widest = max((size for size in sizes if size <= padded), default=0)
    found: dict[int, list[int]] = {}
    for number, size in enumerate(sizes):
        found.setdefault(max(size, widest) if size <= padded else size, []).append(number)
    return found


def _factorize_batch(requests: Sequence[Request], size: int) -> list[Factor]:
    """Of one size, to which smaller ones are padded."""
    dampings = [damping for request in requests for damping in request.dampings]
    matrix: Tensor | None = requests[0].matrix()
    if len(requests) == 1 and (on_gpu(matrix) if size > LARGE else len(dampings) == 1):
        return side_by_side([partial(_factorize_one, matrix, damping) for damping in dampings], matrix.device)
    batch = matrix.new_empty(len(dampings), size, size)
    place, sizes = 0, []
    for request in requests:
        matrix = request.matrix() if matrix is None else matrix
        own = batch[place : place + len(request.dampings)]
        if request.size < size:
            own.zero_().diagonal(dim1=1, dim2=2).fill_(1)
        own[:, : request.size, : request.size] = matrix
        place += len(request.dampings)
        sizes += [request.size] * len(request.dampings)
        matrix = None  # before the next is computed
    for one, damping in zip(batch, dampings, strict=True):
        one.diagonal().add_(damping)
    if not on_gpu(batch) and size > LARGE:
        return [_factorize_blocks(lower, damping) for lower, damping in zip(batch, dampings, strict=True)]
    batch = batch.mT  # column-major, as LAPACK wants it, in place
    lower, info = torch.linalg.cholesky_ex(batch, out=(batch, batch.new_empty(len(batch), dtype=torch.int32)))
    inverted = on_gpu(lower) and size <= LARGE
    batch = _inverse(lower) if inverted else lower
    factors = [one if own == size else one[:own, :own] for one, own in zip(batch, sizes, strict=True)]
    return [
        Factor(damping, one, failed, [one] if inverted else None)
        for damping, one, failed in zip(dampings, factors, info, strict=True)
    ]


def on_gpu(matrix: Tensor) -> bool:
    """Whether it lies on a GPU, where products cost least, and one small matrix leaves most of it idle."""
    return matrix.device.type != "cpu"


def _factorize_one(matrix: Float[Tensor, "n n"], damping: Damping) -> Factor:
    """As a batch of one, in fewer calls."""
    lower = matrix.mT.clone()  # column-major, as LAPACK wants it
    lower.diagonal().add_(damping)
    return Factor(damping, *torch.linalg.cholesky_ex(lower, out=(lower, lower.new_empty((), dtype=torch.int32))))


def by_blocks(size: int, many: int) -> bool:
    """Whether a CPU solves a system of this size, with this number of right sides, by products of blocks."""
    return size > LARGE or many >= MANY


def blocks_of(size: int) -> list[slice]:
    """Blocks of about ``BLOCK`` rows. All but the last have the same length, a multiple of 16 for aligned products."""
    length = 16 * math.ceil(size / max(1, round(size / BLOCK)) / 16)
    return [slice(start, min(start + length, size)) for start in range(0, size, length)]


def _factorize_blocks(matrix: Float[Tensor, "n n"], damping: Damping) -> Factor:
    """In place, from M + lambda I; the diagonal blocks are not used then."""
    corners, infos = [], []
    for columns in blocks_of(len(matrix)):
        done, panel = slice(columns.start), matrix[columns.start :, columns]
        panel.addmm_(matrix[columns.start :, done], matrix[columns, done].T, alpha=-1)
        corner, info = torch.linalg.cholesky_ex(matrix[columns, columns])
        corners.append(_inverse(corner))
        infos.append(info)
        matrix[columns.stop :, columns] = matrix[columns.stop :, columns] @ corners[-1].T
    return Factor(damping, matrix, torch.stack(infos).amax(), corners)


def _substitute(
    factor: Float[Tensor, "n n"],
    corners: Sequence[Float[Tensor, "_b _b"]],
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
