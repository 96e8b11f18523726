"""Matrices kept as what they are made of, as directions and right sides are: nothing of size O x I need be formed."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


def add_scaled(target: Float[Tensor, "*n"], tensor: Float[Tensor, "*n"], scale: float | Float[Tensor, ""]) -> None:
    """``target += scale * tensor`` in place. If the scale is a tensor, its number is not read."""
    if isinstance(scale, Tensor):
        target.addcmul_(tensor, scale)
    else:
        target.add_(tensor, alpha=scale)


def scaled_product(left: Float[Tensor, "m r"], right: Float[Tensor, "r n"], scale: float) -> Float[Tensor, "m n"]:
    """``scale left @ right`` in one call: on a CPU, scaling by itself costs as much as a small product."""
    return torch.addmm(left.new_empty(()), left, right, beta=0, alpha=scale)


@dataclass(frozen=True)
class Product:
    """The matrix ``left @ right`` or, without ``left``, dense: ``right`` is then [m, n]."""

    left: Float[Tensor, "m r"] | None
    right: Float[Tensor, "r n"]

    def add_to(self, target: Float[Tensor, "m n"], scale: float | Float[Tensor, ""]) -> None:
        """``target += scale * left @ right`` in place, without forming the product."""
        if self.left is None:
            add_scaled(target, self.right, scale)
        elif isinstance(scale, Tensor):
            target.addmm_(self.left * scale, self.right)
        else:
            target.addmm_(self.left, self.right, alpha=scale)

    def dense(self) -> Float[Tensor, "m n"]:
        """The matrix itself."""
        return self.right if self.left is None else self.left @ self.right


@dataclass(frozen=True)
class RankOneUpdate:
    """``share * matrix + column row^T``. The matrix may be somebody else's: it stays as it is."""

    share: Float[Tensor, "1"]
    matrix: Float[Tensor, "m n"]
    column: Float[Tensor, " m"]
    row: Float[Tensor, " n"]

    def add_to(self, target: Float[Tensor, "m n"], scale: float | Float[Tensor, ""]) -> None:
        """``target += scale * (share * matrix + column row^T)`` in place, without forming the sum."""
        target.addcmul_(self.matrix, self.share * scale)
        if isinstance(scale, Tensor):
            target.addr_(self.column * scale, self.row)
        else:
            target.addr_(self.column, self.row, alpha=scale)

    def dense(self) -> Float[Tensor, "m n"]:
        """The matrix itself."""
        return (self.share * self.matrix).addr_(self.column, self.row)


Direction = Product | RankOneUpdate  # of a weight
