"""One suite over every optimizer that is found: what PyTorch's users may expect of each."""

import itertools
import math
from dataclasses import replace

import pytest
import torch

from optimizers.core import CRITERIA, CROSS_ENTROPY
from suites.harness.measure.step import Step
from suites.harness.training.catalog import choose, grid, named
from suites.harness.training.experiment import Settings, Task

FOUND = [*named(), *grid(), "torch.optim.AdamW[lr=0.01]"]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU"))]


@pytest.fixture(scope="module")
def task():
    return Task.load(Settings(device="cpu", network=(64, 20, 10)))


@pytest.fixture(params=FOUND)
def choice(request):
    return choose(request.param)


def steps(step: Step, count: int) -> None:
    for _ in range(count):
        step()


def copies(step: Step) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in step.network.parameters()]


def test_the_four_optimizers_of_the_paper_are_found():
    assert {"sgd", "kfac", "kfra", "ea_cg"} <= set(named())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_learns(choice, dtype, device):
    """An epoch over the digits lowers the loss of a batch, in both precisions."""
    task = Task.load(Settings(device=device, dtype=dtype, network=(64, 20, 10)))
    step = task.step(choice, seed=0)
    first = step.record().loss.item()
    steps(step, 40)
    assert step.record().loss.item() < first
    assert all(parameter.dtype == getattr(torch, dtype) for parameter in step.network.parameters())


def test_it_learns_the_non_convex_criterion(choice):
    """Eq. (14); Gauss-Newton refuses it when it is built, and names PCH as the way out."""
    task = Task.load(Settings(device="cpu", criterion="bounded", network=(64, 20, 10)))
    if "gauss_newton" in choice.spec or choice.spec == "kfra":
        with pytest.raises(ValueError, match="PCH"):
            task.step(choice, seed=0)
        return
    step = task.step(choice, seed=0)
    first = step.record().loss.item()
    steps(step, 60)
    assert step.record().loss.item() < first


def test_state_resumes_bit_for_bit(task, choice, tmp_path):
    """state_dict through a file in the middle of a run: the next steps give the same bits."""
    step = task.step(choice, seed=0)
    steps(step, 3)
    torch.save(
        {"network": step.network.state_dict(), "optimizer": step.optimizer.state_dict()}, tmp_path / "checkpoint"
    )
    steps(step, 3)

    resumed = task.step(choice, seed=1)
    saved = torch.load(tmp_path / "checkpoint", weights_only=True)
    resumed.network.load_state_dict(saved["network"])
    resumed.optimizer.load_state_dict(saved["optimizer"])
    fresh = task.step(choice, seed=0)
    resumed.batches = itertools.islice(fresh.batches, 3, None)
    steps(resumed, 3)
    assert all(torch.equal(a, b) for a, b in zip(copies(step), copies(resumed), strict=True))


def test_a_scheduler_sets_the_learning_rate(task, choice):
    """lr_scheduler: at a learning rate of (nearly) zero nothing moves; before that, it does."""
    step = task.step(choice, seed=0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(step.optimizer, lambda epoch: 1.0 if epoch == 0 else 0.0)
    before = copies(step)
    step()
    moved = copies(step)
    assert not all(torch.equal(a, b) for a, b in zip(before, moved, strict=True))
    scheduler.step()
    step()
    assert all(torch.equal(a, b) for a, b in zip(moved, copies(step), strict=True))


def test_the_same_seed_gives_the_same_bits(task, choice):
    runs = []
    for _ in range(2):
        step = task.step(choice, seed=3)
        steps(step, 5)
        runs.append(copies(step))
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_inputs_of_zero_move_nothing_to_nan(choice):
    """No input, no mean input: no division by zero anywhere."""
    task = Task.load(Settings(device="cpu", network=(64, 20, 10), activation="relu"))
    step = task.step(choice, seed=0)
    step.batches = itertools.repeat((torch.zeros(8, 64), torch.zeros(8, dtype=torch.int64)))
    steps(step, 3)
    assert all(torch.isfinite(parameter).all() for parameter in step.network.parameters())


def test_a_zero_gradient_moves_nothing(task, choice):
    """A batch that is fitted perfectly: a logit of 1000 leaves exp(-1000) = 0 to the other classes."""
    step = task.step(choice, seed=0)
    with torch.no_grad():
        step.network.linears[-1].bias[0] = 1000.0
    step.batches = itertools.repeat((torch.rand(8, 64), torch.zeros(8, dtype=torch.int64)))
    assert not any(layer.delta.any() for layer in step.record().layers)
    before = copies(step)
    steps(step, 3)
    assert all(torch.isfinite(parameter).all() for parameter in step.network.parameters())
    if not choice.spec.startswith("torch."):  # AdamW decays weights without a gradient
        assert all(torch.equal(a, b) for a, b in zip(before, copies(step), strict=True))


@pytest.mark.parametrize("criterion", CRITERIA.values(), ids=lambda criterion: criterion.name)
def test_criteria_are_finite_at_extreme_logits(criterion):
    logits = torch.tensor([[80.0, -80.0, 0.0]])
    for label in range(3):
        labels = torch.tensor([label])
        for value in (criterion.value, criterion.gradient, criterion.mean_hessian):
            assert torch.isfinite(value(logits, labels)).all()
    assert math.isfinite(CROSS_ENTROPY.value(logits, torch.tensor([1])).item())


def test_a_learning_rate_on_the_device_takes_the_same_steps(task, choice):
    """``capturable``: the learning rate is a tensor, which a scheduler changes in place."""
    if "capturable" not in task.step(choice, seed=0).optimizer.param_groups[0] or choice.spec.startswith("torch."):
        pytest.skip("it has no such option, or torch tests it")
    plain, captured = task.step(choice, seed=0), task.step(choice, seed=0)
    captured.optimizer = replace(choice, options={**choice.options, "capturable": True}).build(
        captured.network, captured.criterion
    )
    (group,) = captured.optimizer.param_groups
    rate = group["lr"]
    assert isinstance(rate, torch.Tensor)
    for step in (plain, captured):
        scheduler = torch.optim.lr_scheduler.StepLR(step.optimizer, step_size=1, gamma=0.5)
        steps(step, 1)
        scheduler.step()
        steps(step, 2)
    assert group["lr"] is rate
    assert rate.item() == pytest.approx(plain.optimizer.param_groups[0]["lr"])
    for one, other in zip(copies(plain), copies(captured), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
