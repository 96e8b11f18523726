"""How far does diabetes go in a year? Ten measurements of each of 442 patients, from scikit-learn."""

from pathlib import Path

from sklearn.datasets import load_diabetes
from torch import Tensor

from suites.harness.data import Arrays, Problem


def read(root: Path, seed: int, download: bool) -> Arrays:
    inputs, progress = load_diabetes(return_X_y=True)
    targets = (progress[:, None] - 152) / 77  # vectors of one number, of mean 0 and standard deviation 1
    return Arrays((inputs[:353], targets[:353]), (inputs[353:], targets[353:]))


def log_cosh(outputs: Tensor, target: Tensor) -> Tensor:
    return (outputs - target).cosh().log().sum()


problem = Problem(
    summary="442 patients, ten measurements each",
    network=(10, 16, 8, 1),
    read=read,
    criterion=log_cosh,
    metric="test loss",
    targets=(0.24, 0.22),
    batch_size=50,
)
