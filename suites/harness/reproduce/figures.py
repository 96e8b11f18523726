"""Figures 1-12: training with every curvature and solver, on two data sets and with two criteria.

figures        data set      criterion        methods
1, 2           CIFAR-10      cross-entropy    {Fisher, GN, PCH-1} x {KFI, EA-CG}, and SGD
3, 4           ImageNet-10   cross-entropy    the same
5, 6           CIFAR-10      Eq. (14)         without GN, which needs a convex criterion
7, 8           ImageNet-10   Eq. (14)         the same
9              CIFAR-10      cross-entropy    {PCH-1, PCH-2} x {KFI, EA-CG}
10             ImageNet-10   cross-entropy    the same
11             CIFAR-10      Eq. (14)         the same
12             ImageNet-10   Eq. (14)         the same

Of a pair of the first eight, one is against seconds of training and one against epochs; the last four are against
both. On ImageNet-10, where KFI's factor does not fit, KFI takes Eq. (13) as in the paper, and its exact form ``gram``
is dashed.
"""

from dataclasses import dataclass, replace

from optimizers.core import CRITERIA
from suites.harness.reproduce.tables import LABELS

SOLVER_LABELS = {"kfi": "KFI", "ea_cg": "EA-CG"}


@dataclass(frozen=True)
class Method:
    """A line of a figure. ``spec``: of the optimizer, with its own defaults."""

    label: str
    spec: str
    dashed: bool = False


@dataclass(frozen=True)
class Figure:
    """One of the paper's Figures 1-12. ``against``: of :data:`suites.harness.analysis.curves.AXES`."""

    name: str
    dataset: str
    criterion: str
    against: tuple[str, ...]
    curvatures: tuple[str, ...]
    with_sgd: bool = True

    @property
    def shows(self) -> str:
        labels = ", ".join(method.label for method in self.methods)
        return f"train loss and test accuracy against {' and '.join(self.against)}: {labels}"

    @property
    def methods(self) -> tuple[Method, ...]:
        """One line each, SGD first."""
        suited = [c for c in self.curvatures if c != "gauss_newton" or CRITERIA[self.criterion].convex]
        lines = [Method("SGD", "sgd")] if self.with_sgd else []
        for curvature in suited:
            for solver, solved in SOLVER_LABELS.items():
                name, label = f"{curvature}+{solver}", f"{LABELS[curvature]} + {solved}"
                if solver == "kfi" and self.dataset == "imagenet10":
                    lines.append(Method(f"{label}, Eq. (13)", f"{name}[inverse=rank_one]"))
                    lines.append(Method(f"{label}, exact", f"{name}[inverse=gram]", dashed=True))
                else:
                    lines.append(Method(label, name))
        return tuple(lines)


@dataclass(frozen=True)
class FigureScale:
    """How long and how often a figure trains. ``dataset``: what stands in for the figure's own."""

    name: str
    epochs: int
    seeds: int
    dataset: str | None = None


_SMOKE = FigureScale("smoke", epochs=12, seeds=2, dataset="digits")
_CPU = FigureScale("cpu", epochs=20, seeds=3)
_PAPER = FigureScale("paper", epochs=200, seeds=6)

FIGURE_SCALES = {  # by data set
    dataset: {scale.name: scale for scale in (_SMOKE, cpu, _PAPER)}
    for dataset, cpu in (("cifar10", _CPU), ("imagenet10", replace(_CPU, epochs=8, seeds=1)))
}

_PROBLEMS = [(dataset, criterion) for criterion in CRITERIA for dataset in ("cifar10", "imagenet10")]
_AXES = ("seconds", "epochs")
_METHODS = ("fisher", "gauss_newton", "pch1")

FIGURES = {
    figure.name: figure
    for figure in (
        *(
            Figure(f"figure{2 * pair + offset}", dataset, criterion, (against,), _METHODS)
            for pair, (dataset, criterion) in enumerate(_PROBLEMS)
            for offset, against in enumerate(_AXES, start=1)
        ),
        *(
            Figure(f"figure{9 + pair}", dataset, criterion, _AXES, ("pch1", "pch2"), with_sgd=False)
            for pair, (dataset, criterion) in enumerate(_PROBLEMS)
        ),
    )
}
