"""Many runs: what each is given, how far their bar says they are, and where steps are timed between them."""

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from suites.harness.records.record import read
from suites.harness.training.catalog import choose
from suites.harness.training.experiment import Task
from suites.harness.training.parallel import Job, Workers
from suites.harness.tuning import comparison
from suites.harness.tuning.progress import progress_bars
from tests.example_records import header, point, write

CHOICES = [choose("sgd"), choose("ea_cg")]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """What runs, jobs and their workers are given; a run has points at epochs 1 and 2, and ends at .1 s an epoch."""
    given: dict[str, list[Any]] = {"runs": [], "jobs": [], "turns": [], "bar": []}

    def in_turns(task, choice, seed, epochs, folder, on_point, **options):
        given["runs"].append((choice.spec, seed, epochs, folder, options))
        for epoch in (1, 2):
            on_point(point(epoch))
            yield
        return (choice.spec, seed)

    def jobs(jobs, workers, on_record):
        for job in jobs:
            given["jobs"].append((job, workers))
            on_record((job.spec, job.seed))
        return [(job.spec, job.seed) for job in jobs]

    turns = comparison.at_once

    def at_once(works, most, device):
        given["turns"].append((most, device))
        return turns(works, most, "cpu")

    for name, stand_in in {"run_in_turns": in_turns, "run_jobs": jobs, "at_once": at_once}.items():
        monkeypatch.setattr(comparison, name, stand_in)
    return given


def _train(seen, task: Task, epochs: int | None, **options) -> list:
    """Two optimizers and two seeds; the bar after each thing that was told to it."""
    progress = progress_bars()
    update, advance = progress.update, progress.advance

    def tell(how):
        def told(bar, *amount, **fields):
            how(bar, *amount, **fields)
            (state,) = progress.tasks
            seen["bar"].append((state.description.rstrip(), len(state.description), state.completed, state.total))

        return told

    progress.update, progress.advance = tell(update), tell(advance)  # pyright: ignore[reportAttributeAccessIssue]
    runs = [(task, choice, seed) for seed in (0, 1) for choice in CHOICES]
    return comparison.train(runs, epochs, Path("folder"), progress, **options)


def test_the_bar_shows_the_share_of_each_run(seen, task):
    records = _train(seen, task, epochs=4)
    assert records == [("sgd", 0), ("ea_cg", 0), ("sgd", 1), ("ea_cg", 1)]
    expected = []
    for number, (spec, seed) in enumerate(records):
        name = f"runs: {spec}, seed {seed}"
        expected += [(name, 36, number + share, 4) for share in (0, 0.25, 0.5, 1)]
    assert seen["bar"] == expected
    assert seen["turns"] == [(1, "cpu")]


def test_a_run_with_a_budget_is_as_far_as_its_seconds(seen, task):
    """Of .4 s, .1 an epoch; never more than the whole; the nearer of two ends counts."""
    half = replace(task, settings=replace(task.settings, budget_seconds=0.4))
    _train(seen, half, epochs=None)
    assert [completed for _, _, completed, _ in seen["bar"][:4]] == [0, 0.25, 0.5, 1]
    seen["bar"].clear()
    _train(seen, half, epochs=3)
    assert [completed for _, _, completed, _ in seen["bar"][:4]] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    seen["bar"].clear()
    _train(seen, replace(task, settings=replace(task.settings, budget_seconds=0.15)), epochs=3)
    assert [completed for _, _, completed, _ in seen["bar"][:4]] == pytest.approx([0, 2 / 3, 1, 1])


def test_a_run_is_given_what_was_asked_for(seen, task):
    workers = Workers(at_once=3, step_seconds=7.0)
    _train(seen, replace(task, settings=replace(task.settings, device="cuda")), 2, resume=False, workers=workers)
    options = {"resume": False, "at_a_time": 3, "step_seconds": 7.0}
    expected = [("sgd", 0), ("ea_cg", 0), ("sgd", 1), ("ea_cg", 1)]
    assert sorted(seen["runs"], key=str) == sorted(
        ((spec, seed, 2, Path("folder"), options) for spec, seed in expected), key=str
    )
    assert seen["turns"] == [(3, "cuda")]


def test_a_job_is_given_what_was_asked_for(seen, task):
    """And each record moves the bar by one."""
    workers = Workers(2)
    options = {"data_root": Path("data"), "resume": False, "workers": workers}
    _train(seen, task, 2, **options)
    job = Job(task.settings, Path("data"), "sgd", 0, 2, Path("folder").resolve(), False, *_tuned(CHOICES[0]))
    assert seen["jobs"][0] == (job, workers)
    assert [completed for _, _, completed, _ in seen["bar"]] == [1, 2, 3, 4]
    assert {total for *_, total in seen["bar"]} == {4}
    assert not seen["runs"]


def _tuned(choice):
    return choice.tuning, choice.edge, choice.trials


@pytest.mark.parametrize(("workers", "calls"), [(None, [2, 4]), (Workers(at_once=2), [4, 4]), (Workers(2), [4, 4])])
def test_after_each_seed_there_is_a_call(seen, task, workers, calls):
    """With all runs so far; at the end, if seeds have no order."""
    took = []
    _train(seen, task, 2, workers=workers, after_seed=lambda done: took.append(len(done)))
    assert took == calls


@pytest.mark.parametrize("function", [comparison.compare, comparison.train])
def test_runs_that_are_done_stay_unless_asked(function):
    assert inspect.signature(function).parameters["resume"].default is True


def test_steps_are_timed_in_blocks_and_the_problem_s_targets_are_used(task, tmp_path, monkeypatch):
    """Blocks of 2 ms, back to back; the highest target of the problem that the records reach."""
    given = {}

    def train(runs, epochs, folder, progress, data_root, resume, workers, after_seed):
        given["train"] = (epochs, folder, data_root, resume, workers)
        path = tmp_path / "run.jsonl"
        write(path, header(optimizer="sgd"), [point(epoch, test_accuracy=0.3 * epoch) for epoch in range(3)])
        records = [read(path)]
        after_seed(records)
        return records

    def blocks(steps, device, rounds, at_most_seconds, **options):
        given["timed"] = (device, rounds, at_most_seconds, options)
        return dict.fromkeys(steps, [1.0] * rounds)

    targets = []
    monkeypatch.setattr(comparison, "train", train)
    monkeypatch.setattr(comparison, "interleaved_seconds", blocks)
    monkeypatch.setattr(comparison, "target_of", lambda records, of_problem: targets.append(of_problem) or 0.5)
    monkeypatch.setattr(comparison, "draw_convergence", lambda records, output, title, target: targets.append(target))
    workers = Workers(3)
    comparison.compare(task, CHOICES[:1], 3, 2, tmp_path / "out", Path("data"), False, workers)
    assert given["train"] == (2, tmp_path / "out" / "runs", Path("data"), False, workers)
    assert given["timed"] == ("cpu", 40, 20.0, {"block_seconds": 0.002, "waits": False})
    assert targets == [task.problem.targets, 0.5]
    comparison.compare(task, CHOICES[:1], 3, 2, tmp_path / "out")
    assert given["train"] == (2, tmp_path / "out" / "runs", None, True, None)
