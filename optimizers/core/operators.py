"""What solvers ask of a curvature: for each layer a symmetric, positive semi-definite operator.

symbol                 name        shape
G                      G           [n, n]   never formed where B < n, if it is a Gram matrix
x_1 ... x_B            rows        [B, n]   G = x^T x / B: the Fisher matrix has rows delta
x x^T / B              core        [B, B]   what is factorized in place of G
lambda                 damping     scalar

A right side is a set of rows, and a solve multiplies each row by (G + lambda I)^-1. The rows x of a Gram matrix, and
combinations Y x of them, are solved in the space of the batch, by push-through:

    Y x (x^T x / B + lambda I)^-1 = Y (x x^T / B + lambda I)^-1 x
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from optimizers.core.cholesky import Damping, Factor, Request, factorize
from optimizers.core.counts import batch_is_smaller, dense_is_cheaper
from optimizers.core.product import Product
from optimizers.core.symmetric import gram

_PADDING = 2**18  # zeros that a product may run over, so that there are fewer products


class Operator(ABC):
    """A symmetric, positive semi-definite G [n, n]."""

    @property
    @abstractmethod
    def size(self) -> int:
        """n."""

    @abstractmethod
    def product(self, rows: Float[Tensor, "*m n"]) -> Float[Tensor, "*m n"]:
        """G times each row."""

    @abstractmethod
    def operations(self, rows: int) -> int:
        """Operations of a product with a number of rows; where G is several matrices, with as many for each."""

    @abstractmethod
    def trace(self) -> Float[Tensor, ""]: ...

    @abstractmethod
    def diagonal(self) -> Float[Tensor, " n"]: ...

    @abstractmethod
    def dense(self) -> Float[Tensor, "n n"]:
        """G as a matrix."""

    @property
    def is_in_batch(self) -> bool:
        """Whether it is solved in the space of the batch."""
        return False

    @property
    @abstractmethod
    def core_size(self) -> int:
        """The size of what is factorized."""

    @abstractmethod
    def core(self) -> Float[Tensor, "c c"]:
        """What is factorized."""

    @abstractmethod
    def solve(self, factor: Factor, right: Product) -> Product:
        """(G + lambda I)^-1 times each row, with the factor of ``core() + lambda I``."""

    def damped(self, *dampings: Damping) -> list["Damped"]:
        """G + lambda I, factorized for each damping."""
        return damped([(self, dampings)])[0]


@dataclass(frozen=True)
class Damped:
    """G + lambda I, factorized. If ``info`` is not 0, it is not positive definite, and solutions mean nothing."""

    operator: Operator
    factor: Factor

    @property
    def info(self) -> Int[Tensor, ""]:
        return self.factor.info

    def solve(self, right: Product) -> Product:
        """(G + lambda I)^-1 times each row of the right side."""
        return self.operator.solve(self.factor, right)


def damped(requests: Sequence[tuple[Operator, Sequence[Damping]]], padded: int = 0) -> list[list[Damped]]:
    """G + lambda I of several operators, for several dampings each, see :func:`optimizers.core.cholesky.factorize`."""
    factors = factorize([Request(G.core_size, G.core, dampings) for G, dampings in requests], padded)
    return [[Damped(G, factor) for factor in of_one] for (G, _), of_one in zip(requests, factors, strict=True)]


@dataclass(frozen=True, eq=False)
class Dense(Operator):
    """A matrix [n, n]. For products it may also be several of one size, [*l, n, n]."""

    matrix: Float[Tensor, "*l n n"]

    @property
    def size(self) -> int:
        return self.matrix.shape[-1]

    def product(self, rows: Float[Tensor, "*m n"]) -> Float[Tensor, "*m n"]:
        return torch.bmm(rows, self.matrix) if self.matrix.ndim == 3 else rows @ self.matrix

    def operations(self, rows: int) -> int:
        return 2 * rows * self.matrix.numel()

    def trace(self) -> Float[Tensor, ""]:
        return self.matrix.trace()

    def diagonal(self) -> Float[Tensor, " n"]:
        return self.matrix.diagonal()

    def dense(self) -> Float[Tensor, "n n"]:
        return self.matrix

    @property
    def core_size(self) -> int:
        return self.size

    def core(self) -> Float[Tensor, "n n"]:
        return self.matrix

    def solve(self, factor: Factor, right: Product) -> Product:
        return Product(None, factor.solve(right.dense().T).T)


@dataclass(frozen=True, eq=False)
class Diagonal(Operator):
    """A diagonal matrix: the output Hessian of a criterion that is a sum over the logits."""

    entries: Float[Tensor, " n"]

    @property
    def size(self) -> int:
        return len(self.entries)

    def product(self, rows: Float[Tensor, "*m n"]) -> Float[Tensor, "*m n"]:
        return rows * self.entries

    def operations(self, rows: int) -> int:
        return 0  # elementwise work is not counted

    def trace(self) -> Float[Tensor, ""]:
        return self.entries.sum()

    def diagonal(self) -> Float[Tensor, " n"]:
        return self.entries

    def dense(self) -> Float[Tensor, "n n"]:
        return self.entries.diag()

    @property
    def core_size(self) -> int:
        return 1

    def core(self) -> Float[Tensor, "1 1"]:
        """The smallest entry: it says whether all are positive."""
        return self.entries.amin().view(1, 1)

    def solve(self, factor: Factor, right: Product) -> Product:
        return Product(None, right.dense() / (self.entries + factor.damping))


@dataclass(frozen=True, eq=False)
class Gram(Operator):
    """The mean of the outer products of some rows, rows^T rows / B.

    in_batch: whether it is solved in the space of the batch; None is the way with fewer operations.
    """

    rows: Float[Tensor, "B n"]
    in_batch: bool | None = None

    @property
    def size(self) -> int:
        return self.rows.shape[1]

    @property
    def is_in_batch(self) -> bool:
        return batch_is_smaller(*self.rows.shape) if self.in_batch is None else self.in_batch

    def product(self, rows: Float[Tensor, "*m n"]) -> Float[Tensor, "*m n"]:
        return (rows @ self.rows.T).div_(len(self.rows)) @ self.rows

    def operations(self, rows: int) -> int:
        return 4 * rows * self.rows.numel()

    def trace(self) -> Float[Tensor, ""]:
        flat = self.rows.flatten()
        return torch.dot(flat, flat) / self.rows.shape[0]

    def diagonal(self) -> Float[Tensor, " n"]:
        return self.rows.square().mean(0)

    def dense(self) -> Float[Tensor, "n n"]:
        return gram(self.rows.T).div_(len(self.rows))

    @property
    def core_size(self) -> int:
        return self.rows.shape[0 if self.is_in_batch else 1]

    def core(self) -> Float[Tensor, "c c"]:
        return gram(self.rows).div_(len(self.rows)) if self.is_in_batch else self.dense()

    def solve(self, factor: Factor, right: Product) -> Product:
        if not self.is_in_batch:
            return Product(None, factor.solve(right.dense().T).T)
        if right.right is not self.rows:  # and may be no combination of them
            return Dense(self.dense()).damped(factor.damping)[0].solve(right)
        if right.left is None:
            return Product(None, factor.solve(self.rows))
        return Product(factor.solve(right.left.T).T, self.rows)


def cheapest(G: Operator, products: int) -> Operator:
    """G in the form that takes fewer operations for a number of products with vectors."""
    if isinstance(G, Gram) and dense_is_cheaper(len(G.rows), G.size, products):
        return Dense(G.dense())
    return G


def stacked(operators: Sequence[Operator]) -> list[tuple[slice, Operator]]:
    """Operators of neighbouring layers, stacked so that they share a product, with the slice of the layers.

    Matrices become one batch, in which smaller ones are padded with zeros.
    """
    found: list[tuple[slice, Operator]] = []
    left = list(operators)
    while left:
        size, padding, length = left[0].size, 0, 1
        for G in left[1:]:
            padding += size**2 - G.size**2
            if not isinstance(left[0], Dense) or not isinstance(G, Dense) or G.size > size or padding > _PADDING:
                break
            length += 1
        one = left[0]
        if length > 1:
            batch = left[0].dense().new_zeros(length, size, size)
            for number, G in enumerate(left[:length]):
                batch[number, : G.size, : G.size] = G.dense()
            one = Dense(batch)
        start = found[-1][0].stop if found else 0
        found.append((slice(start, start + length), one))
        left = left[length:]
    return found
