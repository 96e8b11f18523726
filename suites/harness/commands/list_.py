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
        "optimizers of installed packages": {
            name: _of_entry_point(name, point.value) for name, point in catalog.installed().items()
        },
        "curvatures (curvature+solver is an optimizer)": {name: _summary(value) for name, value in CURVATURES.items()},
        "solvers": {name: _summary(value) for name, value in SOLVERS.items()},
        "problems": {name: _described(problem) for name, problem in problems().items()},
        "criteria": {name: "convex" if value.convex else "not convex" for name, value in CRITERIA.items()},
        "activations": dict.fromkeys(ACTIVATIONS, ""),
        "optimizers of libraries (any other importable one works as well)": {
            f"{name}[{', '.join(f'{option}={default}' for option, default in entry.options.items())}]": ""
            for library in catalog.LIBRARIES
            for name, entry in catalog.of_library(library).items()
        },
    }
    for title, rows in sections.items():
        if rows:
            typer.echo(title)
        for name, text in rows.items():
            typer.echo(f"  {name:<22}{text}".rstrip())


def _options(entry: catalog.Entry) -> list[str]:
    allowed = catalog.allowed(entry)
    return [
        f"      {f'{option}={default}':<18}{allowed.get(option, '')}".rstrip()
        for option, default in entry.options.items()
    ]


def _of_entry_point(name: str, value: str) -> str:
    try:
        entry = catalog.choose(name).entry
    except ValueError as error:
        return str(error)
    return "\n".join([f"{entry.summary} ({value})", *_options(entry)])


def _described(problem: Problem) -> str:
    sizes, targets = "-".join(map(str, problem.network)), ", ".join(f"{target:g}" for target in problem.targets)
    aim = f"; target {targets} {problem.metric}" if not problem.synthetic else ""
    return f"{problem.summary}; network {sizes}; {problem.criterion}{aim}"


def _summary(named: Curvature | Solver) -> str:
    return (named.function.__doc__ or "").strip().splitlines()[0]
