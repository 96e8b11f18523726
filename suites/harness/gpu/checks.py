"""Checks of an optimizer on a GPU: it gives the CPU's numbers, never waits for the host, and can be captured in a
CUDA graph.
"""

import torch
from torch import Tensor

from suites.harness.gate.conformance import step_without_waiting
from suites.harness.gpu.stages import Skipped
from suites.harness.measure.step import WARM_UP_STEPS, CapturedStep, Step
from suites.harness.training.catalog import Choice
from suites.harness.training.experiment import Task

_STEPS = 3


def difference(there: Task, here: Task, choice: Choice) -> float:
    """The relative difference between steps on two devices, ``there`` and ``here``, with the same weights and batches.

    Raises:
        Skipped: if the optimizer draws random numbers, which differ between devices.
    """
    one, other = there.step(choice, seed=0), here.step(choice, seed=0)
    start = _parameters_after(0, other)
    ends = _parameters_after(_STEPS, one), _parameters_after(_STEPS, other)
    if "sampling" in other.optimizer.state:
        raise Skipped("it draws labels, and each device draws others")
    return _difference(*ends, start)


def step_without_synchronizing(step: Step) -> None:
    """Take a step that must not wait for the device.

    Raises:
        RuntimeError: if it waits.
    """
    _need_gpu(step)
    step_without_waiting(step)


def difference_of_graph(task: Task, choice: Choice) -> float:
    """||theta - theta_eager|| after some replays of a captured step, relative to the distance that theta_eager moved.

    Raises:
        RuntimeError: if the step cannot be captured.
    """
    eager, captured = task.step(choice, seed=0), task.step(choice, seed=0)
    _need_gpu(captured)
    start, steps = _parameters_after(0, eager), WARM_UP_STEPS + _STEPS
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
