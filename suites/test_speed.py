"""Steps against the usual ones of PyTorch: autograd and ``torch.optim.SGD(momentum=0.9, foreach=True)``."""

from functools import cache

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from suites.common import CLOCK, DEVICE, Net, parameters
from suites.harness.measure.step import autograd_step
from suites.harness.measure.timing import interleaved_seconds
from suites.harness.records.conventions import REFERENCE
from suites.harness.training.catalog import choose

OPTIMIZERS = ("sgd", "ea_cg", "kfra", "kfac")
NETS = (*(Net("synthetic-cifar10", batch) for batch in (100, 500, 1000)), Net("synthetic-imagenet10", 100))


@pytest.mark.benchmark(timer=CLOCK, min_rounds=1, max_time=0.1)
@pytest.mark.parametrize("spec", OPTIMIZERS)
@pytest.mark.parametrize("net", NETS, ids=str)
def test_speed(benchmark: BenchmarkFixture, net: Net, spec: str) -> None:
    """Ratios of minima and of medians. On a shared machine the minima are steadier."""
    benchmark.group = str(net)
    step = net.task().step(choose(spec), seed=0)
    step()
    benchmark(step)
    samples = _samples(net)
    own, torch_sgd = sorted(samples[spec]), sorted(samples["autograd"])
    middle = len(own) // 2
    benchmark.extra_info.update(
        parameters(net.task(), spec),
        rounds=len(own),
        ratio_of_minima_to_torch_sgd=own[0] / torch_sgd[0],
        ratio_of_medians_to_torch_sgd=own[middle] / torch_sgd[middle],
    )


@cache
def _samples(net: Net) -> dict[str, list[float]]:
    task = net.task()
    steps = {spec: task.step(choose(spec), seed=0) for spec in OPTIMIZERS}
    autograd = autograd_step(task.step(choose(REFERENCE), seed=0))
    return interleaved_seconds({"autograd": autograd, **steps}, DEVICE, rounds=60, at_most_seconds=15)
