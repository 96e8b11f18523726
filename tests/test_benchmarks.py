"""The benchmarks of asv: each sets up and runs, names come from the working tree, old commits are n/a, not failed."""

import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import common, convergence, memory, scaling, time
from suites.harness.training.catalog import named

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
SMALL = {  # one combination of parameters of each class
    time.Step: ("ea_cg", "digits, batch 32"),
    time.Phase: ("solve", "ea_cg", "digits, batch 100"),
    scaling.Width: ("solver kfi gram", 32),
    scaling.Growth: ("curvature pch1",),
    memory.State: ("sgd", "64-64-32-16-10"),
    memory.Process: ("sgd",),
    memory.Device: ("sgd",),
    memory.ImageNet10: ("sgd",),
    memory.ImageNet10Step: ("sgd",),
    memory.Prediction: ("sgd",),
    convergence.Digits: ("kfra",),
    convergence.DigitsCost: ("kfra",),
}
LEFT_OUT = (  # of a quick run
    scaling.Growth,
    *(memory.Process, memory.Device, memory.ImageNet10, memory.ImageNet10Step, memory.Prediction),
    *(convergence.Digits, convergence.DigitsCost),
)
TRACKS = [(cls, name) for cls in SMALL for name in vars(cls) if name.startswith("track_")]


def run_as(monkeypatch, name, attributes='{"repeat": 1}'):
    """The command line of the process that asv starts for a benchmark; by default in a quick run."""
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "run", "benchmarks", name, attributes])


@pytest.fixture(scope="module")
def one_round(tmp_path_factory):
    """The folder that asv gives to all benchmarks of a round."""
    return tmp_path_factory.mktemp("round")


@pytest.fixture(autouse=True)
def quick_run(tmp_path, monkeypatch):
    """A folder of its own for each test, in a quick run."""
    monkeypatch.chdir(tmp_path)
    run_as(monkeypatch, "any")


@pytest.fixture
def a_small_scale(monkeypatch):
    """For what a quick run leaves out."""
    monkeypatch.setattr(convergence, "EPOCHS", 1)
    monkeypatch.setattr(convergence, "SEEDS", 1)
    monkeypatch.setattr(common, "network", lambda problem: (64, 32, 10))
    monkeypatch.setattr(memory, "SPECS", ("sgd",))
    for name, value in {"WIDTHS": (32, 128), "_FITTED": 32, "_SECONDS": 0.3}.items():
        monkeypatch.setattr(scaling, name, value)


@pytest.mark.usefixtures("a_small_scale")
@pytest.mark.parametrize(("cls", "name"), TRACKS, ids=lambda value: getattr(value, "__name__", value))
def test_it_sets_up_and_runs(cls, name, one_round, monkeypatch):
    """One combination of parameters of every benchmark gives figures that asv can plot."""
    folder = one_round / ("full" if cls in LEFT_OUT else "quick")
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    run_as(monkeypatch, f"{cls.__name__}.{name}", *(["{}"] if cls in LEFT_OUT else []))
    arguments = SMALL[cls]
    assert all(argument in values for argument, values in zip(arguments, cls.params, strict=True))
    benchmark = cls()
    try:
        benchmark.setup(*arguments)
    except NotImplementedError as missing:
        pytest.skip(f"n/a here: {missing}")
    figure = getattr(benchmark, name)(*arguments)
    values = figure["samples"] if isinstance(figure, dict) else [figure]
    assert values
    assert all(math.isfinite(value) and value >= 0 for value in json.loads(json.dumps(values)))


@pytest.mark.parametrize("cls", LEFT_OUT)
def test_a_quick_run_measures_nothing_on_another_scale(cls):
    """asv keeps its results: an error rate after one epoch would stand in the history of those after 40."""
    with pytest.raises(NotImplementedError):
        cls().setup(*SMALL[cls])


def test_asv_finds_them_all(tmp_path):
    """asv's own discovery, which scans every public name, finds these and no others, with units and the version."""
    pytest.importorskip("asv_runner", reason="asv is not installed")
    found = tmp_path / "found.json"
    code = f"from asv_runner.discovery import _discover; _discover(({str(ROOT / 'benchmarks')!r}, {str(found)!r}))"
    subprocess.run([sys.executable, "-c", code], check=True)
    benchmarks = {benchmark["name"]: benchmark for benchmark in json.loads(found.read_text())}
    assert set(benchmarks) == {f"{cls.__module__.split('.')[1]}.{cls.__name__}.{name}" for cls, name in TRACKS}
    for benchmark in benchmarks.values():
        assert benchmark["version"] == common.WORKLOAD_VERSION
        assert benchmark["unit"] != "unit", "has no unit of its own"
        assert benchmark["setup_cache_key"], "has no folder to share"


def test_optimizers_come_from_the_working_tree(tmp_path):
    """A new file in the checkout's optimizers/ is one more parameter everywhere, whatever is installed."""
    assert set(common.OPTIMIZERS) == set(named())
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks")
    (tmp_path / "optimizers").mkdir()
    for name in ("mine.py", "sgd.py", "__init__.py"):
        (tmp_path / "optimizers" / name).touch()
    code = "from benchmarks import memory, time; assert time.SPECS[:2] == memory.SPECS[:2] == ('mine', 'sgd')"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_importing_them_is_cheap():
    """asv starts a process for each of hundreds of figures: torch is imported by those that measure alone."""
    code = "import sys; from benchmarks import convergence, memory, scaling, time; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


NEEDS = {
    time.Step: "measure.timing",
    time.Phase: "measure.timing",
    scaling.Width: "measure.live_bytes",
    scaling.Growth: "measure.live_bytes",
    memory.State: "measure.live_bytes",
    memory.Process: "memory.peak",
    memory.ImageNet10: "memory.peak",
    convergence.Digits: "training.runner",
    convergence.DigitsCost: "training.catalog",
}


@pytest.mark.usefixtures("a_small_scale")
@pytest.mark.parametrize(("cls", "module"), NEEDS.items())
def test_what_an_old_commit_lacks_is_not_a_failure(cls, module, monkeypatch):
    run_as(monkeypatch, "any", "{}")
    monkeypatch.setitem(sys.modules, f"suites.harness.{module}", None)
    with pytest.raises(NotImplementedError, match=module):
        cls().setup(*SMALL[cls])


def test_a_package_that_the_environment_lacks_is_a_failure(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("suites.harness.measure")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(ModuleNotFoundError, match="pynvml"):
        common.harness("measure.nvml", "state")


def test_an_optimizer_that_an_old_commit_lacks_is_not_a_failure(monkeypatch):
    usable, others = common.choices(["sgd", "mine"], common.task())
    assert [choice.spec for choice in usable] == ["sgd"]
    with pytest.raises(NotImplementedError, match="unknown optimizer 'mine'"):
        common.shared("group", ["mine"], lambda: others)


def test_an_optimizer_that_fails_fails_alone(monkeypatch):
    monkeypatch.setattr("optimizers.ea_cg.EACG.step", lambda self, tape: 1 / 0)
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        time.Step().setup("ea_cg", "digits, batch 32")
    time.Step().setup("sgd", "digits, batch 32")


def test_one_process_measures_for_all_once_a_round(monkeypatch):
    """The same benchmark in the same folder is another round, whose samples must be its own."""
    rounds = iter(range(10))

    def ask(name):
        run_as(monkeypatch, name)
        return common.shared("group", ["a"], lambda: {"a": next(rounds)})

    assert [ask("time.X-0"), ask("time.X-1"), ask("time.Y-0")] == [0, 0, 0]
    assert [ask("time.X-0"), ask("time.X-1"), ask("time.Y-0")] == [1, 1, 1]


def test_samples_are_minima():
    assert common.samples([5, 2, 9, 4, 3, 8])["samples"] == [4, 2, 8]
    assert common.samples([5, 2, 9, 4, 3, 8], [1, 2, 2, 2, 1, 4])["samples"] == [4, 2, 4]


def test_growth_is_the_exponent():
    assert scaling.exponent([8, 16, 64], [5 * 8**3, 5 * 16**3, 5 * 64**3]) == pytest.approx(3)


def test_asv_installs_what_the_package_needs():
    """The dependencies stand in two files."""
    text = re.sub(r"^\s*//.*$", "", (ROOT / "asv.conf.json").read_text(), flags=re.MULTILINE)
    configured = json.loads(text)["matrix"]["req"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[>=<;! ]", line)[0] for line in project["dependencies"]}
    assert needed <= set(configured)


def test_anyones_optimizer_is_taken_by_suites_and_benchmarks(tmp_path):
    """By the variable ``KRONBENCH_OPTIMIZERS``: a file, and a class with options."""
    path = tmp_path / "mine.py"
    path.write_text("import torch\nclass Mine(torch.optim.SGD):\n    pass\n")
    program = (
        "from benchmarks import common, time\n"
        "from suites.common import OPTIMIZERS\n"
        "task = common.task()\n"
        "print(common.OPTIMIZERS[-2:] == OPTIMIZERS[-2:], {*OPTIMIZERS[-2:]} <= {*time.SPECS})\n"
        "print([choice.spec for choice in common.choices(OPTIMIZERS[-2:], task)[0]])\n"
    )
    asked = [str(path), "torch.optim.Adam[betas=(0.9, 0.99)]"]
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "KRONBENCH_OPTIMIZERS": shlex.join(asked), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["True True", str(asked)]
