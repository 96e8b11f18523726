"""Successive halving (Jamieson and Talwalkar 2016): many settings for few epochs, the best ones for more."""

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

_KEPT = 3  # one setting of this many goes on, to this many times the epochs
_RUNGS = 3


def rungs(count: int, epochs: int) -> list[tuple[int, int]]:
    """Settings and epochs of each rung: all settings for 1/9 of the epochs, 1/3 of them for 1/3, and 1/9 for all
    epochs.

    A rung after which all settings go on is left out.
    """
    lengths = sorted({max(1, epochs // _KEPT**place) for place in range(_RUNGS)})
    longest = {math.ceil(count / _KEPT**place): length for place, length in enumerate(lengths)}
    return list(longest.items())


def halve(settings: Sequence[T], epochs: int, train: Callable[[Sequence[T], int], Sequence[T]]) -> Sequence[T]:
    """The settings of the last rung, best first.

    Args:
        train: trains the settings of a rung for its epochs, and returns them best first.
    """
    ranked = settings
    for count, length in rungs(len(settings), epochs):
        ranked = train(ranked[:count], length)
    return ranked
