"""Seconds of each solver and each curvature alone, on a layer of n inputs and n outputs, followed by one of ten
outputs.
"""

from collections.abc import Callable
from functools import cache

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from optimizers.core import CROSS_ENTROPY, CURVATURES, FCNN, Solution, Tape
from suites.common import CLOCK, DEVICE, device_figures
from suites.harness.measure.components import curve, solve, solvers

_WIDTHS = (64, 256, 1024)
_BATCH_SIZE = 100

pytestmark = [
    pytest.mark.benchmark(timer=CLOCK, min_rounds=5, max_time=0.4),
    pytest.mark.parametrize("width", _WIDTHS),
]


@pytest.mark.parametrize("solver", solvers())
def test_solver(benchmark: BenchmarkFixture, solver: str, width: int) -> None:
    """Directions for both layers, from a given curvature."""
    call = solve(_tape(width), solvers()[solver])
    _measure(benchmark, call, width)
    solution = call()
    assert isinstance(solution, Solution)
    benchmark.extra_info.update(
        solver=solver,
        cg_iterations=solution.iterations.double().mean().item(),
        status=solution.status.flatten().tolist(),
    )


@pytest.mark.parametrize("curvature", CURVATURES)
def test_curvature(benchmark: BenchmarkFixture, curvature: str, width: int) -> None:
    """The curvature of both layers."""
    _measure(benchmark, curve(_tape(width), CURVATURES[curvature]), width)
    benchmark.extra_info.update(curvature=curvature)


def _measure(benchmark: BenchmarkFixture, call: Callable[[], object], width: int) -> None:
    benchmark.group = f"{width}-{width}-10, batch {_BATCH_SIZE}"
    call()  # the first call sets up libraries
    benchmark(call)
    benchmark.extra_info.update(width=width, batch_size=_BATCH_SIZE, dtype="float32", device=DEVICE)
    benchmark.extra_info.update(device_figures(call))


@cache
def _tape(width: int) -> Tape:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(_BATCH_SIZE, width, generator=generator).to(DEVICE)
    labels = torch.randint(10, (_BATCH_SIZE,), generator=generator).to(DEVICE)
    return FCNN((width, width, 10), device=DEVICE).record(CROSS_ENTROPY, inputs, labels)
