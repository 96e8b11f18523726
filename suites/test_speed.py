"""Steps against the usual step of PyTorch: autograd and ``torch.optim.SGD(momentum=0.9, foreach=True)``.

    python -m suites.test_speed        # ratios beside their targets, a table for each network

For a ratio above its target, three columns say where the time goes: the operations over those of a gradient, the rate
of operations of the step, and that of the first layer's product alone.
"""

from functools import cache, partial
from statistics import median

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from suites.common import CLOCK, DEVICE, DIGITS, Net, parameters
from suites.harness.measure.operations import count, count_gradient
from suites.harness.measure.step import autograd_step
from suites.harness.measure.timing import interleaved_seconds
from suites.harness.records.conventions import PHASES, REFERENCE
from suites.harness.show.table import markdown, table_of
from suites.harness.training.catalog import choose

OPTIMIZERS = ("sgd", "ea_cg", "fisher+ea_cg", "kfra", "kfac")
CIFAR10 = tuple(Net("synthetic-cifar10", batch) for batch in (100, 500, 1000))
NETS = (*CIFAR10, Net("synthetic-imagenet10", 100))
TARGETS = {  # medians over torch's SGD on two quiet cores
    (DIGITS, "ea_cg"): 1.5,
    **{
        (net, spec): target
        for spec, targets in {
            "kfac": (1.15, 1.6, 2.0),
            "kfra": (2.3, 2.1, 2.1),
            "ea_cg": (1.65, 1.4, 1.3),
            "fisher+ea_cg": (1.1, 1.15, 1.2),
        }.items()
        for net, target in zip(CIFAR10, targets, strict=True)
    },
}


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


def rows(net: Net) -> list[dict[str, str | float]]:
    """The ratios of a network, beside their targets."""
    samples, steps = _samples(net), {spec: net.task().step(choose(spec), seed=0) for spec in OPTIMIZERS}
    torch_sgd, gradient = samples["autograd"], count_gradient(steps["sgd"])
    shown = []
    for spec, step in steps.items():
        counts = count(step)
        operations = sum(counts[phase] for phase in PHASES)
        shown.append(
            {
                "network": str(net),
                "method": spec,
                "median over torch's SGD": median(a / b for a, b in zip(samples[spec], torch_sgd, strict=True)),
                "of minima": min(samples[spec]) / min(torch_sgd),
                "target": TARGETS.get((net, spec), ""),
                "operations / gradient": operations / gradient,
                "GFLOP/s": operations / median(samples[spec]) / 1e9,
                "GFLOP/s of a product": _product_rate(net),
            }
        )
    return shown


@cache
def _product_rate(net: Net) -> float:
    """The best rate of W h of the first layer."""
    inputs, outputs, *_ = net.task().network(0).sizes
    h, weight = torch.rand(net.batch_size, inputs), torch.rand(outputs, inputs)
    (seconds,) = interleaved_seconds({"product": partial(torch.mm, h, weight.T)}, "cpu", 20).values()
    return 2 * net.batch_size * inputs * outputs / min(seconds) / 1e9


if __name__ == "__main__":
    for network in (DIGITS, *CIFAR10):
        print(markdown(table_of(rows(network), "{:.2f}".format)), flush=True)
