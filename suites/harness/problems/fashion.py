"""Fashion-MNIST with a network that tapers as the paper's do: from the four published files, or downloaded."""

from pathlib import Path

from suites.harness.problems.idx import read_mnist_like
from suites.harness.problems.problem import Arrays, Problem

CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


def read(root: Path, seed: int, download: bool) -> Arrays:
    """In ``root``, ``root/fashion`` or ``root/FashionMNIST/raw``: the files as published, gzipped or not."""
    return read_mnist_like("fashion", "FashionMNIST", CLASSES, root, download)


problem = Problem(
    summary="70,000 real images of clothes, 28x28, downloaded or from a folder",
    network=(784, 512, 256, 128, 64, 32, 16, 10),
    read=read,
    targets=(0.80, 0.85, 0.88),
    channels=1,
)
