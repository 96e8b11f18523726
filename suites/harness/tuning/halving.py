"""Successive halving (Jamieson and Talwalkar 2016), by scikit-learn's ``HalvingGridSearchCV``.

All settings train for few epochs, the best third of them anew for three times as many, and so on: about as many epochs
a rung, and in the last one as many as in the grid search. A rung begins when the one before is done, so that the same
records give the same choice, whoever runs them; Optuna's pruner judges each run by those that came before it.
"""

from collections.abc import Callable, Sequence
from typing import Any

FACTOR = 3


def halve(count: int, first_epochs: int, epochs: int, train: Callable[[list[int], int], Sequence[int]]) -> int:
    """The best of so many settings, by number.

    Args:
        first_epochs: at least so many in the first rung; the only one where ``epochs`` is below three times as many, or
            ``count`` below three.
        epochs: of the last rung.
        train: given the numbers of the settings of a rung, ascending, and its epochs, returns them best first.
    """
    # imported late: it takes most of a second
    from sklearn.base import BaseEstimator
    from sklearn.experimental import enable_halving_search_cv  # noqa: F401
    from sklearn.model_selection import HalvingGridSearchCV

    scores: dict[int, dict[int, int]] = {}  # of the settings of a rung, by its share of the epochs
    asked: dict[int, list[int]] = {}  # for scores that are not known yet

    class Setting(BaseEstimator):
        def __init__(self, number: int = 0, share: int = 1) -> None:
            self.number, self.share = number, share

        def fit(self, *data: Any) -> "Setting":
            return self

        def score(self, *data: Any) -> int:
            if self.share in scores:
                return scores[self.share][self.number]
            asked.setdefault(self.share, []).append(self.number)
            return 0

    shares = 1  # 1, 3, 9, ... of them go to a rung, all to the last
    while first_epochs * shares * FACTOR <= epochs:
        shares *= FACTOR
    options: dict[str, Any] = {
        "resource": "share",
        "max_resources": shares,
        "factor": FACTOR,
        "cv": [([0], [0])],  # one split, of no matter what
        "refit": False,
        "error_score": "raise",
        "return_train_score": False,
    }
    search = HalvingGridSearchCV(Setting(), {"number": list(range(count))}, **options)
    # it asks for one score after the other; asked again when those of a rung are known, it comes to the next
    while True:
        asked.clear()
        best = search.fit([[0]]).best_params_["number"]
        if not asked:
            return best
        share = min(asked)
        ranked = train(sorted(asked[share]), epochs * share // shares)
        scores[share] = {number: -place for place, number in enumerate(ranked)}


def rungs(count: int, first_epochs: int, epochs: int) -> list[tuple[int, int]]:
    """How many settings each rung has, and their epochs."""
    found = []

    def note(numbers: list[int], of_rung: int) -> list[int]:
        found.append((len(numbers), of_rung))
        return numbers

    halve(count, first_epochs, epochs, note)
    return found
