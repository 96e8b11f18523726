"""``kronbench reproduce``: what the paper shows, computed again."""

from pathlib import Path
from typing import Annotated

import typer

from suites.harness.commands.options import DataRoot, Device, bad_input_is_one_line
from suites.harness.reproduce.request import Request
from suites.harness.reproduce.results import RESULTS, prepare


def reproduce(
    name: Annotated[str | None, typer.Argument(help=f"One of {', '.join(RESULTS)}.")] = None,
    scale: Annotated[str, typer.Option(help="smoke (seconds), cpu (minutes) or paper.")] = "smoke",
    iterates: Annotated[
        int | None, typer.Option(help="Of tables 2-5: iterates to average over; the scale's own.")
    ] = None,
    steps_between: Annotated[int | None, typer.Option(help="Training steps from one iterate to the next.")] = None,
    images: Annotated[int | None, typer.Option(help="Training images in the mean, a multiple of the classes.")] = None,
    seed: Annotated[int, typer.Option(help="Of the initial weights and the order of the batches.")] = 0,
    device: Device = "auto",
    data_root: DataRoot = None,
    output: Annotated[Path | None, typer.Option(help="Default: results/latest/<name>-<scale>.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="What there is, what it shows and costs.")] = False,
) -> None:
    """Compute a result of the paper again and print it beside the paper's values."""
    if list_:
        for result in RESULTS.values():
            typer.echo(f"{result.name:<10}{result.shows}\n{'':<10}{result.costs}")
        return
    with bad_input_is_one_line():
        if name is None:
            raise ValueError(f"which result? there are: {', '.join(RESULTS)}")
        output = output or Path("results/latest") / f"{name}-{scale}"
        run = prepare(name, Request(scale, output, device, data_root, seed, iterates, steps_between, images))
    done = run()
    if done.text is None:
        reason = done.record.end["reason"] if done.record.end else None
        typer.echo(f"{done.record.status}: {name}: {reason}; the record is {done.record.path}", err=True)
        raise typer.Exit(1)
    typer.echo(f"\n{done.text}\nAll files are in {output}")
