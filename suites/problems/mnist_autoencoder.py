"""The deep autoencoder of MNIST, on which second-order methods have been compared since Hessian-free optimization.

Network and criterion are those of Hinton and Salakhutdinov (2006), the initialization is that of Martens (2010).
"""

from suites.harness.data.problem import Problem
from suites.problems.mnist import MNIST

problem = Problem(
    summary="70,000 real images of handwritten digits as their own targets, downloaded or from a folder",
    network=(784, 1000, 500, 250, 30, 250, 500, 1000, 784),
    read=MNIST.read_images,
    criterion="bernoulli",
    metric="test loss",
    targets=(150.0, 120.0, 100.0),
    scaling="unit",
    activation=("sigmoid", "sigmoid", "sigmoid", "linear", "sigmoid", "sigmoid", "sigmoid"),
    initialization="sparse",
    batch_size=1000,
    epochs=20,
)
