"""Schedules of the learning rate over the steps of a run of known length, by name, from ``torch.optim.lr_scheduler``.

constant      the learning rate throughout
linear        down to 0 in a straight line                                    LinearLR
cosine        down to 0 along half a cosine                                   CosineAnnealingLR
step          a tenth after half of the steps, a hundredth after 3/4          MultiStepLR
exponential   down to a hundredth, by the same factor in each step            ExponentialLR
onecycle      up from a 25th over 30 % of the steps, then down along a cosine  OneCycleLR
"""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Optimizer, lr_scheduler

from suites.harness.names import pick

CONSTANT = "constant"
SCHEDULES: dict[str, Callable[[Optimizer, int], lr_scheduler.LRScheduler]] = {
    CONSTANT: lambda optimizer, steps: lr_scheduler.ConstantLR(optimizer, factor=1.0),
    "linear": lambda optimizer, steps: lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps),
    "cosine": lambda optimizer, steps: lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps),
    "step": lambda optimizer, steps: lr_scheduler.MultiStepLR(
        optimizer, [max(1, steps // 2), max(1, 3 * steps // 4)], gamma=0.1
    ),
    "exponential": lambda optimizer, steps: lr_scheduler.ExponentialLR(optimizer, gamma=0.01 ** (1 / steps)),
    "onecycle": lambda optimizer, steps: lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=max(steps, 4), cycle_momentum=False
    ),
}


def factors(name: str, steps: int) -> list[float]:
    """The factor of the learning rate in each step of a run.

    Raises:
        ValueError: for an unknown name.
    """
    make = pick("schedule", name, SCHEDULES)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that no step was taken
        scheduler = make(optimizer, steps)
        for _ in range(steps):
            found.append(float(optimizer.param_groups[0]["lr"]))
            scheduler.step()
    return found


class Schedule:
    """Sets the learning rates of an optimizer before each step: its first ones times the factor of the step.

    A rate that is a tensor is set in place, so a captured step uses it, and nothing waits for the device. The rate
    depends on the number of the step alone, so a run that is resumed needs no other state.
    """

    def __init__(self, optimizer: Optimizer, name: str, steps: int) -> None:
        self._optimizer = optimizer
        self._factors = [] if name == CONSTANT else factors(name, steps)
        self._rates = [float(group["lr"]) for group in optimizer.param_groups] if self._factors else []

    def set(self, step: int) -> None:
        """Set the rates of a step, counted from 0."""
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=False):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate * self._factors[step])
            else:
                group["lr"] = rate * self._factors[step]
