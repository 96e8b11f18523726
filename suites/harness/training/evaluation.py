"""Evaluation of a run, off the clock: losses, accuracies, negative curvature, and its status at the end."""

from functools import lru_cache

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.stats import binom
from torch import Tensor

from optimizers.core import FCNN, Criterion
from suites.harness.data.dataset import Dataset, Split
from suites.harness.records.facts import NegativeCurvature, Status
from suites.harness.training.experiment import Task

_LEVEL = 0.999  # the quantile of guessing that counts as chance


@torch.no_grad()
def evaluate(task: Task, network: FCNN, split: Split) -> tuple[float, float | None]:
    """Mean of the criterion and accuracy over a whole split. For vectors the accuracy is None."""
    total = torch.zeros(2, dtype=torch.float64, device=split.images.device)
    for inputs, targets in task.dataset.chunks(split):
        logits = network(inputs)
        total[0] += task.criterion.value(logits, targets).sum()
        if not task.dataset.vectors:
            total[1] += (logits.argmax(1) == targets).sum()
    loss, accuracy = (total / len(split)).tolist()
    return loss, None if task.dataset.vectors else accuracy


@torch.no_grad()
def negative_curvature(task: Task, network: FCNN) -> NegativeCurvature | None:
    """Negative curvature on the first batch of the training set, always the same one.

    Returns:
        None if the Hessian is not finite: the run has diverged.
    """
    train, size = task.dataset.train, task.settings.batch_size
    tape = network.record(task.criterion, *task.dataset.part(train, slice(size)))
    if not tape.mean_hessian.isfinite().all():
        return None
    hessian = tape.mean_hessian.double()
    eigenvalues = hessian if hessian.ndim == 1 else torch.linalg.eigvalsh(hessian)
    eigenvalues = eigenvalues[eigenvalues.abs() > 1e-6 * eigenvalues.abs().max()]  # below it is rounding
    negative = eigenvalues[eigenvalues < 0]
    return NegativeCurvature(
        eigenvalues=len(negative),
        share=float(f"{(negative.sum().abs() / eigenvalues.abs().sum()).item():.3g}") if len(negative) else 0.0,
        bends=tuple(round((layer.mean_bend < 0).double().mean().item(), 3) for layer in tape.layers[1:]),
    )


def status_after_training(task: Task, first_loss: float, last_loss: float, best: float) -> tuple[Status, str | None]:
    """Status and reason.

    ``diverged``: the train loss ended above where it began. ``at chance``: the test accuracy was never above
    :func:`chance`, or the test loss never below :func:`constant_loss`. Otherwise ``finished``.

    Args:
        first_loss, last_loss: mean train loss before the first step and after the last, both finite.
        best: the best value of the problem's metric at any measuring point.
    """
    if last_loss > first_loss:
        return "diverged", f"train loss ended at {last_loss:.4g}, above {first_loss:.4g} where it began"
    if task.problem.metric == "test accuracy":
        if best <= (bound := chance(task.dataset.test.targets)):
            return "at chance", f"test accuracy was never above {bound:.4f}, which guessing may reach"
    elif best >= (bound := constant_loss(task.criterion, task.dataset)):
        return "at chance", f"test loss was never below {bound:.4g}, that of the best constant output"
    return "finished", None


@lru_cache(maxsize=1)
@torch.no_grad()
def constant_loss(criterion: Criterion, dataset: Dataset) -> float:
    """The lowest mean of the criterion over the test set for one output for all images.

    For the squared error this output is the mean target, for Bernoulli its logit; for others it is optimized from 0.
    """
    scale, count = dataset.scale, len(dataset.test)

    def mean(constant: np.ndarray) -> tuple[float, np.ndarray]:
        total, slope = 0.0, np.zeros_like(constant)
        for _, targets in dataset.chunks(dataset.test, 2048):
            logits = torch.tensor(constant, dtype=scale.dtype, device=scale.device).expand(len(targets), -1)
            total += criterion.value(logits, targets).double().sum().item()
            slope += criterion.gradient(logits, targets).double().sum(0).cpu().numpy()
        return total / count, slope / count

    if criterion.constant is not None:
        sums = sum(targets.double().sum(0) for _, targets in dataset.chunks(dataset.test, 2048))
        return mean(criterion.constant(torch.as_tensor(sums / count)).cpu().numpy())[0]
    return float(minimize(mean, np.zeros(dataset.outputs), jac=True, method="L-BFGS-B").fun)


def chance(labels: Tensor) -> float:
    """The accuracy that guessing does not exceed in 99.9 % of cases.

    A guess is right with probability at most p, the share of the largest class. So N guesses have at most a
    binomial(N, p) number of right ones; the bound is its 99.9 % quantile, divided by N.
    """
    count = len(labels)
    largest = torch.bincount(labels).max().item() / count
    return float(binom.ppf(_LEVEL, count, largest)) / count
