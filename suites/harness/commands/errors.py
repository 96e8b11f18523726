"""What went wrong, as one line and an exit code."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import typer

from suites.harness.records.record import Record


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
