"""Shared by the suites: networks, optimizers, the clock, and the extra information of every benchmark."""

import os
import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache

import torch

from suites.harness.data.problem import find
from suites.harness.measure.clock import timer
from suites.harness.measure.nvml import energy_joules, state
from suites.harness.training.catalog import choose, named
from suites.harness.training.experiment import Settings, Task

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CLOCK = timer(DEVICE)
OPTIMIZERS = (
    *named(),
    *(f"kfac[inverse={form}]" for form in ("factor", "gram", "rank_one")),
    *shlex.split(os.environ.get("KRONBENCH_OPTIMIZERS", "")),  # anyone's, as in "./mine.py torch.optim.AdamW[lr=0.01]"
)


@dataclass(frozen=True)
class Net:
    """A network, by its problem, and a batch size; the group of a benchmark."""

    problem: str
    batch_size: int

    def __str__(self) -> str:
        return f"{'-'.join(map(str, find(self.problem).network))}, batch {self.batch_size}"

    @cache  # noqa: B019 - there are three
    def task(self) -> Task:
        return Task.load(Settings(self.problem, batch_size=self.batch_size, device=DEVICE))


DIGITS, CIFAR10 = Net("digits", 100), Net("synthetic-cifar10", 100)
NETS = (DIGITS, Net("digits", 1000), CIFAR10)


def parameters(task: Task, spec: str) -> dict[str, object]:
    """All that decides a measurement."""
    choice = choose(spec)
    return {"optimizer": choice.spec, "options": {**choice.entry.options, **choice.options}, **asdict(task.settings)}


def device_figures(step: Callable[[], object]) -> dict[str, object]:
    """The GPU's state from NVML after the steps, and the energy of a step; empty without a GPU."""
    joules = energy_joules(step, DEVICE)
    return {**state(DEVICE), **({} if joules is None else {"joules_per_step": joules})}
