"""Handwritten digits of 8 x 8 pixels, from scikit-learn. 360 of the 1,797 are the test set, for every seed."""

from pathlib import Path
from typing import Any

import numpy as np

from suites.harness.data.problem import Arrays, Problem


def read(root: Path, seed: int, download: bool) -> Arrays:
    """The same split for every seed, with equal shares of each class."""
    from sklearn.datasets import load_digits  # imported late: it takes most of a second
    from sklearn.model_selection import train_test_split

    digits: Any = load_digits()
    pixels = digits.data.astype(np.uint8)  # from 0 to 16
    parts: list[Any] = train_test_split(pixels, digits.target, test_size=360, stratify=digits.target, random_state=0)
    train, test, train_labels, test_labels = parts
    return Arrays((train, train_labels), (test, test_labels), tuple("0123456789"))


problem = Problem(
    summary="1,797 real images, 8x8, from scikit-learn",
    network=(64, 64, 32, 16, 10),  # the taper of the paper's networks
    read=read,
    targets=(0.95, 0.97),
    channels=1,
)
