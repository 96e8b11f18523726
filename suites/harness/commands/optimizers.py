"""``kronbench list`` shows all names, ``check`` runs the conformance suite, ``new`` writes a new optimizer."""

import re
from pathlib import Path
from typing import Annotated

import typer

from optimizers.core import ACTIVATIONS, CRITERIA, CURVATURES, SOLVERS, Curvature, Solver
from optimizers.core.network import INITIALIZATIONS
from suites.harness.commands.options import Device, at_least_one, bad_input_is_one_line
from suites.harness.data.problem import Problem
from suites.harness.data.problem import named as problems
from suites.harness.gate.conformance import conformance, remark
from suites.harness.training import catalog
from suites.harness.training.experiment import resolve_device
from suites.harness.training.schedule import SCHEDULES

_START = '''"""{title}: a step along the gradient, as a start.

kronbench check {name}
kronbench compare --optimizer sgd --optimizer {name}
"""

import torch

from optimizers.core import Params, Tape, TapeOptimizer


class {title}(TapeOptimizer):  # or any torch.optim.Optimizer: it finds gradients in param.grad
    # The options are the parameters from the second on: {name}[lr=0.2]. One that is called criterion gets the
    # criterion. A value that is out of range is refused here, by a ValueError; TapeOptimizer does that for lr.
    def __init__(self, params: Params, lr: float = 0.1) -> None:
        super().__init__(params, {{"lr": lr}})

    @torch.no_grad()
    def step(self, tape: Tape) -> None:
        (group,) = self.param_groups  # schedulers change its lr
        for layer in tape.layers:
            # of a batch of B: layer.input [B, I] and layer.delta [B, O], the gradients in the layer's outputs; do not
            # write to them, and do not read numbers from the device. What a step leaves for the next one goes into
            # self.state[parameter], where it is counted and saved.
            layer.weight.sub_(layer.weight_gradient, alpha=group["lr"])
            layer.bias.sub_(layer.bias_gradient, alpha=group["lr"])
'''


def check(
    optimizer: Annotated[str, typer.Argument(help="A file such as mine.py, or any other optimizer.")],
    device: Device = "auto",
    seconds: Annotated[int, typer.Option(help="A check that takes longer fails.")] = 300,
) -> None:
    """Run the conformance suite on an optimizer, and say in words what passed. Exit code 1 if a check failed."""
    with bad_input_is_one_line():
        at_least_one(seconds=seconds)
        choice = catalog.choose(optimizer)
        said = remark(choice)
        device = resolve_device(device)
    typer.echo(f"{choice.spec}: {choice.entry.summary}")
    if said:
        typer.echo(said)
    counts = {"passed": 0, "FAILED": 0, "not checked": 0}
    for finding in conformance(choice, device, seconds):
        counts[finding.outcome] += 1
        typer.echo(f"  {finding.outcome:<13}{finding.check:<22}{finding.says}")
    typer.echo(", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    if counts["FAILED"]:
        raise typer.Exit(1)


def new(name: Annotated[str, typer.Argument(help="Of the file: my_opt, or folder/my_opt.py.")]) -> None:
    """Write a commented start of an optimizer. An existing file is not overwritten."""
    path = Path(name).with_suffix(".py")
    with bad_input_is_one_line():
        if not path.stem.isidentifier() or path.stem in {*catalog.named(), *catalog.grid()}:
            raise ValueError(f"{path.stem!r} cannot be the name of a new optimizer: use letters, digits and _")
        title = re.sub(r"[^A-Za-z0-9]+", "", path.stem.title())
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(_START.format(title=title, name=path))
        except FileExistsError:
            raise ValueError(f"{path} is there already; it stays as it is") from None
    typer.echo(f"{path} is a start that runs; kronbench check {path} says whether it still does what is expected")


def list_() -> None:
    """List optimizers, curvatures, solvers, problems, criteria, activations and so on, a line each."""
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
        "criteria": {
            name: f"of {'vectors' if value.vectors else 'classes'}, {'' if value.convex else 'not '}convex"
            for name, value in CRITERIA.items()
        },
        "activations": dict.fromkeys(ACTIVATIONS, ""),
        "initializations": dict.fromkeys(INITIALIZATIONS, ""),
        "schedules of the learning rate": dict.fromkeys(SCHEDULES, ""),
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
        f"      {f'{option}={default}':<22}{allowed.get(option, '')}".rstrip()
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
    return f"{problem.summary}; network {sizes}; {problem.criterion_name}{aim}"


def _summary(named: Curvature | Solver) -> str:
    return (named.function.__doc__ or "").strip().splitlines()[0]
