"""Factors over several steps: moving averages, and inverses that are used again.

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
    """Count a step: 1, 2, ... The count lies in the optimizer's state, beside the states of the parameters."""
    step = state[name].get("step", 0) + 1
    state[name] = {"step": step}  # anew, since the last one may be in a state_dict
    return step


def average(state: State, name: str, new: Operator, weight: float) -> None:
    """Move the average called ``name`` towards ``new`` by a weight in (0, 1]; at 1 it becomes ``new``."""
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
    """A matrix whose inverses are kept and used in later steps, although matrix and dampings have changed.

    state: where the inverses are kept.
    names: of the inverses, one for each damping.
    due: whether they are computed in this step. If a factorization fails, the identity stands in until the next time.
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
