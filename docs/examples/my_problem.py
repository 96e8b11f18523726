"""Is a tumour benign? 30 measurements of each of 569, from scikit-learn.

kronbench compare --problem docs/examples/my_problem.py
"""

from pathlib import Path

from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from suites.harness.data import Arrays, Problem


def read(root: Path, seed: int, download: bool) -> Arrays:
    inputs, labels = load_breast_cancer(return_X_y=True)
    parts = train_test_split(inputs, labels, test_size=114, stratify=labels, random_state=0)
    train, test, train_labels, test_labels = parts
    return Arrays((train, train_labels), (test, test_labels), ("malignant", "benign"))


problem = Problem(
    summary="569 tumours, 30 measurements each",
    network=(30, 16, 8, 2),
    read=read,
    targets=(0.95,),
)
