"""Products that are known to be symmetric, at half the operations."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

STRIP = 128  # rows computed at a time on a CPU; on a GPU one product is faster than several


def symmetric(strip: Callable[[slice, slice], Tensor], size: int, like: Tensor) -> Float[Tensor, "n n"]:
    """A symmetric matrix; ``strip(rows, columns)`` computes any block of it."""
    if like.device.type != "cpu" or size <= STRIP:
        return strip(slice(None), slice(None))
    matrix = like.new_empty(size, size)
    for start in range(0, size, STRIP):
        rows, columns = slice(start, start + STRIP), slice(start, None)
        block = strip(rows, columns)
        matrix[rows, columns] = block
        matrix[start + STRIP :, rows] = block[:, STRIP:].mT
        del block  # before the next is computed
    return matrix


def gram(x: Float[Tensor, "n m"]) -> Float[Tensor, "n n"]:
    """``x x^T``."""
    return symmetric(lambda rows, columns: x[rows] @ x[columns].mT, len(x), x)
