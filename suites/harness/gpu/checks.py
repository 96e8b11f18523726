"""Checks of an optimizer on a GPU: same numbers as on the CPU, no wait for the host, capture in a CUDA graph.

The difference of two runs is ||theta - theta'|| / ||theta' - theta_0||: of the parameters after some steps, relative to
the way that the second run went from the initial parameters theta_0.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from suites.harness.gpu.stages import Skipped
from suites.harness.measure.step import Step
from suites.harness.training.captured_step import WARM_UP_STEPS, CapturedStep
from suites.harness.training.catalog import Choice
from suites.harness.training.experiment import Task


def difference(there: Task, here: Task, choice: Choice, steps: int = 3) -> float:
    """The difference of the same task on two devices, ``there`` and ``here``, with the same weights and batches."""
    one, other = there.step(choice, seed=0), here.step(choice, seed=0)
    start = _parameters_after(0, other)
    return _difference(_parameters_after(steps, one), _parameters_after(steps, other), start)


def step_without_synchronizing(step: Step) -> None:
    """Take a step and make every wait of the host for the device an error.

    Raises:
        RuntimeError: if something in the step waits.
        Skipped: without a GPU.
    """
    _need_gpu(step)
    step.repeat_batch()
    for _ in range(WARM_UP_STEPS):
        step()
    with _synchronizing_is_an_error():
        step()


@contextmanager
def _synchronizing_is_an_error() -> Iterator[None]:
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def knows_capturable(optimizer: torch.optim.Optimizer) -> bool:
    """Whether it has the option ``capturable``, as torch's own optimizers do for CUDA graphs."""
    return all("capturable" in group for group in optimizer.param_groups)


def difference_of_graph(task: Task, choice: Choice, steps: int = 3) -> float:
    """The difference between a captured step that is replayed and the same step launched by the host.

    Raises:
        RuntimeError: if the step cannot be captured.
        Skipped: without a GPU.
    """
    eager, captured = task.step(choice, seed=0), task.step(choice, seed=0)
    _need_gpu(captured)
    start, steps = _parameters_after(0, eager), WARM_UP_STEPS + steps
    return _difference(_parameters_after(steps, CapturedStep(captured)), _parameters_after(steps, eager), start)


def _need_gpu(step: Step) -> None:
    if not next(step.network.parameters()).is_cuda:
        raise Skipped("needs a CUDA GPU")


def _parameters_after(steps: int, step: Step) -> Tensor:
    for _ in range(steps):
        step()
    return torch.cat([parameter.detach().flatten() for parameter in step.network.parameters()]).double().cpu()


def _difference(one: Tensor, other: Tensor, start: Tensor) -> float:
    return ((one - other).norm() / (other - start).norm()).item()
