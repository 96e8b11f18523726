"""The autoencoder of MNIST on Fashion-MNIST."""

from dataclasses import replace

from suites.problems.fashion import FASHION_MNIST
from suites.problems.mnist_autoencoder import problem as _mnist

problem = replace(
    _mnist,
    summary="70,000 real images of clothes as their own targets, downloaded or from a folder",
    read=FASHION_MNIST.read_images,
    targets=(320.0, 300.0, 280.0),
)
