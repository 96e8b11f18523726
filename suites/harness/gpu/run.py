"""All that needs a GPU, in order of value and within a given time: correctness, step times, memory, convergence.

Each stage writes its rows to a record of its own as they come, so a run that is cut short loses nothing, and a stage
that fails stops no other. What a stage leaves of its time goes to those behind it.
"""

import re
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from suites.harness.catalog import Choice, choose, grid, named
from suites.harness.environment import describe
from suites.harness.experiments import NETWORKS, Problem, Settings
from suites.harness.gpu import checks
from suites.harness.gpu.convergence import suited, train_for_the_time_left
from suites.harness.gpu.stages import Skipped, Stage
from suites.harness.gpu.summary import summarize
from suites.harness.memory.footprint import predict
from suites.harness.memory.peak import measure
from suites.harness.records import RecordWriter, read, write_atomically
from suites.harness.statistics import median_interval
from suites.harness.timing import REFERENCE, interleaved_seconds

_CRITERIA = ("cross-entropy", "bounded")
_GRAPH = "CUDA graph"
_BOUNDS = {"float64": 1e-10, "float32": 1e-3}  # of the difference between devices, over the way gone in three steps
_TIMED = ("torch.optim.SGD[lr=0.1,momentum=0.9]", "sgd", "kfac", "kfra", "ea_cg", "pch1+kfi")
_PAPER = {"synthetic-cifar10": (100, 500, 1000), "synthetic-imagenet10": (100,)}  # batches of the paper
_REHEARSAL = {"digits": (100, 500, 1000)}
_RESERVE_SECONDS = 8.0  # for the pictures and the summary; a tenth of the time where that is less
_PAPERS_CARD_BYTES = 11 * 10**9  # a GTX 1080 Ti


def result_folder(output: Path, device: str) -> Path:
    """``output`` / <name of the GPU>.

    Raises:
        ValueError: if there are results in it, which would mix with those to come.
    """
    gpu = describe(device)["gpu"]
    folder = output / re.sub(r"\W+", "-", gpu["name"] if gpu else "cpu")
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"output {folder} has results of another run; give another folder")
    return folder


def run(
    folder: Path,
    device: str,
    seconds: float,
    data_root: Path | None = None,
    on_progress: Callable[[str, float], None] = lambda text, seconds: None,
) -> None:
    """Run the stages within ``seconds``, into ``folder``.

    Args:
        device: ``cuda`` or ``cpu``, which rehearses the same path and says what it skipped.
        data_root: folder of the CIFAR-10 images; without them the digits are learned.
        on_progress: called with what was done last and the seconds since the start.
    """
    started = time.monotonic()
    environment = describe(device)
    until, usable = 0.0, seconds - min(_RESERVE_SECONDS, seconds / 10)
    for title, share, stage in _STAGES:
        until += share
        header = {"experiment": {"stage": title, "device": device}, "environment": environment}
        with RecordWriter(folder / f"{title}.jsonl", header) as record:

            def on_row(text: str, title: str = title) -> None:
                on_progress(f"{title}: {text}", time.monotonic() - started)

            on_row("")
            try:
                stage(Stage(record, folder, device, started + until * usable, data_root, on_row))
                record.end("finished")
            except Skipped as reason:
                record.end("skipped", str(reason))
            except Exception as error:
                record.end("failed", f"{type(error).__name__}: {error}", traceback=traceback.format_exc())
        write_atomically(folder / "summary.md", summarize(folder))


def _correctness(stage: Stage) -> None:
    """Every optimizer: the CPU's numbers; then, on CUDA, no waiting for the host and the same steps in a graph."""
    choices = [choose(spec) for spec in (*named(), *grid(), _TIMED[0])]
    for dtype, bound in _BOUNDS.items():
        for criterion in _CRITERIA:
            settings = Settings(criterion=criterion, dtype=dtype, device=stage.device)
            there, here = Problem.load(settings), Problem.load(replace(settings, device="cpu"))
            for choice in suited(there, choices):
                difference = partial(checks.difference, there, here, choice)
                _check(stage, f"{dtype}, {criterion}", choice, difference, bound)
    for criterion in _CRITERIA:
        problem = Problem.load(Settings(criterion=criterion, device=stage.device))
        for choice in suited(problem, choices):
            step = problem.step(choice, seed=0)
            check = f"no wait for the host, {criterion}"
            _check(stage, check, choice, partial(checks.step_without_synchronizing, step))
    problem = Problem.load(Settings(device=stage.device))
    for choice in choices:  # last: a capture that fails may leave the device in disorder
        known = checks.knows_capturable(problem.step(choice, seed=0).optimizer)
        replay = partial(checks.difference_of_graph, problem, choice)
        _check(stage, _GRAPH, choice, replay, _BOUNDS["float32"], failure="failed" if known else "not supported")


def _check(
    stage: Stage,
    check: str,
    choice: Choice,
    measure: Callable[[], float | None],
    bound: float | None = None,
    failure: str = "failed",
) -> None:
    """One row: ``ok``, or ``failure``, or skipped; a check with a bound is of a difference."""
    row: dict[str, Any] = {"check": check, "optimizer": choice.spec, "status": "ok", "bound": bound}
    if stage.out_of_time():
        row |= {"status": "skipped", "reason": "out of time"}
    else:
        try:
            difference = measure()
            row["difference"] = difference
            if difference is not None and bound is not None and not difference <= bound:  # NaN is no agreement
                row |= {"status": failure, "reason": f"difference above {bound:.0e}"}
        except Skipped as reason:
            row |= {"status": "skipped", "reason": str(reason)}
        except Exception as error:
            row |= {"status": failure, "reason": f"{type(error).__name__}: {error}"}
    stage.row(f"{check}, {choice.spec}", **row)


def _step_times(stage: Stage) -> None:
    """Every timed optimizer at the paper's batches, with and without TF32 and CUDA graphs, interleaved."""
    cases = [
        (dataset, batch, tf32)
        for dataset, batches in (_PAPER if stage.device == "cuda" else _REHEARSAL).items()
        for batch in batches
        for tf32 in ((False, True) if stage.device == "cuda" else (False,))
    ]
    checks = read(stage.folder / "correctness.jsonl").points
    captured = {row["optimizer"] for row in checks if row["check"] == _GRAPH and row["status"] == "ok"}
    loaded: Problem | None = None
    for number, (dataset, batch, tf32) in enumerate(cases):
        if loaded is None or loaded.settings.dataset != dataset:
            loaded = Problem.load(Settings(dataset, device=stage.device))
        problem = replace(loaded, settings=replace(loaded.settings, batch_size=batch))
        case = {"network": "-".join(map(str, problem.settings.network)), "batch": batch, "tf32": tf32}
        if stage.out_of_time():
            stage.row("", **case, status="skipped", reason="out of time")
            continue
        try:
            with _tf32(tf32):
                rows = _timed(problem, captured, stage.left / (len(cases) - number))
        except Exception as error:
            rows = [{"status": "failed", "reason": f"{type(error).__name__}: {error}"}]
        for row in rows:
            stage.row(f"{dataset}, batch {batch}", **case, **row)


def _timed(problem: Problem, captured: set[str], at_most_seconds: float) -> list[dict[str, Any]]:
    """A row for each optimizer as it is, and in a CUDA graph where those are ``captured``."""
    steps: dict[str, Callable[[], None]] = {}
    rows: dict[str, dict[str, Any]] = {}
    for spec in _TIMED:
        for graph in (False, True):
            name = f"{spec} in a graph" if graph else spec
            rows[name] = {"optimizer": spec, "graph": graph, "status": "ok"}
            if graph and spec not in captured:
                rows[name] |= {"status": "skipped", "reason": "not captured, see correctness"}
                continue
            step = problem.step(choose(spec), seed=0).repeat_batch()
            steps[name] = checks.capture(step) if graph else step
    samples = interleaved_seconds(steps, problem.settings.device, at_most_seconds=at_most_seconds)
    for name, own in samples.items():
        median, low, high = median_interval(own)
        rows[name] |= {"seconds": own, "median": median, "low": low, "high": high}
        for reference, of in (("sgd", samples[REFERENCE]), ("torch_sgd", samples[_TIMED[0]])):
            rows[name][f"ratio_to_{reference}"] = median_interval([a / b for a, b in zip(own, of, strict=True)]).median
    return list(rows.values())


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _memory(stage: Stage) -> None:
    """Peaks in fresh processes beside their predictions: the ImageNet-10 net on this GPU and on the paper's card."""
    if stage.device == "cuda":
        torch.cuda.empty_cache()  # the fresh processes share the device with this one
    network = NETWORKS["imagenet10" if stage.device == "cuda" else "cifar10"]
    cases = [("kfac[inverse=factor]", None), ("kfac[inverse=auto]", None)]
    cases += [(spec, _PAPERS_CARD_BYTES) for spec in ("kfac[inverse=factor]", "kfac[inverse=auto]")]
    cases += [(spec, _PAPERS_CARD_BYTES) for spec in ("kfac[inverse=gram]", "ea_cg", "sgd", "kfra[inverse=gram]")]
    for spec, budget in cases:
        row = {"optimizer": spec, "network": "-".join(map(str, network)), "batch": 100, "budget_bytes": budget}
        if stage.out_of_time():
            stage.row(spec, **row, status="skipped", reason="out of time")
            continue
        footprint = predict(spec, network, 100, device=stage.device, budget_bytes=budget)
        predicted = footprint.peak_bytes if footprint else None
        measured = measure(spec, network, 100, device=stage.device, budget_bytes=budget)
        stage.row(spec, **{**row, "predicted_bytes": predicted, **asdict(measured)})


_STAGES: tuple[tuple[str, float, Callable[[Stage], None]], ...] = (  # with their shares of the time
    ("correctness", 0.15, _correctness),
    ("step-times", 0.3, _step_times),
    ("memory", 0.15, _memory),
    ("convergence", 0.4, train_for_the_time_left),
)
