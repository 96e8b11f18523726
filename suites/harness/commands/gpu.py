"""``kronbench gpu``: all that needs a GPU, in one command and a given time."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from suites.harness.commands.options import Config, DataRoot, Device, bad_input_is_one_line, writable
from suites.harness.gpu.run import STAGES, result_folder, run
from suites.harness.records.config import write_config
from suites.harness.training.experiment import resolve_device


def gpu(
    context: typer.Context,
    output: Annotated[Path, typer.Option(help="Folder of the results; the GPU's name is added to it.")] = Path(
        "results/gpu"
    ),
    minutes: Annotated[float, typer.Option(help="Time for all of it.")] = 8,
    convergence: Annotated[bool, typer.Option(help="Train for the time that is left.")] = True,
    device: Device = "auto",
    data_root: DataRoot = None,
    config: Config = None,
) -> None:
    """Check and time every optimizer on a GPU, measure its memory, and train for the time left; cpu rehearses it."""
    with bad_input_is_one_line():
        device = resolve_device(device)
        if not minutes > 0:
            raise ValueError(f"minutes must be above 0, got {minutes:g}")
        if data_root is not None and not data_root.is_dir():
            raise ValueError(f"data root {data_root}: there is no such folder")
        folder = writable(result_folder(writable(output), device))
    if device == "cpu":
        typer.echo("A rehearsal on the CPU: what needs a GPU is recorded as skipped.", err=True)
    with Progress(TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn()) as progress:
        bar = progress.add_task("", total=60 * minutes)
        run(
            folder,
            device,
            60 * minutes,
            data_root,
            {title: stage for title, stage in STAGES.items() if convergence or title != "convergence"},
            on_progress=lambda text, seconds: progress.update(bar, description=text.ljust(60), completed=seconds),
        )
    flags = {name: value for name, value in context.params.items() if name != "config"}
    for trained in (folder / "convergence").glob("*/"):
        write_config(trained / "config.toml", "gpu", {**flags, "device": device})
    typer.echo(f"{(folder / 'summary.md').read_text(encoding='utf-8')}\nRecords and summary.md are in {folder}")
