"""Seconds of a training step of every optimizer, and the ratio to SGD with momentum in the same process."""

from functools import cache

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from optimizers.core import SecondOrder
from suites.common import CLOCK, DEVICE, NETS, OPTIMIZERS, Net, device_figures, parameters
from suites.harness.analysis.statistics import Interval, median_interval
from suites.harness.measure.timing import interleaved_seconds
from suites.harness.records.conventions import REFERENCE
from suites.harness.training.catalog import choose

_WARM_UP_STEPS = 3


@pytest.mark.benchmark(timer=CLOCK, min_rounds=5, max_time=0.5)
@pytest.mark.parametrize("spec", OPTIMIZERS)
@pytest.mark.parametrize("net", NETS, ids=str)
def test_step_time(benchmark: BenchmarkFixture, net: Net, spec: str) -> None:
    """Whole steps, without the first: forward, backward, curvature, solve, update."""
    benchmark.group = str(net)
    step = net.task().step(choose(spec), seed=0)
    for _ in range(_WARM_UP_STEPS):
        step()
    benchmark(step)
    benchmark.extra_info.update(
        parameters(net.task(), spec),
        ratio_to_sgd=_ratios(net)[spec]._asdict(),
        **device_figures(step),
    )
    if isinstance(step.optimizer, SecondOrder):
        iterations = torch.cat([solution.iterations for solution in step.optimizer.solutions])
        benchmark.extra_info["cg_iterations"] = iterations.double().mean().item()


@cache
def _ratios(net: Net) -> dict[str, Interval]:
    """Step times over those of SGD, measured in turn."""
    steps = {spec: net.task().step(choose(spec), seed=0) for spec in OPTIMIZERS}
    seconds = interleaved_seconds(steps, DEVICE, rounds=15, at_most_seconds=8)
    return {
        spec: median_interval([own / sgd for own, sgd in zip(samples, seconds[REFERENCE], strict=True)])
        for spec, samples in seconds.items()
    }
