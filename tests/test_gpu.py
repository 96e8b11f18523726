"""The GPU run: its rehearsal on a CPU, cut and failing runs, and, where there is a GPU, every optimizer on it."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from optimizers.core import CRITERIA
from suites.harness.gate.conformance import knows_capturable, says_that_it_waits
from suites.harness.gpu import checks, side_by_side
from suites.harness.gpu import run as gpu
from suites.harness.gpu.convergence import suited, train_for_the_time_left
from suites.harness.gpu.stages import Skipped, Stage
from suites.harness.gpu.summary import summarize
from suites.harness.records.facts import End, Header
from suites.harness.records.journal import JournalWriter
from suites.harness.records.measured import AtOnce, Check, MemoryPeak, StageExperiment, StepTime, Trained, read_stage
from suites.harness.training.catalog import choose, grid, named
from suites.harness.training.experiment import Settings, Task
from suites.harness.training.runner import run, run_in_turns
from suites.harness.training.turns import at_once
from suites.problems import cifar10
from tests.example_records import ENVIRONMENT

FOUND = [*named(), *grid()]
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")


def statuses(record):
    return {row.status for row in record.points}


def test_a_rehearsal_takes_the_same_path_within_its_time(tmp_path):
    """Every stage writes its record; what needs a GPU is skipped with the reason; the summary shows all."""
    Task.load(Settings(device="cpu")).step(choose("sgd"), seed=0)()  # what they import takes seconds
    started = time.monotonic()
    folder = gpu.result_folder(tmp_path, "cpu")
    gpu.run(folder, "cpu", seconds=15)
    assert time.monotonic() - started < 60  # also on a busy machine; all of it would take minutes
    stages = ("correctness", "step-times", "at-once", "memory", "convergence")
    rows = (Check, StepTime, AtOnce, MemoryPeak, Trained)
    records = {stage: read_stage(folder / f"{stage}.jsonl", row) for stage, row in zip(stages, rows, strict=True)}
    assert {records[stage].status for stage in ("correctness", "step-times", "convergence")} == {"finished"}
    checks = records["correctness"].points
    assert {row.optimizer for row in checks} >= set(FOUND)
    assert checks[0].difference == 0  # the CPU against itself
    assert {"ok", "skipped"} <= statuses(records["correctness"]) <= {"ok", "skipped"}
    timed = [row for row in records["step-times"].points if row.status == "ok"]
    assert timed[0].batch == 100
    assert all(row.low <= row.median <= row.high for row in timed)
    assert {row.ratio_to_sgd for row in timed if row.optimizer == "sgd"} == {1.0}
    summary = (folder / "summary.md").read_text()
    assert all(f"## {stage}" in summary for stage in stages)
    assert "| fisher+kfi " in summary
    assert "digits in place of CIFAR-10" in summary
    assert not list(folder.rglob("*.part"))
    with pytest.raises(ValueError, match="results of another run"):
        gpu.result_folder(tmp_path, "cpu")


def test_runs_at_once_are_held_against_one_alone(tmp_path, monkeypatch):
    """Their time, and the bits of one of them."""
    monkeypatch.setattr(side_by_side, "_SPECS", ("sgd",))
    monkeypatch.setattr(side_by_side, "_BOUND", {"cpu": 1000.0})
    stages = {"at-once": (1.0, side_by_side.side_by_side)}
    gpu.run(tmp_path / "good", "cpu", 100, stages=stages)
    (row,) = read_stage(tmp_path / "good" / "at-once.jsonl", AtOnce).points
    assert (row.status, row.same, row.runs) == ("ok", True, 8)
    assert row.ratio == row.seconds / row.seconds_alone
    assert "| sgd " in (tmp_path / "good" / "summary.md").read_text()
    monkeypatch.setattr(side_by_side, "_BOUND", {"cpu": 1e-3})
    gpu.run(tmp_path / "slow", "cpu", 100, stages=stages)
    (row,) = read_stage(tmp_path / "slow" / "at-once.jsonl", AtOnce).points
    assert (row.status, row.reason) == ("failed", "more than 0.001 times the time of one")
    monkeypatch.setattr("suites.harness.training.turns.torch.set_rng_state", lambda state: None)
    monkeypatch.setattr("optimizers.sgd.SGD.step", lambda self, tape: tape.layers[0].weight.data.normal_())
    gpu.run(tmp_path / "bad", "cpu", 100, stages=stages)
    (row,) = read_stage(tmp_path / "bad" / "at-once.jsonl", AtOnce).points
    assert (row.status, row.same, row.reason) == ("failed", False, "its numbers are not those of a run alone")


def test_a_stage_that_fails_stops_no_other(tmp_path):
    def fails(stage):
        stage.row("one", Check(check="float64", optimizer="sgd", status="ok"))
        raise RuntimeError("broken")

    def skips(stage):
        raise Skipped("nothing to do")

    gpu.run(tmp_path, "cpu", seconds=1, stages={"correctness": (0.5, fails), "memory": (0.5, skips)})
    first, second = (read_stage(tmp_path / f"{name}.jsonl", Check) for name in ("correctness", "memory"))
    assert (first.status, first.reason, len(first.points)) == ("failed", "RuntimeError: broken", 1)
    assert (second.status, second.reason) == ("skipped", "nothing to do")


def test_training_can_be_left_out(tmp_path, kronbench):
    """In no time at all every stage but the training has its record, and its rows say why they are empty."""
    code, out, _ = kronbench("gpu", "--device", "cpu", "--minutes", 0.001, "--no-convergence", "--output", tmp_path)
    assert code == 0
    assert "out of time" in out
    assert {path.stem for path in (tmp_path / "cpu").glob("*.jsonl")} == {
        "correctness",
        "step-times",
        "at-once",
        "memory",
    }


def test_a_cut_run_loses_nothing(tmp_path):
    rows = []

    def interrupts(text, seconds):
        rows.append(text)
        if len(rows) == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gpu.run(tmp_path, "cpu", seconds=60, on_progress=interrupts)
    assert len(read_stage(tmp_path / "correctness.jsonl.part", Check).points) == 5  # the first call was the title's


def test_real_images_are_learned_where_they_are(tmp_path, monkeypatch):
    small = replace(cifar10.problem, network=(3072, 16, 10))
    monkeypatch.setattr(cifar10, "problem", small)  # the paper's takes a CPU long
    generator = np.random.default_rng(0)
    for split, count in (("train", 50), ("test", 2)):
        for label in range(10):
            (tmp_path / "cifar10" / split / str(label)).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(256, size=(32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "cifar10" / split / str(label) / f"{number}.png")
    header = Header(experiment=StageExperiment(stage="convergence", device="cpu"), environment=ENVIRONMENT)
    with JournalWriter(tmp_path / "convergence.jsonl", header) as record:
        train_for_the_time_left(
            Stage(record, tmp_path, "cpu", time.monotonic() + 3.0, tmp_path, on_row=lambda text: None)
        )
        record.end(End(status="finished"))
    rows = read_stage(tmp_path / "convergence.jsonl", Trained).points
    assert {row.dataset for row in rows} == {"cifar10"}


@pytest.mark.parametrize("path", sorted(Path(__file__).parents[1].glob("results/gpu/*/summary.md")))
def test_published_summaries_follow_from_their_records(path):
    """But for the comparison, whose columns are those of its day."""
    now, published = (text.partition("\n## convergence\n")[0] for text in (summarize(path.parent), path.read_text()))
    assert now == published


def test_problems_that_differ_are_seen():
    """The measure of agreement itself: 0 for the same problem, and as large as the way for another."""
    one, same, other = (
        Task.load(Settings(device="cpu", network=(64, 20, 10), activation=name))
        for name in ("sigmoid", "sigmoid", "tanh")
    )
    assert checks.difference(one, same, choose("ea_cg")) == 0
    assert checks.difference(one, other, choose("ea_cg")) > 0.1


def test_what_needs_a_gpu_says_so():
    task = Task.load(Settings(device="cpu", network=(64, 20, 10)))
    with pytest.raises(Skipped, match="needs a CUDA GPU"):
        checks.step_without_synchronizing(task.step(choose("sgd"), seed=0))
    with pytest.raises(Skipped, match="needs a CUDA GPU"):
        checks.difference_of_graph(task, choose("sgd"))


def test_it_needs_no_toml_library():
    """A machine with a GPU may have neither."""
    blocked = "import sys; sys.modules['tomli_w'] = sys.modules['tomli'] = sys.modules['tomllib'] = None; "
    subprocess.run([sys.executable, "-c", f"{blocked}import suites.harness.commands.gpu"], check=True)


@needs_gpu
@pytest.mark.parametrize("spec", FOUND)
@pytest.mark.parametrize("criterion", CRITERIA)
def test_no_step_waits_for_the_host(spec, criterion):
    task = Task.load(Settings(device="cuda", criterion=criterion, network=(64, 20, 10)))
    if not suited(task, [choose(spec)]):
        pytest.skip("it does not take this criterion")
    step = task.step(choose(spec), seed=0)
    if says_that_it_waits(step.optimizer):
        pytest.skip("it says so")
    checks.step_without_synchronizing(step)


@needs_gpu
@pytest.mark.parametrize("spec", ["sgd", "ea_cg", "kfac"])
def test_a_run_of_captured_steps_gives_the_same_record(tmp_path, spec):
    """Losses, solver's health and operations; and the phases are timed in the graph."""
    settings = Settings(device="cuda", dtype="float64", network=(64, 20, 10))
    records = {}
    for cuda_graph in (False, True):
        task = Task.load(replace(settings, cuda_graph=cuda_graph))
        records[cuda_graph] = run(task, choose(spec), 0, 3, tmp_path / str(cuda_graph))
        assert records[cuda_graph].status == "finished", records[cuda_graph].end
    for eager, captured in zip(records[False].points, records[True].points, strict=True):
        assert captured.train_loss == pytest.approx(eager.train_loss, rel=1e-10)
        assert captured.gradient_equivalents == eager.gradient_equivalents
        if eager.solver:
            assert captured.solver.iterations_max == eager.solver.iterations_max
    phases = records[True].points[-1].phases
    assert phases.keys() == records[False].points[-1].phases.keys()
    assert all(phase.seconds_mean > 0 for phase in phases.values())


def test_there_is_no_capture_on_a_cpu():
    with pytest.raises(ValueError, match="no capture on a CPU"):
        Task.load(Settings(device="cpu", cuda_graph=True))


@needs_gpu
def test_waiting_for_the_host_is_seen(monkeypatch):
    """The check itself."""
    monkeypatch.setattr("optimizers.sgd.SGD.step", lambda self, tape: tape.loss.item())
    task = Task.load(Settings(device="cuda", network=(64, 20, 10)))
    with pytest.raises(RuntimeError, match="synchronizing"):
        checks.step_without_synchronizing(task.step(choose("sgd"), seed=0))


@needs_gpu
@pytest.mark.parametrize("spec", FOUND)
def test_the_gpu_gives_the_numbers_of_the_cpu(spec):
    there, here = (
        Task.load(Settings(device=device, dtype="float64", network=(64, 20, 10))) for device in ("cuda", "cpu")
    )
    try:
        assert checks.difference(there, here, choose(spec)) < 1e-10
    except Skipped as reason:
        pytest.skip(str(reason))


@needs_gpu
@pytest.mark.parametrize("spec", FOUND)
def test_a_captured_step_gives_the_same_numbers(spec):
    task = Task.load(Settings(device="cuda", dtype="float64", network=(64, 20, 10)))
    if not knows_capturable(task.step(choose(spec), seed=0).optimizer):
        pytest.skip("it has no option capturable")
    assert checks.difference_of_graph(task, choose(spec)) < 1e-10


@needs_gpu
@pytest.mark.parametrize("spec", ["sgd", "ea_cg", "kfac", "kfra"])
@pytest.mark.parametrize("cuda_graph", [False, True])
def test_runs_side_by_side_have_the_numbers_of_each_alone(tmp_path, spec, cuda_graph):
    """Bit for bit: each has its own graph, stream, workspaces and random numbers."""
    task = Task.load(Settings(device="cuda", cuda_graph=cuda_graph))
    works = (run_in_turns(task, choose(spec), seed, 3, tmp_path / "at_once") for seed in range(8))
    for seed, record in at_once(works, 8, "cuda"):
        alone = run(task, choose(spec), seed, 3, tmp_path / "alone")
        assert alone.status == record.status == "finished"
        assert side_by_side.numbers(record) == side_by_side.numbers(alone)
