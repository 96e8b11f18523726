"""One suite over every optimizer that is found, the same as of ``kronbench check``; and the suite itself, on faults."""

import itertools
import math
import re
from dataclasses import replace

import pytest
import torch

from optimizers.core import CRITERIA, CROSS_ENTROPY, FCNN
from suites.harness.gate.conformance import CHECKS, Failed, NotChecked, conformance
from suites.harness.measure.step import Step
from suites.harness.training.catalog import choose, grid, named
from suites.harness.training.experiment import Settings, Task

OTHERS = ("AdamW[lr=0.01]", "Muon[lr=0.02]", "LBFGS[line_search_fn=strong_wolfe,max_iter=4]")
PRACTISED = (  # K-FAC with options that kfac_practised has not
    "kfac[decay=0.95,factor_interval=2,inverse_interval=4,momentum=0.9,kl_clip=0.001]",
    "kfac[joint_bias=True,quadratic=True,lr=1,damping_interval=1]",
)
FOUND = [*named(), *grid(), *PRACTISED, *(f"torch.optim.{other}" for other in OTHERS)]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU"))]


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
@pytest.mark.parametrize("check", CHECKS)
def test_it_does_what_is_expected_of_every_optimizer(choice, check, device):
    try:
        CHECKS[check](choice, device)
    except NotChecked as reason:
        pytest.skip(str(reason))


def test_it_learns_the_non_convex_criterion(choice):
    """Eq. (14); Gauss-Newton refuses it when it is built, and names PCH as the way out."""
    task = Task.load(Settings(device="cpu", criterion="bounded", network=(64, 20, 10)))
    if re.match(".*(gauss_newton|quadratic)|(kfra|kfac_practised|hf|block_hf)$", choice.spec):
        with pytest.raises(ValueError, match="PCH"):
            task.step(choice, seed=0)
        return
    step = task.step(choice, seed=0)
    first = step.record().loss.item()
    steps(step, 60)
    assert step.record().loss.item() < first


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
        labels = torch.eye(3)[[label]] if criterion.vectors else torch.tensor([label])
        for value in (criterion.value, criterion.gradient, criterion.mean_hessian):
            assert torch.isfinite(value(logits, labels)).all()
    assert math.isfinite(CROSS_ENTROPY.value(logits, torch.tensor([1])).item())


def test_who_waits_for_the_device_says_so_and_claims_no_graph():
    """Hessian-free optimization by its nature, EKFAC for its eigenvectors."""
    for spec in ("hf", "block_hf", "ekfac[interval=10]"):
        assert "capturable" not in choose(spec).build(FCNN((4, 3)), CROSS_ENTROPY).param_groups[0]
        with pytest.raises(NotChecked, match="it says that its steps wait"):
            CHECKS["no wait for the host"](choose(spec), "cuda")


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


PLANTED = """
import time
import torch
from optimizers.core import Params, Tape, TapeOptimizer

kept = []


class Planted(TapeOptimizer):
    {ranges}

    def __init__(self, params: Params, lr: float = 0.1, capturable: bool = False) -> None:
        super().__init__(params, {{"lr": lr}})

    @torch.no_grad()
    def step(self, tape: Tape) -> None:
        (group,) = self.param_groups
        for layer in tape.layers:
            state, gradient, lr = self.state[layer.weight], layer.weight_gradient, group["lr"]
            {fault}
            layer.weight.sub_(gradient, alpha=lr)
            layer.bias.sub_(layer.bias_gradient, alpha=lr)
"""
FAULTS = {
    "refuses bad options": ("ranges = {}", "pass", "it takes lr=-1.0"),
    "descends a quadratic": ("", "lr = -lr", "the loss of a batch went from"),
    "learns the digits": ("", "gradient = -10 * gradient", "the loss of a batch went from"),
    "float64": ("", "layer.weight.data = layer.weight.data.float(); gradient = gradient.float()", "same dtype"),
    "same seed, same bits": ("", "gradient = gradient + 1e-3 * time.perf_counter()", "differ by"),
    "state_dict resumes": ("", "self.m = m = 0.9 * getattr(self, 'm', 0) + 1; gradient = m * gradient", "was resumed"),
    "follows schedulers": ("", "lr = self.defaults['lr']", "it moves at a learning rate of 0"),
    "stays finite": ("", "gradient = gradient / gradient.norm()", "not finite after inputs of 0"),
    "leaves the tape": ("", "layer.delta.mul_(2)", "it writes to the tape: delta of layer 1"),
    "device": ("", "state['m'] = torch.zeros(3, device='meta')", "some of its tensors on meta"),
    "honest bytes": ("", "kept.append(gradient)", "bytes outlive 8 steps outside of state"),
}


@pytest.mark.parametrize("check", FAULTS)
def test_a_planted_fault_is_found(check, tmp_path):
    """By the check that is for it; without the fault that check passes."""
    ranges, fault, message = FAULTS[check]
    for number, planted in enumerate([("", "pass"), (ranges, fault)]):
        path = tmp_path / f"planted{number}.py"
        path.write_text(PLANTED.format(ranges=planted[0], fault=planted[1]))
        if number:
            with pytest.raises(Exception, match=re.escape(message)) as error:
                CHECKS[check](choose(str(path)), "cpu")
            assert isinstance(error.value, Failed) or check == "float64"
        else:
            CHECKS[check](choose(str(path)), "cpu")


OTHER_FAULTS = {
    "closure": """
import torch
class Planted(torch.optim.SGD):
    def __init__(self, params, lr=0.1):
        super().__init__(params, lr=lr)
    def step(self, closure):
        for parameter in self.param_groups[0]["params"]:
            parameter.data.mul_(0.5)
        closure()
        super().step()
""",
    "eval() and train()": """
import torch
class Planted(torch.optim.SGD):
    def __init__(self, params, lr=0.1):
        super().__init__(params, lr=lr)
    def train(self):
        pass
    def eval(self):
        for parameter in self.param_groups[0]["params"]:
            parameter.data.mul_(0.5)
""",
}


@pytest.mark.parametrize("check", OTHER_FAULTS)
def test_a_planted_fault_of_a_closure_or_a_switch_is_found(check, tmp_path):
    path = tmp_path / "planted.py"
    path.write_text(OTHER_FAULTS[check])
    with pytest.raises(Failed):
        CHECKS[check](choose(str(path)), "cpu")
    path.write_text(OTHER_FAULTS[check].replace("mul_(0.5)", "mul_(1.0)"))
    CHECKS[check](choose(str(path)), "cpu")


def test_check_says_in_words_what_passed(kronbench, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(PLANTED.format(ranges="", fault="pass"))
    code, out, error = kronbench("check", path, "--device", "cpu")
    assert (code, error) == (0, "")
    assert "passed       state_dict resumes" in out
    assert out.splitlines()[-1] == "11 passed, 0 FAILED, 4 not checked"
    path.write_text(PLANTED.format(ranges="", fault="raise SystemExit"))
    code, out, _ = kronbench("check", path, "--device", "cpu")
    assert code == 1
    assert "FAILED       learns the digits     SystemExit" in out
    path.write_text(PLANTED.format(ranges="", fault="time.sleep(9)"))
    _, finding, *_ = itertools.islice(conformance(choose(str(path)), "cpu", 0.3), 2)
    assert (finding.outcome, finding.says) == ("FAILED", "TooLong: it took more than 0.3 seconds")
    code, _, error = kronbench("check", tmp_path / "nowhere.py")
    assert (code, len(error.splitlines())) == (2, 1)
    _, out, _ = kronbench("check", "torch.optim.Muon", "--device", "cpu")
    assert "it takes matrices alone; biases are trained by torch.optim.AdamW[lr=0.001]" in out


def test_new_writes_a_start_that_does_what_is_expected(kronbench, tmp_path):
    code, _, error = kronbench("new", tmp_path / "folder" / "my_opt")
    assert (code, error) == (0, "")
    path = tmp_path / "folder" / "my_opt.py"
    assert len(path.read_text().splitlines()) <= 30
    code, out, _ = kronbench("check", path, "--device", "cpu")
    assert code == 0, out
    path.write_text("mine")
    code, _, error = kronbench("new", path)
    assert code == 2
    assert "is there already; it stays as it is" in error
    assert path.read_text() == "mine"
    assert kronbench("new", "sgd")[0] == kronbench("new", "a-b")[0] == 2
