"""Convergence on the digits: epochs and gradient-equivalents to the target, and the error rate at the end."""

from math import inf
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import common

SPECS = (*common.OPTIMIZERS, "kfac[inverse=rank_one]")  # the other forms of KFI have the same iterates
EPOCHS = 40
SEEDS = 3


class Digits(common.Shared):
    """Medians over three seeds of 40 epochs. They are the same in every run on a machine."""

    params = (SPECS,)
    param_names = ("optimizer",)

    def setup(self, spec: str) -> None:
        self.figures = common.shared("digits", [spec], _train)

    @common.measured_in("epochs")
    def track_epochs_to_target(self, spec: str) -> float:
        """Epochs to the target; one more than all epochs if it was not reached."""
        return self.figures["epochs"]

    @common.measured_in("error rate")
    def track_error_rate(self, spec: str) -> float:
        return self.figures["error_rate"]


class DigitsCost(common.Shared):
    """The same cost in gradient-equivalents."""

    params = Digits.params
    param_names = Digits.param_names

    def setup(self, spec: str) -> None:
        self.cost = common.shared("digits", [spec, "gradient_equivalents"], _train)

    @common.measured_in("gradients")
    def track_gradient_equivalents_to_target(self, spec: str) -> float:
        """Those to the target; those of all epochs if it was not reached."""
        return self.cost


def _train() -> common.Figures:
    common.leave_out_of_quick()
    run, target = common.harness("training.runner", "run"), common.first_target("digits")
    measured_on = common.task()
    usable, figures = common.choices(SPECS, measured_on)
    for choice in usable:
        records = [run(measured_on, choice, seed, EPOCHS, Path("runs")) for seed in range(SEEDS)]
        reasons = [_of(record.end, "reason") for record in records if record.status == "failed"]
        figures[choice.spec] = {"failed": reasons[0]} if reasons else _medians(records, target, EPOCHS)
    return figures


def _of(facts: Any, name: str) -> Any:
    """A fact of a record; None if it is unknown. Old commits have dictionaries."""
    return facts.get(name) if isinstance(facts, dict) else getattr(facts, name)


def _medians(records: list[Any], target: float, epochs: int) -> common.Figures:
    reached = [next((p for p in r.points if _of(p, "test_accuracy") >= target), None) for r in records]
    figures = {
        "epochs": median(_of(point, "epoch") if point else epochs + 1 for point in reached),
        "error_rate": median(1 - _of(record.points[-1], "test_accuracy") for record in records),
    }
    costs = [
        _of(point or record.points[-1], "gradient_equivalents") for record, point in zip(records, reached, strict=True)
    ]
    costs = [inf if cost is None else cost for cost in costs]
    return figures if inf in costs else {**figures, "gradient_equivalents": median(costs)}
