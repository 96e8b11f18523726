"""The paper's grid search: every setting of a method on a validation split, never on the test set.

The rule: among the settings whose runs all finished, the one with the highest median accuracy on the validation split
after the last epoch; of equals the one with the lowest median loss there, then the one that comes first in the grid.
"""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from suites.harness.catalog import Choice, choose
from suites.harness.config import write_config
from suites.harness.experiments import Settings
from suites.harness.parallel import Job, Workers, run_jobs
from suites.harness.records import Record, write_atomically

VALIDATION = 0.2  # of the training images
FIRST_SEED = 1000  # so that the seeds of a comparison, 0 and on, are fresh
BATCHES: tuple[int, ...] = (100, 500, 1000)
GRID: dict[str, tuple[float, ...]] = {  # of those options that a method has
    "lr": (0.05, 0.1, 0.2),
    "damping": (0.01, 0.02, 0.05, 0.1),
    "max_iter": (5, 10, 20, 50),
    "tolerance": (1e-10, 1e-5, 1e-2, 1e-1),
}


@dataclass(frozen=True, eq=False)
class Setting:
    """A method with its options and the batch size."""

    choice: Choice
    batch_size: int


@dataclass(frozen=True)
class Tuned:
    """The best setting of a method; ``seconds`` and ``gradient_equivalents`` are those of the whole search for it."""

    setting: Setting
    accuracy: float
    loss: float
    settings: int
    runs: int
    seconds: float
    gradient_equivalents: float


def settings_of(
    method: str, grid: Mapping[str, Sequence[float]] = GRID, batches: Sequence[int] = BATCHES
) -> list[Setting]:
    """The grid of a method, as ``ea_cg`` or ``ea_cg[gamma=0]``; what its specification fixes stays fixed."""
    fixed = choose(method)
    varied = [name for name in grid if name in fixed.entry.options and name not in fixed.options]
    stem = fixed.given.partition("[")[0]
    choices = []
    for values in itertools.product(*(grid[name] for name in varied)):
        options = {**fixed.options, **dict(zip(varied, values, strict=True))}
        written = ",".join(f"{name}={value}" for name, value in options.items())
        choices.append(choose(f"{stem}[{written}]"))
    return [Setting(choice, batch) for choice in choices for batch in batches]


def tune(
    settings: Settings,
    methods: Mapping[str, Sequence[Setting]],
    seeds: int,
    epochs: int,
    output: Path,
    data_root: Path | None = None,
    workers: Workers | None = None,
    on_done: Callable[[Record], None] = lambda record: None,
) -> dict[str, Tuned]:
    """Run every setting, and write the best of each method into ``output`` as a configuration for ``compare``.

    Args:
        settings: of all runs, with the share of validation images; each setting has its own batch size.
        methods: the grids, by the name of the method.

    Raises:
        ValueError: if no setting of a method finished.
    """
    every = [setting for grid in methods.values() for setting in grid]
    tried = [(setting, seed) for seed in range(FIRST_SEED, FIRST_SEED + seeds) for setting in every]
    jobs = [
        Job(replace(settings, batch_size=one.batch_size), data_root, one.choice.given, seed, epochs, output / "runs")
        for one, seed in tried
    ]
    records: dict[Setting, list[Record]] = {}
    for (setting, _), record in zip(tried, run_jobs(jobs, workers or Workers(), on_done), strict=True):
        records.setdefault(setting, []).append(record)
    tuned = {}
    for method, grid in methods.items():
        tuned[method] = _best(method, grid, [records[setting] for setting in grid])
        _write(output, method, settings, epochs, tuned[method])
    return tuned


def _best(method: str, grid: Sequence[Setting], records: Sequence[Sequence[Record]]) -> Tuned:
    scores = {}
    for number, group in enumerate(records):
        if all(record.status == "finished" for record in group):
            accuracy = median(record.points[-1]["test_accuracy"] for record in group)
            loss = median(record.points[-1]["test_loss"] for record in group)
            scores[number] = (accuracy, -loss, -number)
    if not scores:
        raise ValueError(f"no setting of {method} finished; the records say why")
    best = max(scores, key=lambda number: scores[number])
    accuracy, loss, _ = scores[best]
    last = [record.points[-1] for group in records for record in group if record.points]
    return Tuned(
        grid[best],
        accuracy,
        -loss,
        len(grid),
        sum(map(len, records)),
        sum(point["training_seconds"] for point in last),
        sum(point["gradient_equivalents"] for point in last),
    )


def _write(output: Path, method: str, settings: Settings, epochs: int, tuned: Tuned) -> None:
    flags: dict[str, Any] = {
        "optimizer": [tuned.setting.choice.given],
        "dataset": settings.dataset,
        "criterion": settings.criterion,
        "network": ",".join(map(str, settings.network)),
        "activation": settings.activation,
        "batch_size": tuned.setting.batch_size,
        "dtype": settings.dtype,
        "epochs": epochs,
    }
    write_config(output / f"{method}.toml", flags)
    cost = {
        "rule": (__doc__ or "").partition("The rule: ")[2].strip(),
        "setting": tuned.setting.choice.spec,
        "batch_size": tuned.setting.batch_size,
        "validation_accuracy": tuned.accuracy,
        "validation_loss": tuned.loss,
        "settings": tuned.settings,
        "runs": tuned.runs,
        "training_seconds": tuned.seconds,
        "gradient_equivalents": tuned.gradient_equivalents,
    }
    write_atomically(output / f"{method}.json", json.dumps(cost, indent=2) + "\n")
