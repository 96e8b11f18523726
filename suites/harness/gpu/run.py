"""All that needs a GPU, within a given time: correctness, step times, runs side by side, memory and convergence.

Each stage writes its rows at once to a record of its own, so an interrupted run loses nothing. A stage that fails does
not stop the others. Time that a stage leaves goes to the next ones.
"""

import re
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from suites.harness.data.problem import find
from suites.harness.gate.conformance import knows_capturable, says_that_it_waits
from suites.harness.gpu import checks
from suites.harness.gpu.convergence import suited, train_for_the_time_left
from suites.harness.gpu.side_by_side import side_by_side
from suites.harness.gpu.stages import GRAPH, Skipped, Stage
from suites.harness.gpu.step_times import step_times
from suites.harness.gpu.summary import summarize
from suites.harness.measure.environment import describe
from suites.harness.memory.footprint import predict
from suites.harness.memory.peak import measure
from suites.harness.records.facts import End, Header
from suites.harness.records.journal import JournalWriter
from suites.harness.records.measured import Check, MemoryPeak, StageExperiment
from suites.harness.records.record import write_atomically
from suites.harness.training.catalog import Choice, choose, grid, named
from suites.harness.training.experiment import Settings, Task

_CRITERIA = ("cross-entropy", "bounded")
_BOUNDS = {
    "float64": 1e-10,
    "float32": 1e-3,
}  # bounds of the difference between devices, relative to the change in three steps
_ALSO = "torch.optim.SGD[lr=0.1,momentum=0.9]"
_RESERVE_SECONDS = 8.0  # for pictures and summary; at most a tenth of the time
_PAPERS_CARD_BYTES = 11 * 10**9  # a GTX 1080 Ti
_MEMORY_AT_BOTH = ("kfac[inverse=factor]", "kfac[inverse=auto]")  # at the budgets of this GPU and of the paper's
_MEMORY = ("kfac[inverse=gram]", "ea_cg", "sgd", "kfra[inverse=gram]")

Stages = Mapping[str, tuple[float, Callable[[Stage], None]]]
"""By title, the share of the time and the function."""


def result_folder(output: Path, device: str) -> Path:
    """``output`` / <name of the GPU>.

    Raises:
        ValueError: one line, if it already holds results.
    """
    gpu = describe(device).gpu
    folder = output / re.sub(r"\W+", "-", gpu.name if gpu else "cpu")
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"output {folder} has results of another run; give another folder")
    return folder


def run(
    folder: Path,
    device: str,
    seconds: float,
    data_root: Path | None = None,
    stages: Stages | None = None,
    on_progress: Callable[[str, float], None] = lambda text, seconds: None,
) -> None:
    """Run the stages within ``seconds``, into ``folder``.

    Args:
        device: ``cuda``, or ``cpu`` for a rehearsal, which records what it skips.
        data_root: folder of the CIFAR-10 images; without them it trains on the digits.
        stages: those to run; None runs all of ``STAGES``.
        on_progress: called with a few words about the last row, and the seconds since the start.
    """
    started = time.monotonic()
    environment = describe(device)
    stages = stages or STAGES
    shares = sum(share for share, _ in stages.values())
    until, usable = 0.0, seconds - min(_RESERVE_SECONDS, seconds / 10)
    for title, (share, stage) in stages.items():
        until += share / shares
        header = Header(experiment=StageExperiment(stage=title, device=device), environment=environment)
        with JournalWriter(folder / f"{title}.jsonl", header) as record:

            def on_row(text: str, title: str = title) -> None:
                on_progress(f"{title}: {text}", time.monotonic() - started)

            on_row("")
            try:
                stage(Stage(record, folder, device, started + until * usable, data_root, on_row))
                record.end(End(status="finished"))
            except Skipped as reason:
                record.end(End(status="skipped", reason=str(reason)))
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
                record.end(End(status="failed", reason=reason, traceback=traceback.format_exc()))
        write_atomically(folder / "summary.md", summarize(folder))


def _correctness(stage: Stage) -> None:
    """Every optimizer gives the CPU's numbers. On CUDA it never waits, and takes the same steps in a graph."""
    choices = [choose(spec) for spec in (*named(), *grid(), _ALSO)]
    for dtype, bound in _BOUNDS.items():
        for criterion in _CRITERIA:
            settings = Settings(criterion=criterion, dtype=dtype, device=stage.device)
            there, here = Task.load(settings), Task.load(replace(settings, device="cpu"))
            for choice in suited(there, choices):
                difference = partial(checks.difference, there, here, choice)
                _check(stage, f"{dtype}, {criterion}", choice, difference, bound)
    for criterion in _CRITERIA:
        task = Task.load(Settings(criterion=criterion, device=stage.device))
        for choice in suited(task, choices):
            step = task.step(choice, seed=0)
            if says_that_it_waits(step.optimizer):
                continue
            check = f"no wait for the host, {criterion}"
            _check(stage, check, choice, partial(checks.step_without_synchronizing, step))
    task = Task.load(Settings(dtype="float64", device=stage.device))
    for choice in choices:  # last, since a failed capture may break the device
        known = knows_capturable(task.step(choice, seed=0).optimizer)
        replay = partial(checks.difference_of_graph, task, choice)
        _check(stage, GRAPH, choice, replay, _BOUNDS["float64"], failure="failed" if known else "not supported")


def _check(
    stage: Stage,
    check: str,
    choice: Choice,
    difference: Callable[[], float | None],
    bound: float | None = None,
    failure: str = "failed",
) -> None:
    """Write one row. With a bound, the measured difference must not exceed it."""

    def checked(row: Check) -> list[Check]:
        row = replace(row, difference=difference())
        if bound is not None and row.difference is not None and not row.difference <= bound:  # NaN fails
            row = replace(row, status=failure, reason=f"difference above {bound:.0e}")
        return [row]

    row = Check(check=check, optimizer=choice.spec, status="ok", bound=bound)
    stage.measure(f"{check}, {choice.spec}", row, checked, failure)


def _memory(stage: Stage) -> None:
    """Predicted and measured peaks of the ImageNet-10 network, with this GPU's memory and that of the paper's card."""
    on_cuda = stage.device == "cuda"
    if on_cuda:
        torch.cuda.empty_cache()  # the fresh processes need the memory
    network = find("imagenet10" if on_cuda else "cifar10").network

    def measured(row: MemoryPeak) -> list[MemoryPeak]:
        fits = row.budget_bytes or (torch.cuda.mem_get_info()[1] if on_cuda else None)
        footprint = predict(row.optimizer, network, row.batch, device=stage.device, budget_bytes=fits)
        peak = measure(row.optimizer, network, row.batch, device=stage.device, budget_bytes=row.budget_bytes)
        return [replace(row, predicted_bytes=footprint.peak_bytes if footprint else None, **vars(peak))]

    cases = [(spec, budget) for budget in (None, _PAPERS_CARD_BYTES) for spec in _MEMORY_AT_BOTH]
    for spec, budget in [*cases, *((spec, _PAPERS_CARD_BYTES) for spec in _MEMORY)]:
        sizes = "-".join(map(str, network))
        row = MemoryPeak(optimizer=spec, network=sizes, batch=100, budget_bytes=budget, status="finished")
        stage.measure(spec, row, measured)


STAGES: Stages = {
    "correctness": (0.1, _correctness),
    "step-times": (0.25, step_times),
    "at-once": (0.1, side_by_side),
    "memory": (0.2, _memory),
    "convergence": (0.35, train_for_the_time_left),
}
