"""``kronbench tune``: the paper's grid search, on a validation split."""

from pathlib import Path
from typing import Annotated

import typer
from tabulate import tabulate

from suites.harness.commands.options import (
    ActivationName,
    Address,
    Backend,
    Config,
    CriterionName,
    CudaGraph,
    DataRoot,
    Device,
    Dtype,
    Jobs,
    Network,
    Optimizers,
    ProblemName,
    at_least_one,
    bad_input_is_one_line,
    say_what_failed,
    sizes,
    writable,
)
from suites.harness.names import file_name
from suites.harness.records.record import Record
from suites.harness.show.progress import progress_bars
from suites.harness.show.table import plain
from suites.harness.training.catalog import choose
from suites.harness.training.experiment import Settings, Task
from suites.harness.training.parallel import Workers
from suites.harness.tuning.comparison import DEFAULT_OPTIMIZERS
from suites.harness.tuning.grid import BATCHES, GRID
from suites.harness.tuning.halving import rungs
from suites.harness.tuning.rerun import rerun as run_best
from suites.harness.tuning.search import VALIDATION, Setting, Tuned, settings_of, write_tuned
from suites.harness.tuning.search import tune as run_search


def tune(
    optimizer: Optimizers = None,
    problem: ProblemName = "digits",
    criterion: CriterionName = "",
    network: Network = None,
    activation: ActivationName = "sigmoid",
    epochs: Annotated[int, typer.Option(help="Epochs of each run, or of the last rung of --halving.")] = 10,
    halving: Annotated[
        bool, typer.Option("--halving", help="Successive halving: only the best third go on to three times the epochs.")
    ] = False,
    first_epochs: Annotated[int, typer.Option(help="The fewest epochs of the first rung of --halving.")] = 1,
    seeds: Annotated[int, typer.Option(help="Runs of each setting, on seeds that compare does not take.")] = 1,
    rerun: Annotated[
        int, typer.Option(help="Runs of each best setting on the whole training set: seeds 0, 1, ...; 0 for none.")
    ] = 6,
    target: Annotated[float | None, typer.Option(help="Test accuracy to reach; by default the problem's own.")] = None,
    batch_size: Annotated[str, typer.Option(help="Batch sizes to try.")] = ",".join(map(str, BATCHES)),
    lr: Annotated[str, typer.Option(help="Learning rates to try.")] = ",".join(map(str, GRID["lr"])),
    damping: Annotated[str, typer.Option(help="alpha to try.")] = ",".join(map(str, GRID["damping"])),
    max_iter: Annotated[str, typer.Option(help="Most CG iterations to try.")] = ",".join(map(str, GRID["max_iter"])),
    tolerance: Annotated[str, typer.Option(help="epsilon of CG to try.")] = ",".join(map(str, GRID["tolerance"])),
    dtype: Dtype = "float32",
    device: Device = "auto",
    cuda_graph: CudaGraph = False,
    data_root: DataRoot = None,
    output: Annotated[Path | None, typer.Option(help="Default: results/latest/tune-<problem>-<criterion>.")] = None,
    jobs: Jobs = 1,
    backend: Backend = "loky",
    address: Address = None,
    config: Config = None,
) -> None:
    """Search the best setting of each optimizer, on a fifth of the training images that is held out."""
    with bad_input_is_one_line():
        at_least_one(epochs=epochs, seeds=seeds, first_epochs=first_epochs)
        if first_epochs > epochs:
            raise ValueError(f"first epochs must be at most the {epochs} epochs of the last rung, got {first_epochs}")
        if first_epochs > 1 and not halving:
            raise ValueError("first epochs are of successive halving: add --halving")
        if rerun < 0:
            raise ValueError(f"rerun must be 0 or more, got {rerun}")
        if target is not None and not 0 < target <= 1:
            raise ValueError(f"target must be an accuracy in (0, 1], got {target}")
        texts = {"lr": lr, "damping": damping, "max_iter": max_iter, "tolerance": tolerance}
        grid = {name: _numbers(name, text) for name, text in texts.items()}
        batches = [int(batch) for batch in _numbers("batch_size", batch_size)]
        at_least_one(batch_size=min(batches))
        settings = Settings(
            problem, criterion, sizes(network), activation, max(batches), dtype, device, cuda_graph, VALIDATION
        )
        task = Task.load(settings, data_root)
        settings = task.settings
        output = writable(output or Path("results/latest") / f"tune-{task.problem.name}-{settings.criterion}").resolve()
        methods = _methods(task, optimizer, grid, batches)
        workers = Workers(jobs, backend, address)
        workers.check(settings.device)
    first = first_epochs if halving else epochs  # a halving of one rung is the grid search
    planned = [count * each for found in methods.values() for count, each in rungs(len(found), first, epochs)]
    tuned: dict[str, Tuned] = {}
    again = None
    with progress_bars() as progress:
        bar = progress.add_task("epochs", total=sum(planned) * seeds + rerun * epochs * len(methods))

        def on_done(record: Record) -> None:
            progress.advance(bar, record.experiment.epochs or 0)

        for name, found in methods.items():
            progress.update(bar, description=f"epochs: {name}".ljust(36))
            try:
                tuned[name] = run_search(settings, found, seeds, first, epochs, output, data_root, workers, on_done)
            except ValueError as error:
                typer.echo(f"error: {name}: {error}", err=True)
            else:
                write_tuned(output, name, settings, epochs, tuned[name])
        if rerun and tuned:
            progress.update(bar, description="epochs: the best again".ljust(36))
            goal, folder = target or task.problem.targets[0], output / "best"
            again = run_best(settings, list(tuned.values()), rerun, epochs, goal, folder, data_root, workers, on_done)
    if not tuned:
        raise typer.Exit(1)
    typer.echo(f"\n{tabulate(map(_row, tuned.values()), headers='keys', disable_numparse=True)}\n")
    typer.echo(f"For each a configuration of compare (--config) and what the search cost are in {output}")
    if again:
        typer.echo(
            f"\n{plain(again.table)}\n\n{again.caption}\n\nRecords, table.md and table.csv are in {output / 'best'}"
        )
        say_what_failed(again.records)
    if len(tuned) < len(methods):
        raise typer.Exit(1)


def _methods(
    task: Task, specs: list[str] | None, grid: dict[str, list[float]], batches: list[int]
) -> dict[str, list[Setting]]:
    """The settings to try, by method."""
    names = specs or [name for name in DEFAULT_OPTIMIZERS if name != "kfra" or task.criterion.convex]
    methods = {choose(name).spec: settings_of(name, grid, batches) for name in names}
    if len({file_name(method) for method in methods}) < len(names):
        raise ValueError(f"optimizer given more than once, or two whose files have one name: {', '.join(names)}")
    for found in methods.values():
        for setting in found:
            task.check(setting.choice)
    return methods


def _row(tuned: Tuned) -> dict[str, object]:
    return {
        "best setting": tuned.setting.choice.spec,
        "batch": tuned.setting.batch_size,
        "validation accuracy": f"{tuned.validation_accuracy:.3f}",
        "settings": " > ".join(str(count) for count, _ in tuned.rungs),
        "epochs": " > ".join(str(epochs) for _, epochs in tuned.rungs),
        "runs": f"{tuned.runs}" + (f", {tuned.unfinished} did not finish" if tuned.unfinished else ""),
        "seconds": f"{tuned.training_seconds:.3g}",
        "gradient-equivalents": f"{tuned.gradient_equivalents:.3g}",
    }


def _numbers(name: str, text: str) -> list[float]:
    """``0.05,0.1`` or ``5,10``."""
    try:
        numbers = [int(part) if part.strip().isdigit() else float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{name} must be numbers such as 5,10, got {text!r}") from None
    return list(dict.fromkeys(numbers))
