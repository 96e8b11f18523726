"""Ten epochs on the digits: losses and accuracies, and the steps, seconds and CG iterations they take."""

from pathlib import Path
from statistics import fmean

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from suites.common import DIGITS, OPTIMIZERS, device_figures, parameters
from suites.harness.training.catalog import choose
from suites.harness.training.runner import run

_EPOCHS = 10


@pytest.mark.parametrize("spec", [*OPTIMIZERS, "ea_cg[gamma=0]"])
def test_convergence(benchmark: BenchmarkFixture, tmp_path: Path, spec: str) -> None:
    """One seed; `kronbench compare` has intervals over several."""
    task = DIGITS.task()
    target = task.problem.targets[0]
    benchmark.group = f"{_EPOCHS} epochs, {DIGITS}"
    record = benchmark.pedantic(run, (task, choose(spec), 0, _EPOCHS, tmp_path))
    assert record.end is not None
    assert record.completed, record.reason
    last = record.points[-1]
    iterations = [
        number for point in record.points for number in (point.solver.iterations_mean if point.solver else ())
    ]
    benchmark.extra_info.update(
        parameters(task, spec),
        epochs=_EPOCHS,
        train_loss=last.train_loss,
        test_accuracy=last.test_accuracy,
        training_seconds=last.training_seconds,
        target_accuracy=target,
        epochs_to_target=next((p.epoch for p in record.points if p.test_accuracy >= target), None),
        cg_iterations=fmean(iterations) if iterations else None,
        peak_state_bytes=record.end.peak_state_bytes,
        **device_figures(task.step(choose(spec), seed=0)),
    )
