"""``kronbench tune``: the best setting of each method, by the same search for all, on held-out training images."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from tabulate import tabulate

from suites.harness.commands import options
from suites.harness.data.tuned import Tuned, beside, read_tuned, write_tuned
from suites.harness.names import pick
from suites.harness.records.record import Record
from suites.harness.training.catalog import Choice, choose, refuse_repeated
from suites.harness.training.experiment import Settings, Task
from suites.harness.training.parallel import Workers
from suites.harness.tuning.comparison import DEFAULT_OPTIMIZERS
from suites.harness.tuning.grid import BATCHES
from suites.harness.tuning.progress import progress_bars
from suites.harness.tuning.search import VALIDATION, Plan, settings_of
from suites.harness.tuning.search import tune as run_search
from suites.harness.tuning.space import check_names, parse


def tune(
    optimizer: options.Optimizers = None,
    problem: options.ProblemName = "digits",
    criterion: options.CriterionName = "",
    network: options.Network = None,
    activation: options.ActivationName = "",
    initialization: options.InitializationName = "",
    search: Annotated[
        str, typer.Option(help="quasi-random, in rungs of successive halving, or paper: the paper's whole grid.")
    ] = "quasi-random",
    trials: Annotated[
        int | None, typer.Option(help="Settings of each optimizer that the quasi-random search tries; 27 by default.")
    ] = None,
    space: Annotated[
        list[str] | None,
        typer.Option(help="Repeatable: the span of an option, in place of the optimizer's own: lr=1e-4:1:log."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of the longest runs: the problem's own, or 40.")] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each setting; their seeds are not those of compare.")] = 3,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Images of a mini-batch: the problem's own, or 100; with --search paper also 500 and 1000."),
    ] = None,
    schedule: options.ScheduleName = "constant",
    dtype: options.Dtype = "float32",
    device: options.Device = "auto",
    cuda_graph: options.CudaGraph = False,
    data_root: options.DataRoot = None,
    save: Annotated[
        bool, typer.Option("--save", help="Also write the settings beside the problem, where compare finds them.")
    ] = False,
    output: Annotated[Path | None, typer.Option(help="Default: results/latest/tune-<problem>-<criterion>.")] = None,
    at_once: options.AtOnceOnGpu = None,
    jobs: options.Jobs = 1,
    backend: options.Backend = "loky",
    address: options.Address = None,
    config: options.Config = None,
) -> None:
    """Search the best setting of each optimizer, by the same rule and trials for all, on held-out training images."""
    with options.bad_input_is_one_line():
        options.at_least_one(epochs=epochs, batch_size=batch_size, trials=trials, seeds=seeds)
        plan = _plan(search, trials, space, batch_size, seeds)
        largest = max(plan.batch_sizes, default=0)
        settings = Settings(
            *(problem, criterion, options.sizes(network), options.activations(activation), largest),
            *(dtype, device, cuda_graph),
            validation=VALIDATION,
            initialization=initialization,
            schedule=schedule,
        )
        task = Task.load(settings, data_root)
        plan = replace(
            plan,
            batch_sizes=plan.batch_sizes or (task.settings.batch_size,),
            epochs=epochs or task.problem.epochs or options.EPOCHS,
        )
        choices = _choices(task, optimizer, plan)
        planned = sum(plan.run_epochs(len(settings_of(task, choice, plan))) for choice in choices)
        workers = Workers(jobs, backend, address, at_once=at_once).on(task.settings)
        workers.check(task.settings)
        output = output or Path("results/latest") / f"tune-{task.problem.name}-{task.settings.criterion}"
        files = [options.writable(output).resolve() / "tuned.toml", *([beside(task.problem)] if save else [])]
        for path in files:
            _ = options.writable(path.parent, "save"), path.exists() and read_tuned(path)
    found: list[Tuned] = []
    with progress_bars() as progress:
        bar = progress.add_task("epochs", total=planned)

        def on_done(record: Record) -> None:
            progress.advance(bar, record.experiment.epochs or 0)

        def on_more(epochs: int) -> None:
            progress.update(bar, total=(progress.tasks[bar].total or 0) + epochs)

        for choice in choices:
            progress.update(bar, description=f"epochs: {choice.spec}".ljust(36))
            try:
                found.append(run_search(task, choice, plan, output.resolve(), data_root, workers, on_done, on_more))
            except ValueError as error:
                typer.echo(f"error: {choice.spec}: {error}", err=True)
            else:
                for path in files:
                    write_tuned(path, found[-1:])
    if found:
        typer.echo(f"\n{_table(found)}\n\nThe settings and what they cost are in {' and '.join(map(str, files))}")
    if len(found) < len(choices):
        raise typer.Exit(1)


def _plan(search: str, trials: int | None, space: list[str] | None, batch_size: int | None, seeds: int) -> Plan:
    """The plan of the search. Its batch sizes are empty if the problem's own is to be taken."""
    of_paper = pick("search", search, {"quasi-random": False, "paper": True})
    for name, given in (("trials", trials), ("space", space)):
        if of_paper and given is not None:
            raise ValueError(f"{name} is of the quasi-random search: the paper's grid is what it is")
    spans = [parse(text) for text in space or ()]
    if len(dict(spans)) < len(spans):
        raise ValueError(f"space: an option is given more than once: {', '.join(name for name, _ in spans)}")
    batches = (batch_size,) if batch_size else BATCHES if of_paper else ()
    return Plan(of_paper, trials or Plan.trials, dict(spans), batches, seeds)


def _choices(task: Task, specs: list[str] | None, plan: Plan) -> list[Choice]:
    names = specs or [name for name in DEFAULT_OPTIMIZERS if name != "kfra" or task.criterion.convex]
    choices = [choose(name) for name in names]
    refuse_repeated(choices)
    check_names(plan.space, choices)
    for choice in choices:
        task.check(choice)
    return choices


def _table(found: Sequence[Tuned]) -> str:
    """The settings that were found, their results on held-out images, and their cost."""
    return tabulate([_row(one) for one in found], headers="keys", disable_numparse=True)


def _row(one: Tuned) -> dict[str, object]:
    search = one.search
    return {
        "best setting": one.spec,
        "batch": one.batch_size,
        **{f"epochs to {target}": "not reached" if math.isinf(n) else f"{n:g}" for target, n in one.epochs.items()},
        "loss" if one.accuracy is None else "accuracy": f"{one.loss if one.accuracy is None else one.accuracy:.3f}",
        "trials": f"{search.trials}"
        + (f", space of {' and '.join(search.extended)} extended" if search.extended else ""),
        "at the edge": ", ".join(search.edge) or "-",
        "runs": f"{search.runs}" + (f", {search.unfinished} did not finish" if search.unfinished else ""),
        "seconds": f"{search.seconds:.3g}",
        "gradient-equivalents": f"{search.gradient_equivalents:.3g}",
    }
