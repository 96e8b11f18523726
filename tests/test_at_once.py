"""Runs that take turns in one process: the bits of each are those that it has alone, whatever becomes of the others."""

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from suites.harness.records.record import read
from suites.harness.training import resumable, turns
from suites.harness.training.catalog import choose
from suites.harness.training.experiment import Settings, Task
from suites.harness.training.parallel import Job, Workers, run_jobs
from suites.harness.training.runner import run, run_in_turns
from suites.harness.training.turns import at_once

OWN = """import os, signal, time, warnings
from functools import partial
from pathlib import Path
import torch
from optimizers.sgd import SGD


class Own(SGD):
    steps = 0

    def step(self, tape):
        self.steps += 1
        {before}
        super().step(tape)
"""
DOES = {
    "noisy": "tape.layers[0].delta.add_(torch.randn_like(tape.layers[0].delta), alpha=0.001)",
    "warns": "warnings.warn('it warns')",
    "raises": "assert self.steps < 20, 'it raises'",
    "hangs": "time.sleep(60 if self.steps > 20 else 0)",
    "kills": "done = Path(__file__).with_suffix('.done'); done.exists() or (done.touch(), os.kill(os.getpid(), 9))",
}
SETTINGS = Settings(device="cpu", network=(64, 16, 10), batch_size=50)


@pytest.fixture(scope="module")
def task():
    """With a first step, whose imports take seconds."""
    task = Task.load(SETTINGS)
    task.step(choose("torch.optim.Adam"), 0)()
    return task


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Files of a user's optimizers, by what each does to its own run."""
    folder = tmp_path_factory.mktemp("own")
    for name, before in DOES.items():
        (folder / f"{name}.py").write_text(OWN.format(before=before))
    return lambda name: str(folder / f"{name}.py")


@pytest.fixture(scope="module")
def numbers(without_times):
    """All that a record says but its times."""
    return lambda record: (
        record.status,
        record.reason,
        [without_times(point) for point in record.points],
        record.end.warnings,
        record.end.state_bytes,
    )


def test_each_has_the_numbers_that_it_has_alone(task, own, numbers, tmp_path):
    """Of different length; one draws numbers, one diverges, one raises, and one is taken too long by."""
    specs = [
        "ea_cg",
        own("noisy"),
        "sgd[lr=1e6]",
        own("raises"),
        own("hangs"),
        own("warns"),
        own("noisy"),
        own("warns"),
    ]
    jobs = [Job(task.settings, None, spec, seed, 2 + seed % 3, tmp_path / "at_once") for seed, spec in enumerate(specs)]
    records = run_jobs(jobs, Workers(at_once=5, step_seconds=1))
    statuses = ["finished", "finished", "diverged", "failed", "failed", "finished", "finished", "finished"]
    assert [record.status for record in records] == statuses
    assert "it raises" in records[3].reason
    assert "TooLong" in records[4].reason
    assert {record.header.at_a_time for record in records} == {5}
    for job, record in zip(jobs, records, strict=True):
        if "hangs" not in job.spec:
            assert numbers(run(task, choose(job.spec), job.seed, job.epochs, tmp_path / "alone")) == numbers(record)
    assert [record.end.warnings for record in records[5:]] == [("it warns",), (), ("it warns",)]


def test_they_take_turns(task, tmp_path):
    """All get on at the pace of each; the next one begins as soon as one ends."""
    said = []

    def begun():
        for seed in range(3):
            yield run_in_turns(
                *(
                    task,
                    choose("sgd"),
                    seed,
                    2 + seed,
                    tmp_path,
                    lambda point, seed=seed: said.append((seed, point.epoch)),
                )
            )

    ended = [number for number, _ in at_once(begun(), 2)]
    assert ended == [0, 1, 2]
    both, third = [(seed, epoch) for epoch in range(3) for seed in range(2)], [(2, epoch) for epoch in range(5)]
    assert said[:6] == both
    assert said.index((1, 3)) > said.index((2, 0))
    assert sorted(said) == sorted([*both, (1, 3), *third])


@pytest.mark.parametrize(
    ("options", "streams", "order"),
    [
        ({}, 0, "aabbcc"),
        ({"most": 2}, 0, "abab" + "cc"),
        ({"most": 2, "device": "cuda"}, 2, "abab" + "cc"),
        ({"most": 1, "device": "cuda"}, 0, "aabbcc"),
    ],
    ids=str,
)
def test_several_on_a_gpu_have_a_stream_each(monkeypatch, options, streams, order):
    """A work that ends gives its stream to the next one; a work alone needs none."""
    made, had, took = [], [], []
    monkeypatch.setattr(torch.cuda, "Stream", lambda: made.append(len(made)) or made[-1])

    class Own:
        def __init__(self, stream):
            self.stream = stream
            had.append(stream)

        turn = nullcontext

    def work(name):
        took.append(name)
        yield
        took.append(name)

    monkeypatch.setattr(turns, "_Own", Own)
    assert [number for number, _ in at_once(map(work, "abc"), **options)] == [0, 1, 2]
    assert (len(made), "".join(took)) == (streams, order)
    assert set(had) == (set(made) or {None})


def test_a_turn_on_a_gpu_has_its_own_stream_and_generator(monkeypatch):
    """The shared generator gets its state back, also where the work fails."""
    states, waited = ["shared"], []
    generator = SimpleNamespace(graphsafe_get_state=lambda: states[-1], graphsafe_set_state=states.append)
    monkeypatch.setattr(torch, "Generator", lambda device: f"own, on {device}")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "default_generators", (None, generator))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: "current")
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext(states.append(stream)))
    stream = SimpleNamespace(wait_stream=waited.append)
    own = turns._Own(stream)
    with pytest.raises(OSError, match="full"), own.turn():
        raise OSError("full")
    assert (own.stream, waited) == (stream, ["current"])
    assert states == ["shared", "own, on cuda", stream, "shared"]


def test_the_random_numbers_of_others_are_their_own():
    """Whoever draws in its turns draws what it draws alone."""

    def draws(seed):
        torch.manual_seed(seed)
        yield
        first = torch.rand(1).item()
        yield
        return first, torch.rand(1).item()

    alone = [result for seed in range(3) for _, result in at_once([draws(seed)])]
    assert dict(at_once(map(draws, range(3)), 3)) == dict(enumerate(alone))
    assert len(set(alone)) == 3


def test_all_go_on_where_they_were_interrupted(task, own, numbers, tmp_path, monkeypatch):
    monkeypatch.setattr(resumable, "CHECKPOINT_SECONDS", 0.0)
    choices = [choose(own("noisy")), choose("ea_cg"), choose("torch.optim.Adam")]

    def begun(folder, epoch=None):
        def dies(point, seed):
            if (seed, point.epoch) == (1, epoch):
                raise KeyboardInterrupt

        for seed, choice in enumerate(choices):
            yield run_in_turns(task, choice, seed, 5, folder, partial(dies, seed=seed))

    with pytest.raises(KeyboardInterrupt) as held:  # with all frames, so that nothing is closed by chance
        list(at_once(begun(tmp_path / "died", 3), 3))
    assert not list((tmp_path / "died").glob("*.jsonl"))
    assert not list((tmp_path / "died").glob(".*.lock"))
    again = dict(at_once(begun(tmp_path / "died"), 3))
    whole = dict(at_once(begun(tmp_path / "whole"), 1))
    for number, record in again.items():
        assert numbers(record) == numbers(whole[number])
    assert held.traceback
    assert [again[number].end.resumed for number in range(3)] == [(4,), (3,), (3,)]
    assert not list((tmp_path / "died").glob("*.part"))


def test_the_same_run_twice_is_done_once(task, tmp_path):
    """The second waits, and the others go on meanwhile."""
    job = Job(task.settings, None, "sgd", 0, 3, tmp_path)
    first, second, _ = run_jobs([job, replace(job, seed=0), replace(job, seed=1)], Workers(at_once=3))
    assert first == second


def test_a_full_disk_ends_all_and_loses_nothing(task, tmp_path, monkeypatch, numbers):
    def fails(self, step, **progress):
        raise OSError("disk full")

    monkeypatch.setattr(resumable, "CHECKPOINT_SECONDS", 0.0)
    jobs = [Job(task.settings, None, "ea_cg", seed, 3, tmp_path / "full") for seed in range(3)]
    with monkeypatch.context() as now:
        now.setattr(resumable.Checkpoint, "save", fails)
        with pytest.raises(OSError, match="disk full"):
            run_jobs(jobs, Workers(at_once=3))
    again = run_jobs(jobs, Workers(at_once=3))
    alone = run_jobs([replace(job, folder=tmp_path / "alone") for job in jobs], Workers())
    assert list(map(numbers, again)) == list(map(numbers, alone))


@pytest.mark.usefixtures("quick_workers")
def test_several_processes_with_several_each(task, own, numbers, tmp_path):
    """Also if one of them is killed, with those that it had at once."""
    specs = ["sgd", own("kills"), own("noisy"), "ea_cg", "torch.optim.Adam"]
    jobs = [Job(task.settings, None, spec, seed, 2, tmp_path / "runs") for seed, spec in enumerate(specs)]
    records = run_jobs(jobs, Workers(2, at_once=2))
    assert Path(own("kills")).with_suffix(".done").exists()
    assert {record.header.at_a_time for record in records} == {4}
    alone = run_jobs([replace(job, folder=tmp_path / "alone") for job in jobs], Workers())
    assert list(map(numbers, records)) == list(map(numbers, alone))


def test_commands_take_it(kronbench, numbers, tmp_path):
    """Compare has the numbers that it has without, and no seconds; its progress counts shares of runs."""
    flags = ["--network", "64,8,10", "--epochs", "2", "--seeds", "2", "--optimizer", "sgd", "--optimizer", "ea_cg"]
    for folder, more in (("at_once", ["--at-once", "3"]), ("alone", [])):
        code, out, _ = kronbench("compare", *flags, "--device", "cpu", *more, "--output", tmp_path / folder)
        assert code == 0, out
        assert ("3 runs at a time shared the machine: their seconds are left out." in out) == bool(more)
    one, other = (
        {path.name: numbers(read(path)) for path in (tmp_path / folder / "runs").glob("*.jsonl")}
        for folder in ("at_once", "alone")
    )
    assert one == other
    table = (tmp_path / "at_once" / "table.md").read_text()
    assert "3 runs at a time shared the machine: their seconds are left out" in table
    assert "at_once = 3" in (tmp_path / "at_once" / "config.toml").read_text()


def test_a_search_finds_the_same(kronbench, tmp_path):
    flags = ["--network", "64,8,10", "--epochs", "4", "--seeds", "2", "--trials", "3", "--optimizer", "sgd"]
    found = []
    for count in ("1", "4"):
        output = tmp_path / count
        code, out, _ = kronbench("tune", *flags, "--device", "cpu", "--at-once", count, "--output", output)
        assert code == 0, out
        lines = (output / "tuned.toml").read_text().splitlines()
        found.append([line for line in lines if "seconds" not in line])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--at-once", "2", "--budget", "5s"], "at once must be 1 with a budget in seconds"),
        (["--at-once", "0"], "at once must be 1 or more"),
    ],
)
def test_what_cannot_be_is_refused(kronbench, tmp_path, flags, message):
    code, _, error = kronbench("compare", "--device", "cpu", *flags, "--output", tmp_path / "out")
    assert code == 2
    assert message in error
    assert not (tmp_path / "out").exists()


def test_a_gpu_has_as_many_as_it_holds_unless_a_user_says_otherwise_or_seconds_are_shown(task, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (11 * 10**9, 12 * 10**9))
    cifar10, imagenet10 = (
        replace(task.settings, device="cuda", network=(inputs, 1024, 512, 256, 128, 64, 32, 16, 10))
        for inputs in (3072, 150528)
    )
    assert Workers(at_once=None).on(task.settings).at_once == 1
    assert Workers(at_once=None).on(cifar10).at_once == 8
    assert Workers(at_once=None).on(imagenet10).at_once == 1
    assert Workers(at_once=None).on(cifar10, timed=True).at_once == 1
    assert Workers(at_once=3).on(cifar10, timed=True).at_once == 3
