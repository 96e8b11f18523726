"""What commands share: flags with their help, a configuration file for them, and bad input as one line."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from optimizers.core import ACTIVATIONS, CRITERIA
from suites.harness.config import read_config
from suites.harness.data import DATASETS
from suites.harness.parallel import BACKENDS
from suites.harness.records import Record


@contextmanager
def bad_input_is_one_line() -> Iterator[None]:
    """A ValueError on the way to a run is bad input: one line, exit code 2."""
    try:
        yield
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None


@contextmanager
def failed_writing_is_one_line() -> Iterator[None]:
    """What cannot be written, as on a full disk, ends a command with one line and exit code 1."""
    try:
        yield
    except OSError as error:
        typer.echo(f"error: {error}; what was written stays, the same command goes on from there", err=True)
        raise typer.Exit(1) from None


def say_what_failed(records: Sequence[Record]) -> None:
    """One line for each run that did not finish; exit code 1 if one failed."""
    for record in records:
        if record.status != "finished":
            reason = record.end["reason"] if record.end else None
            named = [str(record.experiment[name]) for name in ("table", "optimizer") if name in record.experiment]
            named += [f"seed {record.experiment['seed']}"] if "seed" in record.experiment else []
            typer.echo(f"{record.status}: {', '.join(named)}: {reason}; the record is {record.path}", err=True)
    if any(record.status == "failed" for record in records):
        raise typer.Exit(1)


def _load_config(context: typer.Context, path: Path | None) -> Path | None:
    """Flags from a file become the defaults of those that the command line leaves out."""
    if path is not None:
        with bad_input_is_one_line():
            known = [p.name for p in context.command.params if p.name and p.name not in ("config", "help")]
            context.default_map = {**(context.default_map or {}), **read_config(path, known)}
    return path


def sizes(text: str | None) -> tuple[int, ...]:
    """A network as it is written on the command line, ``64,32,10`` or ``64-32-10``; none is the data set's own."""
    if text is None:
        return ()
    try:
        return tuple(int(size) for size in text.replace("-", ",").split(","))
    except ValueError:
        raise ValueError(f"network must be sizes such as 64,32,10, got {text!r}") from None


def at_least_one(**values: int) -> None:
    """Refuse a count below 1."""
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"{name} must be 1 or more, got {value}")


Optimizers = Annotated[
    list[str] | None,
    typer.Option(help="Repeatable: kfac, ea_cg[gamma=0,max_iter=20], fisher+ea_cg, mine.py, torch.optim.AdamW."),
]
DatasetName = Annotated[str, typer.Option(help=f"One of {', '.join(DATASETS)}.")]
CriterionName = Annotated[str, typer.Option(help=f"One of {', '.join(CRITERIA)}.")]
Network = Annotated[str | None, typer.Option(help="Sizes, as in 64,32,10; by default the data set's own.")]
ActivationName = Annotated[str, typer.Option(help=f"One of {', '.join(ACTIVATIONS)}.")]
BatchSize = Annotated[int, typer.Option(help="Images of a mini-batch.")]
Dtype = Annotated[str, typer.Option(help="float32 or float64.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
CudaGraph = Annotated[bool, typer.Option(help="Capture each optimizer's step in a CUDA graph.")]
DataRoot = Annotated[Path | None, typer.Option(help="Folder of the images.")]
Jobs = Annotated[int, typer.Option(help="Runs at a time, which spoil the times of each other.")]
Backend = Annotated[str, typer.Option(help=f"Who runs several: {', '.join(BACKENDS)}.")]
Address = Annotated[str | None, typer.Option(help="Of the scheduler of a Dask or Ray cluster.")]
Config = Annotated[
    Path | None, typer.Option(help="TOML file with any of these flags.", is_eager=True, callback=_load_config)
]
