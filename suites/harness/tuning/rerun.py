"""The best settings trained again: on all training images and fresh seeds, and only now evaluated on the test set."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from suites.harness.analysis.statistics import median_interval
from suites.harness.records.groups import first_reaching
from suites.harness.records.record import Record, write_atomically
from suites.harness.show import tables as report
from suites.harness.training.experiment import Settings
from suites.harness.training.parallel import Job, Workers, run_jobs
from suites.harness.tuning.search import Tuned


@dataclass(frozen=True)
class Rerun:
    """What the best settings gave."""

    records: list[Record]
    table: pd.DataFrame
    caption: str


def rerun(
    settings: Settings,
    tuned: Sequence[Tuned],
    seeds: int,
    epochs: int,
    target: float,
    output: Path,
    data_root: Path | None = None,
    workers: Workers | None = None,
    on_done: Callable[[Record], None] = lambda record: None,
) -> Rerun:
    """Train the best setting of each method with seeds 0 ... seeds - 1, and write records, table.md and table.csv.

    Args:
        settings: of the search; each method takes the batch size that was found for it.
        target: test accuracy to reach.
    """
    whole = replace(settings, validation=0.0)
    jobs = [
        Job(
            replace(whole, batch_size=found.setting.batch_size),
            data_root,
            found.setting.choice.given,
            seed,
            epochs,
            output / "runs",
        )
        for seed in range(seeds)
        for found in tuned
    ]
    done = run_jobs(jobs, workers or Workers(), on_done)
    rows = [_rows(found, done[place :: len(tuned)], target) for place, found in enumerate(tuned)]
    shown, numbers = zip(*rows, strict=True)
    table = pd.DataFrame(list(shown))
    caption = (
        f"{report.measured(done, target)} Settings: the best on {settings.validation:.0%} of the training images, held "
        "out; trained anew on all of them, with seeds that the search did not take. With tuning: and all runs of the "
        "search for it."
    )
    write_atomically(output / "table.csv", pd.DataFrame(list(numbers)).to_csv(index=False, lineterminator="\n"))
    write_atomically(output / "table.md", f"{report.markdown(table)}\n\n{caption}\n")
    return Rerun(done, table, caption)


def _rows(tuned: Tuned, records: list[Record], target: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """The row of a method: as it is shown, and in numbers."""
    last = [record.points[-1] for record in records if record.status == "finished"]
    reached = [first_reaching(record, target) for record in records]
    seconds, gradients = ([point[name] for point in reached] for name in ("training_seconds", "gradient_equivalents"))
    columns = {
        "test accuracy": ([point["test_accuracy"] for point in last], ".3f"),
        "train loss": ([point["train_loss"] for point in last], ".3g"),
        f"seconds to {target:g}": (seconds, ".3g"),
        "with tuning": ([tuned.training_seconds + own for own in seconds], ".3g"),
        f"gradient-equivalents to {target:g}": (gradients, ".0f"),
        "gradient-equivalents with tuning": ([tuned.gradient_equivalents + own for own in gradients], ".0f"),
    }
    setting = {"setting": tuned.setting.choice.spec, "batch": tuned.setting.batch_size}
    runs = {"runs": report.shown_statuses(records)}
    shown = {name: report.shown(values, form) for name, (values, form) in columns.items()}
    numbers = {
        f"{name} {end}".strip(): number
        for name, (values, _) in columns.items()
        for end, number in zip(("", "low", "high"), median_interval(values) if values else 3 * [math.nan], strict=True)
    }
    return {**setting, **shown, **runs}, {**setting, **numbers, **runs}
