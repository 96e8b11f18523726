"""The command line: ``kronbench compare`` and ``kronbench list``."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from optimizers.core import ACTIVATIONS, CRITERIA, CURVATURES, SOLVERS
from suites.harness import catalog
from suites.harness.compare import DEFAULT_OPTIMIZERS
from suites.harness.compare import compare as run_comparison
from suites.harness.config import read_config, write_config
from suites.harness.data import DATASETS
from suites.harness.experiments import TARGETS, Problem, Settings
from suites.harness.report import plain

app = typer.Typer(
    help="Second-order optimizers for fully connected networks, compared fairly.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@contextmanager
def _bad_input_is_one_line() -> Iterator[None]:
    """A ValueError on the way to a run is bad input: one line, exit code 2."""
    try:
        yield
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None


def _load_config(context: typer.Context, path: Path | None) -> Path | None:
    """Flags from a file become the defaults of those that the command line leaves out."""
    if path is not None:
        with _bad_input_is_one_line():
            known = [p.name for p in context.command.params if p.name and p.name not in ("config", "help")]
            context.default_map = {**(context.default_map or {}), **read_config(path, known)}
    return path


@app.command()
def compare(
    context: typer.Context,
    optimizer: Annotated[
        list[str] | None,
        typer.Option(help="Repeatable: kfac, ea_cg[gamma=0,max_iter=20], fisher+ea_cg, mine.py, torch.optim.AdamW."),
    ] = None,
    dataset: Annotated[str, typer.Option(help=f"One of {', '.join(DATASETS)}.")] = "digits",
    criterion: Annotated[str, typer.Option(help=f"One of {', '.join(CRITERIA)}.")] = "cross-entropy",
    network: Annotated[str | None, typer.Option(help="Sizes, as in 64,32,10; by default the data set's own.")] = None,
    activation: Annotated[str, typer.Option(help=f"One of {', '.join(ACTIVATIONS)}.")] = "sigmoid",
    epochs: Annotated[int, typer.Option(help="Epochs of each run.")] = 40,
    batch_size: Annotated[int, typer.Option(help="Images of a mini-batch.")] = 100,
    seeds: Annotated[int, typer.Option(help="Runs of each optimizer: seeds 0, 1, ...")] = 5,
    target: Annotated[float | None, typer.Option(help="Test accuracy to reach; by default the data set's own.")] = None,
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    data_root: Annotated[Path | None, typer.Option(help="Folder of the images.")] = None,
    output: Annotated[Path | None, typer.Option(help="Default: results/latest/<dataset>-<criterion>.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with any of these flags.", is_eager=True, callback=_load_config)
    ] = None,
) -> None:
    """Train optimizers on one problem and print who wins, at which cost."""
    with _bad_input_is_one_line():
        for name, value in (("epochs", epochs), ("seeds", seeds)):
            if value < 1:
                raise ValueError(f"{name} must be 1 or more, got {value}")
        if target is not None and not 0 < target <= 1:
            raise ValueError(f"target must be an accuracy in (0, 1], got {target}")
        choices = [catalog.choose(spec) for spec in optimizer or DEFAULT_OPTIMIZERS]
        settings = Settings(dataset, criterion, _sizes(network), activation, batch_size, dtype, device)
        problem = Problem.load(settings, data_root)
        if not optimizer and not problem.criterion.convex:
            choices = [choice for choice in choices if choice.entry.name != "kfra"]
            typer.echo(f"kfra is left out: Gauss-Newton needs a convex criterion, and {criterion} is not", err=True)
        repeated = {choice.spec for choice in choices if sum(c.spec == choice.spec for c in choices) > 1}
        if repeated:
            raise ValueError(f"optimizer given more than once: {', '.join(sorted(repeated))}")
        for choice in choices:
            problem.check(choice)
    output = output or Path("results/latest") / f"{dataset}-{criterion}"
    target = target or TARGETS.get(dataset, 0.5)
    effective: dict[str, Any] = {
        **{name: value for name, value in context.params.items() if name != "config"},
        "optimizer": [choice.spec for choice in choices],
        "network": ",".join(map(str, problem.settings.network)),
        "device": problem.settings.device,
        "target": target,
        "output": output,
    }
    write_config(output / "config.toml", effective)
    comparison = run_comparison(problem, choices, seeds, epochs, target, output)
    typer.echo(f"\n{plain(comparison.table)}\n\n{comparison.caption}\n")
    typer.echo(f"Records, table.md, epochs.png and seconds.png (and .svg) are in {output}")
    failed = [record for record in comparison.records if record.status != "finished"]
    for record in failed:
        reason = record.end["reason"] if record.end else None
        typer.echo(
            f"{record.status}: {record.experiment['optimizer']}, seed {record.experiment['seed']}: {reason}", err=True
        )
    if any(record.status == "failed" for record in failed):
        raise typer.Exit(1)


@app.command(name="list")
def list_() -> None:
    """What there is: optimizers, curvatures, solvers, data sets, criteria, activations, a line each."""
    sections: dict[str, dict[str, str]] = {
        "optimizers, with their options": {
            name: f"{entry.summary} {', '.join(f'{option}={default}' for option, default in entry.options.items())}"
            for name, entry in catalog.named().items()
        },
        "curvatures (curvature+solver is an optimizer)": {name: _summary(value) for name, value in CURVATURES.items()},
        "solvers": {name: _summary(value) for name, value in SOLVERS.items()},
        "data sets": DATASETS,
        "criteria": {name: "convex" if value.convex else "not convex" for name, value in CRITERIA.items()},
        "activations": dict.fromkeys(ACTIVATIONS, ""),
    }
    for title, rows in sections.items():
        typer.echo(title)
        for name, text in rows.items():
            typer.echo(f"  {name:<22}{text}")


def _summary(function: Callable[..., Any]) -> str:
    return (function.__doc__ or "").strip().splitlines()[0]


def _sizes(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    try:
        return tuple(int(size) for size in text.replace("-", ",").split(","))
    except ValueError:
        raise ValueError(f"network must be sizes such as 64,32,10, got {text!r}") from None


def main() -> None:
    """Entry point: a usage error is one line as well."""
    try:
        sys.exit(app(standalone_mode=False))
    except Exception as error:
        shown = getattr(error, "format_message", None)  # click's own errors, whichever click typer brings
        if shown is None:
            raise
        typer.echo(f"error: {shown()}", err=True)
        sys.exit(getattr(error, "exit_code", 2))


if __name__ == "__main__":
    main()
