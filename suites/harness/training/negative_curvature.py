"""How much negative curvature PCH would repair at a measuring point, whichever optimizer trains."""

import torch

from optimizers.core import FCNN
from suites.harness.problems.dataset import Split
from suites.harness.records.facts import NegativeCurvature
from suites.harness.training.experiment import Task


@torch.no_grad()
def negative_curvature(task: Task, network: FCNN) -> NegativeCurvature | None:
    """Negative curvature on the first batch of the training set, the same batch each time; off the clock.

    Returns:
        ``eigenvalues``: how many eigenvalues of E[hess_z C] are negative; 0 for a convex criterion. ``share``: the sum
        of their absolute values over that of all. ``bends``: for each hidden layer, first to last, the share of
        negative entries of E[phi'' * (W^tT delta^t)], which PCH-1 makes positive and PCH-2 removes. None if the Hessian
        is not finite: the run has diverged.
    """
    train, size = task.dataset.train, task.settings.batch_size
    x, labels = next(iter(task.dataset.chunks(Split(train.images[:size], train.labels[:size]))))
    tape = network.record(task.criterion, x, labels)
    if not tape.mean_hessian.isfinite().all():
        return None
    eigenvalues = torch.linalg.eigvalsh(tape.mean_hessian.double())
    eigenvalues = eigenvalues[eigenvalues.abs() > 1e-6 * eigenvalues.abs().max()]  # below it is rounding
    negative = eigenvalues[eigenvalues < 0]
    return NegativeCurvature(
        eigenvalues=len(negative),
        share=float(f"{(negative.sum().abs() / eigenvalues.abs().sum()).item():.3g}") if len(negative) else 0.0,
        bends=tuple(round((layer.mean_bend < 0).double().mean().item(), 3) for layer in tape.layers[1:]),
    )
