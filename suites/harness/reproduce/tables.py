"""Tables 2-5: errors of curvature matrices against the true Hessian, averaged over the iterates of a training run.

symbol                         name
theta^0, ..., theta^{s-1}      iterates         s of them, ``steps_between`` training steps from one to the next
E                              images           training images in the mean, as many of each class; None for all
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from suites.harness.problems.dataset import Split
from suites.harness.reproduce.errors import NORM
from suites.harness.reproduce.published import PUBLISHED
from suites.harness.training.experiment import Settings, Task

LABELS = {"fisher": "Fisher", "gauss_newton": "GN", "pch1": "PCH-1", "pch2": "PCH-2", NORM: "norm of the Hessian"}
OPTIMIZER = "ea_cg[lr=0.1,damping=0.01,gamma=-1]"


@dataclass(frozen=True)
class Scale:
    """How much of a table is computed. ``dataset``: what stands in for the table's own.

    The iterates are chosen here, those of ``paper`` as well: the titles of tables say how many they are.
    """

    name: str
    iterates: int
    steps_between: int
    images: int | None = None
    dataset: str | None = None


SCALES = {
    scale.name: scale
    for scale in (
        Scale("smoke", iterates=3, steps_between=20, images=100, dataset="digits"),
        Scale("cpu", iterates=10, steps_between=100, images=500),
        Scale("paper", iterates=100, steps_between=100),
    )
}


@dataclass(frozen=True)
class Table:
    """One of the paper's Tables 2-5."""

    name: str
    dataset: str
    criterion: str

    @property
    def curvatures(self) -> tuple[str, ...]:
        return tuple(PUBLISHED[self.name])

    @property
    def shows(self) -> str:
        return f"errors of {', '.join(LABELS[c] for c in self.curvatures)} against the true Hessian, by layer"

    def load(self, scale: Scale, device: str, data_root: Path | None) -> Task:
        """The problem of this table at a scale.

        Raises:
            ValueError: one line, if the data are not there or not enough.
        """
        settings = Settings(scale.dataset or self.dataset, self.criterion, device=device)
        task = Task.load(settings, data_root)
        balanced(task, scale.images)
        return task


TABLES = {
    table.name: table
    for table in (
        Table("table2", "cifar10", "cross-entropy"),
        Table("table3", "imagenet10", "cross-entropy"),
        Table("table4", "cifar10", "bounded"),
        Table("table5", "imagenet10", "bounded"),
    )
}


def balanced(task: Task, images: int | None) -> Split:
    """The first training images of each class, as many of each; all training images where ``images`` is none.

    Raises:
        ValueError: if a class has too few, or the images are no multiple of the classes.
    """
    train, classes = task.dataset.train, len(task.dataset.classes)
    if images is None:
        return train
    each, rest = divmod(images, classes)
    if rest or not each:
        raise ValueError(f"images must be a multiple of the {classes} classes of {task.dataset.name}, got {images}")
    counts = torch.bincount(train.labels, minlength=classes)
    if counts.min() < each:
        raise ValueError(
            f"data set {task.dataset.name}: {each} training images of each class are needed, "
            f"{task.dataset.classes[int(counts.argmin())]} has {int(counts.min())}"
        )
    rows = torch.cat([(train.labels == label).nonzero()[:each, 0] for label in range(classes)])
    return Split(train.images[rows], train.labels[rows])
