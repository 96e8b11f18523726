"""Fashion-MNIST with a network that tapers as the paper's do: from the four published files, or downloaded."""

from suites.harness.data.idx import IdxFiles
from suites.harness.data.problem import Problem

FASHION_MNIST = IdxFiles(
    "fashion",
    "FashionMNIST",
    "30 MB",
    ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"),
    first_labels=(9, 0, 0, 3, 0, 2, 7, 2),
)

problem = Problem(
    summary="70,000 real images of clothes, 28x28, downloaded or from a folder",
    network=(784, 256, 128, 64, 32, 10),
    read=FASHION_MNIST.read,
    targets=(0.84, 0.86, 0.87),
    channels=1,
    epochs=10,
)
