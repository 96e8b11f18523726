"""Noise of CIFAR-10's shape, drawn from the seed, for time and memory."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from suites.harness.data.problem import Arrays, Problem
from suites.problems.cifar10 import problem as _cifar10


def noise(train: int, test: int, features: int) -> Callable[[Path, int, bool], Arrays]:
    """Returns a ``read`` of training and test images of random bytes, with random labels of ten classes."""

    def read(root: Path, seed: int, download: bool) -> Arrays:
        generator = np.random.default_rng(seed)

        def images(count: int) -> tuple[np.ndarray, np.ndarray]:
            pixels = generator.integers(256, size=(count, features), dtype=np.uint8)
            return pixels, generator.integers(10, size=count)

        return Arrays(images(train), images(test), tuple("0123456789"))

    return read


problem = Problem(
    summary="noise of cifar10's shape, for time and memory",
    network=_cifar10.network,
    read=noise(50_000, 10_000, 3072),
    channels=3,
    synthetic=True,
)
