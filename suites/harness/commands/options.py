"""Shared by commands: flags with their help, checks of flags, and the lines about runs that did not finish.

Nothing here imports torch, so the commands that only read records start without it.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from suites.harness.records.config import read_config
from suites.harness.records.journal import Journal
from suites.harness.units import parse_seconds


@contextmanager
def bad_input_is_one_line() -> Iterator[None]:
    """A ValueError inside is bad input: print one line, and exit with 2."""
    try:
        yield
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None


EPOCHS = 40  # unless a problem has its own


def at_least_one(**values: int | None) -> None:
    """Refuse a count below 1. None passes."""
    for name, value in values.items():
        if value is not None and value < 1:
            raise ValueError(f"{name.replace('_', ' ')} must be 1 or more, got {value}")


def budget_of(text: str | None) -> float | None:
    """A budget in seconds, as ``60s`` or ``2m`` on the command line."""
    try:
        return None if text is None else parse_seconds(text)
    except ValueError as error:
        raise ValueError(f"budget: {error}") from None


def sizes(text: str | None) -> tuple[int, ...]:
    """A network as on the command line, ``64,32,10`` or ``64-32-10``; empty for the problem's own."""
    if text is None:
        return ()
    try:
        return tuple(int(size) for size in text.replace("-", ",").split(","))
    except ValueError:
        raise ValueError(f"network must be sizes such as 64,32,10, got {text!r}") from None


def activations(text: str) -> str | tuple[str, ...]:
    """One for all hidden layers, or with commas one for each; empty for the problem's own."""
    return tuple(text.split(",")) if "," in text else text


def written(value: str | tuple[str, ...]) -> str:
    """Activations as on the command line."""
    return value if isinstance(value, str) else ",".join(value)


def writable(folder: Path, name: str = "output") -> Path:
    """The folder, if it can be written. It need not exist yet.

    Args:
        name: of the flag, for the message.

    Raises:
        ValueError: one line, if it cannot be made or written into.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise ValueError(f"{name} {folder}: expected a folder, but {there} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"{name} {folder}: no permission to write into {there}")
    return folder


def say_what_failed(records: Sequence[Journal[Any, Any]]) -> None:
    """Print a line for each run that did not finish.

    Exit with 1 if one failed, or if all runs of an optimizer failed or diverged.
    """
    lost: dict[str, list[bool]] = {}
    for record in records:
        of = {name: str(getattr(record.experiment, name, "")) for name in ("table", "optimizer", "seed")}
        lost.setdefault(of["optimizer"], []).append(record.status in ("failed", "diverged"))
        if record.status != "finished":
            what = ", ".join(filter(None, [of["table"], of["optimizer"], of["seed"] and f"seed {of['seed']}"]))
            typer.echo(f"{record.status}: {what}: {record.reason}; the record is {record.path}", err=True)
    if any(record.status == "failed" for record in records) or any(map(all, lost.values())):
        raise typer.Exit(1)


def _load_config(context: typer.Context, path: Path | None) -> Path | None:
    """Flags that the command line leaves out get their values from a file."""
    if path is not None:
        with bad_input_is_one_line():
            flags = {p.name: p for p in context.command.params if p.name and p.name not in ("config", "help")}
            values = {
                name: _as_typed(f"config {path}: {name}", value, getattr(flags[name], "multiple", False))
                for name, value in read_config(path, context.info_name or "", list(flags)).items()
            }
            context.default_map = {**(context.default_map or {}), **values}
    return path


def _as_typed(where: str, value: Any, is_list: bool) -> str | list[str]:
    """A value of a configuration file as on the command line, so that the same checks apply."""
    if is_list and not isinstance(value, list):
        raise ValueError(f"{where} must be a list, such as [{value!r}], got {value!r}")
    if not is_list and isinstance(value, list | dict):
        raise ValueError(f"{where} must be one value, got {value!r}")
    return [str(item) for item in value] if is_list else str(value)


Optimizers = Annotated[
    list[str] | None,
    typer.Option(help="Repeatable: kfac, ea_cg[gamma=0,max_iter=20], fisher+ea_cg, mine.py, torch.optim.AdamW."),
]
ProblemName = Annotated[str, typer.Option(help="A problem that kronbench list shows, or a file such as mine.py.")]
CriterionName = Annotated[str, typer.Option(help="One that kronbench list shows; by default the problem's own.")]
Network = Annotated[str | None, typer.Option(help="Sizes, as in 64,32,10; by default the problem's own.")]
ActivationName = Annotated[
    str,
    typer.Option(help="One that kronbench list shows, or tanh,linear,tanh, one a layer; by default the problem's own."),
]
InitializationName = Annotated[
    str, typer.Option(help="Of the weights; one that kronbench list shows, by default the problem's own.")
]
BatchSize = Annotated[int | None, typer.Option(help="Images of a mini-batch: the problem's own, or 100.")]
Dtype = Annotated[str, typer.Option(help="float32 or float64.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Budget = Annotated[
    str | None,
    typer.Option(help="Training time of a run, as 60s or 2m; the epoch in which it runs out is finished."),
]
Targets = Annotated[
    list[float] | None,
    typer.Option(
        "--target",
        help="Repeatable: value of the problem's metric to reach; by default its own. The hardest reached counts.",
    ),
]
ScheduleName = Annotated[str, typer.Option(help="Of the learning rate; one that kronbench list shows.")]
CudaGraph = Annotated[bool, typer.Option(help="Capture each optimizer's step in a CUDA graph.")]
DataRoot = Annotated[Path | None, typer.Option(help="Folder of the problem's data.")]
Jobs = Annotated[int, typer.Option(help="Runs at a time. Their times are not compared.")]
_AT_ONCE = "Runs that take turns in a process, side by side on a GPU; their times are not compared."
AtOnce = Annotated[int, typer.Option(help=_AT_ONCE)]
AtOnceOnGpu = Annotated[int | None, typer.Option(help=f"{_AT_ONCE} 8 on a GPU by default, 1 on a CPU.")]
Backend = Annotated[str, typer.Option(help="Of several runs at a time: loky (this machine), dask or ray.")]
Address = Annotated[str | None, typer.Option(help="Of the scheduler of a Dask or Ray cluster.")]
Config = Annotated[
    Path | None, typer.Option(help="TOML file with any of these flags.", is_eager=True, callback=_load_config)
]
