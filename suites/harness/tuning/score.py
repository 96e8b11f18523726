"""The rule by which a search finds the best setting: as in comparisons, the cost to the targets."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from suites.harness.records.groups import goal_of, to_reach
from suites.harness.records.record import Record

RULE = (
    "Among the settings whose runs all finished: the fewest epochs to the hardest target of the problem, then to the "
    "easier ones, then the highest accuracy after the last epoch, if that is what counts, then the lowest loss; all on "
    "the held-out images, and medians over seeds. Of equals the one that was tried first."
)


@dataclass(frozen=True, order=True)
class Score:
    """The score of one setting by the rule: medians over its runs. The smallest score is the best.

    epochs: to each target, the hardest first; infinite where it was not reached. missed: 1 - accuracy, or 0 if the
        problem is judged by the loss.
    """

    unfinished: bool
    epochs: tuple[float, ...]
    missed: float
    loss: float


def score(records: Sequence[Record], targets: Sequence[float]) -> Score:
    """The score of the runs of one setting."""
    if not all(record.completed for record in records):
        return Score(True, (), 1.0, math.inf)
    last = [record.points[-1] for record in records]
    losses = [math.inf if point.test_loss is None else point.test_loss for point in last]
    goal = goal_of(records[0])
    needed = [[to_reach(record, target, "epoch") for record in records] for target in goal.hardest_first(targets)]
    epochs = tuple(median(math.inf if one is None else one for one in own) for own in needed)
    missed = [1 - (point.test_accuracy or 0.0) if goal.larger_is_better else 0.0 for point in last]
    return Score(False, epochs, median(missed), median(losses))
