"""The gate: what it decides, what it writes, and that planted regressions of each kind are caught."""

import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from functools import wraps

import pytest
import torch
from typer.testing import CliRunner

from optimizers.core import SOLVERS
from optimizers.core.kfi import INVERSES
from optimizers.sgd import SGD
from suites.harness.cli import app, main
from suites.harness.gate import check as gate
from suites.harness.gate.cases import cases
from suites.harness.gate.check import (
    BOUNDS,
    Baseline,
    Finding,
    check,
    comparable_environment,
    kind,
    measure_here,
    update,
)

VALUES = {"step/sgd": 2.0, "kept_bytes/sgd": 100.0, "epochs/sgd": math.inf}


def _tries(*numbers):
    """A measure whose first case takes these numbers, one a try, and all others what they were."""
    asked = []

    def measure(limits):
        asked.append(list(limits))
        return {name: numbers[len(asked) - 1] if name == "step/sgd" else VALUES[name] for name in limits}

    return measure, asked


def _baseline(values=VALUES, **environment):
    return Baseline(values, {**comparable_environment("cpu"), **environment}, {})


def _write(path, baseline):
    values = {name: None if math.isinf(value) else value for name, value in baseline.values.items()}
    content = {"schema": gate.SCHEMA, "values": values, "environment": baseline.environment, "provenance": {}}
    path.write_text(json.dumps(content))


@pytest.fixture
def kronbench(monkeypatch, capsys, tmp_path):
    """Run ``kronbench gate`` on a baseline in a folder, with a measure in place of the fresh process."""

    def call(*arguments, measure=None):
        if measure:
            monkeypatch.setattr(gate, "in_a_fresh_process", lambda device: measure)
            monkeypatch.setattr("suites.harness.commands.gate.cases", lambda device: dict.fromkeys(VALUES))
        monkeypatch.setattr("sys.argv", ["kronbench", "gate", "--baseline", str(tmp_path / "b.json"), *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        return stop.value.code or 0, printed.out, printed.err

    return call


@pytest.mark.parametrize(
    ("numbers", "regressed", "tries"),
    [((2.29,), False, 1), ((2.31, 2.2), False, 2), ((9.0, 9.0, 2.0), False, 3), ((2.31, 2.32, 2.33), True, 3)],
)
def test_a_time_has_regressed_if_no_try_of_three_is_within_its_bound(numbers, regressed, tries):
    measure, asked = _tries(*numbers)
    findings = {finding.name: finding for finding in check(_baseline(), list(VALUES), measure)}
    assert findings["step/sgd"].regressed == regressed
    assert findings["step/sgd"].now == min(numbers)
    assert asked == [list(VALUES), *[["step/sgd"]] * (tries - 1)]  # what held is not measured again


@pytest.mark.parametrize(
    ("name", "was", "now", "regressed"),
    [
        ("peak_bytes/sgd", 100, 100, False),
        ("peak_bytes/sgd", 100, 101, True),
        ("kept_bytes/sgd", 0, 4, True),
        ("kept_bytes/sgd", 100, 50, False),
        ("epochs/sgd", 5, 6, True),
        ("epochs/sgd", math.inf, math.inf, False),
        ("epochs/sgd", 5, math.inf, True),
        ("train_loss/sgd", 0.5, 0.504, False),
        ("train_loss/sgd", 0.5, 0.506, True),
        ("train_loss/sgd", 0.5, math.inf, True),
        ("solve/gone", 0.5, None, True),
        ("solve/new", None, None, False),
    ],
)
def test_bounds(name, was, now, regressed):
    """Bytes and epochs are exact, a loss nearly; what is gone has regressed, what is new has not."""
    assert Finding(name, was, now).regressed == regressed


def test_every_case_has_a_bound_and_every_solver_a_case():
    names = set(cases("cpu"))
    assert {kind(name) for name in names} == set(BOUNDS)
    assert {"step/ea_cg", "solve/ea_cg", "curvature/pch2", "kept_bytes/kfra", "train_loss/sgd"} <= names
    assert {f"solve/kfi[{inverse}]" for inverse in INVERSES} <= names


def test_exit_0_and_what_held(kronbench, tmp_path):
    _write(tmp_path / "b.json", _baseline())
    code, out, error = kronbench(measure=_tries(2.1)[0])
    assert (code, error) == (0, "")
    assert out.split("\n")[2].split() == ["step", "1", "1.05", "1.15"]


def test_exit_1_and_a_table(kronbench, tmp_path):
    _write(tmp_path / "b.json", _baseline())
    code, out, _ = kronbench(measure=_tries(3.0, 3.2, 2.5)[0])
    assert code == 1
    assert [line.split() for line in out.strip().splitlines()[2:]] == [["step/sgd", "2", "2.5", "1.25", "1.15"]]


def test_a_case_that_is_gone_fails_and_one_that_is_new_is_named(kronbench, tmp_path):
    _write(tmp_path / "b.json", _baseline({"step/sgd": 2.0, "step/old": 2.0}))
    code, out, error = kronbench(measure=_tries(2.0)[0])
    assert code == 1
    assert out.strip().splitlines()[-1].split()[:3] == ["step/old", "2", "gone"]
    assert "not in the baseline, so not held: kept_bytes/sgd, epochs/sgd" in error


def test_exit_2_without_a_baseline_or_a_case(kronbench, tmp_path):
    code, out, error = kronbench(measure=_tries(2.0)[0])
    assert (code, out) == (2, "")
    assert "no baseline at" in error
    _write(tmp_path / "b.json", _baseline())
    code, _, error = kronbench("--only", "stop/*", measure=_tries(2.0)[0])
    assert code == 2
    assert "nothing measured" in error
    (tmp_path / "b.json").write_text('{"schema": 0}')
    code, _, error = kronbench(measure=_tries(2.0)[0])
    assert code == 2
    assert len(error.strip().splitlines()) == 1


def test_a_case_that_cannot_be_measured_is_named(monkeypatch):
    monkeypatch.setattr(gate, "ProcessPoolExecutor", lambda *process: ThreadPoolExecutor(1))
    with pytest.raises(ValueError, match=r"step/sdg could not be measured: KeyError: 'step/sdg'"):
        gate.in_a_fresh_process("cpu")({"step/sdg": 0.0})


def test_an_update_is_of_everything(kronbench):
    code, _, error = kronbench("--only", "step/sgd", "--update")
    assert code == 2
    assert "leave --only out" in error


def test_exit_3_names_what_differs(kronbench, tmp_path):
    _write(tmp_path / "b.json", _baseline(torch="1.0", cpu="Z80"))
    measure, asked = _tries(2.0)
    code, _, error = kronbench(measure=measure)
    assert code == 3
    assert "torch: baseline 1.0, here" in error
    assert "cpu: baseline Z80, here" in error
    assert not asked


def test_update_writes_medians_and_where_they_come_from(kronbench, tmp_path):
    measure, _ = _tries(5.0, 1.0, 2.0, 9.0, 1.5)
    assert kronbench("--update", measure=measure)[0] == 0
    content = json.loads((tmp_path / "b.json").read_text())
    assert content["values"] == {"step/sgd": 2.0, "kept_bytes/sgd": 100.0, "epochs/sgd": None}
    assert content["environment"] == comparable_environment("cpu")
    assert {"date", "processes", "environment"} == set(content["provenance"])
    assert "git" in content["provenance"]["environment"]
    assert kronbench(measure=_tries(2.0)[0])[0] == 0


def test_an_update_that_fails_leaves_the_baseline_alone(tmp_path):
    (tmp_path / "b.json").write_text("before")

    def measure(limits):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        update(tmp_path / "b.json", ["step/sgd"], "cpu", measure)
    assert [path.name for path in tmp_path.iterdir()] == ["b.json"]
    assert (tmp_path / "b.json").read_text() == "before"


def test_numbers_of_a_fresh_process_are_those_of_another():
    """Bytes and convergence are exact: to the last digit the same, with the process at hand as the second."""
    names = ["kept_bytes/kfac", "train_loss/kfra"]
    limits = dict.fromkeys(names, 0.0)
    fresh = gate.in_a_fresh_process("cpu")(limits)
    assert fresh == {name: measure_here(name, "cpu", 0.0) for name in names}


@pytest.mark.parametrize("once", [True, False])
def test_a_leak_of_one_weight_sized_tensor_is_caught(monkeypatch, once):
    """Outside of the optimizer's state, where nothing but the count of what is alive sees it."""
    was = measure_here("kept_bytes/sgd", "cpu", 0.0)
    step, leaked = SGD.step, []

    def leaking(self, tape):
        step(self, tape)
        if not (once and leaked):
            leaked.append(torch.zeros_like(tape.layers[-1].weight))

    monkeypatch.setattr(SGD, "step", leaking)
    now = measure_here("kept_bytes/sgd", "cpu", 0.0)
    assert now - was == leaked[0].nbytes * (1 if once else 4)
    assert Finding("kept_bytes/sgd", was, now).regressed


def test_a_planted_slow_down_is_caught(monkeypatch):
    """EA-CG takes 1.3 of its own time."""
    was = measure_here("solve/ea_cg", "cpu", math.inf)
    solve = SOLVERS["ea_cg"]

    @wraps(solve)
    def slowed(*arguments, **options):
        begin = time.perf_counter()
        solution = solve(*arguments, **options)
        end = time.perf_counter()
        while time.perf_counter() < end + 0.3 * (end - begin):
            pass
        return solution

    monkeypatch.setitem(SOLVERS, "ea_cg", slowed)
    limit = was * BOUNDS["solve"]
    assert measure_here("solve/ea_cg", "cpu", limit) > limit


def test_a_folder_has_a_baseline_for_each_environment(monkeypatch, tmp_path):
    """The one of the environment at hand is taken; ``--update`` writes it beside the others."""
    monkeypatch.setattr(gate, "in_a_fresh_process", lambda device: _tries(2.0, 2.0, 2.0, 2.0, 2.0, 2.0)[0])
    monkeypatch.setattr("suites.harness.commands.gate.cases", lambda device: dict.fromkeys(VALUES))

    def call(*arguments):
        return CliRunner().invoke(app, ["gate", "--baseline", str(tmp_path), *arguments])

    empty = call()
    assert (empty.exit_code, empty.output.count("\n")) == (2, 1)
    for name, machine in (("a", "Z80"), ("z", "6502")):
        _write(tmp_path / f"{name}.json", _baseline({"step/sgd": 0.1}, cpu=machine))
    other = call()
    assert other.exit_code == 3
    assert "Z80" in other.output
    assert "6502" in other.output
    updated = call("--update")
    assert updated.exit_code == 0, updated.output
    written = {path.name for path in tmp_path.iterdir()} - {"a.json", "z.json"}
    assert written == {gate.file_of_environment("cpu")}
    assert call().exit_code == 0
