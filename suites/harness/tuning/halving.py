"""Successive halving (Jamieson and Talwalkar 2016): many settings for few epochs, the best of them for more."""

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

_KEPT = 3  # of so many settings one goes on, to so many times the epochs
_RUNGS = 3


def rungs(count: int, epochs: int) -> list[tuple[int, int]]:
    """Settings and epochs of each rung: all for a ninth of the epochs, a third for a third, a ninth for all.

    A rung that would leave nothing out is not done.
    """
    lengths = sorted({max(1, epochs // _KEPT**place) for place in range(_RUNGS)})
    longest = {math.ceil(count / _KEPT**place): length for place, length in enumerate(lengths)}
    return list(longest.items())


def halve(settings: Sequence[T], epochs: int, train: Callable[[Sequence[T], int], Sequence[T]]) -> Sequence[T]:
    """The settings of the last rung, the best first. A rung begins when the one before is done.

    Args:
        train: given the settings of a rung and its epochs, returns them best first.
    """
    ranked = settings
    for count, length in rungs(len(settings), epochs):
        ranked = train(ranked[:count], length)
    return ranked
