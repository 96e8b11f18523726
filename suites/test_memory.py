"""Bytes of training steps: predicted by formula, measured in a fresh process, and those of the optimizer alone.

The times of these benchmarks are those of fresh processes with their imports, and are no results.
"""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from suites.common import CIFAR10, DEVICE, DIGITS, OPTIMIZERS, Net, parameters
from suites.harness.measure.live_bytes import peak_state_bytes, state_bytes
from suites.harness.memory import footprint, peak
from suites.harness.training.catalog import choose


@pytest.mark.parametrize("spec", OPTIMIZERS)
def test_peak(benchmark: BenchmarkFixture, spec: str) -> None:
    """The whole process, on a network that is large enough for the formulas to hold."""
    net, task = CIFAR10, CIFAR10.task()
    benchmark.group = f"memory, {net}"
    case = (spec, task.settings.network, net.batch_size, task.settings.dtype, DEVICE)
    measured = benchmark.pedantic(peak.measure, case)
    predicted = footprint.predict(*case, budget_bytes=measured.budget_bytes)
    benchmark.extra_info.update(
        parameters(task, spec),
        status=measured.status,
        measured_bytes=measured.peak_bytes,
        predicted_bytes=None if predicted is None else predicted.peak_bytes,
        predicted_parts=None if predicted is None else predicted.parts,
        step_seconds=measured.step_seconds,
    )
    assert measured.status == "finished", measured.reason


@pytest.mark.parametrize("spec", OPTIMIZERS)
@pytest.mark.parametrize("net", [DIGITS, CIFAR10], ids=str)
def test_optimizer(benchmark: BenchmarkFixture, net: Net, spec: str) -> None:
    """The optimizer alone, counted tensor by tensor: between steps, and the peak within one."""
    benchmark.group = f"memory of the optimizer, {net}"
    step = net.task().step(choose(spec), seed=0)
    step()
    peak_bytes = benchmark.pedantic(peak_state_bytes, (step,))
    benchmark.extra_info.update(
        parameters(net.task(), spec), peak_state_bytes=peak_bytes, state_bytes=state_bytes(step.optimizer)
    )
