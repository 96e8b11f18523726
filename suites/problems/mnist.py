"""MNIST with the network of ``fashion``: from the four published files, or downloaded."""

from suites.harness.data.idx import IdxFiles
from suites.harness.data.problem import Problem
from suites.problems.fashion import problem as _fashion

MNIST = IdxFiles("mnist", "MNIST", "11 MB", tuple("0123456789"), first_labels=(5, 0, 4, 1, 9, 2, 1, 3))

problem = Problem(
    summary="70,000 real images of handwritten digits, 28x28, downloaded or from a folder",
    network=_fashion.network,
    read=MNIST.read,
    targets=(0.95, 0.97, 0.98),
    channels=1,
    epochs=10,
)
