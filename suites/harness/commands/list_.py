"""``kronbench list``: what there is, a line each."""

import typer

from optimizers.core import ACTIVATIONS, CRITERIA, CURVATURES, SOLVERS, Curvature, Solver
from suites.harness.problems.problem import Problem
from suites.harness.problems.problem import named as problems
from suites.harness.training import catalog


def list_() -> None:
    """What there is: optimizers, curvatures, solvers, problems, criteria, activations, a line each."""
    sections: dict[str, dict[str, str]] = {
        "optimizers, with their options and what these may be": {
            name: "\n".join([entry.summary, *_options(entry)]) for name, entry in catalog.named().items()
        },
        "curvatures (curvature+solver is an optimizer)": {name: _summary(value) for name, value in CURVATURES.items()},
        "solvers": {name: _summary(value) for name, value in SOLVERS.items()},
        "problems": {name: _described(problem) for name, problem in problems().items()},
        "criteria": {name: "convex" if value.convex else "not convex" for name, value in CRITERIA.items()},
        "activations": dict.fromkeys(ACTIVATIONS, ""),
    }
    for title, rows in sections.items():
        typer.echo(title)
        for name, text in rows.items():
            typer.echo(f"  {name:<22}{text}")


def _options(entry: catalog.Entry) -> list[str]:
    allowed = catalog.allowed(entry)
    return [
        f"      {f'{option}={default}':<18}{allowed.get(option, '')}".rstrip()
        for option, default in entry.options.items()
    ]


def _described(problem: Problem) -> str:
    sizes, targets = "-".join(map(str, problem.network)), ", ".join(f"{target:g}" for target in problem.targets)
    aim = f"; target {targets} {problem.metric}" if not problem.synthetic else ""
    return f"{problem.summary}; network {sizes}; {problem.criterion}{aim}"


def _summary(named: Curvature | Solver) -> str:
    return (named.function.__doc__ or "").strip().splitlines()[0]
