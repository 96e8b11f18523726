"""The stage of step times: the paper's batches, with and without TF32, launched by the host and in a CUDA graph."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import product
from statistics import median

import torch

from suites.harness.analysis.statistics import median_interval
from suites.harness.gpu.stages import Stage
from suites.harness.measure.step import CapturedStep, Step
from suites.harness.measure.timing import interleaved_phases, interleaved_seconds
from suites.harness.records.conventions import REFERENCE
from suites.harness.records.measured import StepTime
from suites.harness.training.catalog import choose
from suites.harness.training.experiment import Settings, Task

_TORCHS_SGD = "torch.optim.SGD[lr=0.1,momentum=0.9]"
_TIMED = (_TORCHS_SGD, "sgd", "kfac", "kfra", "ea_cg", "pch1+kfi")
_PAPER = {"synthetic-cifar10": (100, 500, 1000), "synthetic-imagenet10": (100,)}  # the paper's batches
_REHEARSAL = {"digits": (100, 500, 1000)}
_PHASE_ROUNDS = 10


def step_times(stage: Stage) -> None:
    """Time the optimizers at the paper's batches, with and without TF32 and CUDA graphs, interleaved."""
    cases = [
        (dataset, batch, tf32)
        for dataset, batches in (_PAPER if stage.device == "cuda" else _REHEARSAL).items()
        for batch in batches
        for tf32 in ((False, True) if stage.device == "cuda" else (False,))
    ]
    loaded: Task | None = None
    for number, (dataset, batch, tf32) in enumerate(cases):
        if loaded is None or loaded.settings.problem != dataset:
            loaded = Task.load(Settings(dataset, device=stage.device))
        task = replace(loaded, settings=replace(loaded.settings, batch_size=batch))
        row = StepTime(network="-".join(map(str, task.settings.network)), batch=batch, tf32=tf32, status="ok")
        measure = partial(_timed, task=task, captured=stage.captured, at_most=stage.left / (len(cases) - number))
        stage.measure(f"{dataset}, batch {batch}", row, measure)


def _timed(row: StepTime, task: Task, captured: set[str], at_most: float) -> list[StepTime]:
    """For each optimizer a row with steps launched by the host, and one in a CUDA graph if it is ``captured``."""
    steps: dict[str, Callable[[], None]] = {}
    rows: dict[str, StepTime] = {}
    device = task.settings.device
    with _tf32(row.tf32):
        for spec, graph in product(_TIMED, (False, True)):
            name = f"{spec} in a graph" if graph else spec
            rows[name] = replace(row, optimizer=spec, graph=graph)
            if graph and spec not in captured:
                rows[name] = replace(rows[name], status="skipped", reason="not captured, see correctness")
            else:
                steps[name] = _step(task, spec, graph)
        samples = interleaved_seconds(steps, device, at_most_seconds=at_most)
        for name, own in samples.items():
            rows[name] = replace(
                rows[name],
                seconds=tuple(own),
                **median_interval(own)._asdict(),
                phases=_phases(_step(task, rows[name].optimizer, bool(rows[name].graph)), device),
                ratio_to_sgd=_ratio(own, samples[REFERENCE]),
                ratio_to_torch_sgd=_ratio(own, samples[_TORCHS_SGD]),
            )
    return list(rows.values())


def _ratio(own: Sequence[float], of: Sequence[float]) -> float:
    return median(a / b for a, b in zip(own, of, strict=True))


def _step(task: Task, spec: str, graph: bool) -> Step:
    step = task.step(choose(spec), seed=0).repeat_batch()
    return CapturedStep(step) if graph else step


def _phases(step: Step, device: str) -> dict[str, float]:
    """Median seconds of each phase."""
    seconds = interleaved_phases({"step": step}, device, _PHASE_ROUNDS)["step"]
    return {phase: median(own) for phase, own in seconds.items()}


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
