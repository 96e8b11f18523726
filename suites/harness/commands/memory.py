"""``kronbench memory``: the memory of a training step, by formula and measured, under a budget."""

from pathlib import Path
from typing import Annotated

import typer

from suites.harness.commands.options import (
    Config,
    Device,
    Dtype,
    Network,
    Optimizers,
    bad_input_is_one_line,
    sizes,
    writable,
)
from suites.harness.measure.environment import describe
from suites.harness.memory.case import DEFAULT_OPTIMIZERS, Case, Row, caption, compare_memory, table
from suites.harness.show.table import plain
from suites.harness.tuning.progress import progress_bars
from suites.harness.units import parse_bytes


def memory(
    optimizer: Optimizers = None,
    network: Network = None,
    batch_size: Annotated[int, typer.Option(help="Images of a mini-batch.")] = 100,
    dtype: Dtype = "float32",
    device: Device = "auto",
    budget: Annotated[str, typer.Option(help="Enforced: 11GB, 10GiB; or none, for what there is.")] = "11GB",
    output: Annotated[Path, typer.Option(help="Folder of memory.json and table.md.")] = Path("results/latest/memory"),
    config: Config = None,
) -> None:
    """Bytes of a training step, predicted and measured; the network is that of ImageNet-10 unless given."""
    specs = list(dict.fromkeys(optimizer or DEFAULT_OPTIMIZERS))
    with bad_input_is_one_line():
        writable(output)
        case = Case(
            sizes(network) or Case.network,
            batch_size,
            dtype,
            device,
            None if budget == "none" else parse_bytes(budget),
        ).checked(specs)
    rows = _measured(case, specs, output)
    typer.echo(f"\n{plain(table(rows))}\n\n{caption(case, describe(case.device))}\n")
    typer.echo(f"memory.json and table.md are in {output}")
    if any(row.measured.status == "failed" for row in rows):
        raise typer.Exit(1)


def _measured(case: Case, specs: list[str], output: Path) -> list[Row]:
    """The rows; meanwhile shows a bar and the optimizers' warnings."""
    with progress_bars() as progress:
        bar = progress.add_task(specs[0], total=len(specs))

        def shown(row: Row) -> None:
            for text in row.measured.warnings:
                typer.echo(f"warning: {row.optimizer}: {text}", err=True)
            done = int(progress.tasks[bar].completed) + 1
            progress.update(bar, completed=done, description=specs[min(done, len(specs) - 1)])

        return compare_memory(case, specs, output, shown)
