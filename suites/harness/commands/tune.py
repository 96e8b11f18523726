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
    DataRoot,
    DatasetName,
    Device,
    Dtype,
    Jobs,
    Network,
    Optimizers,
    at_least_one,
    bad_input_is_one_line,
    sizes,
)
from suites.harness.compare import DEFAULT_OPTIMIZERS
from suites.harness.experiments import Problem, Settings
from suites.harness.parallel import Workers
from suites.harness.progress import progress_bars
from suites.harness.tune import BATCHES, GRID, VALIDATION, settings_of
from suites.harness.tune import tune as run_search


def tune(
    optimizer: Optimizers = None,
    dataset: DatasetName = "digits",
    criterion: CriterionName = "cross-entropy",
    network: Network = None,
    activation: ActivationName = "sigmoid",
    epochs: Annotated[int, typer.Option(help="Epochs of each run.")] = 10,
    seeds: Annotated[int, typer.Option(help="Runs of each setting, on seeds that compare does not take.")] = 1,
    batch_size: Annotated[str, typer.Option(help="Batch sizes to try.")] = ",".join(map(str, BATCHES)),
    lr: Annotated[str, typer.Option(help="Learning rates to try.")] = ",".join(map(str, GRID["lr"])),
    damping: Annotated[str, typer.Option(help="alpha to try.")] = ",".join(map(str, GRID["damping"])),
    max_iter: Annotated[str, typer.Option(help="Most CG iterations to try.")] = ",".join(map(str, GRID["max_iter"])),
    tolerance: Annotated[str, typer.Option(help="epsilon of CG to try.")] = ",".join(map(str, GRID["tolerance"])),
    dtype: Dtype = "float32",
    device: Device = "auto",
    data_root: DataRoot = None,
    output: Annotated[Path | None, typer.Option(help="Default: results/latest/tune-<dataset>-<criterion>.")] = None,
    jobs: Jobs = 1,
    backend: Backend = "loky",
    address: Address = None,
    config: Config = None,
) -> None:
    """Search the best setting of each optimizer, on a fifth of the training images that is held out."""
    output = (output or Path("results/latest") / f"tune-{dataset}-{criterion}").resolve()
    with bad_input_is_one_line():
        at_least_one(epochs=epochs, seeds=seeds)
        texts = {"lr": lr, "damping": damping, "max_iter": max_iter, "tolerance": tolerance}
        grid = {name: _numbers(name, text) for name, text in texts.items()}
        batches = [int(batch) for batch in _numbers("batch_size", batch_size)]
        settings = Settings(
            dataset, criterion, sizes(network), activation, max(batches), dtype, device, validation=VALIDATION
        )
        problem = Problem.load(settings, data_root)
        names = optimizer or [name for name in DEFAULT_OPTIMIZERS if name != "kfra" or problem.criterion.convex]
        methods = {name: settings_of(name, grid, batches) for name in names}
        for found in methods.values():
            for setting in found:
                problem.check(setting.choice)
        workers = Workers(jobs, backend, address)
        workers.check(problem.settings.device)
    with progress_bars() as progress:
        bar = progress.add_task("runs", total=seeds * sum(map(len, methods.values())))
        with bad_input_is_one_line():
            tuned = run_search(
                problem.settings,
                methods,
                seeds,
                epochs,
                output,
                data_root,
                workers,
                on_done=lambda record: progress.advance(bar),
            )
    rows = [
        {
            "optimizer": name,
            "best setting": found.setting.choice.spec,
            "batch": found.setting.batch_size,
            "validation accuracy": f"{found.accuracy:.3f}",
            "settings": found.settings,
            "runs": found.runs,
            "seconds": f"{found.seconds:.3g}",
            "gradient-equivalents": f"{found.gradient_equivalents:.3g}",
        }
        for name, found in tuned.items()
    ]
    typer.echo(f"\n{tabulate(rows, headers='keys', disable_numparse=True)}\n")
    typer.echo(f"For each a configuration of compare (--config) and what the search cost are in {output}")


def _numbers(name: str, text: str) -> list[float]:
    """``0.05,0.1`` or ``5,10``."""
    try:
        return [int(part) if part.strip().isdigit() else float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{name} must be numbers such as 5,10, got {text!r}") from None
