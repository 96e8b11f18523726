"""Successive halving (Jamieson and Talwalkar 2016), as scikit-learn's ``HalvingGridSearchCV`` does it.

All settings train for few epochs, the best third of them anew for three times as many, and so on: each rung costs about
as many epochs as the one before, and the last has as many as the grid search. A rung begins when the one before is
done, so the same records give the same choice, whoever runs them.
"""

import math
from collections.abc import Callable, Sequence

FACTOR = 3


def rungs(count: int, first_epochs: int, epochs: int) -> list[tuple[int, int]]:
    """The settings and the epochs of each rung; one rung, which is the grid search, if there are too few for two.

    Args:
        count: settings of the first rung.
        first_epochs: the fewest of the first rung.
        epochs: of the last rung.
    """
    lengths = [epochs]
    while (share := FACTOR ** len(lengths)) <= count and first_epochs * share <= epochs:
        lengths.append(epochs // share)
    found = []
    for length in reversed(lengths):
        found.append((count, length))
        count = math.ceil(count / FACTOR)
    return found


def halve(count: int, first_epochs: int, epochs: int, train: Callable[[list[int], int], Sequence[int]]) -> int:
    """The number of the best of ``count`` settings.

    Args:
        train: given the numbers of the settings of a rung, ascending, and its epochs, returns them best first.
    """
    ranked: Sequence[int] = range(count)
    for kept, length in rungs(count, first_epochs, epochs):
        ranked = train(sorted(ranked[:kept]), length)
    return ranked[0]
