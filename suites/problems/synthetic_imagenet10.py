"""Noise of ImageNet-10's shape, drawn from the seed, for time and memory."""

from suites.harness.data.problem import Problem
from suites.problems.imagenet10 import problem as _imagenet10
from suites.problems.synthetic_cifar10 import noise

problem = Problem(
    summary="noise of imagenet10's shape, for time and memory",
    network=_imagenet10.network,
    read=noise(1840, 460, 150528),
    channels=3,
    synthetic=True,
)
