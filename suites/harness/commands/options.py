"""What commands share: flags with their help, and a configuration file for them."""

from pathlib import Path
from typing import Annotated

import typer

from optimizers.core import ACTIVATIONS, CRITERIA
from suites.harness.commands.errors import bad_input_is_one_line
from suites.harness.problems.dataset import DATASETS
from suites.harness.records.config import read_config
from suites.harness.training.parallel import BACKENDS


def _load_config(context: typer.Context, path: Path | None) -> Path | None:
    """Flags from a file become the defaults of those that the command line leaves out."""
    if path is not None:
        with bad_input_is_one_line():
            known = [p.name for p in context.command.params if p.name and p.name not in ("config", "help")]
            context.default_map = {**(context.default_map or {}), **read_config(path, known)}
    return path


def sizes(text: str | None) -> tuple[int, ...]:
    """A network as it is written on the command line, ``64,32,10`` or ``64-32-10``; none is the data set's own."""
    if text is None:
        return ()
    try:
        return tuple(int(size) for size in text.replace("-", ",").split(","))
    except ValueError:
        raise ValueError(f"network must be sizes such as 64,32,10, got {text!r}") from None


def at_least_one(**values: int) -> None:
    """Refuse a count below 1."""
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"{name} must be 1 or more, got {value}")


Optimizers = Annotated[
    list[str] | None,
    typer.Option(help="Repeatable: kfac, ea_cg[gamma=0,max_iter=20], fisher+ea_cg, mine.py, torch.optim.AdamW."),
]
DatasetName = Annotated[str, typer.Option(help=f"One of {', '.join(DATASETS)}.")]
CriterionName = Annotated[str, typer.Option(help=f"One of {', '.join(CRITERIA)}.")]
Network = Annotated[str | None, typer.Option(help="Sizes, as in 64,32,10; by default the data set's own.")]
ActivationName = Annotated[str, typer.Option(help=f"One of {', '.join(ACTIVATIONS)}.")]
BatchSize = Annotated[int, typer.Option(help="Images of a mini-batch.")]
Dtype = Annotated[str, typer.Option(help="float32 or float64.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
CudaGraph = Annotated[bool, typer.Option(help="Capture each optimizer's step in a CUDA graph.")]
DataRoot = Annotated[Path | None, typer.Option(help="Folder of the images.")]
Jobs = Annotated[int, typer.Option(help="Runs at a time, which spoil the times of each other.")]
Backend = Annotated[str, typer.Option(help=f"Who runs several: {', '.join(BACKENDS)}.")]
Address = Annotated[str | None, typer.Option(help="Of the scheduler of a Dask or Ray cluster.")]
Config = Annotated[
    Path | None, typer.Option(help="TOML file with any of these flags.", is_eager=True, callback=_load_config)
]
