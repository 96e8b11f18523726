"""Nothing is run twice, nothing is lost: runs that are killed, disturbed, or done already."""

import itertools
import math
import random
import re
import resource
import shutil
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import suites.problems
from suites.harness.data.problem import find
from suites.harness.records.record import read
from suites.harness.training import identity, resumable, runner
from suites.harness.training.catalog import choose
from suites.harness.training.experiment import Settings, Task
from suites.harness.training.resumable import Checkpoint
from suites.harness.training.runner import run
from tests.example_records import as_schema_2

NOISY = '''"""Momentum, which is a state, and noise from torch's own generator."""
import torch
from optimizers.sgd import SGD


class Noisy(SGD):
    def step(self, tape):
        super().step(tape)
        with torch.no_grad():
            for layer in tape.layers:
                layer.weight.add_(torch.randn_like(layer.weight), alpha=0.001)
'''


def _run(spec, seed, folder, bytes_of_a_file=resource.RLIM_INFINITY):
    """What a process does: keep a checkpoint of every epoch, in files that may not grow beyond some size."""
    torch.set_num_threads(1)
    resumable.CHECKPOINT_SECONDS = 0.0
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_of_a_file, resource.RLIM_INFINITY))
    run(Task.load(Settings(device="cpu", network=(64, 16, 10), batch_size=300)), choose(spec), seed, 12, folder)


@pytest.fixture
def start(processes):
    """Starts a run in a process of its own."""

    def start(*arguments):
        process = processes.Process(target=_run, args=arguments)
        process.start()
        return process

    return start


def wait(*started):
    """Exit codes, once all have ended."""
    for process in started:
        process.join()
    return [process.exitcode for process in started]


@pytest.fixture(scope="module")
def same_numbers(without_times):
    """Holds two folders against each other, bit for bit; returns at which epochs runs in the first went on."""

    def check(folder, whole):
        resumed = []
        paths = sorted(folder.glob("[!.]*.jsonl"))
        assert [path.name for path in paths] == sorted(path.name for path in whole.glob("[!.]*.jsonl"))
        for path in paths:
            one, other = read(path), read(whole / path.name)
            assert (one.status, other.status) == ("finished", "finished")
            assert list(map(without_times, one.points)) == list(map(without_times, other.points))
            assert one.end.state_bytes == other.end.state_bytes
            resumed += one.end.resumed
        assert not list(folder.rglob("*.part"))
        assert len(list(folder.iterdir())) == len(paths)
        return resumed

    return check


def test_a_run_killed_at_any_moment_goes_on_with_the_same_numbers(start, same_numbers, tmp_path):
    """Killed twenty times, at random moments, among them those in which a file is written."""
    chance, killed = random.Random(0), 0
    folder, whole = tmp_path / "killed", tmp_path / "whole"
    for seed in itertools.count():
        spec = ("sgd", "ea_cg", "kfac[labels=sampled]", "torch.optim.Adam")[seed % 4]
        started = time.monotonic()
        assert wait(start(spec, seed, whole)) == [0]
        takes = time.monotonic() - started
        for _ in range(3):
            process = start(spec, seed, folder)
            time.sleep(chance.uniform(0.2, 0.9) * takes)
            process.kill()
            killed += wait(process) == [-signal.SIGKILL]
        assert wait(start(spec, seed, folder)) == [0]
        if killed >= 20:
            break
    assert same_numbers(folder, whole)


def test_a_full_disk_loses_nothing(start, same_numbers, tmp_path):
    """No file may grow beyond some size, which is enough for a checkpoint: the record stops there, and goes on when
    there is room."""
    folder, whole = tmp_path / "full", tmp_path / "whole"
    assert wait(start("ea_cg", 0, folder, 14_000)) == [1]
    assert not list(folder.glob("[!.]*.jsonl"))
    assert wait(start("ea_cg", 0, folder), start("ea_cg", 0, whole)) == [0, 0]
    assert same_numbers(folder, whole)


def test_two_processes_share_a_folder(start, same_numbers, tmp_path):
    """The second waits for the first, and takes its record."""
    folder, whole = tmp_path / "shared", tmp_path / "whole"
    assert wait(*(start(spec, 0, folder) for spec in ("sgd", "ea_cg", "sgd", "ea_cg"))) == [0] * 4
    assert wait(start("sgd", 0, whole), start("ea_cg", 0, whole)) == [0, 0]
    assert same_numbers(folder, whole) == []


@pytest.fixture
def noisy(tmp_path):
    path = tmp_path / "noisy.py"
    path.write_text(NOISY)
    return str(path)


@pytest.fixture
def died(task, noisy, tmp_path, dies_at):
    """A run of six epochs that died in the fifth; returns its part and its checkpoint."""
    with pytest.raises(KeyboardInterrupt):
        run(task, choose(noisy), 0, 6, tmp_path / "died", on_point=dies_at(4))
    (part,) = (tmp_path / "died").glob("*.part")
    (checkpoint,) = (tmp_path / "died").glob(".*.pt")
    run(task, choose(noisy), 0, 6, tmp_path / "whole")
    return part, checkpoint


@pytest.fixture
def goes_on(died, same_numbers, task, noisy, tmp_path):
    """Runs it again; returns at which epochs it went on."""

    def again():
        run(task, choose(noisy), 0, 6, tmp_path / "died")
        return same_numbers(tmp_path / "died", tmp_path / "whole")

    return again


def test_it_goes_on_from_its_last_checkpoint(goes_on):
    assert goes_on() == [4]


def test_a_last_line_that_was_cut_off_is_written_again(died, goes_on):
    part, _ = died
    part.write_bytes(part.read_bytes()[:-20])
    assert goes_on() == [4]


def test_a_record_that_lost_more_than_its_checkpoint_knows_begins_anew(died, goes_on):
    part, _ = died
    part.write_bytes(b"".join(part.read_bytes().splitlines(keepends=True)[:3]))
    assert goes_on() == []


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"x" * 100])
def test_a_checkpoint_that_cannot_be_read_begins_anew(died, goes_on, damage):
    _, checkpoint = died
    checkpoint.write_bytes(damage(checkpoint.read_bytes()))
    assert goes_on() == []


def test_a_checkpoint_is_no_program(tmp_path):
    """Pickled code is refused, not run."""
    torch.save({"run": "a", "network": print}, tmp_path / "evil.pt")
    assert Checkpoint(tmp_path / "evil.pt", "a").load() is None


def test_a_checkpoint_is_that_of_its_run(tmp_path):
    torch.save({"run": "a", "progress": {"points": 1}}, tmp_path / "a.pt")
    assert Checkpoint(tmp_path / "a.pt", "a").load() == {"run": "a", "progress": {"points": 1}}
    assert Checkpoint(tmp_path / "a.pt", "b").load() is None


def test_a_run_that_finished_is_taken_from_its_record(task, tmp_path, monkeypatch):
    first = run(task, choose("sgd"), 0, 2, tmp_path)
    monkeypatch.setattr("optimizers.sgd.SGD.step", None)  # any step would fail
    assert run(task, choose("sgd"), 0, 2, tmp_path) == first
    assert run(task, choose("sgd"), 0, 2, tmp_path, resume=False).status == "failed"


@pytest.mark.parametrize("status", ["failed", "diverged", "stopped"])
def test_a_run_that_did_not_finish_is_run_again(task, tmp_path, monkeypatch, status):
    with monkeypatch.context() as now:
        if status == "failed":
            now.setattr("optimizers.sgd.SGD.step", None)
        elif status == "diverged":
            now.setattr(runner, "evaluate", lambda *given: (math.nan, 0.1))
        first = run(task, choose("sgd"), 0, 1, tmp_path, out_of_time=lambda: status == "stopped")
    assert first.status == status
    assert run(task, choose("sgd"), 0, 1, tmp_path).status == "finished"


@pytest.mark.parametrize("change", ["seed", "schema"])
def test_a_record_of_another_run_is_not_taken(task, tmp_path, change):
    """Copied to the place of this one, or written when records had an older schema."""
    record, other = (run(task, choose("sgd"), seed, 1, tmp_path) for seed in (0, 1))
    text = other.path.read_text() if change == "seed" else as_schema_2(record.path.read_text())
    record.path.write_text(text)
    assert read(record.path).header != record.header
    assert run(task, choose("sgd"), 0, 1, tmp_path).header == record.header


def test_what_decides_the_numbers_decides_the_name(task, noisy, tmp_path, monkeypatch):
    def name(task=task, spec="sgd", seed=0, epochs=1):
        return run(task, choose(spec), seed, epochs, tmp_path).header.run

    other = Task.load(replace(task.settings, batch_size=50))
    names = [name(), name(spec="sgd[lr=0.2]"), name(seed=1), name(epochs=2), name(other), name(spec=noisy)]
    Path(noisy).write_text(NOISY.replace("0.001", "0.002"))
    names.append(name(spec=noisy))
    monkeypatch.setattr(identity, "_algorithms", lambda more: "other source")
    names.append(name())
    monkeypatch.undo()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    names.append(name())
    monkeypatch.undo()
    assert len(set(names)) == len(names)
    assert name() == names[0]


def test_of_the_problems_a_run_counts_its_own_file_and_what_it_imports(tmp_path, monkeypatch):
    """Of the digits, of an autoencoder that imports parts of two others, and of a user's own that imports that one."""
    own = tmp_path / "own.py"
    own.write_text("from suites.problems.fashion_autoencoder import problem")
    found = [find(name) for name in ("digits", "fashion-autoencoder", str(own))]

    def codes(changed, text):
        folder = shutil.copytree(Path(suites.problems.__path__[0]), tmp_path / f"{changed} and {text}")
        with monkeypatch.context() as patch:
            patch.setattr(suites.problems, "__path__", [str(folder)])
            with (folder / changed).open("a") as file:
                file.write(text)
            return [identity.code_id(*identity.files_of(problem)) for problem in found]

    before = codes("digits.py", "")
    assert codes("added.py", "# text") == before
    for changed, differ in (("mnist_5k.py", "000"), ("digits.py", "100"), ("fashion.py", "011")):
        assert [int(a != b) for a, b in zip(before, codes(changed, "# text"), strict=True)] == list(map(int, differ))


def test_who_comes_second_waits(task, tmp_path):
    """Threads of one process count as two."""
    records = []
    threads = [
        threading.Thread(target=lambda: records.append(run(task, choose("sgd"), 0, 3, tmp_path))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert records[0] == records[1]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "".join(text.splitlines(keepends=True)[:4]),
        lambda text: re.sub(r'\{"kind":"point","step":14,.*\n', "", text),
        lambda text: re.sub(r'("epoch":3,.*"test_accuracy":)[\d.]+', r"\g<1>0.999", text),
    ],
)
def test_a_record_that_was_changed_is_trained_again(task, tmp_path, without_times, change):
    """Cut off, without one of its lines, or with another number in the last."""
    first = run(task, choose("sgd"), 0, 3, tmp_path)
    text = first.path.read_text()
    first.path.write_text(change(text))
    assert first.path.read_text() != text
    again = run(task, choose("sgd"), 0, 3, tmp_path)
    assert list(map(without_times, again.points)) == list(map(without_times, first.points))
    assert run(task, choose("sgd"), 0, 3, tmp_path) == again
