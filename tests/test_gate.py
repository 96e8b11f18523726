"""The gate: what it decides, what it writes, and that planted regressions of each kind are caught."""

import io
import json
import math
import platform
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from functools import wraps

import pytest
import torch
from torch.overrides import TorchFunctionMode

from optimizers.core import CURVATURES, SOLVERS, Solver
from optimizers.core.solvers.inverses import INVERSES
from optimizers.sgd import SGD
from suites.harness.commands import gate as command
from suites.harness.gate import baseline as gate_baseline
from suites.harness.gate import cases as gate_cases
from suites.harness.gate import check as gate_check
from suites.harness.gate.baseline import (
    BOUNDS,
    SCHEMA,
    Baseline,
    comparable_environment,
    file_of_environment,
    kind,
    read_baselines,
)
from suites.harness.gate.cases import cases
from suites.harness.gate.check import Finding, check, measure_baseline, measure_here, updated
from suites.harness.measure.environment import describe
from suites.harness.measure.live_bytes import peak_state_bytes
from suites.harness.records.facts import Gpu
from suites.harness.training import experiment
from suites.harness.training.catalog import choose, named
from suites.harness.training.experiment import Settings, Task

VALUES = {"step/sgd": 2.0, "kept_bytes/sgd": 100.0, "epochs/sgd": 41.0}


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
    """As it is, whatever it holds."""
    content = {"schema": SCHEMA, "values": baseline.values, "environment": baseline.environment, "provenance": {}}
    path.write_text(json.dumps(content))


@pytest.fixture
def kronbench(kronbench, monkeypatch, tmp_path):
    """Run ``kronbench gate`` on a baseline in a folder, with a measure in place of the fresh process."""

    def call(*arguments, measure=None):
        if measure:
            monkeypatch.setattr(command, "in_a_fresh_process", lambda device, specs: measure)
            monkeypatch.setattr(command, "cases", lambda device, specs: dict.fromkeys(VALUES))
        return kronbench("gate", "--baseline", tmp_path / "b.json", *arguments)

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
        ("kept_bytes/sgd", 0, 0, False),
        ("kept_bytes/sgd", 0, 4, True),
        *((f"{kind}/sgd", 2.0, 2.29, False) for kind in ("step", "solve", "curvature")),
        *((f"{kind}/sgd", 2.0, 2.31, True) for kind in ("step", "solve", "curvature")),
        ("kept_bytes/sgd", 100, 50, False),
        ("epochs/sgd", 5, 6, True),
        ("epochs/sgd", 41, 41, False),
        ("epochs/sgd", 5, math.inf, True),
        ("train_loss/sgd", 0.5, 0.504, False),
        ("train_loss/sgd", 0.5, 0.506, True),
        ("train_loss/sgd", 0.5, math.inf, True),
        ("solve/gone", 0.5, None, True),
        ("solve/new", None, None, False),
    ],
)
def test_bounds(name, was, now, regressed):
    """Times have 15 %; bytes and epochs are exact, a loss nearly; what is gone has regressed, what is new has not."""
    assert Finding(name, was, now).regressed == regressed


def test_every_case_has_a_bound_and_every_solver_a_case():
    names = set(cases("cpu"))
    assert {kind(name) for name in names} == set(BOUNDS)
    assert kind("step/folder/mine.py") == "step"
    assert {"step/ea_cg", "solve/ea_cg", "curvature/pch2", "kept_bytes/kfra", "train_loss/sgd"} <= names
    assert {f"solve/kfi[{inverse}]" for inverse in INVERSES} <= names


def test_exit_0_and_what_held(kronbench, tmp_path):
    _write(tmp_path / "b.json", _baseline())
    code, out, error = kronbench(measure=_tries(2.1)[0])
    assert (code, error) == (0, "")
    assert out.split("\n")[2].split() == ["step", "1", "1.05", "1.15"]


def test_exit_1_and_a_table(kronbench, tmp_path):
    _write(tmp_path / "b.json", _baseline())
    code, out, error = kronbench(measure=_tries(3.0, 3.2, 2.5)[0])
    assert code == 1
    assert f"kronbench gate --update --only step/sgd --baseline {tmp_path / 'b.json'}" in error
    assert [line.split() for line in out.strip().splitlines()[2:]] == [["step/sgd", "2", "2.5", "1.25", "1.15"]]


def test_a_case_that_is_gone_fails_and_one_that_is_new_is_named(kronbench, tmp_path):
    _write(tmp_path / "b.json", _baseline({"step/sgd": 2.0, "step/old": 2.0}))
    code, out, error = kronbench(measure=_tries(2.0)[0])
    assert code == 1
    assert out.strip().splitlines()[-1].split()[:3] == ["step/old", "2", "gone"]
    assert "not in the baseline, so not held: kept_bytes/sgd, epochs/sgd" in error
    assert "--update --only kept_bytes/sgd --only epochs/sgd" in error


def test_exit_2_without_a_baseline_or_a_case(kronbench, tmp_path):
    code, out, error = kronbench(measure=_tries(2.0)[0])
    assert (code, out) == (2, "")
    assert "no baseline of this environment" in error
    assert "kronbench gate --update --baseline" in error
    _write(tmp_path / "b.json", _baseline())
    code, _, error = kronbench("--only", "stop/*", measure=_tries(2.0)[0])
    assert code == 2
    assert "nothing measured" in error
    (tmp_path / "b.json").write_text('{"schema": 0}')
    code, _, error = kronbench(measure=_tries(2.0)[0])
    assert code == 2
    assert len(error.strip().splitlines()) == 1


@pytest.fixture
def pools(monkeypatch):
    """Threads in place of processes: how many each pool would start, and by which method."""
    started = []

    def pool(workers, context, initializer, arguments):
        started.append((workers, context.get_start_method()))
        return ThreadPoolExecutor(workers, initializer=initializer, initargs=arguments)

    monkeypatch.setattr(gate_check, "ProcessPoolExecutor", pool)
    return started


def test_a_case_that_cannot_be_measured_is_named(pools):
    with pytest.raises(ValueError, match=r"step/sdg could not be measured: KeyError: 'step/sdg'"):
        gate_check.in_a_fresh_process("cpu")({"step/sdg": 0.0})


def test_all_cases_are_taken_in_one_worker_of_one_thread(pools, monkeypatch, capsys):
    """Each with its device and limit; the bar on standard error counts them."""
    threads = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr(
        gate_check, "cases", lambda device, specs: {f"step/{n}": lambda limit: limit + len(device) for n in specs}
    )
    assert gate_check.in_a_fresh_process("cpu", "ab")({"step/a": 1.0, "step/b": 2.0}) == {"step/a": 4.0, "step/b": 5.0}
    assert pools == [(1, "spawn")]
    assert threads == [1]
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("step/b ")
    assert "2/2" in printed.err


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_above_every_limit(monkeypatch, value):
    monkeypatch.setattr(gate_check, "cases", lambda device, specs: {"train_loss/sgd": lambda limit: value})
    assert measure_here("train_loss/sgd", "cpu", 0.0) == math.inf


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("solve/ea_cg", math.nan, "solve/ea_cg must be a finite number above 0, got nan"),
        ("solve/ea_cg", -1, "got -1"),
        ("solve/ea_cg", 0, "got 0"),
        ("kept_bytes/sgd", -1, "got -1"),
        ("solve/ea_cg", math.inf, "got inf"),
        ("solve/ea_cg", None, "got None"),
        ("solve/ea_cg", True, "got True"),
        ("solve/ea_cg", "2", "got 2"),
        ("speed/ea_cg", 2.0, "'speed/ea_cg' is of no known kind"),
    ],
)
def test_a_baseline_that_cannot_be_is_one_line(kronbench, tmp_path, name, value, says):
    """Nothing is measured against it."""
    _write(tmp_path / "b.json", _baseline({**VALUES, name: value}))
    measure, asked = _tries(2.0)
    code, out, error = kronbench(measure=measure)
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert says in error
    assert str(tmp_path / "b.json") in error
    assert not asked


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"schema": 0}', f"schema 0, expected {SCHEMA}"),
        (f'{{"schema": {SCHEMA}}}', "'values' is missing"),
        (
            f'{{"schema": {SCHEMA}, "values": {{"sgd": 1}}}}',
            "expected step/..., solve/..., curvature/..., peak_bytes/...",
        ),
    ],
)
def test_what_is_wrong_with_a_baseline(tmp_path, text, says):
    (tmp_path / "b.json").write_text(text)
    with pytest.raises(ValueError, match="--update writes it anew") as error:
        read_baselines(tmp_path)
    assert says in str(error.value)


def test_a_written_baseline_has_a_line_for_each_number(tmp_path):
    """So that a diff of the repository shows which ones changed."""
    _baseline().write(tmp_path / "b.json")
    lines = (tmp_path / "b.json").read_text().splitlines()
    assert lines[2:6] == [' "values": {', '  "step/sgd": 2.0,', '  "kept_bytes/sgd": 100.0,', '  "epochs/sgd": 41.0']
    assert read_baselines(tmp_path) == {tmp_path / "b.json": _baseline()}


def test_no_bytes_are_a_number_of_bytes(kronbench, tmp_path):
    _write(tmp_path / "b.json", _baseline({"step/sgd": 2.0, "kept_bytes/sgd": 0}))
    assert kronbench("--only", "step/*", measure=_tries(2.0)[0])[0] == 0


def test_what_cannot_be_held_is_not_written(kronbench, tmp_path):
    code, _, error = kronbench("--update", measure=_tries(*[math.inf] * 5)[0])
    assert (code, error.count("\n")) == (2, 1)
    assert "step/sgd must be a finite number above 0, got inf" in error
    assert not (tmp_path / "b.json").exists()


def test_an_update_of_some_cases_leaves_the_others(kronbench, tmp_path):
    _write(
        tmp_path / "b.json", _baseline({"step/sgd": 1.0, "kept_bytes/sgd": 7.0, "step/gone": 3.0, "solve/gone": 4.0})
    )
    measure, asked = _tries(5.0, 1.5, 2.0, 9.0, 1.0)
    code, out, _ = kronbench("--update", "--only", "step/*", measure=measure)
    assert code == 0
    assert "1 cases are now in" in out
    assert asked == [["step/sgd"]] * 5
    content = json.loads((tmp_path / "b.json").read_text())
    assert content["values"] == {"kept_bytes/sgd": 7.0, "solve/gone": 4.0, "step/sgd": 2.0}
    assert [update["cases"] for update in content["provenance"]["updates"]] == [["step/sgd"]]


def test_an_update_of_some_cases_needs_a_baseline_of_this_environment(kronbench, tmp_path):
    measure, asked = _tries(2.0)
    assert "leave --only out" in kronbench("--update", "--only", "step/*", measure=measure)[2]
    _write(tmp_path / "b.json", _baseline(cpu="Z80"))
    code, _, error = kronbench("--update", "--only", "step/*", measure=measure)
    assert (code, error.count("\n")) == (2, 1)
    assert "leave --only out" in error
    _write(tmp_path / "b.json", _baseline())
    code, _, error = kronbench("--update", "--only", "stop/*", measure=measure)
    assert (code, error.count("\n")) == (2, 1)
    assert "there is no case stop/*" in error
    assert not asked


@pytest.mark.parametrize("answer", ["y", "n"])
def test_a_new_machine_is_offered_a_baseline(kronbench, monkeypatch, tmp_path, answer):
    """Where someone is at a terminal, who says yes or no."""
    terminal = io.StringIO(f"{answer}\n")
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stdin", terminal)
    measure, asked = _tries(*[2.0] * 5)
    code, out, _ = kronbench(measure=measure)
    assert f"Measure one now, for {tmp_path / 'b.json'}?" in out
    assert (code, len(asked), (tmp_path / "b.json").exists()) == ((0, 5, True) if answer == "y" else (2, 0, False))


def test_a_baseline_that_cannot_be_written_is_said_before_the_measuring(kronbench, tmp_path):
    (tmp_path / "file").touch()
    measure, asked = _tries(2.0)
    code, _, error = kronbench("--update", "--baseline", str(tmp_path / "file" / "b.json"), measure=measure)
    assert (code, error.count("\n")) == (2, 1)
    assert "cannot be written" in error
    assert not asked


def test_exit_3_names_what_differs(kronbench, tmp_path):
    _write(tmp_path / "b.json", _baseline(torch="1.0", cpu="Z80"))
    measure, asked = _tries(2.0)
    code, _, error = kronbench(measure=measure)
    assert code == 3
    assert "torch: baseline 1.0, here" in error
    assert "cpu: baseline Z80, here" in error
    assert f"kronbench gate --update --baseline {tmp_path / 'b.json'} measures one" in error
    assert not asked


def test_update_writes_medians_and_where_they_come_from(kronbench, tmp_path):
    measure, asked = _tries(5.0, 1.0, 2.0, 9.0, 1.5)
    assert kronbench("--update", measure=measure)[0] == 0
    assert asked == [list(VALUES)] * 5
    content = json.loads((tmp_path / "b.json").read_text())
    assert content["values"] == {"step/sgd": 2.0, "kept_bytes/sgd": 100.0, "epochs/sgd": 41.0}
    assert content["environment"] == comparable_environment("cpu")
    age = datetime.now(timezone.utc) - datetime.fromisoformat(content["provenance"]["date"])
    assert timedelta(0) <= age < timedelta(minutes=1)
    assert {"date", "processes", "environment"} == set(content["provenance"])
    assert "git" in content["provenance"]["environment"]
    assert kronbench(measure=_tries(2.0)[0])[0] == 0


def test_a_baseline_is_measured_as_closely_as_can_be():
    """No time is below a limit of 0; and of no cases nothing is measured."""
    limits = []

    def measure(asked):
        limits.append(asked)
        return VALUES

    found = measure_baseline(["step/sgd"], "cpu", measure, {"heavyball": "3.2.1"})
    assert found.values == {"step/sgd": 2.0}
    assert found.provenance["environment"]["packages"] == {"heavyball": "3.2.1"}
    assert limits == [{"step/sgd": 0.0}] * 5
    assert measure_baseline([], "cpu", measure).values == {}
    assert len(limits) == 5


def test_a_baseline_tells_of_all_its_updates():
    kept = _baseline(cpu="Z80")
    for value in (3.0, 4.0):
        kept = updated(kept, Baseline({"step/sgd": value}, {}, {"date": value}), ["step/sgd"])
    assert kept == Baseline(
        {**VALUES, "step/sgd": 4.0},
        _baseline(cpu="Z80").environment,
        {"updates": [{"date": value, "cases": ["step/sgd"]} for value in (3.0, 4.0)]},
    )


def test_an_update_that_fails_leaves_the_baseline_alone(kronbench, tmp_path):
    (tmp_path / "b.json").write_text("before")

    def measure(limits):
        raise ValueError("no")

    assert kronbench("--update", measure=measure)[0] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["b.json"]
    assert (tmp_path / "b.json").read_text() == "before"


def test_numbers_of_a_fresh_process_are_those_of_another():
    """Bytes and convergence are exact: to the last digit the same, with the process at hand as the second."""
    names = ["kept_bytes/kfac", "train_loss/kfra"]
    limits = dict.fromkeys(names, 0.0)
    fresh = gate_check.in_a_fresh_process("cpu")(limits)
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


def test_a_time_is_a_multiple_of_the_reference(monkeypatch):
    """By a clock that stands still but for 6 ms in EA-CG and 2 ms in the reference, now and then a little more."""
    now, calls = [0.0], []

    def passes(name, seconds, then):
        @wraps(then)
        def call(*arguments, **options):
            calls.append(name)
            now[0] += seconds * (1 + calls.count(name) % 7)
            return then(*arguments, **options)

        return call

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(torch.linalg, "cholesky_ex", passes("reference", 0.002, torch.linalg.cholesky_ex))
    slow = passes("case", 0.006, lambda layers, factors, max_iter=10, tolerance=0.0: None)
    monkeypatch.setitem(SOLVERS, "ea_cg", Solver("ea_cg", slow, iterative=True))
    assert measure_here("solve/ea_cg", "cpu", math.inf) == pytest.approx(3)
    assert calls.count("case") >= 10 * 25  # in ten set-ups, 25 blocks each


@pytest.fixture
def timing(monkeypatch):
    """Set seconds in place of a clock: pairs of the reference and the case, one a set-up; the last pair holds on."""

    def script(*pairs, on_set_up=lambda calls: None):
        set_ups = []

        def blocks(calls, device, rounds=30, at_least=5, block_seconds=0.004):
            reference, case = pairs[min(len(set_ups), len(pairs) - 1)]
            set_ups.append((device, rounds, at_least, block_seconds))
            on_set_up(calls)
            return {"reference": [2 * reference, reference], "case": [case, 2 * case]}

        monkeypatch.setattr(gate_cases, "interleaved_seconds", blocks)
        return set_ups

    return script


class _Calls(TorchFunctionMode):
    """What torch functions return while this is entered, by the name of the function."""

    def __init__(self):
        super().__init__()
        self.results = []

    def __torch_function__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        self.results.append((function.__name__, result))
        return result


SLOW_START = ((2, 8), (4, 6), (5, 9))


@pytest.mark.parametrize(
    ("pairs", "limit", "ratio", "count"),
    [
        (SLOW_START, math.inf, 3, 10),
        (SLOW_START, 3, 3, 10),  # at its limit it is not above
        (SLOW_START, 2.9, 3, 20),
        (((2, 8),) * 12 + ((2, 4),), 2, 2, 13),
        (((0.2, 0.8),), 4.5, 4, 10),
    ],
)
def test_a_time_is_the_shortest_block_of_many_set_ups(timing, pairs, limit, ratio, count):
    """Of ten set-ups, and while the ratio is above its limit of up to twenty; 25 blocks of half a millisecond each."""
    set_ups = timing(*pairs)
    assert measure_here("solve/kfi[auto]", "cpu", limit) == pytest.approx(ratio)
    assert set_ups == [("cpu", 25, 25, 0.0005)] * count


def test_each_set_up_lies_elsewhere(timing):
    """What was set up before is still there, with a gap of any size after it."""
    earlier, gaps = [], []

    def on_set_up(calls):
        assert all(call() is not None for call in earlier)
        earlier.extend(weakref.ref(call) for call in calls.values())
        name, gap = seen.results[-1]
        assert name == "empty"
        gaps.append(gap.numel())

    timing((1, 1), on_set_up=on_set_up)
    with _Calls() as seen:
        measure_here("solve/kfi[auto]", "cpu", math.inf)
    assert len(set(gaps)) > 5
    assert 1000 < max(gaps) < 2**14


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_unit_of_time_is_the_same_work_everywhere(timing, monkeypatch, device):
    """The reference kernel: with other work, every time of every baseline would be another."""
    monkeypatch.setattr(experiment, "resolve_device", str)
    calls = {}
    timing((1, 1), on_set_up=calls.update)
    with _Calls() as set_up:
        measure_here("step/sgd", device, math.inf)
    with _Calls() as kernel:
        calls["reference"]()
    last = dict(set_up.results)
    assert {last[name].device.type for name in ("eye", "empty")} == {device}
    made = dict(kernel.results)
    assert {made[name].device.type for name in ("mean", "where")} == {device}
    if device == "cpu":
        generator = torch.Generator().manual_seed(0)
        h, W = (torch.randn(size, 60, generator=generator) for size in (100, 60))
        eye, z = torch.eye(60), h @ W
        torch.testing.assert_close(made["mean"], (h / 2 + z).mean(0))
        torch.testing.assert_close(made["where"], torch.linalg.solve(W @ W.T + 60 * eye, z.T @ z + eye))


@pytest.mark.parametrize("name", named())
def test_every_timed_step_is_the_same(timing, name):
    """The parameters hardly move."""
    calls = {}
    timing((1, 1), on_set_up=calls.update)
    measure_here(f"step/{name}", "cpu", math.inf)
    parameters = list(calls["case"].network.parameters())
    before = [parameter.detach().clone() for parameter in parameters]
    calls["case"]()
    torch.testing.assert_close(parameters, before, rtol=0, atol=1e-8)


def test_a_curvature_is_timed_alone(timing, monkeypatch):
    """On a tape that was recorded before."""
    taken, calls = [], {}
    monkeypatch.setitem(CURVATURES, "pch2", replace(CURVATURES["pch2"], function=taken.append))
    timing((1, 1), on_set_up=calls.update)
    measure_here("curvature/pch2", "cpu", math.inf)
    assert not taken
    calls["case"]()
    assert [layer.weight.shape for layer in taken[0].layers] == [(160, 64), (10, 160)]


def test_peak_bytes_are_those_of_the_third_step(monkeypatch):
    """In float32, once the state is there."""
    own = Task.load(Settings(device="cpu", dtype="float32")).step(choose("kfac[inverse=gram]"), seed=0)
    for _ in range(2):
        own()
    expected, taken, step = peak_state_bytes(own), [], type(own.optimizer).step
    monkeypatch.setattr(type(own.optimizer), "step", lambda self, tape: taken.append(step(self, tape)))
    assert measure_here("peak_bytes/kfac[inverse=gram]", "cpu", 0.0) == expected
    assert len(taken) == 3


def test_cases_of_ones_own_are_measured_as_they_were_asked_for(monkeypatch):
    """By the name that was given, on the device; the cases are named by the specification in full."""
    asked = []
    monkeypatch.setattr(gate_cases, "_train", lambda *given: asked.append(given) or (0.5, 3.0))
    monkeypatch.setattr(gate_cases, "_peak_bytes", lambda *given: asked.append(given) or 7.0)
    numbers = cases("the device", ["torch.optim.SGD[lr=1e-1]"])
    found = {kind: numbers[f"{kind}/torch.optim.SGD[lr=0.1]"](1.0) for kind in ("train_loss", "epochs", "peak_bytes")}
    assert found == {"train_loss": 0.5, "epochs": 3.0, "peak_bytes": 7.0}
    assert asked == [("the device", "torch.optim.SGD[lr=1e-1]")] * 3


def test_training_is_that_of_float64_digits():
    """The loss after 5 epochs, and the first epoch whose train accuracy is 0.9, in a training of the test's own."""
    task = Task.load(Settings(device="cpu", dtype="float64"))
    step, losses, reached = task.step(choose("ea_cg"), seed=0), [], []
    for epoch in range(1, 6):
        for _ in range(task.steps_per_epoch):
            step()
        with torch.no_grad():
            logits = step.network(task.dataset.inputs(task.dataset.train.images))
        losses.append(torch.nn.functional.cross_entropy(logits, task.dataset.train.targets).item())
        if (logits.argmax(1) == task.dataset.train.targets).double().mean() >= 0.9:
            reached.append(epoch)
    assert measure_here("train_loss/ea_cg", "cpu", 0.0) == pytest.approx(losses[-1], rel=1e-9)
    assert measure_here("epochs/ea_cg", "cpu", 0.0) == reached[0] < 5


def test_another_instruction_set_is_another_environment(monkeypatch):
    kept = _baseline()
    assert kept.differences("cpu") == []
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX")
    was = kept.environment["instruction set"]
    assert kept.differences("cpu") == [f"instruction set: baseline {was}, here AVX"]


@pytest.fixture
def machine(monkeypatch):
    """The environment at hand is a set one, with a GPU or without."""

    def use(gpu=None):
        facts = {"blas": "OpenBLAS 0.3.29", "platform": "Linux x86_64", "cpu": "(R) EPYC (7B13)", "threads": 3}
        monkeypatch.setattr(gate_baseline, "describe", lambda device: replace(describe("cpu"), **facts, gpu=gpu))
        monkeypatch.setattr(torch, "__version__", "2.14.1+cu130")
        monkeypatch.setattr(platform, "python_version_tuple", lambda: ("3", "10", "4"))
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")

    return use


@pytest.mark.parametrize(
    ("gpu", "facts", "file"),
    [
        (None, {"device": "cpu", "gpu": None, "cuda": None}, "r-epyc-7b13-avx2.json"),
        (
            Gpu(name="NVIDIA H100 (80GB)", memory_bytes=1, cuda="13.0", tf32=False),
            {"device": "cuda", "gpu": "NVIDIA H100 (80GB)", "cuda": "13.0"},
            "nvidia-h100-80gb.json",
        ),
    ],
)
def test_what_makes_measurements_comparable(machine, tmp_path, gpu, facts, file):
    """Of versions the first two numbers count, and threads do not; the file has the name of what computes."""
    machine(gpu)
    versions = {"torch": "2.14", "python": "3.10", "blas": "OpenBLAS 0.3.29", "platform": "Linux x86_64"}
    processor = {"cpu": "(R) EPYC (7B13)", "instruction set": "AVX2"}
    assert comparable_environment(facts["device"]) == versions | processor | facts
    assert file_of_environment(tmp_path, facts["device"]) == tmp_path / file


def test_a_planted_slow_down_is_caught(monkeypatch):
    """EA-CG takes 1.3 of its own time."""
    was = measure_here("solve/ea_cg", "cpu", math.inf)
    solve = SOLVERS["ea_cg"]

    @wraps(solve.function)
    def slowed(*arguments, **options):
        begin = time.perf_counter()
        solution = solve(*arguments, **options)
        end = time.perf_counter()
        while time.perf_counter() < end + 0.3 * (end - begin):
            pass
        return solution

    monkeypatch.setitem(SOLVERS, "ea_cg", replace(solve, function=slowed))
    limit = was * BOUNDS["solve"]
    assert measure_here("solve/ea_cg", "cpu", limit) > limit


def test_a_folder_has_a_baseline_for_each_environment(kronbench, tmp_path):
    """The one of the environment at hand is taken; ``--update`` writes it beside the others."""

    def call(*arguments):
        return kronbench("--baseline", tmp_path, *arguments, measure=_tries(*[2.0] * 6)[0])

    code, out, error = call()
    assert (code, out, error.count("\n")) == (2, "", 2)
    for name, machine in (("a", "Z80"), ("z", "6502")):
        _write(tmp_path / f"{name}.json", _baseline({"step/sgd": 0.1}, cpu=machine))
    code, _, error = call()
    assert code == 3
    assert "Z80" in error
    assert "6502" in error
    assert call("--update")[0] == 0
    written = {path.name for path in tmp_path.iterdir()} - {"a.json", "z.json"}
    assert written == {file_of_environment(tmp_path, "cpu").name}
    assert call()[0] == 0


MINE = """
import time
import torch

KEPT = []


class Mine(torch.optim.SGD):
    def __init__(self, params, lr=0.1):
        super().__init__(params, lr=lr)

    def step(self, closure=None):
        pass
        super().step()
"""


def test_anyones_optimizer_is_held(tmp_path):
    """Its step over that of SGD, its bytes and its convergence; a slower step and a leak exceed the bounds."""
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    names = set(cases("cpu", [str(path), "torch.optim.LBFGS[max_iter=4]"]))
    kinds = ("step", "peak_bytes", "kept_bytes", "train_loss", "epochs")
    assert names == {f"{kind}/{name}" for kind in kinds for name in ("mine", "torch.optim.LBFGS[max_iter=4]")}
    was = {name: measure_here(name, "cpu", math.inf, [str(path)]) for name in ("step/mine", "kept_bytes/mine")}
    path.write_text(MINE.replace("pass", "time.sleep(0.003); KEPT.append(torch.ones(9))"))
    now = {name: measure_here(name, "cpu", math.inf, [str(path)]) for name in was}
    assert {name for name in was if Finding(name, was[name], now[name]).regressed} == set(was)


def test_the_command_holds_the_optimizers_that_are_given(kronbench, monkeypatch, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    values = {"step/mine": 2.0, "train_loss/mine": 0.5}
    monkeypatch.setattr(
        command, "in_a_fresh_process", lambda device, specs: lambda limits: {n: values[n] for n in limits}
    )

    def gate(*arguments):
        return kronbench("--optimizer", path, *arguments)

    only = ["--only", "step/*", "--only", "train_loss/*"]
    assert gate(*only)[0] == 2
    assert gate(*only, "--update")[0] == 0
    assert json.loads((tmp_path / "b.json").read_text())["values"] == values
    assert gate(*only)[0] == 0
    values["train_loss/mine"] = 0.6
    code, _, error = gate(*only)
    assert code == 1
    assert (
        f"kronbench gate --update --only train_loss/mine --optimizer {path} --baseline {tmp_path / 'b.json'}" in error
    )
    assert gate("--only", "train_loss/*", "--update")[0] == 0
    assert json.loads((tmp_path / "b.json").read_text())["values"] == values
    for arguments in (("--only", "solve/*"), ("--optimizer", path), ("--optimizer", "torch.optim.Adamm")):
        code, _, error = gate(*arguments)
        assert (code, len(error.splitlines())) == (2, 1)
