"""Problems: found by name or as a user's own file, in the record and in the identity of a run; seeds and splits."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from suites.harness.data import Arrays, Problem
from suites.harness.data.problem import find, named, targets_of
from suites.harness.records.record import read
from suites.harness.training.catalog import choose
from suites.harness.training.experiment import Settings, Task
from suites.harness.training.parallel import Job, Workers, run_jobs
from suites.harness.training.runner import run
from suites.problems import digits
from tests.example_records import header

EXAMPLE = Path(__file__).parents[1] / "docs" / "examples" / "my_problem.py"
OWN = """
import numpy as np
from suites.harness.data import Arrays, Problem

def read(root, seed, download):
    inputs = np.random.default_rng(0).standard_normal((60, 3)).astype(np.float32)
    labels = (inputs.sum(1) > 0).astype(int)
    return Arrays((inputs[:40], labels[:40]), (inputs[40:], labels[40:]), ("below", "above"))

problem = Problem("points on either side of a plane", (3, 4, 2), read, criterion="bounded", targets=(0.9, 0.8))
"""


@pytest.fixture
def own(tmp_path):
    file = tmp_path / "two_sides.py"
    file.write_text(OWN)
    return file


def test_a_file_stays_found_from_another_folder(own, monkeypatch):
    """The record and the workers have its whole path."""
    monkeypatch.chdir(own.parent)
    assert Task.load(Settings(problem=own.name, batch_size=20, device="cpu")).settings.problem == str(own)


def test_every_problem_is_found_with_all_that_a_file_says():
    assert list(named()) == [
        *("cifar10", "curves-autoencoder", "digits", "fashion", "fashion-autoencoder", "imagenet10"),
        *("mnist", "mnist-5k", "mnist-autoencoder", "synthetic-cifar10", "synthetic-imagenet10"),
    ]
    for name, problem in named().items():
        assert find(name) == problem
        assert problem.name == problem.spec == name
        assert problem.summary
        assert "\n" not in problem.summary
        assert len(problem.network) > 2
        assert list(problem.targets) == sorted(
            problem.targets, reverse=not problem.larger_is_better
        )  # the easiest first
    targets = [find(name).targets for name in ("cifar10", "digits", "imagenet10")]
    assert targets == [(0.3, 0.4, 0.45), (0.95, 0.97), (0.3,)]


def test_the_docs_name_every_problem_with_its_targets():
    """The easiest first, as in its file."""
    page = (EXAMPLE.parents[1] / "problems.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")] for line in page.splitlines() if line.startswith("| `")]
    shown = {name: cells[-2] for cells in rows for name in cells[1].replace("`", "").split(", ")}
    for name, problem in named().items():
        targets = "" if problem.synthetic else ", ".join(f"{target:g}" for target in problem.targets)
        assert shown[name].removeprefix("a loss of ") == targets


def test_a_new_module_is_found(monkeypatch):
    """Whatever module of the folder holds one."""
    monkeypatch.setattr(digits, "problem", None)
    assert "digits" not in named()
    monkeypatch.setattr(digits, "another", Problem("a test's", (1, 2), lambda *given: None), raising=False)
    assert named()["digits"].summary == "a test's"


def test_the_example_is_a_problem(kronbench, tmp_path):
    assert len(EXAMPLE.read_text().splitlines()) <= 30
    flags = ["--epochs", 1, "--seeds", 1, "--optimizer", "ea_cg", "--output", tmp_path]
    code, out, error = kronbench("compare", "--problem", EXAMPLE, *flags)
    assert code == 0, error
    table = (tmp_path / "table.md").read_text()
    assert "my-problem (real data: 455 train, 114 test), cross-entropy" in table
    assert "epochs to 0.95" in table
    assert "my-problem, cross-entropy: " in out
    (path,) = (tmp_path / "runs").iterdir()
    record = read(path)
    assert record.experiment.dataset == "my-problem"
    assert record.header.problem.source == EXAMPLE.read_text()
    assert record.points[-1].test_accuracy > 0.8


def test_a_file_decides_what_is_left_open(own, tmp_path):
    """Criterion, network, target and name are the file's; the record tells the target to who has no such file."""
    task = Task.load(Settings(str(own), device="cpu", batch_size=10))
    assert (task.settings.criterion, task.settings.network) == ("bounded", (3, 4, 2))
    assert task.title == "two-sides, bounded, batch 10"
    record = run(task, choose("sgd"), 0, 1, tmp_path)
    own.unlink()
    assert targets_of(record.header) == (0.9, 0.8)
    assert Task.load(Settings("digits", "bounded")).settings.criterion == "bounded"


def test_old_records_have_the_targets_of_their_problem():
    """Those without targets, and those of a named problem from when each had one."""
    assert targets_of(header(dataset="cifar10")) == (0.3, 0.4, 0.45)
    assert targets_of(header(dataset="unheard of")) == (0.5,)
    one = replace(find("digits").facts(), targets=(0.95,))
    assert targets_of(replace(header(), problem=one)) == (0.95, 0.97)
    assert targets_of(replace(header(), problem=one, code="0123456789ab")) == (0.95,)
    assert targets_of(replace(header(dataset="two-sides"), problem=replace(one, targets=(0.9,)))) == (0.9,)


def test_a_changed_file_is_another_run(own, tmp_path):
    settings, runs = Settings(str(own), device="cpu", batch_size=10), tmp_path / "runs"

    def run_once():
        return run(Task.load(settings), choose("sgd"), 0, 1, runs).header.run

    first = run_once()
    assert run_once() == first
    own.write_text(OWN.replace("> 0)", "> 1)"))
    assert run_once() != first
    assert len(list(runs.iterdir())) == 2


@pytest.mark.usefixtures("quick_workers")
def test_workers_find_the_file_from_any_folder(own, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = Task.load(Settings(own.name, device="cpu", batch_size=10)).settings
    monkeypatch.chdir("/")
    jobs = [Job(settings, None, "sgd", seed, 1, tmp_path) for seed in range(2)]
    assert [record.completed for record in run_jobs(jobs, Workers(2))] == [True, True]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("nowhere.py", None, "there is no such file"),
        ("mine.py", "x = 1", "it must hold one Problem, found none"),
        ("mine.py", OWN + "\nother = problem", "it must hold one Problem, found problem, other"),
        ("mine.py", "import nowhere", "importing it failed: ModuleNotFoundError: No module named 'nowhere'"),
        ("mine.py", "raise OSError('one\\ntwo')", "importing it failed: OSError: one"),
        ("mine.py", "def", "importing it failed: SyntaxError"),
        ("mine.py", OWN.replace("(0.9, 0.8)", "0.9"), "targets must be a tuple of one or more numbers, got 0.9"),
        ("mine.py", OWN.replace("(3, 4, 2)", "[3, 4, 2]"), "network must be a tuple of one or more numbers, got [3, 4"),
        (
            "mine.py",
            OWN.replace('"bounded"', "1"),
            "criterion must be the name of one, a Criterion or a function",
        ),
        ("mine.py", OWN.replace("bounded", "hinge"), "unknown criterion 'hinge'"),
        ("mine.py", OWN.replace("labels[:40])", "labels[:39])"), "inputs must be [N, D] and labels [N], got [40, 3]"),
        ("mine.py", OWN.replace("(3, 4, 2)", "(4, 4, 2)"), "network must begin with 3, the inputs of mine"),
        ("mine.py", OWN.replace("(3, 4, 2)", "(3, 4, 1)"), "end with at least its 2 classes"),
        ("mine.py", OWN.replace("return Arrays", "return tuple"), "reading its data failed: TypeError"),
        ("mine.py", OWN.replace("return Arrays", "return "), "read must return Arrays, returned tuple"),
        ("digits.py", OWN, "kronbench has a problem digits; give the file another name"),
    ],
)
def test_a_file_that_is_no_problem_is_one_line(refused, tmp_path, file, text, message):
    if text is not None:
        (tmp_path / file).write_text(text)
    flags = ["--batch-size", 10, "--output", tmp_path / "out"]
    assert message in refused("compare", "--problem", tmp_path / file, *flags)
    assert not (tmp_path / "out").exists()


def test_the_old_flag_is_read_but_not_taught(kronbench, tmp_path):
    (tmp_path / "c.toml").write_text('dataset = "digit"\n')
    for arguments in (["--dataset", "digit"], ["--dataset=digit"], ["--config", tmp_path / "c.toml"]):
        for command in ("compare", "tune"):
            code, _, error = kronbench(command, *arguments)
            assert code == 2
            assert "unknown problem 'digit': did you mean 'digits'?" in error
    assert "--problem" in kronbench("compare", "--help")[1]
    assert "--dataset" not in kronbench("compare", "--help")[1]


def first_weights(task, seed):
    return torch.cat([parameter.flatten() for parameter in task.step(choose("sgd"), seed).network.parameters()])


def test_the_seed_decides_the_initial_weights(task):
    assert torch.equal(first_weights(task, 5), first_weights(task, 5))
    assert not torch.equal(first_weights(task, 5), first_weights(task, 6))


def test_the_seed_decides_the_batches(task):
    """From the same weights the first step goes elsewhere with another seed, and to the same place with the same."""

    def stepped(seed):
        step = task.step(choose("sgd"), seed)
        step.network.load_state_dict(task.network(0).state_dict())
        step()
        return step.network.state_dict()["layers.0.weight"]

    assert torch.equal(stepped(5), stepped(5))
    assert not torch.equal(stepped(5), stepped(6))


def test_the_seed_of_a_run_decides_all_its_numbers(task, tmp_path):
    """Every measuring point from the first on, which is that of the initial weights."""
    one, other = (run(task, choose("sgd"), seed, 2, tmp_path).points for seed in (5, 6))
    assert all(a.train_loss != b.train_loss for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", ["digits", "synthetic-cifar10"])
def test_no_image_is_in_both_sets(name):
    data = Task.load(Settings(name, device="cpu")).dataset
    train, test = ({bytes(row) for row in split.images[:5000].numpy()} for split in (data.train, data.test))
    assert len(test) > 300
    assert not train & test


@pytest.mark.parametrize("validation", [0.0, 0.2])
def test_a_record_tells_of_the_set_that_was_not_trained_on(monkeypatch, tmp_path, validation):
    """Labels of the test set that say the opposite: it is never at the accuracy of the training set, unless a share
    of the training set is held out in its place."""
    x = np.random.default_rng(0).standard_normal((200, 5)).astype(np.float32)
    labels = (x[:, 0] > 0).astype(int)
    arrays = Arrays((x[:150], labels[:150]), (x[150:], 1 - labels[150:]), ("no", "yes"))
    upside_down = replace(digits.problem, network=(5, 2), read=lambda *given: arrays, channels=None)
    monkeypatch.setattr(digits, "problem", upside_down)
    task = Task.load(Settings(device="cpu", batch_size=10, validation=validation))
    last = run(task, choose("sgd"), 0, 5, tmp_path).points[-1]
    assert last.train_accuracy > 0.9
    assert (last.test_accuracy > 0.9) if validation else (last.test_accuracy < 0.1)
    assert (last.test_loss < 0.5) if validation else (last.test_loss > 1)
