"""The contract of an optimizer: a class, a factory, a closure, switches, an installed package, a library."""

import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
import torch

from optimizers.core import Span
from suites.harness.measure.contract import rest_of
from suites.harness.measure.limits import TooLong, limited, within_memory
from suites.harness.measure.operations import probe
from suites.harness.measure.step import Step
from suites.harness.records.record import read
from suites.harness.training.catalog import choose, of_library
from suites.harness.training.experiment import Settings, Task
from suites.harness.training.parallel import Job, Workers, run_jobs
from suites.harness.training.runner import run
from suites.harness.tuning.space import declared

FACTORY = '''"""SGD of its own making."""
import torch

def optimizer(network, criterion, lr=0.1, betas=(0.9, 0.99)):
    assert criterion.convex
    return torch.optim.SGD(network.parameters(), lr=lr)
'''
AVERAGE = '''"""Judged at the mean of all iterates."""
import torch

class Average(torch.optim.SGD):
    def __init__(self, params, lr=0.1):
        super().__init__(params, lr=lr)
        self.mode = "none"

    def step(self, closure=None):
        assert self.mode == "train"
        super().step()

    def train(self):
        if self.mode == "eval":
            self._move(-100)
        self.mode = "train"

    def eval(self):
        self._move(100)
        self.mode = "eval"

    def _move(self, by):
        for parameter in self.param_groups[0]["params"]:
            parameter.data.add_(by)
'''


@pytest.fixture(scope="module")
def task():
    return Task.load(Settings(device="cpu", network=(64, 16, 10), dtype="float64"))


@pytest.fixture
def written(tmp_path):
    def write(source, name="mine"):
        path = tmp_path / f"{name}.py"
        path.write_text(source)
        return str(path)

    return write


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package with an entry point."""

    def install(source="", value="offered:optimizer", version="1.2"):
        (tmp_path / "offered.py").write_text(source)
        for other in tmp_path.glob("*.dist-info"):
            shutil.rmtree(other)
        info = tmp_path / f"offered_pkg-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: offered-pkg\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[kronbench.optimizers]\noffer = {value}\n")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "offered", raising=False)

    return install


def test_a_factory_is_taken_with_its_options(task, written):
    choice = choose(f"{written(FACTORY)}[lr=0.5,betas=[0.8,0.9]]")
    assert (choice.spec, choice.entry.summary) == ("mine[lr=0.5,betas=(0.8, 0.9)]", "SGD of its own making.")
    assert choice.options["betas"] == (0.8, 0.9)
    step = task.step(choice, seed=0)
    assert step.optimizer.param_groups[0]["lr"] == 0.5
    step()
    assert choose(choose("torch.optim.Adam[betas=(0.8, 0.9)]").spec).options == {"betas": (0.8, 0.9)}


def test_a_class_and_a_factory_say_what_is_searched(written):
    """``space`` is an attribute of either."""
    source = FACTORY.replace("import torch\n", "import torch\nfrom optimizers.core import Span\n")
    choice = choose(written(source + "\noptimizer.space = {'lr': Span(0.01, 1)}\n"))
    assert declared(choice.entry) == {"lr": Span(0.01, 1)}
    source = AVERAGE.replace("import torch\n", "import torch\nfrom optimizers.core import Span\n")
    choice = choose(
        written(
            source.replace(
                "class Average(torch.optim.SGD):", "class Average(torch.optim.SGD):\n    space = {'lr': Span(0.1, 2)}"
            ),
            "other",
        )
    )
    assert declared(choice.entry) == {"lr": Span(0.1, 2)}


def test_a_file_with_several_classes_says_which_counts(written):
    source = "import torch\nclass A(torch.optim.SGD): pass\nclass B(torch.optim.Adam): pass\n"
    with pytest.raises(ValueError, match="found A, B; or call the one that counts"):
        choose(written(source))
    assert "amsgrad" in choose(written(source + "optimizer = B\n")).entry.options


def test_an_installed_package_is_taken_by_its_name(package, kronbench, tmp_path, task):
    package(FACTORY)
    choice = choose("offer[lr=0.2]")
    assert choice.entry.packages == {"offered-pkg": "1.2"}
    record = run(task, choice, 0, 1, tmp_path / "runs")
    assert record.environment.packages == {"offered-pkg": "1.2"}
    package(FACTORY, version="1.3")
    assert run(task, choose("offer[lr=0.2]"), 0, 1, tmp_path / "runs").header.run != record.header.run
    code, out, _ = kronbench("list")
    assert code == 0
    assert "offer " in out


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def optimizer(network, criterion): return 3", "it must return a torch.optim.Optimizer, got int"),
        ("def optimizer(network): pass", "a factory begins with (network, criterion), got optimizer(network)"),
        ("optimizer = 3", "expected a torch.optim.Optimizer or a factory, got 3"),
        ("def optimizer(network, criterion): return {}['a']", "KeyError: 'a'"),
        (
            "import torch\n"
            "def optimizer(network, criterion): return torch.optim.SGD([torch.nn.Parameter(torch.ones(1))])",
            "it has no parameter of the network",
        ),
        ("x = 1", "it must define one torch.optim.Optimizer, found none"),
    ],
)
def test_what_is_no_optimizer_is_one_line(refused, written, tmp_path, source, message):
    assert message in refused("compare", "--optimizer", written(source), "--output", tmp_path / "out")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("offer", "nowhere:optimizer of offered-pkg 1.2 does not import: ModuleNotFoundError"),
        ("offre", "did you mean 'offer'"),
        ("heavybal.SOAP", "heavybal is not installed: python -m pip install heavybal"),
        ("torch.optim.Adamm", "did you mean 'Adam'"),
        ("torch.optim.Adam[betos=(0.9,0.99)]", "did you mean 'betas'"),
        ("torch.optim.Adam[betas=(0.9,0.99]", "expected option=value"),
        ("torch.nowhere.Adam", "No module named 'torch.nowhere'"),
        ("torch.ones", "expected a torch.optim.Optimizer or a factory"),
        ("torch.optim.Muon[lr=-1]", "Learning rate should be >= 0 but is: -1"),
    ],
)
def test_what_is_not_there_is_one_line(refused, package, tmp_path, spec, message):
    package(value="nowhere:optimizer")
    assert message in refused("compare", "--optimizer", spec, "--output", tmp_path / "out")


def test_a_file_does_not_take_the_name_of_another_optimizer(written):
    with pytest.raises(ValueError, match="sgd is the name of another optimizer; rename the file"):
        choose(written(FACTORY, "sgd"))


class Twice(torch.optim.SGD):
    """Evaluates before and after a move, and moves back by half."""

    def step(self, closure):
        self.losses, self.gradients = [], []
        for by in (0, 1, -0.5):
            with torch.no_grad():
                for group in self.param_groups:
                    for parameter in group["params"] if by else ():
                        parameter.add_(by)
            self.losses.append(closure().item())
            self.gradients.append([parameter.grad.clone() for parameter in self.param_groups[0]["params"]])


def test_a_closure_evaluates_at_the_parameters_of_the_moment(task):
    """Loss and gradients as by autograd, at each of three places; the first is not evaluated again."""
    network = task.network(0)
    step = Step(network, Twice(network.parameters(), lr=0.1), task.criterion, task.dataset.batches(100, 1, 0))
    step.repeat_batch()
    x, labels = next(step.batches)
    step()
    assert step.passes["evaluations"] == 2
    network = task.network(0)
    for by, loss, gradients in zip((0, 1, -0.5), step.optimizer.losses, step.optimizer.gradients, strict=True):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(by)
        network.zero_grad()
        expected = task.criterion.value(network(x), labels).mean()
        expected.backward()
        assert loss == pytest.approx(expected.item(), rel=1e-12)
        for one, parameter in zip(gradients, network.parameters(), strict=True):
            torch.testing.assert_close(one, parameter.grad, rtol=1e-10, atol=1e-14)


def test_lbfgs_takes_the_steps_of_autograd(task):
    step = task.step(choose("torch.optim.LBFGS[line_search_fn=strong_wolfe]"), seed=0).repeat_batch()
    x, labels = next(step.batches)
    network = task.network(0)
    optimizer = torch.optim.LBFGS(network.parameters(), line_search_fn="strong_wolfe")
    calls = 0

    def closure():
        nonlocal calls
        calls += 1
        optimizer.zero_grad()
        loss = task.criterion.value(network(x), labels).mean()
        loss.backward()
        return loss

    for _ in range(2):
        step()
        optimizer.step(closure)
    assert step.passes["evaluations"] == calls - 2
    for one, other in zip(step.network.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_the_evaluations_of_a_closure_are_counted(tmp_path, task):
    """A gradient-equivalent each, in the very steps that took them."""
    spec = "torch.optim.LBFGS[lr=0.1,max_iter=3,history_size=1]"
    record = run(task, choose(spec), 0, 2, tmp_path)
    step, steps = task.step(choose(spec), seed=0), 2 * task.steps_per_epoch
    for _ in range(steps):
        step()
    last = record.points[-1]
    assert last.forwards == last.backwards == steps + step.passes["evaluations"]
    assert steps + step.passes["evaluations"] <= last.gradient_equivalents < 1.1 * (steps + step.passes["evaluations"])


def test_factorizations_of_some_steps_alone_are_whole_numbers_in_a_record(tmp_path, task, written):
    source = (
        "import torch\n"
        "class Now(torch.optim.SGD):\n"
        "    steps = 0\n"
        "    def step(self, closure=None):\n"
        "        if self.steps % 4 == 0:\n"
        "            torch.linalg.qr(torch.eye(3))\n"
        "        self.steps += 1\n"
        "        super().step()\n"
    )
    record = run(task, choose(written(source)), 0, 1, tmp_path / "runs")
    assert record.points[-1].factorizations == pytest.approx(task.steps_per_epoch * 0.3, abs=0.5)


def test_an_optimizer_with_switches_trains_and_is_judged_in_its_own_mode(tmp_path, task, written):
    """It is judged far away, where it learned nothing, and it comes back to go on."""
    record = run(task, choose(written(AVERAGE)), 0, 2, tmp_path / "runs")
    plain = run(task, choose("torch.optim.SGD[lr=0.1]"), 0, 2, tmp_path / "runs")
    assert record.status != "failed", record.reason
    assert plain.points[-1].train_loss < record.points[-1].train_loss
    step = task.step(choose(written(AVERAGE)), seed=0)
    with step.evaluating():
        assert step.optimizer.mode == "eval"
    assert step.optimizer.mode == "train"


def test_muon_gets_the_matrices_and_adamw_the_rest(tmp_path, task):
    step = task.step(choose("torch.optim.Muon[lr=0.02]"), seed=0).repeat_batch()
    assert rest_of(step.optimizer) == "torch.optim.AdamW[lr=0.02]"
    before = [parameter.detach().clone() for parameter in step.network.parameters()]
    step()
    assert not any(torch.equal(one, now) for one, now in zip(before, step.network.parameters(), strict=True))
    muon = torch.optim.Muon([torch.nn.Parameter(before[0].clone())], lr=0.02)
    muon.param_groups[0]["params"][0].grad = step.network.linears[0].weight.grad
    muon.step()
    torch.testing.assert_close(muon.param_groups[0]["params"][0], step.network.linears[0].weight)
    record = run(task, choose("torch.optim.Muon"), 0, 1, tmp_path)
    assert read(record.path).end.rest == "torch.optim.AdamW[lr=0.001]"
    assert run(task, choose("sgd"), 0, 1, tmp_path).end.rest is None


def test_groups_that_say_use_muon_are_tried(task, monkeypatch):
    class Grouped(torch.optim.SGD):
        def __init__(self, params, lr=0.1):
            groups = list(params)
            if "use_muon" not in groups[0]:
                raise ValueError("groups must say use_muon")
            super().__init__(groups, lr=lr)

    library = types.ModuleType("some_library")
    library.Grouped = Grouped
    monkeypatch.setitem(sys.modules, "some_library", library)
    groups = task.step(choose("some_library.Grouped"), seed=0).optimizer.param_groups
    assert [group["use_muon"] for group in groups] == [True, False]
    assert all(parameter.ndim == 2 for parameter in groups[0]["params"])


def test_a_library_is_listed_with_defaults(monkeypatch):
    class Wrapper(torch.optim.SGD):
        def __init__(self, params, base_optimizer, lr=0.1):
            super().__init__(params, lr=lr)

    class Odd(torch.optim.SGD):
        def __init__(self, params, lr=0.1, dtype=torch.float32, unset=object(), kind=int, betas=(0.9, None)):  # noqa: B008
            super().__init__(params, lr=lr)

    library = types.ModuleType("some_library")
    library.__spec__ = types.SimpleNamespace()
    library.Wrapper, library.Odd = Wrapper, Odd
    monkeypatch.setitem(sys.modules, "some_library", library)
    (entry,) = of_library("some_library").values()
    expected = {"lr": 0.1, "dtype": "torch.float32", "unset": "default", "kind": "int", "betas": "(0.9, None)"}
    assert (entry.name, entry.options) == ("some_library.Odd", expected)
    assert of_library("not_installed") == {}
    assert {"torch.optim.LBFGS", "torch.optim.Muon", "torch.optim.AdamW"} <= set(of_library("torch.optim"))


def test_what_is_compiled_is_counted_as_it_is_written(task):
    """A compiled function cannot be watched; a mode that counts runs it uncompiled, nested or not."""
    compiled = torch.compile(lambda a, b: a @ b, backend="eager", fullgraph=True)

    class Compiled(torch.optim.SGD):
        def step(self, closure=None):
            with torch.inference_mode():
                torch.eye(2).inverse()
            compiled(torch.ones(3, 4), torch.ones(4, 5))
            super().step()

    network = task.network(0)
    step = Step(network, Compiled(network.parameters(), lr=0.1), task.criterion, task.dataset.batches(100, 1, 0))
    extra = probe(step).fixed
    plain = probe(task.step(choose("torch.optim.SGD"), 0)).fixed
    assert extra["update"] - plain["update"] == 2 * 3 * 4 * 5 + 2 * 2**3


BAD = """
import os, sys, time
import torch

class Bad(torch.optim.SGD):
    def __init__(self, params, lr=0.1):
        super().__init__(params, lr=lr)
        self.steps = 0

    def step(self, closure=None):
        super().step()
        self.steps += 1
        if self.steps == 20:
            {fault}
"""
FAULTS = {
    "raises": ("{}['what']", "failed", "KeyError: 'what'"),
    "leaves": ("sys.exit(0)", "failed", "SystemExit: 0"),
    "hangs": ("time.sleep(60)", "failed", "TooLong: a step took more than 3 seconds"),
    "diverges": ("self.param_groups[0]['params'][0].data.fill_(float('nan'))", "diverged", "train loss is nan"),
    "eats": ("self.eaten = [torch.ones(2**22) for _ in range(10000)]", "failed", "out of memory"),
}


def test_a_bad_optimizer_costs_its_own_runs_alone(kronbench, tmp_path, monkeypatch):
    """In one process: each ends with its reason, and the last one is trained as if the others were not there."""
    monkeypatch.setattr(sys.modules[limited.__module__], "available_bytes", lambda: 200 * 10**6)
    flags = ["--epochs", 2, "--seeds", 1, "--network", "64,16,10", "--step-seconds", 3, "--output", tmp_path / "out"]
    for name, (fault, _, _) in FAULTS.items():
        (tmp_path / f"{name}.py").write_text(BAD.format(fault=fault))
        flags += ["--optimizer", tmp_path / f"{name}.py"]
    code, out, _ = kronbench("compare", *flags, "--optimizer", "sgd")
    assert code == 1
    records = {record.experiment.optimizer: record for record in map(read, (tmp_path / "out" / "runs").glob("*.jsonl"))}
    for name, (_, status, reason) in FAULTS.items():
        assert (records[name].status, reason in records[name].reason) == (status, True), records[name].reason
    assert records["sgd"].completed
    assert "SGD" in out


def test_a_step_that_hangs_in_the_warm_up_ends(tmp_path, task, written):
    choice = choose(written(BAD.format(fault="time.sleep(60)").replace("== 20", "== 1")))
    record = run(task, choice, 0, 1, tmp_path / "runs", step_seconds=0.1)
    assert record.reason == "TooLong: the first steps took more than 0.4 seconds"


@pytest.mark.usefixtures("quick_workers")
def test_a_run_whose_worker_is_killed_each_time_has_failed(task, tmp_path, written, monkeypatch):
    monkeypatch.setattr("suites.harness.training.parallel._TRIES", 2)
    kills = written(BAD.format(fault="os.kill(os.getpid(), 9)"), "kills")
    jobs = [Job(task.settings, None, spec, 0, 2, tmp_path / "runs") for spec in (kills, "sgd")]
    records = run_jobs(jobs, Workers(2))
    assert [record.status for record in records] == ["failed", "finished"]
    assert records[0].reason == "its process was killed 2 times"


def test_a_limit_leaves_out_what_torch_imports_in_a_new_process():
    """With its first optimizer, for longer than the limit."""
    make = "torch.optim.SGD([torch.zeros(1)], 0.1)"
    text = f"import torch\nfrom suites.harness.measure.limits import limited\nwith limited(0.5): {make}"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_limits_are_lifted_again():
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with within_memory():
        assert resource.getrlimit(resource.RLIMIT_DATA) != before
        with pytest.raises(TooLong, match=r"it took more than 0\.05 seconds"), limited(0.05, "it took"):
            time.sleep(5)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    with limited(0.2) as another:
        for _ in range(6):
            time.sleep(0.05)
            another()


def test_the_template_is_what_new_writes(kronbench, tmp_path, monkeypatch):
    """The start stands in two places, of which one follows from the other."""
    monkeypatch.chdir(tmp_path)
    assert kronbench("new", "my_opt")[0] == 0
    template = Path(__file__).parents[1] / "docs" / "template" / "my_opt.py"
    assert (tmp_path / "my_opt.py").read_text() == template.read_text()
