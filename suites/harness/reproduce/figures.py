"""Figures 1-12: training with every curvature and solver, on two data sets and with two criteria.

``RESULTS`` has the contents of each, in the words of the paper's captions. On ImageNet-10 the factor of KFI does not
fit into memory. There KFI takes Eq. (13), as in the paper, and beside it its exact form ``gram``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from optimizers.core import CRITERIA, SOLVERS
from suites.harness.data.problem import target_of
from suites.harness.data.tuned import read_tuned
from suites.harness.names import plain_name
from suites.harness.records.record import Record
from suites.harness.reproduce.paper import stand_ins
from suites.harness.reproduce.request import Reproduction, Request, Scale
from suites.harness.show.captions import caption
from suites.harness.show.comparison import comparison_table
from suites.harness.show.pictures import draw_curves
from suites.harness.show.table import Column, Table, markdown, table_of
from suites.harness.training.catalog import Choice, choose
from suites.harness.training.experiment import Settings, Task, resolve_device
from suites.harness.tuning.choice import at_any_batch
from suites.harness.tuning.comparison import train
from suites.harness.tuning.progress import progress_bars

CIFAR10, IMAGENET10 = "cifar10", "imagenet10"
# of a measuring point, into the CSV
_DATA = ("gradient_equivalents", "train_loss", "train_accuracy", "test_loss", "test_accuracy")


@dataclass(frozen=True)
class Method:
    """A line of a figure. ``spec``: the optimizer, with its own defaults."""

    label: str
    spec: str


@dataclass(frozen=True)
class Figure:
    """One of the paper's figures. ``against``: its axes, of :data:`suites.harness.analysis.curves.AXES`."""

    number: int
    criterion: str
    dataset: str
    against: tuple[str, ...]
    curvatures: tuple[str, ...] = ("fisher", "gauss_newton", "pch1")
    with_sgd: bool = True

    @property
    def name(self) -> str:
        return f"figure{self.number}"

    @property
    def shows(self) -> str:
        labels = ", ".join(method.label for method in self.methods)
        axes = " and ".join(self.against)
        return f"train loss and test accuracy against {axes}: {labels}; {self.criterion}, {self.dataset}"

    @property
    def costs(self) -> Mapping[str, str]:
        """Costs without the runs of other figures, which need not be done again."""
        return _COSTS[self.dataset]

    @property
    def methods(self) -> tuple[Method, ...]:
        """The methods, SGD first; without Gauss-Newton if the criterion is not convex."""
        lines = [Method("SGD", "sgd")] if self.with_sgd else []
        for curvature in self.curvatures:
            if curvature == "gauss_newton" and not CRITERIA[self.criterion].convex:
                continue
            for solver in SOLVERS:
                name = f"{curvature}+{solver}"
                label = plain_name(name)
                if solver == "kfi" and self.dataset == IMAGENET10:
                    # deviates: Eq. (13) in every layer; the paper takes it in the first layer alone
                    lines.append(Method(f"{label}, Eq. (13)", f"{name}[inverse=rank_one]"))
                    lines.append(Method(f"{label}, exact", f"{name}[inverse=gram]"))
                else:
                    lines.append(Method(label, name))
        return tuple(lines)

    def prepare(self, request: Request) -> Callable[[], Reproduction]:
        """See :class:`suites.harness.reproduce.request.Result`."""
        scale = request.scaled(self.name, FIGURE_SCALES[self.dataset], "tuned", "workers")
        lines = lines_of(self, scale, request)
        settings = lines[0].task.settings
        request = replace(request, workers=request.workers.on(settings, timed="seconds" in self.against))
        request.workers.check(settings)
        return lambda: draw(self, scale, lines, request)


_SECONDS, _EPOCHS, _BOTH = ("seconds",), ("epochs",), ("seconds", "epochs")
_PCH = ("pch1", "pch2")

RESULTS = {
    figure.name: figure
    for figure in (
        Figure(1, "cross-entropy", CIFAR10, _SECONDS),
        Figure(2, "cross-entropy", IMAGENET10, _SECONDS),
        Figure(3, "cross-entropy", CIFAR10, _EPOCHS),
        Figure(4, "cross-entropy", IMAGENET10, _EPOCHS),
        Figure(5, "bounded", CIFAR10, _SECONDS),
        Figure(6, "bounded", IMAGENET10, _SECONDS),
        Figure(7, "bounded", CIFAR10, _EPOCHS),
        Figure(8, "bounded", IMAGENET10, _EPOCHS),
        Figure(9, "cross-entropy", CIFAR10, _BOTH, _PCH, with_sgd=False),
        Figure(10, "cross-entropy", IMAGENET10, _BOTH, _PCH, with_sgd=False),
        Figure(11, "bounded", CIFAR10, _BOTH, _PCH, with_sgd=False),
        Figure(12, "bounded", IMAGENET10, _BOTH, _PCH, with_sgd=False),
    )
}


@dataclass(frozen=True)
class FigureScale(Scale):
    """Epochs and seeds of a figure. ``dataset``: stands in for the figure's own."""

    epochs: int
    seeds: int
    dataset: str | None = None


_SMOKE = FigureScale("smoke", epochs=12, seeds=2, dataset="digits")
_PAPER = FigureScale("paper", epochs=200, seeds=6)

_COSTS = {
    CIFAR10: {
        "smoke": "seconds",
        "cpu": "half an hour on two cores",
        "paper": "2 days on two cores, 2 hours on a GPU (estimates)",
    },
    IMAGENET10: {
        "smoke": "seconds",
        "cpu": "an hour on two cores",
        "paper": "3 days on two cores, an hour on a GPU (estimates)",
    },
}
FIGURE_SCALES = {  # by problem
    dataset: {scale.name: scale for scale in (_SMOKE, cpu, _PAPER)}
    for dataset, cpu in (
        (CIFAR10, FigureScale("cpu", epochs=20, seeds=3)),
        (IMAGENET10, FigureScale("cpu", epochs=8, seeds=1)),
    )
}


@dataclass(frozen=True)
class Line:
    """A method of a figure, the task it is trained on, and the optimizer with its options."""

    method: Method
    task: Task
    choice: Choice


def lines_of(figure: Figure, scale: FigureScale, request: Request) -> list[Line]:
    """The runs of a figure: each method with its defaults, or with the setting that ``kronbench tune`` found.

    On a GPU steps run in CUDA graphs.

    Raises:
        ValueError: one line, if the data or the setting of a method are missing.
    """
    found = read_tuned(request.tuned) if request.tuned else []
    device = resolve_device(request.device)
    settings = Settings(scale.dataset or figure.dataset, figure.criterion, device=device, cuda_graph=device == "cuda")
    shared = Task.load(settings, request.data_root)
    lines = []
    for method in figure.methods:
        task, choice = shared, choose(method.spec)
        if request.tuned is not None:
            task, choice = at_any_batch(method.spec, shared, found)
        task.check(choice)
        lines.append(Line(method, task, choice))
    return lines


def draw(figure: Figure, scale: FigureScale, lines: Sequence[Line], request: Request) -> Reproduction:
    """Train and draw. The text is the title, the table and its caption.

    Files go into ``<problem>-<criterion>`` in the folder of the request: ``<figure>.png``, ``.svg``, ``.csv`` (every
    measuring point), ``.md`` and ``.toml``, and the records into ``runs``. Figures of one problem share records.
    """
    settings = lines[0].task.settings
    folder = request.output / f"{settings.problem}-{settings.criterion}"
    runs = [(line.task, line.choice, seed) for seed in range(scale.seeds) for line in lines]
    with progress_bars() as progress:
        records = train(
            runs, scale.epochs, folder / "runs", progress, request.data_root, request.resume, request.workers
        )
    groups = {line.method.label: records[place :: len(lines)] for place, line in enumerate(lines)}
    target, heading = target_of(records), title(figure, scale, lines, request.tuned)
    draw_curves(groups, figure.against, folder / figure.name, heading, target)
    table = comparison_table(records, {}, target).without("step_ratio")
    table = table.without("method").with_column(Column("method", "method"), groups, first=True)
    text = f"# {heading}\n\n{markdown(table)}\n\n{caption(records, target)}\n"
    points, page = {figure.name: points_table(groups)}, folder / f"{figure.name}.md"
    request.write(figure.name, scale, text, points, page, config=figure.name, device=settings.device)
    return Reproduction(records, text)


def title(figure: Figure, scale: FigureScale, lines: Sequence[Line], tuned: Path | None) -> str:
    """The name of the figure, and the differences from the paper's data and length."""
    task = lines[0].task
    batches = sorted({line.task.settings.batch_size for line in lines})
    found = [
        *stand_ins(task, figure.dataset),
        f"{scale.epochs} epochs",
        "1 seed" if scale.seeds == 1 else f"{scale.seeds} seeds",
        f"batch {', '.join(map(str, batches))}",
        "every method's defaults" if tuned is None else "every method tuned on held-out images",
        *(["steps in CUDA graphs"] if task.settings.cuda_graph else []),
    ]
    return f"Figure {figure.number}: {figure.criterion}, {figure.dataset} (scale {scale.name}: {'; '.join(found)})"


def points_table(groups: Mapping[str, Sequence[Record]]) -> Table:
    """Every measuring point of every run, one a row."""
    return table_of(
        [
            {
                "method": label,
                "optimizer": record.experiment.optimizer,
                "seed": record.experiment.seed,
                "status": record.status,
                "epoch": point.epoch,
                "seconds": point.training_seconds if record.header.alone else None,
                **{name: getattr(point, name) for name in _DATA},
            }
            for label, group in groups.items()
            for record in group
            for point in record.points
        ]
    )
