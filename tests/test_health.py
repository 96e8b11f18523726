"""What a measuring point says of curvature and damping."""

import math

import pytest
import torch

from suites.harness.training.catalog import choose
from suites.harness.training.evaluation import negative_curvature
from suites.harness.training.experiment import Settings, Task
from suites.harness.training.runner import run


def test_negative_eigenvalues_and_bends_against_autograd():
    """The mean Hessian in the logits, and E[phi'' * W^T delta] as the part of the Hessian that phi'' makes."""
    task = Task.load(Settings(criterion="bounded", network=(64, 12, 10), dtype="float64", device="cpu"))
    network = task.network(seed=0)
    x, labels = next(iter(task.dataset.chunks(task.dataset.train)))
    x, labels = x[:100], labels[:100]
    logits = network(x).detach()

    def mean_loss(z):
        return task.criterion.value(z, labels).mean()

    hessian = torch.autograd.functional.hessian(mean_loss, logits).diagonal(dim1=0, dim2=2).sum(-1)  # of each, / B
    eigenvalues = torch.linalg.eigvalsh(hessian)
    deltas = torch.func.grad(mean_loss)(logits) * len(x)
    W, b = network.get_parameter("layers.0.weight"), network.get_parameter("layers.0.bias")
    z = (x @ W.T + b).detach()
    slope = torch.sigmoid(z) * (1 - torch.sigmoid(z))
    bend = slope * (1 - 2 * torch.sigmoid(z))
    mean = (bend * (deltas @ network.get_parameter("layers.1.weight"))).mean(0)

    found = negative_curvature(task, network)
    assert found.eigenvalues == (eigenvalues < -1e-6 * eigenvalues.abs().max()).sum()
    assert found.eigenvalues > 0
    share = eigenvalues.clamp_max(0).sum().abs() / eigenvalues.abs().sum()
    assert found.share == pytest.approx(share.item(), rel=5e-3)
    assert list(found.bends) == [pytest.approx((mean < 0).double().mean().item(), abs=1e-3)]
    assert 0 < found.bends[0] < 1


def test_a_convex_criterion_has_no_negative_eigenvalue():
    task = Task.load(Settings(network=(64, 12, 10), device="cpu"))
    found = negative_curvature(task, task.network(0))
    assert (found.eigenvalues, found.share) == (0, 0.0)


def test_records_carry_pi_of_every_layer_and_negative_curvature(tmp_path):
    """pi is the mean over the steps since the last point, from the factors as they stand in Eq. (12)."""
    task = Task.load(Settings(network=(64, 12, 10), batch_size=1437, dtype="float64", device="cpu"))
    step, expected = task.step(choose("kfac"), seed=0), []
    tape = next_tape(step, task)
    for layer in tape.layers:
        H, G = layer.input.T @ layer.input / layer.batch, layer.delta.T @ layer.delta / layer.batch
        expected.append(math.sqrt((H.trace() / len(H)) / (G.trace() / len(G))))
    first, *_, last = run(task, choose("kfac"), 0, 1, tmp_path).points
    assert list(last.solver.pi) == [pytest.approx(value, rel=5e-3) for value in expected]
    assert first.solver is None
    assert len(first.negative_curvature.bends) == 1
    for spec in ("ea_cg", "sgd"):
        point = run(task, choose(spec), 0, 1, tmp_path).points[-1]
        assert point.solver is None or point.solver.pi is None
        assert (point.negative_curvature is None) == (spec == "sgd")


def next_tape(step, task):
    """Of the whole training set, in whatever order."""
    x, labels = next(iter(task.dataset.batches(1437, 1, 0)))
    return step.network.record(task.criterion, x, labels)
