"""Phases of a step: their seconds, their bytes, and what a step leaves behind."""

import pytest
import torch

from optimizers.core import TapeOptimizer
from suites.harness.measure.phases import interleaved_phase_seconds, phase_bytes
from suites.harness.records.conventions import PHASES
from suites.harness.training.catalog import choose
from suites.harness.training.experiment import Settings, Task


class Known(TapeOptimizer):
    """Forms 4000 bytes in one phase and 12000 in the next, and keeps 1000 of each step."""

    def __init__(self, params):
        super().__init__(params, {"lr": 1.0})
        self.kept = []

    def step(self, tape):
        self.on_phase("curvature")
        matrix = torch.empty(1000)
        del matrix
        self.on_phase("solve")
        first, second = torch.empty(1000), torch.empty(2000)
        del first, second
        self.on_phase("update")
        self.kept.append(torch.empty(250))


@pytest.fixture(scope="module")
def task():
    return Task.load(Settings(device="cpu", network=(64, 20, 10)))


@pytest.fixture
def known(task):
    step = task.step(choose("sgd"), seed=0)
    step.optimizer = Known(step.network.parameters())
    return step


def test_seconds_by_phase(task):
    """As many samples as rounds, of the phases that an optimizer has."""
    seconds = interleaved_phase_seconds(task, [choose("sgd"), choose("ea_cg")], rounds=4)
    assert set(seconds["sgd"]) == {"forward_backward", "update"}
    assert set(seconds["ea_cg"]) == set(PHASES)
    samples = [values for phases in seconds.values() for values in phases.values()]
    assert all(len(values) == 4 and min(values) > 0 for values in samples)


def test_no_more_rounds_than_there_is_time_for(task):
    seconds = interleaved_phase_seconds(task, [choose("sgd")], rounds=1000, at_most_seconds=0.0)
    assert len(seconds["sgd"]["update"]) == 3


def test_bytes_by_phase(known):
    peaks = phase_bytes(known)
    assert set(peaks) == set(PHASES)
    assert peaks["solve"] - peaks["curvature"] == 8000
    assert peaks["curvature"] - peaks["update"] == 3000
