"""``kronbench reproduce``: published results, computed again."""

from pathlib import Path
from typing import Annotated

import typer

from suites.harness.commands import options
from suites.harness.names import pick
from suites.harness.reproduce import done_in, results
from suites.harness.reproduce.request import Request
from suites.harness.training.parallel import Workers

RESULTS = results()


def reproduce(
    name: Annotated[str | None, typer.Argument(help=f"One of {', '.join(RESULTS)}.")] = None,
    scale: Annotated[str, typer.Option(help="smoke (seconds), cpu (minutes) or paper.")] = "smoke",
    seeds: Annotated[
        int | None, typer.Option(help="Of figures, tnt-mnist: runs of each method, seeds 0, 1, ...")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Of figures: epochs of each run.")] = None,
    tuned: Annotated[Path | None, typer.Option(help="Of figures: a file of settings from kronbench tune.")] = None,
    resume: Annotated[
        bool, typer.Option(help="Take finished work from its records, and go on with work that died.")
    ] = True,
    at_once: options.AtOnceOnGpu = None,
    jobs: options.Jobs = 1,
    backend: options.Backend = "loky",
    address: options.Address = None,
    seed: Annotated[int | None, typer.Option(help="Of tables 2-5: seed of weights and batches, 0 by default.")] = None,
    iterates: Annotated[int | None, typer.Option(help="Of tables 2-5: iterates in the average.")] = None,
    steps_between: Annotated[
        int | None, typer.Option(help="Of tables 2-5: steps from one iterate to the next.")
    ] = None,
    images: Annotated[
        int | None, typer.Option(help="Of tables 2-5: images in the mean, a multiple of the number of classes.")
    ] = None,
    device: options.Device = "auto",
    data_root: options.DataRoot = None,
    output: Annotated[Path | None, typer.Option(help="Default: results/latest/<name>-<scale>.")] = None,
    config: options.Config = None,
    list_: Annotated[
        bool, typer.Option("--list", help="List all results, with their costs and the folders where they are done.")
    ] = False,
) -> None:
    """Compute a published result again and print it beside the published values."""
    if list_:
        for result in RESULTS.values():
            done = ", ".join(folder.as_posix() for folder in done_in(result.name, Path("results")))
            costs = "; ".join(f"{scale}: {cost}" for scale, cost in result.costs.items())
            typer.echo(f"{result.name:<10}{result.shows}")
            typer.echo(f"{'':<10}{costs}\n{'':<10}{f'done here: {done}' if done else 'not done here'}")
        return
    with options.bad_input_is_one_line():
        if name is None:
            raise ValueError(f"which result? there are: {', '.join(RESULTS)}")
        # figures share a folder, in which they take each other's runs
        output = output or Path("results/latest") / f"{'figures' if name.startswith('figure') else name}-{scale}"
        request = Request(
            scale=scale,
            output=options.writable(output),
            device=device,
            data_root=data_root,
            seed=seed,
            seeds=seeds,
            epochs=epochs,
            iterates=iterates,
            steps_between=steps_between,
            images=images,
            tuned=tuned,
            resume=resume,
            workers=Workers(jobs, backend, address, at_once=at_once),
        )
        run = pick("result", name, RESULTS).prepare(request)
    done = run()
    if done.text is not None:
        typer.echo(f"\n{done.text}\nAll files are in {output}")
    options.say_what_failed(done.records)
    if done.text is None:
        raise typer.Exit(1)
