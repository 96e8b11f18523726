"""The paper's grid search: every setting of a method on a validation split, never on the test set."""

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from suites.harness.names import file_name
from suites.harness.records.config import read_toml, write_config
from suites.harness.records.record import Record, write_atomically
from suites.harness.training.catalog import Choice, choose
from suites.harness.training.experiment import Settings
from suites.harness.training.parallel import Job, Workers, run_jobs
from suites.harness.tuning.grid import BATCHES, GRID
from suites.harness.tuning.halving import halve

RULE = (
    "among the settings whose runs all finished, the one with the highest median accuracy on the validation split "
    "after the last epoch; of equals the one with the lowest median loss there, then the one that comes first in the "
    "grid."
)
VALIDATION = 0.2  # of the training images
FIRST_SEED = 1000  # a comparison takes 0 and on, which are then fresh


@dataclass(frozen=True, eq=False)
class Setting:
    """A method with its options and the batch size."""

    choice: Choice
    batch_size: int


@dataclass(frozen=True)
class Tuned:
    """The best setting of a method, with its medians over seeds, and the cost of the whole search.

    rungs: settings and epochs of each; one rung unless by successive halving.
    runs: of all rungs; ``unfinished`` of them failed or diverged.
    rule: how the best was chosen.
    """

    setting: Setting
    validation_accuracy: float
    validation_loss: float
    rungs: list[tuple[int, int]]
    runs: int
    unfinished: int
    epochs: int
    training_seconds: float
    gradient_equivalents: float
    rule: str = RULE


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
    grid: Sequence[Setting],
    seeds: int,
    first_epochs: int,
    epochs: int,
    output: Path,
    data_root: Path | None = None,
    workers: Workers | None = None,
    on_done: Callable[[Record], None] = lambda record: None,
) -> Tuned:
    """Find the best setting of a method by the rule; every run leaves a record in ``output / "runs"``.

    Args:
        settings: of all runs, with the share of validation images; each setting of the grid has its own batch size.
        first_epochs: the fewest epochs of the first rung of successive halving. If it equals ``epochs``, there is
            one rung, which is the grid search.
        epochs: of the last rung.

    Raises:
        ValueError: if no setting finished.
    """
    done: list[Record] = []
    rungs: list[tuple[int, int]] = []
    scores: dict[int, tuple[float, float]] = {}

    def train(numbers: Sequence[int], epochs: int) -> list[int]:
        """All settings of a rung; the best first."""
        jobs = [
            Job(
                replace(settings, batch_size=one.batch_size), data_root, one.choice.given, seed, epochs, output / "runs"
            )
            for seed in range(FIRST_SEED, FIRST_SEED + seeds)
            for one in (grid[number] for number in numbers)
        ]
        records = run_jobs(jobs, workers or Workers(), on_done)
        done.extend(records)
        rungs.append((len(numbers), epochs))
        scores.update({number: _score(records[place :: len(numbers)]) for place, number in enumerate(numbers)})
        return sorted(numbers, key=lambda number: (*scores[number], -number), reverse=True)

    best = halve(len(grid), first_epochs, epochs, train)
    unfinished = [record for record in done if not record.completed]
    accuracy, negative_loss = scores[best]
    if accuracy < 0:
        raise ValueError(f"no setting finished; {unfinished[-1].path.stem}: {unfinished[-1].reason}")
    last = [record.points[-1] for record in done if record.points]
    return Tuned(
        grid[best],
        accuracy,
        -negative_loss,
        rungs,
        len(done),
        len(unfinished),
        sum(point.epoch for point in last),
        sum(point.training_seconds for point in last),
        sum(point.gradient_equivalents or 0.0 for point in last),
    )


def _score(records: Sequence[Record]) -> tuple[float, float]:
    """The score of one setting, by the rule: larger is better."""
    if not all(record.completed for record in records):
        return -1.0, -math.inf
    last = [record.points[-1] for record in records]
    losses = [math.inf if point.test_loss is None else point.test_loss for point in last]
    return median(point.test_accuracy for point in last), -median(losses)


def write_tuned(folder: Path, method: str, settings: Settings, epochs: int, tuned: Tuned) -> None:
    """The best setting as a configuration of ``compare``, ``<method>.toml``, and what it cost, ``<method>.json``."""
    flags: dict[str, Any] = {
        "optimizer": [tuned.setting.choice.given],
        "problem": settings.problem,
        "criterion": settings.criterion,
        "network": ",".join(map(str, settings.network)),
        "activation": settings.activation,
        "batch_size": tuned.setting.batch_size,
        "dtype": settings.dtype,
        "epochs": epochs,
    }
    path = _path(folder, method)
    write_config(path, flags)
    facts = {**vars(tuned), "setting": tuned.setting.choice.spec, "batch_size": tuned.setting.batch_size}
    write_atomically(path.with_suffix(".json"), json.dumps(facts, indent=2) + "\n")


def tuned_setting(folder: Path, method: str, problem: str, criterion: str) -> Setting:
    """The best setting that ``kronbench tune`` found for a method and wrote into a folder.

    Raises:
        ValueError: if there is none, or it was found on another problem or with another criterion.
    """
    path = _path(folder, method)
    flags = read_toml(path)
    found = [flags.get(name) for name in ("problem", "criterion")]
    if found != [problem, criterion]:
        raise ValueError(
            f"config {path}: expected a setting for {problem} with {criterion}, found {found[0]}, {found[1]}"
        )
    try:
        (spec,), batch_size = flags["optimizer"], flags["batch_size"]
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"config {path}: expected one optimizer and a batch_size, found {flags}") from None
    return Setting(choose(spec), batch_size)


def _path(folder: Path, method: str) -> Path:
    """The ending is added to the whole name, since ``kfac[lr=0.1]`` has a dot in it."""
    return folder / f"{file_name(choose(method).spec)}.toml"
