"""``kronbench reproduce``: what the paper shows, computed again."""

from pathlib import Path
from typing import Annotated

import typer

from suites.harness.commands.options import DataRoot, Device, bad_input_is_one_line
from suites.harness.names import pick
from suites.harness.progress import progress_bars
from suites.harness.reproduce.results import RESULTS, find
from suites.harness.reproduce.run import reproduce as run_table
from suites.harness.reproduce.tables import SCALES


def reproduce(
    name: Annotated[str | None, typer.Argument(help=f"One of {', '.join(RESULTS)}.")] = None,
    scale: Annotated[str, typer.Option(help="smoke (seconds), cpu (minutes) or paper.")] = "smoke",
    iterates: Annotated[int | None, typer.Option(help="Iterates to average over; the scale's own by default.")] = None,
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
        table, chosen = find(name), pick("scale", scale, SCALES)
        chosen = chosen.adapted(iterates=iterates, steps_between=steps_between, images=images)
        problem = table.load(chosen, device, data_root)
    output = output or Path("results/latest") / f"{name}-{scale}"
    with progress_bars() as progress:
        bar = progress.add_task(f"iterates: {name}, {scale}", total=chosen.iterates)
        done = run_table(
            table, chosen, problem, output, seed, on_iterate=lambda count: progress.update(bar, completed=count)
        )
    if done.text is None:
        reason = done.record.end["reason"] if done.record.end else None
        typer.echo(f"{done.record.status}: {name}: {reason}; the record is {done.record.path}", err=True)
        raise typer.Exit(1)
    typer.echo(f"\n{done.text}\nerrors.jsonl, table.md and table.csv are in {output}")
