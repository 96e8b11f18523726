"""Factors with a memory: moving averages over steps, and inverses that are kept for some of them.

symbol                name        shape
E[h h^T]              A           [I, I]   or [I + 1, I + 1] of the rows (h, 1)
G                     G           [O, O]
(M + lambda I)^-1     inverse     [n, n]   of either

All live in the state of an optimizer, in one dictionary for each layer.
"""

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from optimizers.core.cholesky import Damping, Factor
from optimizers.core.operators import Damped, Dense, Operator

State = MutableMapping[str, Tensor]


def count(state: MutableMapping[Any, Any], name: str) -> int:
    """One more than the last time. It is kept in an optimizer's state, beside what that has for each parameter."""
    step = state[name].get("step", 0) + 1
    state[name] = {"step": step}  # anew, since the last one may be in a state_dict
    return step


def average(state: State, name: str, new: Operator, weight: float) -> None:
    """The average of that name moves towards ``new`` by a weight in (0, 1]; at 1 it becomes ``new``."""
    if weight == 1 or name not in state:
        state[name] = new.dense()
    else:
        state[name].lerp_(new.dense(), weight)


@dataclass(frozen=True)
class Inverse(Factor):
    """(M + lambda I)^-1 itself, in place of ``lower``."""

    def solve(self, right: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
        return self.lower @ right


@dataclass(frozen=True, eq=False)
class Kept(Dense):
    """A matrix whose inverses are kept: those of an earlier step, at the matrix and the dampings of then, may be used.

    state: where they are kept.
    names: of the inverses, one for each damping.
    due: whether they are computed anew. One whose factorization fails becomes the identity until it is due again.
    """

    state: State
    names: Sequence[str]
    due: bool

    def damped(self, *dampings: Damping) -> list[Damped]:
        return [self._inverse(*one) for one in zip(self.names, dampings, strict=True)]

    def _inverse(self, name: str, damping: Damping) -> Damped:
        info = torch.zeros((), dtype=torch.int32, device=self.matrix.device)
        if self.due:
            self.state.pop(name, None)  # two of them may be too large
            (fresh,) = super().damped(damping)
            eye, info = torch.eye(self.size, dtype=self.matrix.dtype, device=self.matrix.device), fresh.info
            self.state[name] = torch.where(info == 0, fresh.factor.solve(eye), eye, out=eye)
        return Damped(self, Inverse(damping, self.state[name], info))
