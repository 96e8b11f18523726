"""How long a run lasts and at which learning rates: schedules, and a budget in seconds."""

import math
import re
import time
from dataclasses import replace

import pytest
import torch

from suites.harness.commands.options import budget_of
from suites.harness.measure.step import Step
from suites.harness.records.record import read
from suites.harness.training import resumable
from suites.harness.training.catalog import choose, refuse_repeated
from suites.harness.training.experiment import Settings, Task
from suites.harness.training.runner import run
from suites.harness.training.schedule import SCHEDULES, Schedule, factors
from suites.harness.units import parse_seconds
from tests.example_records import header, point, write

SETTINGS = Settings(device="cpu", network=(64, 10), batch_size=479)  # three steps an epoch


@pytest.fixture(scope="module")
def task():
    return Task.load(SETTINGS)


@pytest.fixture
def rates(monkeypatch):
    """The learning rates of all steps so far; those of a run come behind those of its warm-up."""
    taken = []
    update = Step.update

    def watched(step, tape):
        taken.append(float(step.optimizer.param_groups[0]["lr"]))
        update(step, tape)

    monkeypatch.setattr(Step, "update", watched)
    return taken


CLOSED = {
    "constant": lambda t, n: 1.0,
    "linear": lambda t, n: 1 - t / n,
    "cosine": lambda t, n: (1 + math.cos(math.pi * t / n)) / 2,
    "step": lambda t, n: 0.1 ** ((t >= n // 2) + (t >= 3 * n // 4)),
    "exponential": lambda t, n: 0.01 ** (t / n),
}


@pytest.mark.parametrize("steps", [10, 333])
@pytest.mark.parametrize("name", CLOSED)
def test_a_schedule_ends_with_the_run(name, steps):
    assert factors(name, steps) == pytest.approx([CLOSED[name](step, steps) for step in range(steps)], abs=1e-9)


def test_one_cycle_goes_up_and_down():
    found = factors("onecycle", 1000)
    assert found[0] == pytest.approx(1 / 25)
    assert max(found) == found[299] == pytest.approx(1)
    assert found[-1] < 1e-5


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_run_of_one_step_has_a_rate(name):
    (factor,) = factors(name, 1)
    assert 0 < factor <= 1


def test_a_run_takes_its_rates_from_its_schedule(task, rates, tmp_path):
    """Over all steps of all epochs; the settings of the run say which, and the brackets of an optimizer come first."""
    choice = choose("sgd[lr=0.5,schedule=linear]")
    record = run(task, choice, 0, 2, tmp_path)
    assert rates[-6:] == pytest.approx([0.5 * (1 - step / 6) for step in range(6)])
    assert record.experiment.optimizer == "sgd[lr=0.5,schedule=linear]"
    assert record.experiment.options == {"lr": 0.5, "momentum": 0.9, "capturable": False, "schedule": "linear"}
    assert record.experiment.schedule == "constant"
    cosine = Task.load(replace(SETTINGS, schedule="cosine"))
    assert run(cosine, choice, 0, 2, tmp_path).experiment.schedule == "cosine"
    assert rates[-6:] == pytest.approx([0.5 * (1 - step / 6) for step in range(6)])
    run(cosine, choose("sgd[lr=0.5]"), 0, 2, tmp_path)
    assert rates[-6:] == pytest.approx([0.5 * factor for factor in factors("cosine", 6)])
    run(cosine, choose("torch.optim.Adam[lr=0.5,schedule=constant]"), 0, 2, tmp_path)
    assert rates[-6:] == [0.5] * 6


def test_every_group_has_its_own_rate():
    weights = [torch.zeros(2, requires_grad=True) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": [weights[0]], "lr": 1.0}, {"params": [weights[1]], "lr": 0.1}])
    Schedule(optimizer, "linear", 4).set(1)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.75, 0.075])


def test_a_rate_on_the_device_is_set_where_it_lies(task, tmp_path):
    """A captured step reads it there; a checkpoint does not put it elsewhere."""
    step = task.step(choose("torch.optim.Adam"), 0)
    (group,) = step.optimizer.param_groups
    group["capturable"], group["lr"] = True, torch.tensor(0.5)
    place, schedule = group["lr"].data_ptr(), Schedule(step.optimizer, "linear", 4)
    schedule.set(2)
    assert (group["lr"].item(), group["lr"].data_ptr()) == (0.25, place)
    kept = resumable.Checkpoint(tmp_path / "a.pt", "a")
    kept.save(step, points=1)
    saved = kept.load()
    saved["optimizer"]["param_groups"][0]["lr"] = torch.tensor(0.25, device="meta")
    with pytest.raises(NotImplementedError, match="meta"):  # it is moved to the device of the parameters
        resumable.restore(step, saved)


@pytest.mark.parametrize(
    "spec", ["sgd[schedule=onecycle]", "torch.optim.Adam[schedule=cosine]", "ea_cg[schedule=step]"]
)
def test_a_run_that_goes_on_has_the_same_numbers(task, tmp_path, dies_at, without_times, spec):
    with pytest.raises(KeyboardInterrupt):
        run(task, choose(spec), 0, 5, tmp_path / "died", on_point=dies_at(3))
    died, whole = (run(task, choose(spec), 0, 5, tmp_path / folder) for folder in ("died", "whole"))
    assert died.end.resumed == (3,)
    assert list(map(without_times, died.points)) == list(map(without_times, whole.points))


def test_schedule_and_budget_decide_what_a_run_is(task, tmp_path):
    def name(spec="sgd", **settings):
        return run(Task.load(replace(SETTINGS, **settings)), choose(spec), 0, 1, tmp_path).header.run

    names = [name(), name(schedule="linear"), name("sgd[schedule=linear]"), name(budget_seconds=60.0)]
    assert len(set(names)) == 4
    assert name(targets=(0.5,)) == name()


def test_two_schedules_of_one_optimizer_are_two_methods():
    refuse_repeated([choose("sgd"), choose("sgd[schedule=linear]")])
    with pytest.raises(ValueError, match="more than once"):
        refuse_repeated([choose("sgd[schedule=linear]"), choose("sgd[schedule=linear,lr=0.1]")])


@pytest.mark.parametrize(
    ("settings", "spec", "epochs", "said"),
    [
        ({}, "sgd[schedule=cosine]", None, "schedule cosine goes over all epochs of a run: give --epochs beside"),
        ({"schedule": "step"}, "sgd", None, "schedule step goes over all epochs"),
        ({"schedule": "step"}, "{own}", 1, "schedule step needs its option lr, and it has none"),
    ],
)
def test_what_cannot_be_scheduled_is_refused(tmp_path, settings, spec, epochs, said):
    own = tmp_path / "own.py"
    own.write_text(
        "import torch\n\nclass Own(torch.optim.Optimizer):\n"
        "    def __init__(self, params):\n        super().__init__(params, {})\n"
    )
    with pytest.raises(ValueError, match=re.escape(said)):
        Task.load(replace(SETTINGS, **settings)).check(choose(spec.format(own=own)), epochs)


def test_a_captured_step_needs_a_rate_that_it_follows(task):
    """In a graph, a rate that is a number is a constant."""
    captured = replace(task, settings=replace(task.settings, cuda_graph=True, schedule="cosine"))
    captured.check(choose("sgd"))
    with pytest.raises(ValueError, match="needs its option capturable"):
        captured.check(choose("torch.optim.SparseAdam"))


@pytest.fixture
def a_second_a_step(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    update = Step.update

    def slow(step, tape):
        now[0] += 1
        update(step, tape)

    monkeypatch.setattr(Step, "update", slow)
    evaluating = Step.evaluating

    def slow_too(step):
        now[0] += 1000
        return evaluating(step)

    monkeypatch.setattr(Step, "evaluating", slow_too)


@pytest.mark.usefixtures("a_second_a_step")
@pytest.mark.parametrize(
    ("budget", "epochs", "ends"),
    [(7.0, None, 3), (9.0, None, 3), (9.5, None, 4), (7.0, 2, 2), (7.0, 9, 3), (None, 2, 2)],
)
def test_a_run_ends_when_its_budget_is_spent(tmp_path, budget, epochs, ends):
    """At the first evaluation after it, or with its last epoch; evaluation is not counted. An epoch takes 3 seconds."""
    record = run(Task.load(replace(SETTINGS, budget_seconds=budget)), choose("sgd"), 0, epochs, tmp_path)
    assert (record.points[-1].epoch, record.points[-1].training_seconds) == (ends, 3.0 * ends)
    assert record.completed
    assert (record.experiment.budget_seconds, record.experiment.epochs) == (budget, epochs)
    assert read(record.path) == record


@pytest.mark.usefixtures("a_second_a_step")
def test_a_run_that_goes_on_has_what_is_left_of_its_budget(tmp_path, dies_at):
    task = Task.load(replace(SETTINGS, budget_seconds=10.0))

    with pytest.raises(KeyboardInterrupt):
        run(task, choose("sgd"), 0, None, tmp_path, on_point=dies_at(2))
    record = run(task, choose("sgd"), 0, None, tmp_path)
    assert record.end.resumed == (2,)
    assert [one.training_seconds for one in record.points] == [0, 3, 6, 9, 12]


@pytest.mark.parametrize(("budget", "epochs"), [(0.3, None), (0.3, 9), (None, 1), (None, None)])
def test_a_record_that_finished_before_its_end_is_refused(tmp_path, budget, epochs):
    """Two epochs of a tenth of a second each."""
    facts, path = header(budget_seconds=budget, epochs=epochs), tmp_path / "a.jsonl"
    write(path, facts, [point(epoch) for epoch in range(3)])
    with pytest.raises(ValueError, match="it finished without all"):
        read(path)
    write(
        path, replace(facts, experiment=replace(facts.experiment, budget_seconds=0.2)), [point(0), point(1), point(2)]
    )
    assert read(path).completed


@pytest.mark.parametrize(("text", "seconds"), [("60s", 60), ("2m", 120), ("1.5 h", 5400), (" 0.5S ", 0.5)])
def test_times_are_read(text, seconds):
    assert parse_seconds(text) == budget_of(text) == seconds


@pytest.mark.parametrize("text", ["", "60", "s", "0s", "-1s", "2 weeks", "1e3s", "nans"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match=r"^budget: a time must be a number with a unit, such as 60s, 2m or 1h, got"):
        budget_of(text)
