"""The repository to copy: it builds, its optimizer is found by its entry point, and its workflow catches a fault."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import suites.harness.commands.gate as command
from suites.harness.gate.baseline import kind
from suites.harness.gate.check import measure_here
from suites.harness.training.catalog import choose

TEMPLATE = Path(__file__).parents[1] / "docs" / "template"
yaml = pytest.importorskip("yaml")


@pytest.fixture
def copy(tmp_path, monkeypatch):
    folder = shutil.copytree(TEMPLATE, tmp_path / "my-opt")
    monkeypatch.chdir(folder)
    return folder


def test_its_optimizer_is_the_start_that_new_writes(copy, kronbench):
    (copy / "my_opt.py").unlink()
    assert kronbench("new", "my_opt")[0] == 0
    assert (copy / "my_opt.py").read_text() == (TEMPLATE / "my_opt.py").read_text()


def test_its_baseline_has_every_case():
    values = json.loads((TEMPLATE / "ci" / "base.json").read_text())["values"]
    assert set(values) == {f"{kind}/my_opt" for kind in ("step", "peak_bytes", "kept_bytes", "train_loss", "epochs")}


def test_it_builds_and_its_entry_point_is_found(copy, tmp_path, monkeypatch):
    site = tmp_path / "site"
    install = [
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--target",
        str(site),
        ".",
    ]
    done = subprocess.run([sys.executable, "-m", *install], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    monkeypatch.syspath_prepend(site)
    choice = choose("my_opt[lr=0.2]")
    assert (choice.options, choice.entry.packages) == ({"lr": 0.2}, {"my-opt": "0.1.0"})


def test_its_workflow_runs_and_catches_a_leak(copy, kronbench, monkeypatch):
    """The commands of the workflow, in this process; of the cases the bytes."""

    def here(device, specs):
        number = lambda name: measure_here(name, device, 0.0, specs) if kind(name).endswith("bytes") else 1.0  # noqa: E731
        return lambda limits: {name: number(name) for name in limits}

    monkeypatch.setattr(command, "in_a_fresh_process", here)
    monkeypatch.setattr("suites.harness.gate.check.PROCESSES", 1)
    text = (copy / ".github" / "workflows" / "gate.yml").read_text()
    assert len(text.splitlines()) <= 20
    lines = [step["run"] for step in yaml.safe_load(text)["jobs"]["gate"]["steps"] if "run" in step]
    (copy / "before").mkdir()
    shutil.copy(copy / "my_opt.py", copy / "before")
    commands = [line.split()[1:] for line in lines if line.startswith("kronbench")]
    assert [words[0] for words in commands] == ["check", "gate", "gate"]
    for words in commands[1:]:  # whether the start does what is expected is tested elsewhere
        code, out, error = kronbench(*words)
        assert code == 0, out + error
    path = copy / "my_opt.py"
    path.write_text(
        path.read_text().replace("for layer", "self.kept = [*getattr(self, 'kept', []), tape]\n        for layer")
    )
    assert kronbench(*commands[0])[0] == kronbench(*commands[2])[0] == 1
