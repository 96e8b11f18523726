"""``kronbench compare``: train optimizers on one problem and print who wins, and at what cost."""

from pathlib import Path
from typing import Annotated

import typer

from suites.harness.analysis.answer import Answer, Groups, answer
from suites.harness.commands import options
from suites.harness.data.problem import target_of
from suites.harness.data.tuned import read_tuned, settings_of
from suites.harness.records.config import write_config
from suites.harness.records.groups import by_optimizer
from suites.harness.show.captions import verdict
from suites.harness.show.comparison import short_table
from suites.harness.show.table import fitted
from suites.harness.training import catalog
from suites.harness.training.experiment import Settings, Task
from suites.harness.training.parallel import Workers
from suites.harness.tuning.choice import resolve
from suites.harness.tuning.comparison import DEFAULT_OPTIMIZERS
from suites.harness.tuning.comparison import compare as run_comparison


def compare(
    context: typer.Context,
    optimizer: options.Optimizers = None,
    problem: options.ProblemName = "digits",
    criterion: options.CriterionName = "",
    network: options.Network = None,
    activation: options.ActivationName = "",
    initialization: options.InitializationName = "",
    epochs: Annotated[
        int | None,
        typer.Option(help="Epochs of each run: the problem's own, or 40; no limit where --budget is given."),
    ] = None,
    budget: options.Budget = None,
    schedule: options.ScheduleName = "constant",
    batch_size: options.BatchSize = None,
    seeds: Annotated[int, typer.Option(help="Runs of each optimizer: seeds 0, 1, ...")] = 6,
    target: options.Targets = None,
    tuned: Annotated[
        Path | None, typer.Option(help="Settings that kronbench tune wrote; by default those beside the problem.")
    ] = None,
    dtype: options.Dtype = "float32",
    device: options.Device = "auto",
    cuda_graph: options.CudaGraph = False,
    data_root: options.DataRoot = None,
    output: Annotated[Path | None, typer.Option(help="Default: results/latest/<problem>-<criterion>.")] = None,
    resume: Annotated[
        bool, typer.Option(help="Take runs that finished from their records, and go on with those that died.")
    ] = True,
    at_once: options.AtOnce = 1,
    jobs: options.Jobs = 1,
    backend: options.Backend = "loky",
    address: options.Address = None,
    step_seconds: Annotated[float, typer.Option(help="A run with a step that takes longer has failed.")] = 600,
    config: options.Config = None,
) -> None:
    """Train optimizers on one problem and print who wins, and at what cost."""
    with options.bad_input_is_one_line():
        options.at_least_one(epochs=epochs, batch_size=batch_size, seeds=seeds)
        settings = Settings(
            *(problem, criterion, options.sizes(network), options.activations(activation), batch_size or 0),
            *(dtype, device, cuda_graph),
            initialization=initialization,
            schedule=schedule,
            budget_seconds=options.budget_of(budget),
            targets=tuple(target or ()),
        )
        task = Task.load(settings, data_root)
        epochs = epochs or (task.problem.epochs or options.EPOCHS if budget is None else None)
        found = read_tuned(tuned) if tuned else settings_of(task.problem)
        choices = [resolve(spec, task, found) for spec in optimizer or DEFAULT_OPTIMIZERS]
        if not optimizer and not task.criterion.convex:
            choices = [choice for choice in choices if choice.entry.name != "kfra"]
            typer.echo(
                f"kfra is left out: it needs a criterion known to be convex, and {task.settings.criterion} is not",
                err=True,
            )
        catalog.refuse_repeated(choices)
        for choice in choices:
            task.check(choice, epochs)
        workers = Workers(jobs, backend, address, step_seconds, at_once)
        workers.check(task.settings)
        output = options.writable(output or Path("results/latest") / f"{task.problem.name}-{task.settings.criterion}")
    effective: dict[str, object] = {
        **{name: value for name, value in context.params.items() if name != "config"},
        "optimizer": [choice.given if choice.entry.source else choice.spec for choice in choices],
        "problem": task.settings.problem,
        "criterion": task.settings.criterion,
        "network": ",".join(map(str, task.settings.network)),
        "activation": options.written(task.settings.activation),
        "initialization": task.settings.initialization,
        "batch_size": task.settings.batch_size,
        "device": task.settings.device,
        "epochs": epochs,
        "target": list(task.problem.targets),
        "output": output,
    }
    write_config(output / "config.toml", "compare", effective)
    records = run_comparison(task, choices, seeds, epochs, output, data_root, resume, workers)
    _print(answer(by_optimizer(records), target_of(records, task.problem.targets)), by_optimizer(records))
    typer.echo(f"\nAll columns, the machine and what they mean: {output / 'table.md'}")
    typer.echo("Beside it: records, epochs.png, seconds.png (and .svg)")
    options.say_what_failed(records)


def _print(found: Answer, groups: Groups) -> None:
    """The answer, then a table that fits a terminal."""
    first, *others = verdict(found)
    typer.secho(f"\n{first}", bold=True)
    typer.echo("\n".join(others))
    typer.echo(f"\n{fitted(short_table(found, groups))}")
    marks = ["* best   = cannot be told from the best"] if found.leads else []
    if any(method.tuning == "untuned" for method in found.methods.values()):
        marks.append("† untuned")
    if marks:
        typer.echo(f" {'   '.join(marks)}")
