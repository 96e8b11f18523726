"""``kronbench memory``: the memory of a training step, by formula and measured, under a budget."""

from pathlib import Path
from typing import Annotated

import typer

from suites.harness.commands import options
from suites.harness.data.problem import find
from suites.harness.measure.environment import describe
from suites.harness.memory.case import DEFAULT_OPTIMIZERS, Case, Row, caption, compare_memory, table
from suites.harness.memory.formulas import Kind
from suites.harness.records.config import write_config
from suites.harness.show.table import plain
from suites.harness.training.experiment import BATCH_SIZE
from suites.harness.tuning.progress import progress_bars
from suites.harness.units import parse_bytes


def memory(
    context: typer.Context,
    optimizer: options.Optimizers = None,
    problem: options.ProblemName = "imagenet10",
    network: options.Network = None,
    batch_size: options.BatchSize = None,
    dtype: options.Dtype = "float32",
    device: options.Device = "auto",
    budget: Annotated[str, typer.Option(help="Enforced: 11GB or 10GiB; none: all memory that is available.")] = "11GB",
    output: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("results/latest/memory"),
    config: options.Config = None,
) -> None:
    """Bytes of a training step, predicted and measured, on noise of a problem's shape: no data are needed."""
    specs = list(dict.fromkeys(optimizer or DEFAULT_OPTIMIZERS))
    with options.bad_input_is_one_line():
        options.writable(output)
        options.at_least_one(batch_size=batch_size)
        own = find(problem)
        case = Case(
            options.sizes(network) or own.network,
            batch_size or own.batch_size or BATCH_SIZE,
            dtype,
            device,
            None if budget == "none" else parse_bytes(budget),
            Kind(own.criterion_name, own.activation),
        ).checked(specs)
    effective: dict[str, object] = {
        **{name: value for name, value in context.params.items() if name != "config"},
        "optimizer": specs,
        "problem": own.spec,
        "network": ",".join(map(str, case.network)),
        "batch_size": case.batch_size,
        "device": case.device,
    }
    write_config(output / "config.toml", "memory", effective)
    rows = _measured(case, specs, output)
    typer.echo(f"\n{plain(table(rows))}\n\n{caption(case, describe(case.device))}\n")
    typer.echo(f"memory.json, table.md and config.toml are in {output}")
    if any(row.measured.status == "failed" for row in rows):
        raise typer.Exit(1)


def _measured(case: Case, specs: list[str], output: Path) -> list[Row]:
    """Measure all rows, with a progress bar and the optimizers' warnings."""
    with progress_bars() as progress:
        bar = progress.add_task(specs[0], total=len(specs))

        def shown(row: Row) -> None:
            for text in row.measured.warnings:
                typer.echo(f"warning: {row.optimizer}: {text}", err=True)
            done = int(progress.tasks[bar].completed) + 1
            progress.update(bar, completed=done, description=specs[min(done, len(specs) - 1)])

        return compare_memory(case, specs, output, shown)
